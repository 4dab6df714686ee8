"""The shell and exec services: a command in /bin/sh on this computer, its bytes carried as adbd carries them.

Source: Android's packages/modules/adb, shell_protocol.h and daemon/shell_service.cpp.
"""

import contextlib
import math
import os
import select
import signal
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from tests.standin_phone.faults import Truncate
from tests.standin_phone.wire import Gone, Stream

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
LOOK_AGAIN = 0.1  # seconds until a silent command is looked at whether anybody still listens


@dataclass(frozen=True)
class Command:
    """One command as it is run here.

    Attributes:
        text: For /bin/sh; "" starts an interactive one.
        folder: Where it starts.
        environment: All of it.
        packets: Shell protocol v2: stdout and stderr apart, an exit code. Otherwise plain bytes.
        terminal: Plain bytes as a terminal would hand them on: every "\\n" becomes "\\r\\n".
        filtered: Called with everything that is printed; returns what of it gets through.
    """

    text: str
    folder: str
    environment: Mapping[str, str]
    packets: bool
    terminal: bool
    filtered: Callable[[bytes], bytes]


class Sieve:
    """Lets the beginning of a command's output through."""

    def __init__(self, cut: Truncate):
        self._lines, self._size = cut.lines, cut.size

    def pass_on(self, data: bytes) -> bytes:
        if math.isfinite(self._lines):
            kept = data.splitlines(keepends=True)[: int(self._lines)]
            self._lines -= len(kept)
            data = b"".join(kept)
        if math.isfinite(self._size):
            data = data[: int(self._size)]
            self._size -= len(data)
        return data


def serve(stream: Stream, command: Command, ended: Callable[[], None]) -> None:
    """Run it to its end, or to the client's: then adbd hangs up on the shell, and on nothing that the shell started.

    `ended` is called when the command has ended, before its exit code is sent.
    """
    process = subprocess.Popen(
        ["/bin/sh", "-c", command.text] if command.text else ["/bin/sh"],
        cwd=command.folder,
        env=dict(command.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if command.packets else subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,
    )
    pumps = [threading.Thread(target=_pump, args=(stream, process.stdout, STDOUT, command), daemon=True)]
    if command.packets:
        pumps.append(threading.Thread(target=_pump, args=(stream, process.stderr, STDERR, command), daemon=True))
    feed = threading.Thread(target=_feed, args=(stream, process.stdin, command.packets), daemon=True)
    for thread in (*pumps, feed):
        thread.start()
    for pump in pumps:
        pump.join()
    if stream.gone.is_set():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGHUP)
    code = process.wait()
    ended()
    if command.packets:
        stream.write(struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code))


def _pump(stream: Stream, pipe: BinaryIO, number: int, command: Command) -> None:
    """Output, until there is no more or nobody takes it; what is printed then meets a closed pipe."""
    with pipe, contextlib.suppress(Gone):
        while not stream.gone.is_set():
            if not select.select([pipe], [], [], LOOK_AGAIN)[0]:
                continue
            if not (data := pipe.read(64 * 1024)):
                return
            data = command.filtered(data)
            if command.terminal:
                data = data.replace(b"\n", b"\r\n")
            if data:
                stream.write(struct.pack("<BI", number, len(data)) + data if command.packets else data)


def _feed(stream: Stream, pipe: BinaryIO, packets: bool) -> None:
    with pipe, contextlib.suppress(Gone, OSError):  # OSError: the command reads no more
        while True:
            if packets:
                number, size = struct.unpack("<BI", stream.read(5))
                data = stream.read(size)
                if number == CLOSE_STDIN:
                    return
                if number != STDIN:
                    continue
            else:
                data = stream.read()
            while data:
                data = data[pipe.write(data) :]
