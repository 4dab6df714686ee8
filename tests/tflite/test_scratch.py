"""What lies in the folder of temporary files, and that none of it stays there, whatever way a process ends."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from amc_tf.errors import AmcError, RunDirError
from amc_tf.tflite.runtime import scratch, worker_process
from amc_tf.tflite.runtime.scorer import Scorer
from amc_tf.tflite.runtime.scratch import File
from tests.devices import models
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
OLD = time.time() - 3600

# A process with two workers, which says its own number and theirs; argv: a .tflite.
OWNER = """
import os, sys, time
import numpy as np
from amc_tf.tflite.runtime.scorer import Scorer
scorer = Scorer(2)
shared = scorer.share([np.zeros((20, 16, 16, 4), "float32")])
loaded = scorer.load(sys.argv[1], shared)
loaded.run()
print(os.getpid(), *(worker.pid for worker in scorer._pool._alive), flush=True)
"""


@pytest.fixture(scope="module")
def tflite(tmp_path_factory) -> Path:
    return models.write(tmp_path_factory.mktemp("models") / "conv.tflite", 16, 4)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files of this process and those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(scratch, "_current", None)
    yield folder
    gc.collect()


@contextlib.contextmanager
def owner(tflite: Path, code: str = "time.sleep(600)") -> Iterator[tuple[subprocess.Popen, list[int]]]:
    """A process that does `code` when its workers are up, and their numbers."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER + code, str(tflite)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        numbers = [int(word) for word in process.stdout.readline().split()]
        assert len(numbers) == 3, process.stderr.read()
        yield process, numbers[1:]
    finally:
        process.kill()
        process.communicate(timeout=10)


def gone(*pids: int) -> bool:
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return False
    return True


def stale(temporary: Path, name: str = "amc_tf-scratch-stale") -> Path:
    """What an owner leaves who was killed an hour ago, and all its workers with it."""
    folder = temporary / name
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "0").write_bytes(b"examples")
    os.utime(folder, (OLD, OLD))
    return folder


@pytest.mark.parametrize(
    "end",
    [
        "sys.exit()",
        "raise RuntimeError('a bug')",
        "os.kill(os.getpid(), 15)",
        "os.kill(os.getpid(), 9)",
        "os._exit(0)",
        "import threading; threading.Timer(0.1, os.kill, (os.getpid(), 9)).start()\nwhile True: loaded.run()",
    ],
)
def test_whatever_way_the_owner_ends_nothing_is_left(tflite, temporary, end):
    with owner(tflite, end) as (process, workers):
        process.wait(60)
        wait_for(lambda: gone(*workers))
        wait_for(lambda: not list(temporary.iterdir()))


def test_one_owner_ends_and_another_goes_on(tflite, temporary):
    with (
        owner(tflite, "sys.stdin.readline(); loaded.run(); scorer.run(sys.argv[1], shared); print('fine')") as first,
        owner(tflite) as second,
    ):
        assert len(list(temporary.iterdir())) == 2
        second[0].kill()
        wait_for(lambda: gone(*second[1]))
        assert len(list(temporary.iterdir())) == 1
        first[0].stdin.write("go on\n")
        first[0].stdin.flush()
        assert first[0].stdout.readline() == "fine\n"
        first[0].wait(60)
    assert not list(temporary.iterdir())


def test_what_a_killed_owner_and_killed_workers_left_is_swept_later(tflite, temporary):
    with owner(tflite) as (process, workers), owner(tflite) as (_, _):
        for worker in workers:
            psutil.Process(worker).suspend()
        process.kill()
        process.wait()
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        left = list(temporary.iterdir())
        assert len(left) == 2
        young = File(lambda file: file.write(b"1"), "a byte")
        assert set(temporary.iterdir()) == {*left, young.path.parent}  # it could be one that is not locked yet
        del young
        for folder in left:
            os.utime(folder, (OLD, OLD))
        file = File(lambda file: file.write(b"1"), "a byte")
        kept = set(temporary.iterdir()) - {file.path.parent}
        assert len(kept) == 1 and kept < set(left)  # that of the living owner
        del file


def test_what_is_no_folder_of_ours_is_not_swept(temporary, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    os.utime(precious, (OLD, OLD))
    link = temporary / "amc_tf-scratch-link"
    link.symlink_to(precious)
    os.utime(link, (OLD, OLD), follow_symlinks=False)
    other, file = stale(temporary, "amc_tf-other"), temporary / "amc_tf-scratch-file"
    file.touch()
    os.utime(file, (OLD, OLD))
    swept = stale(temporary)
    File(lambda file: file.write(b"1"), "a byte")
    assert not swept.exists()
    assert list(precious.iterdir()) == [precious / "file"]
    assert len(list(other.iterdir())) == 2 and file.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_what_belongs_to_another_user_is_not_even_opened(temporary):
    folder = stale(temporary)
    os.chown(folder, 12345, -1)
    (folder / "lock").unlink()
    os.utime(folder, (OLD, OLD))
    File(lambda file: file.write(b"1"), "a byte")
    assert list(folder.iterdir()) == [folder / "0"]


def test_the_folder_is_there_as_long_as_somebody_uses_it(tflite, temporary):
    x = np.ones((3, 16, 16, 4), "float32")
    with Scorer(1) as first, Scorer(1) as second:
        assert not list(temporary.iterdir())  # not before there is a use for it
        shared, other = first.share([0 * x]), second.share([x])
        expected = second.run(tflite, other)
        first.run(tflite, shared)
        (folder,) = temporary.iterdir()
        assert (folder.stat().st_mode & 0o077) == 0  # examples are nobody else's
        first.close()
        shared.close()
        np.testing.assert_array_equal(second.run(tflite, other), expected)
        assert list(temporary.iterdir()) == [folder]
        other.close()
    wait_for(lambda: not list(temporary.iterdir()))
    with Scorer(1) as scorer, scorer.share([x]) as shared:
        np.testing.assert_array_equal(scorer.run(tflite, shared), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
def test_a_fork_that_ends_removes_nothing_and_ends_nobody(tflite, temporary):
    forks = """
import gc
for end in (sys.exit, os._exit):
    child = os.fork()
    if not child:
        globals().pop("loaded", None)
        gc.collect()
        end(0)
    os.waitpid(child, 0)
loaded.run()
scorer.run(sys.argv[1], shared)
print(*(worker.pid for worker in scorer._pool._alive), flush=True)
sys.stdin.readline()
"""
    with owner(tflite, forks) as (process, workers):
        assert sorted(map(int, process.stdout.readline().split())) == sorted(workers), process.stderr.read()
        (folder,) = temporary.iterdir()
        assert {path.name for path in folder.iterdir()} >= {"lock", "0", "1"}


def test_a_file_that_cannot_be_deleted_is_tried_again(temporary, monkeypatch):
    """As on Windows, where a worker has it open."""
    first, second = (File(lambda file: file.write(b"1"), "a byte") for _ in range(2))
    path = first.path
    with monkeypatch.context() as patch:

        def refuse(*_, **__):
            raise PermissionError(13, "The process cannot access the file because it is being used by another process")

        patch.setattr(Path, "unlink", refuse)
        del first
        gc.collect()
        between = File(lambda file: file.write(b"1"), "a byte")
        assert path.exists() and between.path.exists()
    third = File(lambda file: file.write(b"1"), "a byte")
    assert not path.exists() and second.path.exists() and third.path.exists()


def test_a_folder_that_cannot_be_removed_at_once_is_tried_again(temporary, monkeypatch):
    tried = []
    rmtree = scratch.shutil.rmtree

    def third(*args, **options):
        tried.append(args)
        return rmtree(*args, **options) if len(tried) == 3 else None

    monkeypatch.setattr(scratch, "_PAUSES", (0.01, 0.02))
    monkeypatch.setattr(scratch.shutil, "rmtree", third)
    File(lambda file: file.write(b"1"), "a byte")
    gc.collect()
    assert len(tried) == 3 and not list(temporary.iterdir())


def test_what_was_not_written_to_its_end_does_not_stay(temporary):
    def interrupted(file):
        file.write(b"a part")
        raise KeyboardInterrupt

    whole = File(lambda file: file.write(b"1"), "a byte")
    with pytest.raises(KeyboardInterrupt) as caught:
        File(interrupted, "much")
    assert caught  # whose traceback holds the file
    assert {path.name for path in whole.path.parent.iterdir()} == {"lock", whole.path.name}


def test_a_path_in_any_letters_serves(tflite, temporary, monkeypatch):
    folder = temporary / "größe 大"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    x = np.random.default_rng(0).random((3, 16, 16, 4), np.float32)
    with Scorer(1) as scorer, scorer.share([x]) as shared:
        assert folder in shared.file.path.parents
        # No runtime on Windows knows such a path.
        assert list(worker_process.source(str(shared.file.path))) == ["model_content"]
        found = scorer.run(tflite, shared)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    del scorer, shared
    wait_for(lambda: gc.collect() >= 0 and not scratch._current())  # a thread may hold the folder for a moment
    with Scorer(1) as scorer, scorer.share([x]) as shared:
        assert list(worker_process.source(str(shared.file.path))) == ["model_path"]
        np.testing.assert_array_equal(scorer.run(tflite, shared), found)


def test_without_a_folder_for_temporary_files_there_is_a_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    monkeypatch.setattr(scratch, "_current", None)
    with pytest.raises(RunDirError, match=r"no room for a byte among the temporary files in '.*missing' \(No such"):
        File(lambda file: file.write(b"1"), "a byte")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    with pytest.raises(RunDirError, match=r"no room for a byte among temporary files \(No usable .* in TMPDIR\.$"):
        File(lambda file: file.write(b"1"), "a byte")


def test_a_file_system_without_locks_is_told_and_left_clean(temporary, monkeypatch):
    def refuse(_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(scratch, "Lock", refuse)
    with pytest.raises(RunDirError, match=r"\(No locks available\); .* name another folder in TMPDIR"):
        File(lambda file: file.write(b"1"), "a byte")
    assert not list(temporary.iterdir())


def test_without_room_no_worker_starts(tflite, temporary, monkeypatch):
    x = np.zeros((3, 16, 16, 4), "float32")
    with Scorer(1) as scorer, scorer.share([x]) as shared, scorer.load(tflite, shared) as loaded:

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("amc_tf.system.json_lines.tempfile.TemporaryFile", full)
        with pytest.raises(AmcError, match=r"No worker could be started \(.*No space.*among the temporary files in '"):
            loaded.run()


@pytest.mark.parametrize("name", ["precious", "amc_tf-scratch-living"])
def test_a_worker_clears_only_what_a_dead_owner_left(tmp_path, monkeypatch, name):
    monkeypatch.setattr(worker_process, "_END_SECONDS", 0.2)
    folder = tmp_path / name
    folder.mkdir()
    (folder / "lock").touch()
    lock = scratch.Lock(folder / "lock")
    worker_process.clear(folder / "lock")
    assert (folder / "lock").exists()
    lock.release()
    worker_process.clear(folder / "lock")
    assert folder.exists() == (name == "precious")
    worker_process.clear(folder / "missing")
    worker_process.clear(tmp_path / "missing" / "lock")
    assert tmp_path.exists() and not (tmp_path / "missing").exists()


def test_a_worker_whose_reply_nobody_reads_goes_on_to_clear(monkeypatch):
    class Gone:
        def write(self, _):
            raise BrokenPipeError

    class Asked:
        buffer = (b"{}\n", b"{}\n")

    monkeypatch.setattr(worker_process.sys, "stdin", Asked)
    monkeypatch.setattr(worker_process, "answer", lambda *_: ({}, []))
    assert worker_process.answer_all(Gone()) is None
