"""Scratch: the folder of the files that this process's workers read, and how it goes, whatever way the process ends.

A process has one among the temporary files as long as anything in it is used, and keeps a file in it locked. An end
that Python sees removes it. After a kill the workers do, which meet the end of their input (worker_process.py). Where
they were killed as well, the next process that makes such a folder does: a lock that can be taken has no owner.
"""

import contextlib
import itertools
import os
import shutil
import stat
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from amc_tf.errors import RunDirError
from amc_tf.system.locks import Lock, Taken

_PREFIX = "amc_tf-scratch-"
_YOUNG_SECONDS = 60.0  # a folder that has just been made may not be locked yet
_PAUSES = (0.1, 0.3, 1.0, 3.0)  # seconds; on Windows a file can be deleted when those who have it open are gone

_making = threading.Lock()
_current: "weakref.ref[Scratch] | None" = None


class Scratch:
    """A folder; it is removed with the last that refers to it.

    Attributes:
        folder: its path.
        lock: path of the file in it that this process keeps locked.
        owner: number of this process.
    """

    def __init__(self):
        self.owner = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self.lock = self.folder / "lock"
        self._numbers = itertools.count()
        self._discarded: set[Path] = set()
        try:
            lock = Lock(self.lock)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        weakref.finalize(self, _end, self.folder, lock, self.owner)
        _sweep(self.folder)

    def path(self) -> Path:
        """Of a new file."""
        self._delete()
        return self.folder / str(next(self._numbers))

    def discard(self, path: Path) -> None:
        """Deletes a file, if need be later: a garbage collection may ask for it in any thread at any time."""
        if os.getpid() == self.owner:  # else a fork of the caller ends, whose files these are not
            self._discarded.add(path)
            self._delete()

    def _delete(self) -> None:
        for path in list(self._discarded):
            with contextlib.suppress(OSError):  # Windows deletes no file that a worker has open
                path.unlink(missing_ok=True)
                self._discarded.discard(path)


class File:
    """A file in the scratch folder, which is gone with its last user.

    Args:
        write: writes the contents to the open file.
        what: what they are, for the message where there is no room.

    Attributes:
        path: where it lies; never written to again.

    Raises:
        RunDirError: no room for it in the folder of temporary files.
    """

    def __init__(self, write: Callable[[IO[bytes]], Any], what: str):
        try:
            scratch = ours()
            self.path = scratch.path()
            discard = weakref.finalize(self, scratch.discard, self.path)
            try:
                with open(self.path, "xb") as file:
                    write(file)
            except BaseException:
                discard()
                raise
        except OSError as error:
            raise RunDirError(
                f"There is no room for {what} among {temporary_files()} ({error.strerror or error}); free space there, "
                f"or name another folder in TMPDIR."
            ) from error


def ours() -> Scratch:
    """This process's folder; made where there is none.

    Raises:
        OSError: it cannot be made.
    """
    global _current
    with _making:
        scratch = _current and _current()
        if scratch is None or scratch.owner != os.getpid():
            scratch = Scratch()
            _current = weakref.ref(scratch)
        return scratch


def temporary_files() -> str:
    """What a message calls their folder."""
    return f"the temporary files in {tempfile.tempdir!r}" if tempfile.tempdir else "temporary files"  # none is found


def _end(folder: Path, lock: Lock, owner: int) -> None:
    if os.getpid() != owner:
        return
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)
    for pause in _PAUSES:
        if not folder.exists():
            break
        time.sleep(pause)
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(own: Path) -> None:
    """Removes the folders beside this one whose owners were killed, and their workers with them."""
    user = own.lstat().st_uid  # of others nothing is opened, be it a link to whatever
    for folder in own.parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, Taken):
            found = folder.lstat()
            old = time.time() - found.st_mtime > _YOUNG_SECONDS
            if stat.S_ISDIR(found.st_mode) and found.st_uid == user and old and folder != own:
                Lock(folder / "lock").release()
                shutil.rmtree(folder, ignore_errors=True)
