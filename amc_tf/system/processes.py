"""How this package starts other programs, and how they end.

The terminal's Ctrl-C is for the program that was called, not for these: that one decides what its children still have
to do, such as to clear a phone, and ends them itself.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import psutil

_LOOK_SECONDS = 2.0
_LAST_BYTES = 4000  # of a process's stderr, which its last line is looked for in

# Keyword arguments of subprocess.Popen and run. Windows ignores start_new_session, all others refuse creationflags.
OWN_GROUP: dict[str, Any] = (
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"start_new_session": True}
)

# Where other programs are started: no module of Python's lies there, and a folder of the caller's can be removed.
NEUTRAL_FOLDER = os.path.abspath(os.sep)

# What a child writes to the pipe of its replies before the first one, as a line of its own.
READY = b"amc_tf: ready\n"

# Libraries print to file descriptor 1 as they please; replies keep the pipe behind it for themselves. A program is run
# as a file, since as a module of this package it would import all of it, and with neither its folder nor the current
# one on the path, where files may bear the names of modules.
_RUN = (
    "import os, sys; replies = os.dup(1); os.dup2(2, 1); os.write(replies, %r); sys.path[:] = filter(None, sys.path); "
    "sys.argv[:] = [sys.argv[1], str(replies), *sys.argv[2:]]; "
    "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
) % (b"\n" + READY)


def command(program: Path, *arguments: str) -> list[str]:
    """The command that runs a program of this package which answers on its standard output.

    Args:
        program: the file; its own first argument will be the file descriptor to write replies to.
        arguments: the others.
    """
    return [sys.executable, "-c", _RUN, str(program), *arguments]


def skip_noise(pipe: IO[bytes]) -> None:
    """Reads a child's stdout up to READY: what was printed before is of Python's own start, such as a sitecustomize."""
    for line in iter(pipe.readline, b""):
        if line == READY:
            return


def last_words(words: IO[bytes]) -> str:
    """The last line that a process has left in the file of its stderr; it has ended, since it wrote where a seek moves.

    Lines that the runtime begins with INFO: say nothing of an end.
    """
    size = words.seek(0, os.SEEK_END)
    words.seek(max(0, size - _LAST_BYTES))
    return last_line(words.read().decode(errors="replace")).rstrip(".") or "it said nothing"


def last_line(text: str) -> str:
    """The last line that says something, less those of INFO:; "" if there is none."""
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next((line for line in lines if line and not line.startswith("INFO:")), "")


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
