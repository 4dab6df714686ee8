"""StandIn: a stand-in for an Android phone, for tests that drive the real adb client over loopback.

    with StandIn(tmp_path) as phone:
        subprocess.run(["adb", "connect", phone.serial], env=phone.env)

On the command line it gives a command a phone: python -m tests.standin_adbd python tools/bench_adb.py --doctor

It speaks the wire protocol of the phone's adbd; commands run for real in /bin/sh on this computer, on a file system of
their own under `phone.root`, with small imitations of Android's commands (tests/standin_phone/bin); the benchmark
program really runs the model. Nothing of it is a phone: the processor is this computer's, and masks pin nothing.
"""

import contextlib
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from amc_tf.devices.android import benchmark_binary
from amc_tf.devices.android.consent import ACCEPT
from amc_tf.system import cache
from tests.standin_phone import shell, sync, zygote
from tests.standin_phone.door import Door
from tests.standin_phone.faults import Crash, Faults, Hot, Next, Truncate, Vanish
from tests.standin_phone.server import AdbServer
from tests.standin_phone.tree import PARTITION, Tree, properties
from tests.standin_phone.wire import Connection, Gone, Stream

__all__ = ["Crash", "Event", "Hot", "Next", "StandIn", "Truncate", "Vanish"]

ROOT = Path(__file__).parents[1]
PROGRAMS = ("tflite", "tflite_old", "litert")
FEATURES = "shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir,sendrecv_v2"


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
        beside: Another one whose adb server shall see this one too.

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
        beside: "StandIn | None" = None,
    ):
        self.folder = folder = Path(folder).resolve() / "standin"
        folder.mkdir(parents=True)
        self._model = model
        self._tree = Tree(folder, properties(model, abi, sdk))
        self._sdk = sdk
        self.root = self._tree.root
        self.log: list[Event] = []
        self._lock = threading.RLock()
        self._timers: list[threading.Timer] = []
        self._authorized = threading.Event()
        self._authorized.set()
        self._closed = self._heated = False
        self._full_at = 0
        self.faults = Faults(self._fault_changed)
        self._door = Door(self._connect)
        self.serial = f"127.0.0.1:{self._door.port}"
        self.binary = self.make_binary(program)
        self._server = AdbServer(folder / "home")
        self.env = self._server.env if beside is None else beside.env
        self._door.open()

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
        self._door.remove()
        self._server.end()
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
        python = f'OPENBLAS_NUM_THREADS=1 PYTHONPATH="{ROOT}" exec "{sys.executable}"'  # NumPy's threads cost time
        start = f"{python} -m tests.standin_phone.benchmark_model"
        by_zygote = zygote.SCRIPT.replace("WHICH", program)
        path.write_text(f'{by_zygote}{start} {program} "$0" "$@"\n', encoding="utf-8")
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

    def left_running(self) -> dict[int, str]:
        """What still runs after the second that a killed shell may take to end; as `leftovers`."""
        until = time.monotonic() + 1
        while (left := self.leftovers()) and time.monotonic() < until:
            time.sleep(0.02)
        return left

    # The way in.

    def _connect(self, link: socket.socket) -> Connection:
        self.log.append(Event("connect", self.serial))
        return Connection(link, self._authorized, self._banner, self._serve)

    def _banner(self) -> str:
        product = f"ro.product.name=standin;ro.product.model={self._model};ro.product.device=standin;"
        return f"device::{product}features={'' if self.faults.old else FEATURES}"

    def _fault_changed(self, name: str) -> None:
        if name == "unauthorized":
            if self.faults.unauthorized:
                self._authorized.clear()
                self._door.drop()
            else:
                self._authorized.set()
        elif name == "offline":
            if self.faults.offline:
                self._door.shut()
            else:
                self._door.open()
        elif name == "old":
            self._door.drop()  # what the phone can do is said when a connection begins
        elif name == "full":
            self._full_at = self._tree.used()

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
        else:  # returns without having accepted: "error: closed"
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
        sieve = shell.Sieve(cut or Truncate())
        command = shell.Command(
            text=self._tree.local(text),
            folder=str(self.root),
            environment=environment,
            packets=packets,
            terminal=not packets and kind.startswith("shell") and bool(self.faults.old),
            filtered=lambda data: sieve.pass_on(self._tree.remote(data)),
        )
        # A command that is quicker than its fault is struck before its exit code is sent.
        shell.serve(stream, command, ended=self._vanish_later(vanish) if vanish else lambda: None)

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

    def _vanish_later(self, vanish: Vanish) -> Callable[[], None]:
        """What it returns makes the phone vanish earlier, once."""
        struck = threading.Lock()

        def strike() -> None:
            if struck.acquire(blocking=False):
                self._door.shut()
                if math.isfinite(vanish.away):
                    self._after(vanish.away, self._come_back)

        self._after(vanish.seconds, strike)
        return strike

    def _come_back(self) -> None:
        if not self.faults.offline:
            self._door.open()

    def _after(self, seconds: float, do: Callable[[], None]) -> None:
        with self._lock:
            if not self._closed:
                timer = threading.Timer(seconds, do)
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
            if self._heated:
                self._tree.forget()  # a benchmark program may have changed what was written last
            self._heated |= heats is not None
            self._tree.show(
                hot,
                low_power=bool(faults.take("low_power", text)),
                battery=87 if level is None else level,
                room=self._room(),
                timeout=not (old or faults.take("no_timeout_tool", text)),
                thermalservice=not old and self._sdk >= 29,
            )
        crash: Crash | None = faults.take("crash", text)
        program = {
            "heats": {str(path): said for path, said in self._tree.heat(heats).items()} if heats else {},
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
            zygote.ADDRESS: zygote.address(),
        }

    def _room(self) -> float:
        full = self.faults.full
        used = self._tree.used()
        return PARTITION / 2 - used if full is None else max(0, full - (used - self._full_at))


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
        return self._phone._vanish_later(vanish) if vanish else lambda: None

    def record(self, kind: str, name: str, size: int) -> None:
        self._phone.log.append(Event(kind, name, size))


def main() -> int:
    """Runs a command in whose eyes a phone is connected and its benchmark program was fetched: `python -m ... CMD`."""
    with tempfile.TemporaryDirectory() as folder, StandIn(Path(folder)) as phone:
        own = Path(folder) / "cache"
        own.mkdir()
        shutil.copy(phone.binary, own / f"benchmark_model-{benchmark_binary.VERSION}-arm64-v8a")
        installed = cache.folder() / "packages"  # seconds to install again
        installed.mkdir(parents=True, exist_ok=True)
        (own / "packages").symlink_to(installed)
        confirmed = benchmark_binary.sha256(phone.binary)
        env = {**phone.env, "AMC_TF_CACHE": str(own), "ANDROID_SERIAL": phone.serial, ACCEPT: confirmed}
        return subprocess.run(sys.argv[1:], env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
