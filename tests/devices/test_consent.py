"""Leave to run the fetched program: asked for once, by its sha256, and refused to any other file."""

import hashlib
import os
import pty
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from amc_tf.devices.android import benchmark_binary, consent
from amc_tf.devices.android.consent import ACCEPT, without_asking
from amc_tf.errors import DeviceError
from tests.devices.test_benchmark_binary import ARM64, SUM

OTHER = ARM64 + b"exchanged"
OTHER_SUM = hashlib.sha256(OTHER).hexdigest()
SAYS = """
import sys
from amc_tf.devices.android import benchmark_binary
from amc_tf.errors import DeviceError
try:
    print(benchmark_binary.find("arm64-v8a").sha256)
except DeviceError as error:
    print(error)
"""


@pytest.fixture
def program(tmp_path, monkeypatch) -> Path:
    """The program where the download puts it, of which nobody has said anything yet."""
    monkeypatch.setenv("AMC_TF_CACHE", str(tmp_path))
    monkeypatch.delenv(ACCEPT, raising=False)
    path = tmp_path / f"benchmark_model-{benchmark_binary.VERSION}-arm64-v8a"
    path.write_bytes(ARM64)
    return path


def locked(program: Path) -> Path:
    return program.with_name(program.name + ".confirmed")


def at_a_terminal(answer: str) -> tuple[str, str]:
    """What a process prints on stdout and on the terminal that it has as stdin and stderr, where one types `answer`."""
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    done = subprocess.run([sys.executable, "-c", SAYS], stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, timeout=60)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how Linux ends it
        pass
    os.close(ours)
    return done.stdout.decode(), shown.decode()


def refused(words: str) -> str:
    with pytest.raises(DeviceError, match=words) as raised:
        benchmark_binary.find("arm64-v8a")
    (sentence,) = str(raised.value).splitlines()
    assert sentence.endswith(".")
    return sentence


def test_without_a_terminal_it_is_refused_with_all_that_one_needs_to_know(program) -> None:
    said = refused("was not confirmed")
    for part in (SUM, benchmark_binary.ADDRESS, f"{len(ARM64):,} bytes", str(program), "--yes", f"{ACCEPT}={SUM}"):
        assert part in said
    assert not locked(program).exists()
    refused("was not confirmed")


def test_a_yes_at_the_terminal_is_asked_for_once(program) -> None:
    printed, shown = at_a_terminal("y\n")
    assert printed.strip() == SUM
    assert "[y/n]" in shown and all(part in shown for part in (SUM, benchmark_binary.ADDRESS, f"{len(ARM64):,} bytes"))
    assert locked(program).read_text().strip() == SUM
    printed, shown = at_a_terminal("")
    assert (printed.strip(), shown) == (SUM, "")
    assert benchmark_binary.find("arm64-v8a").sha256 == SUM


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"], ids=["no", "nothing", "end of file"])
def test_anything_but_a_yes_refuses(program, answer) -> None:
    printed, shown = at_a_terminal(answer)
    assert f"sha256 {SUM}" in printed and "not allowed to run" in printed
    assert "[y/n]" in shown and "Traceback" not in shown
    assert not locked(program).exists()


def test_the_variable_that_names_it_stands_for_a_yes(program, monkeypatch, capfd) -> None:
    monkeypatch.setenv(ACCEPT, f" {SUM.upper()}\n")
    assert benchmark_binary.find("arm64-v8a").sha256 == SUM
    assert locked(program).read_text().strip() == SUM
    monkeypatch.delenv(ACCEPT)
    assert benchmark_binary.find("arm64-v8a").sha256 == SUM
    assert capfd.readouterr().out == ""


def test_the_variable_that_names_another_one_refuses_also_what_was_confirmed(program, monkeypatch) -> None:
    monkeypatch.setenv(ACCEPT, OTHER_SUM)
    for _ in range(2):
        said = refused(f"{ACCEPT} is")
        assert SUM in said and OTHER_SUM in said
        locked(program).write_text(SUM)
    monkeypatch.setenv(ACCEPT, "yes")
    refused(f"{ACCEPT} is 'yes'")


def test_without_asking_it_is_shown_and_locked(program, capfd) -> None:
    with without_asking():
        assert benchmark_binary.find("arm64-v8a").sha256 == SUM
    said = capfd.readouterr()
    assert said.out == "" and all(part in said.err for part in (SUM, benchmark_binary.ADDRESS, f"{len(ARM64):,} bytes"))
    assert locked(program).exists()
    benchmark_binary.find("arm64-v8a")
    assert capfd.readouterr().err == ""


def test_without_asking_holds_no_longer_than_it_is_said(program) -> None:
    with without_asking(False):
        refused("was not confirmed")
    with pytest.raises(KeyError), without_asking():
        raise KeyError
    refused("was not confirmed")


def test_another_file_is_refused_from_then_on(program, monkeypatch) -> None:
    with without_asking():
        benchmark_binary.find("arm64-v8a")
    program.write_bytes(OTHER)
    said = refused("was confirmed")
    assert SUM in said and OTHER_SUM in said and str(locked(program)) in said
    with without_asking():
        refused("was confirmed")
    monkeypatch.setenv(ACCEPT, OTHER_SUM)
    refused("was confirmed")
    printed, shown = at_a_terminal("y\n")
    assert OTHER_SUM in printed and "[y/n]" not in shown
    locked(program).unlink()  # as the sentence says
    assert benchmark_binary.find("arm64-v8a").sha256 == OTHER_SUM


def test_what_earlier_versions_recorded_without_asking_is_no_yes(program) -> None:
    program.with_name(program.name + ".sha256").write_text(SUM + "\n")
    refused("was not confirmed")


@pytest.mark.parametrize("contents", ["", SUM[:-1], "\x00"])
def test_a_damaged_lock_is_no_reason_to_trust(program, contents) -> None:
    locked(program).write_text(contents)
    with without_asking():
        assert SUM in refused("was confirmed")


def test_a_lock_that_cannot_be_read_is_no_reason_to_trust(program) -> None:
    locked(program).mkdir()
    with without_asking():
        refused(f"^{locked(program)} cannot be read .Is a directory")


def test_a_yes_that_cannot_be_kept_is_said(program, monkeypatch) -> None:
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with without_asking():
        refused("No space left on device")
    assert [path.name for path in program.parent.iterdir()] == [program.name]


def test_the_beginning_that_others_saw_only_warns(program, monkeypatch) -> None:
    with without_asking(), pytest.warns(UserWarning, match=f"{SUM}.*begin with {consent.SEEN}"):
        assert benchmark_binary.find("arm64-v8a").sha256 == SUM
    locked(program).unlink()
    monkeypatch.setattr(consent, "SEEN", SUM[:8])
    with without_asking(), warnings.catch_warnings():
        warnings.simplefilter("error")
        benchmark_binary.find("arm64-v8a")
