"""The adb wire protocol, the phone's side of it: messages, the handshake and the streams of one connection.

Source: Android's packages/modules/adb, protocol.txt, adb.h and adb.cpp.
"""

import contextlib
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable

CNXN, AUTH, OPEN, OKAY, CLSE, WRTE = (
    int.from_bytes(name, "little") for name in b"CNXN AUTH OPEN OKAY CLSE WRTE".split()
)
VERSION = 0x01000001  # from this one on nobody sums up the payloads
MAX_PAYLOAD = 1 << 20
AUTH_TOKEN, AUTH_PUBLIC_KEY = 1, 3


class Gone(Exception):
    """The other end of the stream or of the whole connection is not there any more."""


class Stream:
    """One open service. Bytes written are cut into messages, of which one at a time is under way, as adb demands."""

    def __init__(self, connection: "Connection", number: int, remote: int):
        self._connection, self._number, self._remote = connection, number, remote
        self._inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._rest = b""
        self._taken = threading.Semaphore(0)
        self._writing = threading.Lock()
        self._accepted = self._lost = False
        self.gone = threading.Event()

    def accept(self) -> None:
        """Tell the other end that the service is there; before anything is written. Not accepted is refused."""
        self._connection.send(OKAY, self._number, self._remote)
        self._accepted = True

    def receive(self, data: bytes) -> None:
        """Called by the connection for every WRTE."""
        self._connection.send(OKAY, self._number, self._remote)
        self._inbox.put(data)

    def taken(self) -> None:
        """Called by the connection for every OKAY."""
        self._taken.release()

    def lose(self, all_of_it: bool = False) -> None:
        """Called by the connection when the other end has closed the stream.

        Args:
            all_of_it: It has vanished: what has come but was not read yet is lost as well.
        """
        self._lost = all_of_it
        self.gone.set()
        self._inbox.put(None)
        self._taken.release()

    def read(self, size: int | None = None) -> bytes:
        """Exactly `size` bytes, or whatever comes next.

        Raises:
            Gone: Fewer came.
        """
        while len(self._rest) < (1 if size is None else size):
            data = self._inbox.get()
            if data is None or self._lost:
                self._inbox.put(None)  # for the next one who asks
                raise Gone
            self._rest += data
        size = len(self._rest) if size is None else size
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def write(self, data: bytes) -> None:
        """Send, and wait until the other end has taken it.

        Raises:
            Gone: It has not.
        """
        with self._writing:
            for start in range(0, len(data), self._connection.max_payload):
                if self.gone.is_set():
                    raise Gone
                piece = data[start : start + self._connection.max_payload]
                self._connection.send(WRTE, self._number, self._remote, piece)
                self._taken.acquire()
        if self.gone.is_set():
            raise Gone

    def close(self) -> None:
        self._connection.forget(self._number)
        if not self.gone.is_set():
            with contextlib.suppress(Gone):
                self._connection.send(CLSE, self._number if self._accepted else 0, self._remote)
        self.lose()


class Connection:
    """One client: an adb server that has connected. `serve` returns when the connection has ended.

    Args:
        link: The accepted socket.
        authorized: Set as long as the phone trusts this computer.
        banner: Makes the text by which the phone introduces itself.
        service: Called in a thread of its own for every service opened, with its text and its stream, which it must
            accept; returns when the service has ended.
    """

    def __init__(
        self,
        link: socket.socket,
        authorized: threading.Event,
        banner: Callable[[], str],
        service: Callable[[str, Stream], None],
    ):
        self._link, self._authorized, self._banner, self._service = link, authorized, banner, service
        self._sending = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._opened = 0
        self._ended = threading.Event()
        self.max_payload = 4096

    def send(self, command: int, first: int, second: int, payload: bytes = b"") -> None:
        header = struct.pack("<6I", command, first, second, len(payload), 0, command ^ 0xFFFFFFFF)
        try:
            with self._sending:
                self._link.sendall(header + payload)
        except OSError as error:
            raise Gone from error

    def forget(self, number: int) -> None:
        self._streams.pop(number, None)

    def drop(self) -> None:
        """End it at once, without a word, as a pulled cable does."""
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        try:
            with contextlib.suppress(Gone, OSError):
                while True:
                    command, first, second, size, _, _ = struct.unpack("<6I", self._receive(24))
                    self._handle(command, first, second, self._receive(size))
        finally:
            self._ended.set()
            for stream in list(self._streams.values()):
                stream.lose(all_of_it=True)
            self._link.close()

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._link.recv(size - len(data))
            if not piece:
                raise Gone
            data += piece
        return bytes(data)

    def _handle(self, command: int, first: int, second: int, payload: bytes) -> None:
        if command == CNXN:
            self.max_payload = min(MAX_PAYLOAD, second)
            if self._authorized.is_set():
                self._welcome()
            else:
                self.send(AUTH, AUTH_TOKEN, 0, os.urandom(20))
        elif command == AUTH and first == AUTH_PUBLIC_KEY:
            threading.Thread(target=self._ask_the_user, daemon=True).start()
        elif command == AUTH:  # signed with a key that the phone does not know: let it try the next one
            self.send(AUTH, AUTH_TOKEN, 0, os.urandom(20))
        elif command == OPEN:
            self._opened += 1
            stream = self._streams[self._opened] = Stream(self, self._opened, first)
            service = payload.rstrip(b"\0").decode()
            threading.Thread(target=self._run, args=(service, stream), daemon=True).start()
        elif command in (WRTE, OKAY, CLSE) and (stream := self._streams.get(second)):
            if command == WRTE:
                stream.receive(payload)
            elif command == OKAY:
                stream.taken()
            else:
                self.send(CLSE, second, first)
                self.forget(second)
                stream.lose()

    def _welcome(self) -> None:
        self.send(CNXN, VERSION, MAX_PAYLOAD, self._banner().encode())

    def _ask_the_user(self) -> None:
        """The dialog "Allow USB debugging?": answered by whoever sets `authorized`."""
        while not self._ended.is_set():
            if self._authorized.wait(0.1):
                with contextlib.suppress(Gone):
                    self._welcome()
                return

    def _run(self, service: str, stream: Stream) -> None:
        with contextlib.suppress(Gone):
            try:
                self._service(service, stream)
            finally:
                stream.close()
