"""Where the benchmark program comes from: a given file, one download, or a sentence that says what to do."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from amc_tf.devices.android import benchmark_binary, download
from amc_tf.devices.android.consent import ACCEPT
from amc_tf.errors import DeviceError


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + machine.to_bytes(2, "little") + b"the program" * 1000


ARM64 = elf(183)
SUM = hashlib.sha256(ARM64).hexdigest()


class Server:
    """Answers every request with `body`, as if it had `length` bytes; with `status` 302 it points to `to`."""

    def __init__(self):
        self.body, self.length, self.status, self.to, self.requests = ARM64, None, 200, None, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests += 1
                self.send_response(outer.status)
                if outer.to:
                    self.send_header("Location", outer.to)
                self.send_header("Content-Length", str(outer.length or len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/benchmark_model"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The cache folder, which is not there yet; who asks for it has confirmed the program."""
    monkeypatch.setenv("AMC_TF_CACHE", str(tmp_path / "new" / "cache"))
    monkeypatch.setenv(ACCEPT, SUM)
    return tmp_path / "new" / "cache"


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    """In the place of the official address; without TLS, which a test has no certificate for."""
    made = Server()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(benchmark_binary, "ADDRESS", made.address)
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    thread = threading.Thread(target=made.http.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


def test_what_cannot_be_read_is_a_device_error(tmp_path, monkeypatch) -> None:
    program = tmp_path / "benchmark_model"
    program.write_bytes(b"#!/bin/sh")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")  # root, who runs the tests in CI, may read everything

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DeviceError, match="cannot be read .Permission denied"):
        benchmark_binary.find("arm64-v8a", program)


def test_a_given_file_is_used_as_it_is(tmp_path) -> None:
    given = tmp_path / "benchmark_model"
    given.write_bytes(ARM64)
    assert benchmark_binary.find("arm64-v8a", given) == benchmark_binary.Binary(
        given, hashlib.sha256(ARM64).hexdigest()
    )
    assert benchmark_binary.find("riscv64", given).path == given  # an ABI that is not known here is the caller's affair
    given.write_bytes(b"#!/bin/sh\n")
    assert benchmark_binary.find("arm64-v8a", str(given)).path == given


def test_a_given_file_that_will_not_do(tmp_path) -> None:
    with pytest.raises(ValueError, match="nosuch', where there is no file"):
        benchmark_binary.find("arm64-v8a", tmp_path / "nosuch")
    given = tmp_path / "benchmark_model"
    for machine, built in ((62, "x86_64"), (243, "machine 243")):
        given.write_bytes(elf(machine))
        with pytest.raises(DeviceError, match=f"built for {built}, but the phone is arm64-v8a"):
            benchmark_binary.find("arm64-v8a", given)


def test_nobody_is_asked_about_a_given_file(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(ACCEPT, raising=False)
    monkeypatch.setenv("AMC_TF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "benchmark_model").write_bytes(ARM64)
    benchmark_binary.find("arm64-v8a", tmp_path / "benchmark_model")
    assert not (tmp_path / "cache").exists()


def test_the_address_is_pinned() -> None:
    assert benchmark_binary.ADDRESS.startswith(
        f"https://storage.googleapis.com/litert/binaries/{benchmark_binary.VERSION}/"
    )


def test_the_download_is_made_once(server, cache, capfd) -> None:
    found = benchmark_binary.find("arm64-v8a")
    assert (found.path.read_bytes(), found.sha256) == (ARM64, SUM)
    assert benchmark_binary.VERSION in found.path.name
    assert benchmark_binary.find("arm64-v8a") == found
    assert server.requests == 1
    assert sorted(cache.iterdir()) == [found.path, found.path.with_name(found.path.name + ".confirmed")]
    assert capfd.readouterr() == ("", "")


def test_only_https_is_asked(server, cache, monkeypatch) -> None:
    monkeypatch.undo()
    assert download.SCHEMES == ("https",)
    monkeypatch.setenv("AMC_TF_CACHE", str(cache))
    monkeypatch.setattr(benchmark_binary, "ADDRESS", server.address)
    with pytest.raises(DeviceError, match="not https"):
        benchmark_binary.find("arm64-v8a")
    assert server.requests == 0 and not (cache.exists() and list(cache.iterdir()))


def test_a_redirection_elsewhere_is_not_followed(server, cache) -> None:
    server.status, server.to = 302, "https://127.0.0.1:9/benchmark_model"
    with pytest.raises(DeviceError, match="leads to https://127.0.0.1:9/benchmark_model, which is not http"):
        benchmark_binary.find("arm64-v8a")
    assert server.requests == 1 and list(cache.iterdir()) == []


def test_another_program_at_the_same_address_is_refused_and_not_kept(server, cache, monkeypatch) -> None:
    found = benchmark_binary.find("arm64-v8a")
    monkeypatch.delenv(ACCEPT)
    found.path.unlink()
    server.body = ARM64 + b"another one under the same version"
    other = hashlib.sha256(server.body).hexdigest()
    with pytest.raises(DeviceError, match=f"sha256 {other}.*{SUM} was confirmed"):
        benchmark_binary.find("arm64-v8a")
    assert [path.name for path in cache.iterdir()] == [found.path.name + ".confirmed"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": 404}, "Not Found"),
        ({"body": b"<html>please log in</html>"}, "no program for arm64-v8a, perhaps a page of a proxy"),
        ({"body": elf(62)}, "no program for arm64-v8a"),
        ({"length": len(ARM64) + 7}, "IncompleteRead.*, 7 more expected"),
    ],
    ids=["missing", "page", "wrong processor", "cut"],
)
def test_a_download_that_goes_wrong_leaves_nothing(server, cache, change, words) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(DeviceError, match=words) as raised:
        benchmark_binary.find("arm64-v8a")
    assert benchmark_binary.ADDRESS in str(raised.value) and str(cache) in str(raised.value)
    assert list(cache.iterdir()) == []


def test_ctrl_c_leaves_nothing(server, cache) -> None:
    def interrupted(path: Path) -> None:
        assert path.stat().st_size == len(ARM64)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.fetch(server.address, cache / "program", interrupted)
    assert list(cache.iterdir()) == []


def test_without_a_network_it_says_what_to_fetch_and_where_to_put_it(server, cache, monkeypatch) -> None:
    monkeypatch.setattr(benchmark_binary, "ADDRESS", "http://127.0.0.1:9/benchmark_model")  # where nobody listens
    with pytest.raises(
        DeviceError,
        match=rf"\(.Errno \d+. Connection refused\): fetch {benchmark_binary.ADDRESS} by other means and put it at",
    ) as raised:
        benchmark_binary.find("arm64-v8a")
    there = Path(str(raised.value).partition("put it at ")[2].partition(",")[0])
    assert there.parent == cache
    there.write_bytes(ARM64)
    assert benchmark_binary.find("arm64-v8a").path == there


def test_a_cache_that_cannot_be_made(server, cache) -> None:
    cache.parent.write_text("a file")
    with pytest.raises(DeviceError, match="cannot be fetched .*by other means"):
        benchmark_binary.find("arm64-v8a")


@pytest.mark.parametrize(
    ("abi", "words"),
    [
        ("armeabi-v7a", "fetch the nightly one from https://storage.googleapis.com/.*android_arm_benchmark_model"),
        ("x86_64", "build one .*android_x86_64"),
    ],
)
def test_a_phone_for_which_there_is_no_official_program(cache, abi, words) -> None:
    with pytest.raises(DeviceError, match=words):
        benchmark_binary.find(abi)


def test_a_phone_that_does_not_say_its_abi(cache) -> None:
    with pytest.raises(DeviceError, match="does not say its ABI.*as binary"):
        benchmark_binary.find("")
