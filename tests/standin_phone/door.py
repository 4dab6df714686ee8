"""Door: the port by which adb servers reach the stand-in, which can be shut and opened again."""

import contextlib
import socket
import threading
from collections.abc import Callable

from tests.standin_phone.wire import Connection

EMULATORS = range(5554, 5586)  # where every adb server looks for emulators by itself


class Door:
    """A port of 127.0.0.1, shut at first, that stays the same for good.

    Args:
        connection: Makes the connection of somebody who came in.
    """

    def __init__(self, connection: Callable[[socket.socket], Connection]):
        self._connection = connection
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._listening: socket.socket | None = None
        # Never listens: it only keeps the port while the door is shut.
        self._place = free_port()
        self.port = self._place.getsockname()[1]

    def open(self) -> None:
        with self._lock:
            if self._listening is not None or self._place.fileno() < 0:
                return
            listening = self._listening = _bound(self.port)
            listening.listen()
        threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def shut(self) -> None:
        """Let nobody in, and throw out who is."""
        with self._lock:
            listening, self._listening = self._listening, None
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
            listening.close()
        self.drop()

    def drop(self) -> None:
        """Throw out who is in; he may come again."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.drop()

    def remove(self) -> None:
        """Shut it for good."""
        with self._lock:
            self._place.close()
        self.shut()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                link, _ = listening.accept()
            except OSError:
                return
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                if self._listening is not listening:
                    link.close()
                    return
                connection = self._connection(link)
                self._connections.add(connection)
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: Connection) -> None:
        connection.serve()
        with self._lock:
            self._connections.discard(connection)


def free_port() -> socket.socket:
    """A socket bound to a free port at which nobody looks for emulators."""
    while (found := _bound(0)).getsockname()[1] in EMULATORS:
        found.close()
    return found


def _bound(port: int) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    return found
