"""PhoneFolder: a folder on the phone whose files are named by their content and compared before their use.

Two candidates of a search often have the same size, so neither name nor size identifies a file. The sha256 does, as the
phone itself computes it.
"""

import secrets
import shlex
from pathlib import Path

from amc_tf.devices.android.adb_client import Adb
from amc_tf.devices.android.adb_errors import StorageFull
from amc_tf.devices.android.benchmark_binary import sha256
from amc_tf.errors import DeviceError

_PARENT = "/data/local/tmp"  # the one place where Android lets the shell user write and execute


class PhoneFolder:
    """A folder that the first file creates. Run the command `remove` in the end.

    Args:
        adb: the phone.
        timeout: seconds that the phone may take to answer.
        room: bytes that the folder may hold; above, the files least recently used go first.
    """

    def __init__(self, adb: Adb, *, timeout: float, room: int = 256 << 20):
        self.path = f"{_PARENT}/amc_tf-{secrets.token_hex(6)}"
        self._adb, self._timeout, self._room = adb, timeout, room
        self._sizes: dict[str, int] = {}  # name -> bytes of the files pushed, the least recently used first
        self._verified: set[str] = set()
        self._kept: set[str] = set()

    def put(self, local: str | Path, *, program: bool = False) -> str:
        """Copies a file to the folder, unless it is there, whole and unchanged; returns its name there.

        Args:
            local: path on this computer.
            program: the file is executable and is never removed to make room.

        Raises:
            DeviceError: the file cannot be read or copied, or does not arrive as it is.
        """
        try:
            digest, size = sha256(local), Path(local).stat().st_size
        except OSError as error:
            raise DeviceError(f"{str(local)!r} cannot be read ({error.strerror}); give a file that can.") from error
        name = digest[:12] + Path(local).suffix
        if program:
            self._kept.add(name)
        if name in self._verified:
            self._sizes[name] = self._sizes.pop(name)  # now the one used last
            return name
        for _ in range(2):  # a lost link may have damaged what was there
            if name not in self._sizes:
                self._push(local, name, size, program)
            if self._digest(name) == digest:
                self._verified.add(name)
                return name
            del self._sizes[name]
        raise DeviceError(
            f"{Path(local).name} does not arrive on {self._adb.serial} as it is here: it is being changed "
            f"meanwhile, or the cable or the phone's storage is bad."
        )

    def distrust(self) -> None:
        """Forgets all comparisons: every file is compared again before its next use."""
        self._verified.clear()

    def remove(self) -> str:
        """The command that removes the folder."""
        return f"rm -rf {self.path}"

    def _push(self, local: str | Path, name: str, size: int, program: bool) -> None:
        self._drop(self._room - size)
        remote = f"{self.path}/{name}"
        self._adb.shell(f"mkdir -p {self.path}", timeout=self._timeout)
        while True:
            try:
                self._adb.push(local, remote, timeout=self._timeout)
                break
            except StorageFull:
                self._adb.shell(f"rm -f {shlex.quote(remote)}", timeout=self._timeout)
                if not self._drop(0):
                    raise
        if program:
            reply = self._adb.shell(f"chmod 755 {remote}", timeout=self._timeout)
            if reply.status:
                raise DeviceError(
                    f"{self._adb.serial} does not let {remote} be executed ({' '.join(reply.output.split())[-200:]}): "
                    f"use a phone whose /data/local/tmp allows that."
                )
        self._sizes[name] = size  # only now: an interrupted push is done again

    def _drop(self, room: int) -> bool:
        """Removes files until the rest takes no more than `room` bytes; returns whether any was removed."""
        gone: list[str] = []
        total = sum(self._sizes.values())
        for name, size in self._sizes.items():
            if total <= room:
                break
            if name not in self._kept:
                gone.append(name)
                total -= size
        if gone:
            self._adb.shell(f"cd {self.path} && rm -f {shlex.join(gone)}", timeout=self._timeout)
        for name in gone:
            del self._sizes[name]
            self._verified.discard(name)
        return bool(gone)

    def _digest(self, name: str) -> str | None:
        """The sha256 of a file in the folder, computed by the phone; None if there is no such file."""
        reply = self._adb.shell(f"sha256sum {self.path}/{shlex.quote(name)}", timeout=self._timeout + 30)
        return reply.output.split()[0] if reply.status == 0 and reply.output.split() else None
