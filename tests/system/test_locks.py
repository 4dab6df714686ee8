"""Locks have one holder at a time, never a dead one, and a fork cannot release its parent's."""

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from amc_tf.system.locks import Lock, Taken

ROOT = Path(__file__).parents[2]

HOLD = """
import sys, time
from amc_tf.system.locks import Lock
lock = Lock(sys.argv[1])
print("held", flush=True)
time.sleep(600)
"""

TRY = """
import sys
from amc_tf.system.locks import Lock, Taken
try:
    Lock(sys.argv[1])
    print("free")
except Taken:
    print("taken")
"""


def state_for_another_process(path: Path) -> str:
    """"free" or "taken": whether another process can get the lock."""
    done = subprocess.run([sys.executable, "-c", TRY, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_one_process_holds_it_until_it_is_released(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    assert state_for_another_process(lock.path) == "taken"
    with pytest.raises(Taken):
        Lock(lock.path)
    lock.release()
    assert state_for_another_process(lock.path) == "free"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Taken):
            Lock(tmp_path / "lock")
        os.kill(holder.pid, signal.SIGKILL)
    finally:
        holder.kill()
        holder.communicate(timeout=10)
    Lock(tmp_path / "lock").release()


def test_any_thread_and_the_garbage_collector_can_release_it(tmp_path: Path) -> None:
    locks: list[Lock] = []
    thread = threading.Thread(target=lambda: locks.append(Lock(tmp_path / "lock")))
    thread.start()
    thread.join()
    locks[0].release()
    lock = Lock(tmp_path / "lock")
    del lock
    gc.collect()
    assert state_for_another_process(tmp_path / "lock") == "free"


def test_the_file_is_removed_on_request_only(tmp_path: Path) -> None:
    Lock(tmp_path / "lock").release(remove=True)
    assert not list(tmp_path.iterdir())
    Lock(tmp_path / "lock").release()
    assert (tmp_path / "lock").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
@pytest.mark.parametrize("how", ["released", "removed", "forgotten"])
def test_a_fork_neither_releases_nor_removes_it(tmp_path: Path, how: str) -> None:
    lock, path = Lock(tmp_path / "lock"), tmp_path / "lock"
    child = os.fork()
    if not child:
        if how == "forgotten":
            del lock
            gc.collect()
        else:
            lock.release(remove=how == "removed")
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists()
    assert state_for_another_process(path) == "taken"


def test_a_file_system_without_locks_is_a_system_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_, **__):
        raise NotImplementedError("no flock here")  # as some versions of filelock say

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(OSError, match="no flock here"):
        Lock(tmp_path / "lock")


def test_a_missing_folder_is_a_system_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError):
        Lock(tmp_path / "file" / "lock")
