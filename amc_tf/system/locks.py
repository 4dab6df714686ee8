"""Lock: what one process at a time may have, and no dead one keeps."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

_WAIT_SECONDS = 0.2  # between two looks


class Taken(Exception):
    """Somebody else holds the lock."""


class Lock:
    """A lock on a file of its own, which the system takes back however this process ends.

    A fork of this process cannot release it.

    Args:
        path: the file; it is made in a folder that exists, and stays when the lock is released.

    Raises:
        Taken: another process holds it, or another Lock of this one.
        OSError: the file cannot be made, or the file system knows no locks.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        # Not of a thread: who releases it may be the garbage collection in any other one.
        self._lock = _Owned(str(path), thread_local=False)
        self._lock.owner = os.getpid()
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise Taken(str(path)) from None
        except NotImplementedError as error:  # some versions of filelock, where there is no flock
            raise OSError(str(error)) from error

    def release(self, remove: bool = False) -> None:
        """Lets others have it.

        Args:
            remove: whether the file is to go as well. Who waits for it elsewhere then makes a new one.
        """
        if self._lock.inherited:
            return
        if remove:
            with contextlib.suppress(OSError):  # Windows deletes no open file
                self.path.unlink()
        self._lock.release()
        if remove and os.name == "nt":  # elsewhere it could be the new one that somebody has made and locked
            with contextlib.suppress(OSError):
                self.path.unlink()


@contextlib.contextmanager
def waiting(path: str | os.PathLike, told: Callable[[], None]) -> Iterator[None]:
    """Holds a lock on a file of its own, as soon as no other process does.

    Args:
        path: see Lock.
        told: called once if there is one to wait for.

    Raises:
        OSError: as by Lock.
    """
    lock = None
    while lock is None:
        try:
            lock = Lock(path)
        except Taken:
            told()
            told = _nothing
            time.sleep(_WAIT_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _nothing() -> None:
    pass


class _Owned(FileLock):
    """Released by nobody but the process that made it: unlocking in a fork would unlock it for both."""

    owner = 0  # the number of that process; no argument of __init__, whose signature filelock looks at

    @property
    def inherited(self) -> bool:
        """Whether this process is a fork of the one that made it."""
        return os.getpid() != self.owner

    def release(self, *arguments: Any, **options: Any) -> None:
        if not self.inherited:
            super().release(*arguments, **options)
