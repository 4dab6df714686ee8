"""Scratch: the temporary folder of the files that this process's workers read. It is removed whatever way that ends.

A process has one folder as long as anything in it is used, and keeps a file in it locked. If the process ends by
itself, it removes the folder. If it is killed, its workers do, at the end of their stdin (worker_process.py). If they
are killed too, the next process that makes such a folder does: a free lock means that the owner is gone.
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
_YOUNG_SECONDS = 60.0  # a younger folder may not be locked yet
_PAUSES = (0.1, 0.3, 1.0, 3.0)  # seconds; Windows deletes a file only after the processes that opened it have ended

_making = threading.Lock()
_current: "weakref.ref[Scratch] | None" = None


class Scratch:
    """A folder; it is removed when the last reference to this object goes.

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
        """The path of a new file."""
        self._delete()
        return self.folder / str(next(self._numbers))

    def discard(self, path: Path) -> None:
        """Deletes a file, later if necessary. A garbage collection may call this in any thread at any time."""
        if os.getpid() == self.owner:  # a fork of the owner must not delete the owner's files
            self._discarded.add(path)
            self._delete()

    def _delete(self) -> None:
        for path in list(self._discarded):
            with contextlib.suppress(OSError):  # Windows deletes no file that a worker has open
                path.unlink(missing_ok=True)
                self._discarded.discard(path)


class File:
    """A file in the scratch folder; it is deleted when the last reference to this object goes.

    Args:
        write: writes the contents to the open file.
        subject: the contents in words, for the message if there is no room.

    Attributes:
        path: of the file, which never changes again.

    Raises:
        RunDirError: no room for the file in the folder of temporary files.
    """

    def __init__(self, write: Callable[[IO[bytes]], Any], subject: str):
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
                f"There is no room for {subject} among {temporary_files()} ({error.strerror or error}); free space "
                f"there, or name another folder in TMPDIR."
            ) from error


def ours() -> Scratch:
    """This process's folder; it is made if there is none.

    Raises:
        OSError: the folder cannot be made.
    """
    global _current
    with _making:
        scratch = _current and _current()
        if scratch is None or scratch.owner != os.getpid():
            scratch = Scratch()
            _current = weakref.ref(scratch)
        return scratch


def temporary_files() -> str:
    """The words for the folder of temporary files in messages."""
    return f"the temporary files in {tempfile.tempdir!r}" if tempfile.tempdir else "temporary files"  # it has none


def _end(folder: Path, lock: Lock, owner: int) -> None:
    """Removes a folder, unless this process is a fork of its owner."""
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
    """Removes the folders that killed owners and killed workers left beside this process's own."""
    user = own.lstat().st_uid  # nothing of other users is opened, since it may be a link to anything
    for folder in own.parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, Taken):
            status = folder.lstat()
            old = time.time() - status.st_mtime > _YOUNG_SECONDS
            if stat.S_ISDIR(status.st_mode) and status.st_uid == user and old and folder != own:
                Lock(folder / "lock").release()
                shutil.rmtree(folder, ignore_errors=True)
