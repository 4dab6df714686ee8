"""How this package starts other programs, and how they end with it.

The terminal's Ctrl-C is for the program that the user called, not for its children: that program decides what they
still have to do, such as to clear a phone, and ends them itself.
"""

import os
import subprocess
import sys
import threading
import time
from typing import Any

import psutil

_LOOK_SECONDS = 2.0

# Keyword arguments of subprocess.Popen and run. Windows ignores start_new_session, all others refuse creationflags.
OWN_GROUP: dict[str, Any] = (
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"start_new_session": True}
)

# Where other programs are started: no module of Python's lies there, and a folder of the caller's can be removed.
NEUTRAL_FOLDER = os.path.abspath(os.sep)


def last_line(text: str) -> str:
    """The last line that is not empty and does not begin with INFO:; "" if there is none."""
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next((line for line in lines if line and not line.startswith("INFO:")), "")


def end_with(parent: int) -> None:
    """Ends this process as soon as another one is gone, whatever this one is doing.

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
