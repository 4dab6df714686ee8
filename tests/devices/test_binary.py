"""Where the benchmark program comes from: a given file, one download, or a sentence that says what to do."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from amc_tf.devices import binary
from amc_tf.errors import DeviceError


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00" + machine.to_bytes(2, "little") + b"the program" * 1000


ARM64 = elf(183)


class Server:
    """Answers every request with `body`, as if it had `length` bytes."""

    def __init__(self):
        self.body, self.length, self.status, self.requests = ARM64, None, 200, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(outer.length or len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/benchmark_model"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
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
        binary.find("arm64-v8a", program)


def test_a_given_file_is_used_as_it_is(tmp_path) -> None:
    given = tmp_path / "benchmark_model"
    given.write_bytes(ARM64)
    assert binary.find("arm64-v8a", given) == binary.Binary(given, hashlib.sha256(ARM64).hexdigest())
    assert binary.find("riscv64", given).path == given  # an ABI that is not known here is the caller's affair
    given.write_bytes(b"#!/bin/sh\n")
    assert binary.find("arm64-v8a", str(given)).path == given


def test_a_given_file_that_will_not_do(tmp_path) -> None:
    with pytest.raises(ValueError, match="nosuch', where there is no file"):
        binary.find("arm64-v8a", tmp_path / "nosuch")
    given = tmp_path / "benchmark_model"
    for machine, built in ((62, "x86_64"), (243, "machine 243")):
        given.write_bytes(elf(machine))
        with pytest.raises(DeviceError, match=f"built for {built}, but the phone is arm64-v8a"):
            binary.find("arm64-v8a", given)


def test_the_download_is_made_once_and_its_sha256_recorded(server, tmp_path) -> None:
    cache = tmp_path / "new" / "cache"
    found = binary.find("arm64-v8a", cache=cache, address=server.address)
    assert (found.path.read_bytes(), found.sha256) == (ARM64, hashlib.sha256(ARM64).hexdigest())
    record = found.path.with_name(found.path.name + ".sha256")
    assert record.read_text().strip() == found.sha256
    assert binary.VERSION in found.path.name
    assert binary.find("arm64-v8a", cache=cache, address=server.address) == found
    assert server.requests == 1
    assert sorted(cache.iterdir()) == [found.path, record]


def test_what_does_not_agree_with_the_first_download_is_refused(server, tmp_path) -> None:
    found = binary.find("arm64-v8a", cache=tmp_path, address=server.address)
    found.path.write_bytes(ARM64 + b"x")
    with pytest.raises(DeviceError, match=f"{found.sha256} was recorded"):
        binary.find("arm64-v8a", cache=tmp_path, address=server.address)
    found.path.unlink()
    server.body = ARM64 + b"another one under the same version"
    with pytest.raises(DeviceError, match="was recorded when it was first fetched"):
        binary.find("arm64-v8a", cache=tmp_path, address=server.address)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": 404}, "Not Found"),
        ({"body": b"<html>please log in</html>"}, "no program for arm64-v8a, perhaps a page of a proxy"),
        ({"body": elf(62)}, "no program for arm64-v8a"),
        ({"length": len(ARM64) + 7}, f"{len(ARM64)} of {len(ARM64) + 7} bytes|IncompleteRead"),
    ],
    ids=["missing", "page", "wrong processor", "cut"],
)
def test_a_download_that_goes_wrong_leaves_nothing(server, tmp_path, change, words) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(DeviceError, match=words) as raised:
        binary.find("arm64-v8a", cache=tmp_path, address=server.address)
    assert server.address in str(raised.value) and str(tmp_path) in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_it_says_what_to_fetch_and_where_to_put_it(tmp_path) -> None:
    address = "http://127.0.0.1:9/benchmark_model"  # where nobody listens
    with pytest.raises(
        DeviceError, match=f"refused.*fetch {address} by other means and put it at {tmp_path}/"
    ) as raised:
        binary.find("arm64-v8a", cache=tmp_path, address=address)
    there = Path(str(raised.value).partition("put it at ")[2].partition(",")[0])
    there.write_bytes(ARM64)
    assert binary.find("arm64-v8a", cache=tmp_path, address=address).path == there


@pytest.mark.parametrize(
    ("abi", "words"),
    [
        ("armeabi-v7a", "fetch the nightly one from https://storage.googleapis.com/.*android_arm_benchmark_model"),
        ("x86_64", "build one .*android_x86_64"),
    ],
)
def test_a_phone_for_which_there_is_no_official_program(tmp_path, abi, words) -> None:
    with pytest.raises(DeviceError, match=words):
        binary.find(abi, cache=tmp_path)


def test_a_phone_that_does_not_say_its_abi(tmp_path) -> None:
    with pytest.raises(DeviceError, match="does not say its ABI.*as binary"):
        binary.find("", cache=tmp_path)


def test_a_record_that_cannot_be_read_is_no_reason_to_trust(server, tmp_path) -> None:
    found = binary.find("arm64-v8a", cache=tmp_path, address=server.address)
    record = found.path.with_name(found.path.name + ".sha256")
    record.unlink()
    record.mkdir()
    with pytest.raises(DeviceError, match=f"^{record} cannot be read .Is a directory"):
        binary.find("arm64-v8a", cache=tmp_path, address=server.address)


def test_the_cache_is_this_users(tmp_path, monkeypatch, server) -> None:
    monkeypatch.delenv("AMC_TF_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tmp_path / "amc_tf" in binary.find("arm64-v8a", address=server.address).path.parents
    monkeypatch.setenv("AMC_TF_CACHE", str(tmp_path / "named"))
    assert binary.find("arm64-v8a", address=server.address).path.parent == tmp_path / "named"
