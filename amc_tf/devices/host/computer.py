"""This computer as a device: the runtime in a clean process, timed as the official program times it on a phone."""

import contextlib
import json
import os
import platform
import queue
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import psutil

from amc_tf.checks import is_whole
from amc_tf.devices.timing import Operator, Timing
from amc_tf.errors import DeviceError, SetupError
from amc_tf.isolated.provide import provide
from amc_tf.isolated.provide import version as isolated_version
from amc_tf.system import cores
from amc_tf.system.processes import NEUTRAL_FOLDER, OWN_GROUP, command, last_words, skip_noise

RUNTIMES = {"litert": "ai-edge-litert", "tflite": "tflite-runtime"}
DELEGATES = ("xnnpack", "none")
_PROGRAM = Path(__file__).with_name("timing_process.py")
_WARMUP_RUNS, _WARMUP_SECONDS = 1, 0.5  # benchmark_model's own; many small models want less
_START_SECONDS = 60.0  # what loading a runtime and a model may take beside the measurement


class HostDevice:
    """Measures on this computer, each process fresh and without TensorFlow.

    Args:
        runtime: "litert" (ai-edge-litert) or "tflite" (tflite-runtime). Their times are not comparable.
        num_threads: threads of the runtime.
        cpu_mask: "all" or a hex mask of the cores to use, as for taskset; macOS knows "all" alone.
        delegate: "xnnpack" or "none" (the runtime's own kernels).
        timeout: seconds after which a process counts as hung, beside what the measurement itself is to take.

    Raises:
        ValueError: an argument is out of range.
        DeviceError: the runtime is not installed, or is "tflite" and cannot be installed beside this environment.
    """

    name = "host"

    def __init__(
        self,
        runtime: str = "litert",
        num_threads: int = 1,
        *,
        cpu_mask: str = "all",
        delegate: str = "xnnpack",
        timeout: float = 120.0,
    ):
        if runtime not in RUNTIMES:
            raise ValueError(f"runtime is {runtime!r}; expected one of {', '.join(RUNTIMES)}.")
        if not is_whole(num_threads) or num_threads < 1:
            raise ValueError(f"num_threads is {num_threads!r}; a whole number of 1 or more is expected.")
        if delegate not in DELEGATES:
            raise ValueError(f"delegate is {delegate!r}; on this computer it is one of {', '.join(DELEGATES)}.")
        self._cpus = _cpus(cpu_mask)
        if self._cpus is not None and num_threads > len(self._cpus):
            raise ValueError(f"num_threads is {num_threads}, but cpu_mask {cpu_mask!r} has {len(self._cpus)} cores.")
        folder, version = _found(runtime)
        self._settings = {
            "runtime": runtime, "folder": folder, "threads": int(num_threads), "xnnpack": delegate == "xnnpack",
            "cpus": self._cpus,
        }  # fmt: skip
        self._timeout = timeout
        self.identity = {
            "device": "host",
            "cpu": _processor(),
            "runtime": f"{RUNTIMES[runtime]} {version}",
            "threads": str(num_threads),
            "cpu_mask": cpu_mask,
            "delegate": delegate,
        }

    def benchmark(self, path: str | Path, *, min_runs: int = 50, min_seconds: float = 1.0) -> Timing:
        """Times one model in one new process.

        Raises:
            DeviceError: the file is missing or the runtime cannot run it, or its process died or hung.
        """
        with _Process(self._settings) as process:
            return self._timed(process, path, min_runs, min_seconds, _WARMUP_RUNS, _WARMUP_SECONDS)

    def benchmark_many(
        self, paths: Sequence[str | Path], *, min_runs: int = 10, min_seconds: float = 0.1
    ) -> list[Timing]:
        """Times many small models briefly, all in one new process.

        Raises:
            DeviceError: as `benchmark`.
        """
        with _Process(self._settings) as process:
            return [self._timed(process, path, min_runs, min_seconds, 2, min_seconds / 4) for path in paths]

    def profile(self, path: str | Path) -> tuple[Operator, ...]:
        """Not to be had here.

        Raises:
            DeviceError: always.
        """
        raise DeviceError(
            f"{self.identity['runtime']} has no profiler in Python, so operators cannot be timed on this computer: "
            f"profile on a phone."
        )

    def close(self) -> None:
        """Nothing to remove: every process ends with its measurement."""

    def __enter__(self) -> "HostDevice":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _timed(self, process, path, min_runs, min_seconds, warmup_runs, warmup_seconds) -> Timing:
        path = Path(path).absolute()
        if not path.is_file():
            raise DeviceError(f"There is no file {str(path)!r} to measure; give the path of a .tflite.")
        before = _state()
        request = {
            "path": str(path), "min_runs": min_runs, "min_seconds": min_seconds,
            "warmup_runs": warmup_runs, "warmup_seconds": warmup_seconds,
        }  # fmt: skip
        reply = process.ask(request, self._timeout + min_seconds + warmup_seconds)
        if "error" in reply:
            raise DeviceError(
                f"{self.identity['runtime']} cannot run {path.name} ({reply['error']}); check the file with "
                f"amc_tf.tflite.conversion.keras_to_tflite.check or make it anew."
            )
        return Timing(
            processes=(reply["median"],),
            min_us=reply["min"],
            runs=reply["runs"],
            p95_us=reply["p95"],
            init_us=reply["init"],
            memory_mb=reply["memory_mb"],
            environment={**self.identity, "before": before, "after": _state()},
        )


class _Process:
    """A process of timing_process.py; a reader thread keeps its replies, so that waiting for one can have a limit."""

    def __init__(self, settings: dict[str, Any]):
        # A pipe that nobody reads would stop the process when it is full.
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        arguments, environment = _command(settings)
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                env=environment,
                cwd=NEUTRAL_FOLDER,
                **OWN_GROUP,
            )
        except OSError as error:
            self._words.close()
            raise DeviceError(f"No process to measure in could be started ({error}): free some memory.") from error
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._process.stdout, self._replies), daemon=True).start()

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.kill()  # nothing in it is worth a wait
        self._process.wait()
        self._words.close()

    def ask(self, request: dict, seconds: float) -> dict:
        """The reply to one request."""
        with contextlib.suppress(OSError):  # a dead process shows in its missing reply
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        name = Path(request["path"]).name
        try:
            line = self._replies.get(timeout=seconds + _START_SECONDS)
        except queue.Empty:
            raise DeviceError(
                f"Measuring {name} took more than {seconds + _START_SECONDS:.0f} s, so its process was killed; give "
                f"the device a larger timeout if the model is that slow."
            ) from None
        if not line:
            raise DeviceError(
                f"The process that measured {name} died with exit status {self._process.wait()} "
                f"({last_words(self._words)})."
            )
        return json.loads(line)


def _found(runtime: str) -> tuple[str | None, str]:
    """The folder that a runtime lies in, None for this environment; and its version.

    Raises:
        DeviceError: it is not there, and cannot be installed.
    """
    try:
        if runtime == "tflite":
            folder = provide(RUNTIMES[runtime])
            return (None if folder is None else str(folder)), isolated_version(RUNTIMES[runtime])
        return None, metadata.version(RUNTIMES[runtime])
    except SetupError as error:
        raise DeviceError(str(error)) from error
    except metadata.PackageNotFoundError:
        raise DeviceError(
            f"The runtime {RUNTIMES[runtime]} is not installed: run `pip install {RUNTIMES[runtime]}` or give another "
            f"runtime ({', '.join(RUNTIMES)})."
        ) from None


def _command(settings: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment of a process that measures."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if settings["folder"] is not None:  # before the environment's own NumPy, which is another one
        others = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([settings["folder"], *([others] if others else [])])
    return command(_PROGRAM, json.dumps(settings)), environment


def _read(pipe: IO[bytes], replies: "queue.SimpleQueue[bytes]") -> None:
    with pipe:
        skip_noise(pipe)
        for line in pipe:
            replies.put(line)
    replies.put(b"")


def _cpus(mask: str) -> list[int] | None:
    """The cores of a hex mask, None for all."""
    if mask == "all":
        return None
    try:
        bits = int(mask, 16)
        if bits < 0:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"cpu_mask is {mask!r}; expected 'all' or a hex mask such as '3' for the first two.") from None
    allowed = cores.allowed()
    if allowed is None:
        raise ValueError(f"cpu_mask is {mask!r}, but {platform.system()} ties no process to cores: give 'all'.")
    cpus = [core for core in range(bits.bit_length()) if bits >> core & 1]
    missing = sorted(set(cpus) - allowed)
    if not cpus or missing:
        raise ValueError(f"cpu_mask is {mask!r}, whose cores {missing or 'are none'} this process may not use.")
    return cpus


def _state() -> dict[str, Any]:
    """What else may have had a hand in a measurement."""
    return {"load": round(psutil.getloadavg()[0], 2)}


def _processor() -> str:
    """What the processor calls itself; a latency measured on another one means nothing here."""
    try:
        words = (line.partition(":") for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines())
        name = next((value.strip() for key, _, value in words if key.strip() == "model name"), "")
    except OSError:  # not Linux
        name = platform.processor()
    return f"{name or platform.machine()} x{os.cpu_count()}"
