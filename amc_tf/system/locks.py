"""Lock: one process at a time holds it, and a dead process never does."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

_WAIT_SECONDS = 0.2  # between two attempts


class Taken(Exception):
    """Another process, or another Lock of this one, holds the lock."""


class Lock:
    """A lock on a file of its own. The system releases it however this process ends.

    A fork of this process cannot release it.

    Args:
        path: the file, in a folder that exists. It is created, and it stays when the lock is released.

    Raises:
        Taken: another process holds it, or another Lock of this one.
        OSError: the file cannot be made, or the file system has no locks.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        # Not bound to a thread: the garbage collector may release it in any thread.
        self._lock = _Owned(str(path), thread_local=False)
        self._lock.owner = os.getpid()
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise Taken(str(path)) from None
        except NotImplementedError as error:  # raised by some versions of filelock where there is no flock
            raise OSError(str(error)) from error

    def release(self, remove: bool = False) -> None:
        """Lets others have it.

        Args:
            remove: whether to remove the file as well. A process that waits for the lock then makes a new file.
        """
        if self._lock.inherited:
            return
        if remove:
            with contextlib.suppress(OSError):  # Windows does not delete open files
                self.path.unlink()
        self._lock.release()
        if remove and os.name == "nt":  # elsewhere this could be a new file that another process has locked
            with contextlib.suppress(OSError):
                self.path.unlink()


@contextlib.contextmanager
def waiting(path: str | os.PathLike, on_wait: Callable[[], None]) -> Iterator[None]:
    """Waits until no other process holds a lock, then holds it.

    Args:
        path: see Lock.
        on_wait: called once if there is a process to wait for.

    Raises:
        OSError: see Lock.
    """
    lock, waited = None, False
    while lock is None:
        try:
            lock = Lock(path)
        except Taken:
            if not waited:
                on_wait()
            waited = True
            time.sleep(_WAIT_SECONDS)
    try:
        yield
    finally:
        lock.release()


class _Owned(FileLock):
    """A file lock that only the process that made it releases: a fork that unlocks would unlock for both.

    Attributes:
        owner: number of that process. It is not an argument of __init__, because filelock inspects its signature.
    """

    owner = 0

    @property
    def inherited(self) -> bool:
        """Whether this process is a fork of the owner."""
        return os.getpid() != self.owner

    def release(self, *arguments: Any, **options: Any) -> None:
        if not self.inherited:
            super().release(*arguments, **options)
