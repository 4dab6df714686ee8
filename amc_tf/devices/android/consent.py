"""Permission to run a fetched program on phones: the user gives it once, for one sha256.

Nobody publishes a checksum of the program, so there is nothing to compare with. The user sees its sha256 instead, and a
file beside the program keeps the sha256 that the user confirmed.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO

from amc_tf.errors import DeviceError, RunDirError
from amc_tf.system import files

ACCEPT = "AMC_TF_ACCEPT_BINARY"  # environment variable with the sha256 that may run, where there is no terminal
# Beginning of the reported sha256 of the official program for arm64-v8a, version 2.2.0. Nobody vouches for it.
SEEN = "f3729eaf"

_unasked: ContextVar[bool] = ContextVar("unasked", default=False)


@contextlib.contextmanager
def without_asking(yes: bool = True) -> Iterator[None]:
    """Within the block a program counts as confirmed once it was shown, as by --yes.

    A program that differs from a confirmed one is refused all the same.

    Args:
        yes: False changes nothing.
    """
    before = _unasked.set(yes or _unasked.get())
    try:
        yield
    finally:
        _unasked.reset(before)


def lock(path: Path) -> Path:
    """The file beside a program with the confirmed sha256."""
    return path.with_name(path.name + ".confirmed")


def check(path: Path, sha256: str, source: str) -> bool:
    """Whether the program was confirmed earlier.

    Args:
        path: of the program, which need not exist yet.
        sha256: of the program, in hex.
        source: its address.

    Raises:
        DeviceError: the file beside it or AMC_TF_ACCEPT_BINARY confirms another program; or that file cannot be read.
    """
    confirmed = _locked(path)
    if confirmed not in (None, sha256):
        raise DeviceError(
            f"benchmark_model from {source} has the sha256 {sha256}, but {confirmed or 'none'} was confirmed, as "
            f"{lock(path)} says: it was damaged or exchanged; delete {path}, if it is there, to have it fetched "
            f"again, or {lock(path)} to be asked about the new one."
        )
    named = _named()
    if named and named.lower() != sha256:
        raise DeviceError(
            f"benchmark_model from {source} has the sha256 {sha256}, but {ACCEPT} is {named!r}: if you trust the "
            f"program at {path}, set {ACCEPT}={sha256} or unset it, else delete that file or give another as binary."
        )
    return confirmed is not None


def require(path: Path, sha256: str, source: str) -> None:
    """Returns only if the program may run, and keeps its sha256, so that no other program may run in its place later.

    Args:
        path: of the program.
        sha256: of the program, in hex.
        source: its address, shown to the user.

    Raises:
        DeviceError: another program was confirmed, nobody confirmed this one, or the sha256 cannot be written.
    """
    if check(path, sha256, source):
        return
    size = path.stat().st_size
    if not sha256.startswith(SEEN):
        warnings.warn(
            f"benchmark_model has the sha256 {sha256}, but that of this version is said to begin with {SEEN}: take "
            "care that it is what you want.",
            stacklevel=2,
        )
    if not _named():  # else it names this program: `check` compared them
        _ask(path, sha256, source, size)
    try:
        files.write(f"{sha256}\n".encode(), lock(path))
    except RunDirError as error:
        raise DeviceError(
            f"That {path} was confirmed cannot be kept ({getattr(error.__cause__, 'strerror', error)}): make its "
            f"folder writable and see that it has room, or give the program's path as binary."
        ) from error


def _named() -> str:
    """The sha256 in the environment, "" if there is none."""
    return os.environ.get(ACCEPT, "").strip()


def _locked(path: Path) -> str | None:
    """The confirmed sha256, None if there is none."""
    try:
        return lock(path).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeviceError(
            f"{lock(path)} cannot be read ({error.strerror}), so {path.name} cannot be checked: make it readable, or "
            f"delete it to be asked about the program again."
        ) from error


def _ask(path: Path, sha256: str, source: str, size: int) -> None:
    """Raises DeviceError unless the program is allowed to run."""
    facts = f"({size:,} bytes, sha256 {sha256}, at {path})"
    if _unasked.get():
        _show(path, sha256, source, size)
        return
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise DeviceError(
            f"benchmark_model from {source} {facts} was not confirmed yet, and there is no terminal to ask at: if you "
            f"trust it, set {ACCEPT}={sha256} or give --yes on the command line, else give another one as binary."
        )
    from rich.console import Console
    from rich.prompt import Confirm

    _show(path, sha256, source, size)
    try:
        yes = Confirm.ask("Run it on phones from now on?", console=Console(stderr=True), default=False)
    except EOFError:
        yes = False
    if not yes:
        raise DeviceError(
            f"benchmark_model from {source} {facts} is not allowed to run on phones, as was answered: run this again "
            f"to be asked again, or give another one as binary."
        )


def _show(path: Path, sha256: str, source: str, size: int) -> None:
    """Prints the facts of a program to stderr."""
    print(
        "A program from the network is to run on the phone. No checksum of it is published.\n"
        f"  address  {source}\n  file     {path}\n  size     {size:,} bytes\n  sha256   {sha256}",
        file=sys.stderr,
        flush=True,
    )


def _is_terminal(stream: IO[str] | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()
