"""Client of the package's own programs in processes of their own: one JSON line asks, one JSON line answers.

All these programs follow one protocol:

* The client writes each request to the program's stdin, as one line of JSON.
* The program writes READY and then one line of JSON for each request, in the order of the requests, to a pipe that
  `command` opens for its replies. Bytes may follow such a line; the client's `receive` reads them.
* The program's stderr goes to a temporary file. The client quotes its last line if the process dies.
* The program ends when its stdin ends. The client may kill it at any time, since it leaves nothing half done.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from amc_tf.system.processes import NEUTRAL_FOLDER, OWN_GROUP, last_line

# The first line on the pipe of the replies. All before it comes from Python's own start, such as a sitecustomize.
READY = b"amc_tf: ready\n"

# Libraries print to file descriptor 1 as they please; replies keep the pipe behind it for themselves. A program runs as
# a file: as a module of this package it would import the whole package. Neither its folder nor the current one is on
# the path, because files there may bear the names of modules.
_RUN = (
    "import os, sys; replies = os.dup(1); os.dup2(2, 1); os.write(replies, %r); sys.path[:] = filter(None, sys.path); "
    "sys.argv[:] = [sys.argv[1], str(replies), *sys.argv[2:]]; "
    "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
) % (b"\n" + READY)

_LONGEST_WAIT = 3600.0  # seconds, which any system's clock can count
_LEAST_END_SECONDS = 1.0  # between the end of a process's output and its own end
_LAST_BYTES = 4000  # of a process's stderr, which its last line is looked for in


class ProcessLost(Exception):
    """The process died, or answered too late and was killed. Its text says how, and quotes the process.

    Attributes:
        how: how it ended, such as "ended with exit status 3".
        last_words: the last line of its stderr.
        late: whether it was killed because the time limit was over.
    """

    def __init__(self, how: str, last_words: str, late: bool = False):
        super().__init__(f"{how} ({last_words})")
        self.how, self.last_words, self.late = how, last_words, late


def receive_line(pipe: IO[bytes]) -> dict[str, Any]:
    """Reads one reply that is a line of JSON alone.

    Raises:
        EOFError: the pipe ended before the line did.
    """
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return json.loads(line)


class JsonProcess:
    """A running program and its pipes. One thread at a time may call `ask`; any thread may call `kill`.

    A thread of its own holds the pipes. So a wait for a reply can have a limit, and Ctrl-C in the caller's thread never
    leaves half a request in a pipe.

    Args:
        program: the file; see `command`.
        arguments: of the program.
        environment: variables of the process.
        receive: reads one reply from the pipe; raises EOFError where the pipe ends too early.
        name: of the thread.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self,
        program: Path,
        *arguments: str,
        environment: Mapping[str, str],
        receive: Callable[[IO[bytes]], dict[str, Any]] = receive_line,
        name: str = "amc_tf-process",
    ):
        self._owner = os.getpid()
        self._receive = receive
        self._number = 0  # of the last request
        self._requests: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[tuple[int, dict[str, Any] | Exception]] = queue.SimpleQueue()
        with contextlib.ExitStack() as opened:
            # A pipe that nobody reads would stop the process when it is full.
            self._stderr = opened.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                command(program, *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=dict(environment),
                cwd=NEUTRAL_FOLDER,
                **OWN_GROUP,  # Ctrl-C at the terminal is for the caller, who may still need the process
            )
            opened.callback(self._process.kill)
            self._carrier = threading.Thread(target=self._carry, name=name, daemon=True)
            self._carrier.start()
            opened.pop_all()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status of the process, minus the signal's number if a signal killed it; None before it has ended."""
        return self._process.returncode

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Sends one request and waits for its reply.

        Args:
            request: plain types.
            seconds: limit of the wait; on the first request it includes the start of the program.

        Raises:
            ProcessLost: there will be no reply. Nothing but `end` may be called then.
        """
        self._number += 1
        self._requests.put((self._number, json.dumps(request).encode() + b"\n"))
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            try:
                number, reply = self._replies.get(timeout=min(left, _LONGEST_WAIT))
            except queue.Empty:
                if left > _LONGEST_WAIT:
                    continue
                self._kill_and_wait()
                how = f"did not answer within {seconds:g} s and was killed"
                raise ProcessLost(how, last_words(self._stderr), late=True) from None
            if isinstance(reply, OSError | EOFError):
                raise self._ended(left) from None
            if isinstance(reply, Exception):
                raise reply
            if number == self._number:  # else it answers a call that Ctrl-C cut short
                return reply

    def kill(self) -> None:
        """Kills the process; an `ask` that waits for it raises ProcessLost."""
        self._process.kill()

    def end(self) -> None:
        """Kills the process and waits for its end. It does nothing in a fork of the caller, who owns the process."""
        if os.getpid() != self._owner:
            return
        self._kill_and_wait()
        self._requests.put(None)
        if threading.current_thread() is not self._carrier:  # in which a garbage collection may call this
            self._carrier.join(1.0)  # it has read the end of the pipe, unless a process forked elsewhere holds that
        self._stderr.close()

    def __enter__(self) -> "JsonProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _kill_and_wait(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ended(self, seconds: float) -> ProcessLost:
        """How the process ended, once its output has ended."""
        try:
            status = self._process.wait(min(max(seconds, _LEAST_END_SECONDS), _LONGEST_WAIT))
        except subprocess.TimeoutExpired:
            self._kill_and_wait()
            return ProcessLost("closed its output and was killed", last_words(self._stderr))
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        return ProcessLost(how, last_words(self._stderr))

    def _carry(self) -> None:
        """Carries requests to the process and replies back, one for one, until one of the two sides ends."""
        stdin, stdout = self._process.stdin, self._process.stdout
        number = 0
        with stdout, contextlib.suppress(OSError), stdin:  # what a dead process did not read cannot be flushed
            try:
                _skip_to_ready(stdout)
                for number, line in iter(self._requests.get, None):
                    stdin.write(line)
                    stdin.flush()
                    self._replies.put((number, self._receive(stdout)))
            except Exception as error:
                self._replies.put((number, error))


def command(program: Path, *arguments: str) -> list[str]:
    """The command that runs a program of this package which replies to requests.

    Args:
        program: the file; its own first argument will be the file descriptor to write replies to.
        arguments: the others.
    """
    return [sys.executable, "-c", _RUN, str(program), *arguments]


def last_words(stderr: IO[bytes]) -> str:
    """The last line that a process left in the file of its stderr. It must have ended: this moves where it writes.

    The runtime's lines that begin with INFO: are left out.
    """
    size = stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, size - _LAST_BYTES))
    return last_line(stderr.read().decode(errors="replace")).rstrip(".") or "it said nothing"


def _skip_to_ready(pipe: IO[bytes]) -> None:
    for line in iter(pipe.readline, b""):
        if line == READY:
            return
