"""StandIn: a stand-in for an Android phone, for tests that drive the real adb client over loopback.

    with StandIn(tmp_path) as phone:
        subprocess.run(["adb", "connect", phone.serial], env=phone.env)

It speaks the wire protocol of the phone's adbd; commands run for real in /bin/sh on this computer, on a file system of
their own under `phone.root`, with small imitations of Android's commands (tests/standin_phone/bin); the benchmark
program really runs the model. Nothing of it is a phone: the processor is this computer's, and masks pin nothing.
"""

import contextlib
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.standin_phone import shell, sync
from tests.standin_phone.faults import Crash, Faults, Hot, Next, Truncate, Vanish
from tests.standin_phone.tree import PARTITION, Tree
from tests.standin_phone.wire import Connection, Gone, Stream

__all__ = ["Crash", "Event", "Hot", "Next", "StandIn", "Truncate", "Vanish"]

ROOT = Path(__file__).parents[1]
PROGRAMS = ("tflite", "tflite_old", "litert")
FEATURES = "shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir,sendrecv_v2"
EMULATORS = range(5554, 5586)  # ports at which every adb server looks for emulators by itself


@dataclass(frozen=True)
class Event:
    """Something that was asked of the phone.

    Attributes:
        kind: "connect", "shell", "exec", "sync", "push", "pull" or "other".
        text: The command, the file's name on the phone, the service's name.
        size: Bytes of a push or pull.
    """

    kind: str
    text: str
    size: int = 0


class StandIn:
    """A phone that listens on 127.0.0.1 until it is closed.

    Args:
        folder: For its files and those of the adb server; may exist.
        program: Which benchmark program `binary` is: "tflite" (official, of today), "tflite_old" (of 2021: no
            percentiles, no prefixes) or "litert".
        abi: What ro.product.cpu.abi says.
        sdk: Android's API level.
        model: What ro.product.model says.

    Attributes:
        serial: What adb calls it, "127.0.0.1:PORT".
        env: Environment for the adb client: a server of its own, whose files all lie in `folder`.
        binary: The benchmark program, to be pushed.
        root: Folder that is the phone's "/".
        faults: What is wrong with it, see Faults.
        log: Every Event in the order in which they came.
    """

    def __init__(
        self,
        folder: Path,
        program: str = "tflite",
        *,
        abi: str = "arm64-v8a",
        sdk: int = 33,
        model: str = "Stand_In",
    ):
        self.folder = folder = Path(folder).resolve() / "standin"
        folder.mkdir(parents=True)
        self._model = model
        self._tree = Tree(folder, _properties(model, abi, sdk))
        self._sdk = sdk
        self.root = self._tree.root
        self.log: list[Event] = []
        self._lock = threading.RLock()
        self._connections: set[Connection] = set()
        self._timers: list[threading.Timer] = []
        self._authorized = threading.Event()
        self._authorized.set()
        self._closed = False
        self._full_at = 0
        self.faults = Faults(self._fault_changed)
        # Bound for good but never listening: keeps the port while the phone is away.
        self._place = _bound(0)
        while self._place.getsockname()[1] in EMULATORS:
            self._place = _bound(0)
        self._port = self._place.getsockname()[1]
        self._door: socket.socket | None = None
        self.serial = f"127.0.0.1:{self._port}"
        self.binary = self.make_binary(program)
        self._server_port = _free_port()
        self.env = self._environment()
        self._listen()

    def __enter__(self) -> "StandIn":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, end the adb server of `env` and kill whatever still runs on the phone."""
        with self._lock:
            self._closed = True
            for timer in self._timers:
                timer.cancel()
        self._leave()
        self._place.close()
        _end_server(self._server_port)
        until = time.monotonic() + 5
        while (left := self.leftovers()) and time.monotonic() < until:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def make_binary(self, program: str) -> Path:
        """One more benchmark program to be pushed; see `program` above."""
        if program not in PROGRAMS:
            raise ValueError(f"program is {program!r}; one of {', '.join(PROGRAMS)} is expected.")
        path = self.folder / f"{program}_benchmark_model"
        start = f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m tests.standin_phone.benchmark_model'
        path.write_text(f'#!/bin/sh\n{start} {program} "$0" "$@"\n', encoding="utf-8")
        path.chmod(0o755)
        return path

    def path(self, name: str) -> Path:
        """Where a file of the phone lies on this computer."""
        return self._tree.path(name)

    @property
    def files(self) -> list[str]:
        """Every file and folder below /data/local/tmp, by its name from there on."""
        top = self.path("/data/local/tmp")
        return sorted(path.relative_to(top).as_posix() for path in top.rglob("*"))

    @property
    def commands(self) -> list[str]:
        """Every shell and exec command so far."""
        return [event.text for event in list(self.log) if event.kind in ("shell", "exec")]

    @property
    def pushes(self) -> list[str]:
        """Every file pushed so far, by its name on the phone."""
        return [event.text for event in list(self.log) if event.kind == "push"]

    @property
    def fixed_performance(self) -> bool | None:
        """Whether the fixed-performance mode is on; None: nobody has touched it."""
        path = self._tree.state / "fixed_performance"
        return path.read_text().strip() == "true" if path.exists() else None

    def leftovers(self) -> dict[int, str]:
        """Processes that run on the phone: pid -> command line."""
        mark = f"STANDIN={self._tree.state}".encode()
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    found[int(folder.name)] = line
        return found

    # The way in.

    def _listen(self) -> None:
        with self._lock:
            if self._closed or self._door is not None or self.faults.offline:
                return
            door = self._door = _bound(self._port)
            door.listen()
        threading.Thread(target=self._accept, args=(door,), daemon=True).start()

    def _accept(self, door: socket.socket) -> None:
        while True:
            try:
                link, _ = door.accept()
            except OSError:
                return
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(link, self._authorized, self._banner, self._serve)
            with self._lock:
                if self._door is not door:
                    link.close()
                    return
                self._connections.add(connection)
            self.log.append(Event("connect", self.serial))
            threading.Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _attend(self, connection: Connection) -> None:
        connection.serve()
        with self._lock:
            self._connections.discard(connection)

    def _leave(self) -> None:
        """Be gone from the network at once."""
        with self._lock:
            door, self._door = self._door, None
            connections = list(self._connections)
        if door is not None:
            with contextlib.suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
            door.close()
        for connection in connections:
            connection.drop()

    def _banner(self) -> str:
        product = f"ro.product.name=standin;ro.product.model={self._model};ro.product.device=standin;"
        return f"device::{product}features={'' if self.faults.old else FEATURES}"

    def _fault_changed(self, name: str) -> None:
        if name == "unauthorized":
            if self.faults.unauthorized:
                self._authorized.clear()
                self._drop()
            else:
                self._authorized.set()
        elif name == "offline":
            if self.faults.offline:
                self._leave()
            else:
                self._listen()
        elif name == "old":
            self._drop()  # what the phone can do is said when a connection begins
        elif name == "full":
            self._full_at = self._tree.used()

    def _drop(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.drop()

    # What is asked of it.

    def _serve(self, service: str, stream: Stream) -> None:
        kind, _, rest = service.partition(":")
        if kind == "sync":
            self.log.append(Event("sync", ""))
            stream.accept()
            sync.serve(stream, _Storage(self, stream))
        elif kind.split(",")[0] in ("shell", "exec") and not (self.faults.old and kind.startswith("shell,v2")):
            self.log.append(Event(kind.split(",")[0], rest))
            self._run(kind, rest, stream)
        else:
            self.log.append(Event("other", service))

    def _run(self, kind: str, text: str, stream: Stream) -> None:
        vanish = self._strike(text, stream)
        stream.accept()
        packets = kind.startswith("shell,v2")
        environment = self._prepare(text)
        cut = self.faults.take("truncate", text)
        if cut is not None and cut.program:
            environment["STANDIN_PROGRAM"] = json.dumps(
                json.loads(environment["STANDIN_PROGRAM"]) | {"lines": cut.lines, "size": cut.size}
            )
            cut = None
        sieve = _Sieve(cut or Truncate())
        command = shell.Command(
            text=self._tree.local(text),
            folder=str(self.root),
            environment=environment,
            packets=packets,
            terminal=not packets and kind.startswith("shell") and bool(self.faults.old),
            filtered=lambda data: sieve.pass_on(self._tree.remote(data)),
        )
        timer = self._vanish_later(vanish) if vanish else None
        shell.serve(stream, command, ended=lambda: self._vanish_now(timer) if timer else None)

    def _strike(self, text: str, stream: Stream) -> Vanish | None:
        """The faults of any service, before it begins."""
        if self.faults.take("refuse", text):
            raise Gone
        if self.faults.take("hang", text):
            stream.gone.wait()
            raise Gone
        if seconds := self.faults.take("slow", text):
            stream.gone.wait(seconds)
        return self.faults.take("vanish", text)

    def _vanish_later(self, vanish: Vanish) -> threading.Timer:
        timer = threading.Timer(vanish.seconds, self._vanish, args=(vanish,))
        self._start(timer)
        return timer

    def _vanish_now(self, timer: threading.Timer) -> None:
        """The command was quicker than its fault: then it strikes before the exit code is sent."""
        timer.cancel()
        if not timer.finished.is_set() or self._door is not None:
            self._vanish(timer.args[0])

    def _vanish(self, vanish: Vanish) -> None:
        self._leave()
        if math.isfinite(vanish.away):
            self._start(threading.Timer(vanish.away, self._listen))

    def _start(self, timer: threading.Timer) -> None:
        with self._lock:
            if not self._closed:
                timer.daemon = True
                self._timers.append(timer)
                timer.start()

    def _prepare(self, text: str) -> dict[str, str]:
        """Make the phone look as the faults have it for this command; returns the command's environment."""
        faults, old = self.faults, bool(self.faults.old)
        hot = faults.take("hot", text) or Hot()
        capped = faults.take("capped", text)
        if capped is not None:
            hot = Hot(hot.status, hot.celsius, min(capped, hot.capped))
        heats: Hot | None = faults.take("heats", text)
        level = faults.take("battery", text)
        with self._lock:
            self._tree.show(
                hot,
                low_power=bool(faults.take("low_power", text)),
                battery=87 if level is None else level,
                room=self._room(),
                timeout=not (old or faults.take("no_timeout_tool", text)),
                thermalservice=not old and self._sdk >= 29,
            )
            if heats is not None:
                self._tree.forget()
        crash: Crash | None = faults.take("crash", text)
        program = {
            "heats": {str(path): text for path, text in self._tree.heat(heats).items()} if heats else {},
            "crash": asdict(crash) if crash else None,
            **{name: bool(faults.take(name, text)) for name in ("fallback", "stuck", "fails")},
        }
        return {
            "PATH": str(self.root / "system/bin"),
            "HOME": str(self.root),
            "TMPDIR": str(self.root / "data/local/tmp"),
            "ANDROID_DATA": "/data",
            "ANDROID_ROOT": "/system",
            "STANDIN": str(self._tree.state),
            "STANDIN_PROGRAM": json.dumps(program),
        }

    def _room(self) -> float:
        full = self.faults.full
        used = self._tree.used()
        return PARTITION / 2 - used if full is None else max(0, full - (used - self._full_at))

    def _environment(self) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANDROID_", "ADB_"))}
        return kept | {
            "HOME": str(home),
            "TMPDIR": str(home),
            "ANDROID_ADB_SERVER_PORT": str(self._server_port),
            # Look for no emulator, no USB and no Wi-Fi phone, which might be the developer's. Old clients know the
            # first only. A server without USB also starts 3 s earlier.
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",
            "ADB_EMU": "0",
            "ADB_USB": "0",
            "ADB_MDNS": "0",
        }


class _Storage:
    """The phone as its sync service sees it from one stream."""

    def __init__(self, phone: StandIn, stream: Stream):
        self._phone, self._stream = phone, stream

    def path(self, name: str) -> Path:
        return self._phone.path(name)

    def writable(self, name: str) -> bool:
        return name.startswith(("/data/local/tmp/", "/sdcard/"))

    def room(self) -> float:
        return self._phone._room()

    def begins(self, transfer: str) -> Callable[[], None]:
        vanish = self._phone._strike(transfer, self._stream)
        if vanish is None:
            return lambda: None
        if vanish.seconds > 0:
            self._phone._vanish_later(vanish)
            return lambda: None
        return lambda: self._phone._vanish(vanish)

    def record(self, kind: str, name: str, size: int) -> None:
        self._phone.log.append(Event(kind, name, size))


class _Sieve:
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


def _properties(model: str, abi: str, sdk: int) -> Mapping[str, str]:
    release = {23: "6.0.1", 28: "9", 29: "10", 30: "11", 31: "12", 33: "13"}.get(sdk, str(sdk - 20))
    return {
        "ro.product.manufacturer": "amc",
        "ro.product.brand": "amc",
        "ro.product.model": model,
        "ro.product.name": "standin",
        "ro.product.device": "standin",
        "ro.product.cpu.abi": abi,
        "ro.product.cpu.abilist": abi,
        "ro.soc.manufacturer": "amc",
        "ro.soc.model": "SI8000",
        "ro.board.platform": "standin",
        "ro.hardware": "standin",
        "ro.build.version.sdk": str(sdk),
        "ro.build.version.release": release,
        "ro.build.fingerprint": f"amc/standin/standin:{release}/SI.230101.001/1234567:user/release-keys",
        "ro.build.type": "user",
        "ro.serialno": "STANDIN0001",
        "sys.boot_completed": "1",
    }


def _bound(port: int) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    return found


def _free_port() -> int:
    while True:
        with _bound(0) as found:
            if (port := found.getsockname()[1]) not in EMULATORS:
                return port


def _end_server(port: int) -> None:
    """What `adb kill-server` says to a server that is there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as server:
        server.sendall(b"0009host:kill")
        server.recv(4)
