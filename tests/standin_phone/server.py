"""AdbServer: where a test's own adb server is found, and its end. The adb client starts it by itself."""

import contextlib
import os
import socket
from pathlib import Path

from tests.standin_phone.door import free_port


class AdbServer:
    """An adb server that shares nothing with that of whoever runs the tests.

    Args:
        folder: For its keys and logs; made if it is not there.

    Attributes:
        env: Environment for adb clients.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        with free_port() as found:
            self._port = found.getsockname()[1]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANDROID_", "ADB_"))}
        self.env = kept | {
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "ANDROID_ADB_SERVER_PORT": str(self._port),
            # Look for no emulator, no USB and no Wi-Fi phone, which might be the developer's. Old clients know the
            # first only. A server without USB also starts 3 s earlier.
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",
            "ADB_EMU": "0",
            "ADB_USB": "0",
            "ADB_MDNS": "0",
        }

    def end(self) -> None:
        """What `adb kill-server` says, until there is no server."""
        for _ in range(3):
            with contextlib.suppress(ConnectionResetError, TimeoutError):
                try:
                    server = socket.create_connection(("127.0.0.1", self._port), timeout=2)
                except ConnectionRefusedError:
                    return
                with server:
                    server.sendall(b"0009host:kill")
                    while server.recv(64):
                        pass
