"""How this package starts other programs, and how they end.

The terminal's Ctrl-C is for the program that was called, not for these: that one decides what its children still have
to do, such as to clear a phone, and ends them itself.
"""

import os
import subprocess
import sys
import threading
import time
from typing import IO, Any

import psutil

_LOOK_SECONDS = 2.0

# Keyword arguments of subprocess.Popen and run. Windows ignores start_new_session, all others refuse creationflags.
OWN_GROUP: dict[str, Any] = (
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"start_new_session": True}
)

# What a child writes to the pipe of its replies before the first one, as a line of its own.
READY = b"amc_tf: ready\n"


def skip_noise(pipe: IO[bytes]) -> None:
    """Reads a child's stdout up to READY: what was printed before is of Python's own start, such as a sitecustomize."""
    for line in iter(pipe.readline, b""):
        if line == READY:
            return


def end_with(parent: int) -> None:
    """Has this process end as soon as another one is gone, whatever it is doing.

    Args:
        parent: number of the other process, which lives now.
    """
    try:
        watched = psutil.Process(parent)  # with its time of birth: numbers are given again
    except psutil.NoSuchProcess:
        os._exit(1)

    def watch() -> None:
        while _lives(watched):
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="amc_tf-parent", daemon=True).start()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
