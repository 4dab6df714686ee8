"""HostDevice: this computer as a device. Each model runs in a fresh process with nothing but the runtime.

The measurement follows the official benchmark_model: warm-up first, then the wall time of each inference.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from amc_tf.checks import is_whole
from amc_tf.devices.timing import Operator, RunLength, Timing
from amc_tf.errors import DeviceError, SetupError
from amc_tf.isolated.provide import provide
from amc_tf.isolated.provide import version as isolated_version
from amc_tf.system import cores
from amc_tf.system.json_lines import JsonProcess, ProcessLost

RUNTIMES = {"litert": "ai-edge-litert", "tflite": "tflite-runtime"}
DELEGATES = ("xnnpack", "none")
_PROGRAM = Path(__file__).with_name("timing_process.py")
_START_SECONDS = 60.0  # limit of loading a runtime and a model, beside the measurement


class HostDevice:
    """Measures on this computer, each process fresh and without TensorFlow.

    Args:
        runtime: "litert" (ai-edge-litert) or "tflite" (tflite-runtime). Their times are not comparable.
        num_threads: threads of the runtime.
        cpu_mask: "all" or a hex mask of the cores to use, as for taskset; macOS knows "all" alone.
        delegate: "xnnpack" or "none" (the runtime's own kernels).
        timeout: seconds after which a process counts as hung, beside the seconds of the measurement itself.

    Attributes:
        name: "host".
        identity: what a latency depends on besides the model.

    Raises:
        ValueError: an argument is out of range.
        DeviceError: the runtime is not installed, or is "tflite" and cannot be installed beside this environment.
    """

    name: str = "host"
    identity: Mapping[str, str]

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
        cpus = _cpus(cpu_mask)
        if cpus is not None and num_threads > len(cpus):
            raise ValueError(f"num_threads is {num_threads}, but cpu_mask {cpu_mask!r} has {len(cpus)} cores.")
        self._folder, version = _find_runtime(runtime)
        self._settings = {
            "runtime": runtime, "threads": int(num_threads), "xnnpack": delegate == "xnnpack", "cpus": cpus,
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
        length = RunLength.usual(min_runs, min_seconds)
        with self._start() as process:
            return self._measure(process, path, length)

    def benchmark_many(
        self, paths: Sequence[str | Path], *, min_runs: int = 10, min_seconds: float = 0.1
    ) -> list[Timing]:
        """Times many small models briefly, all in one new process.

        Raises:
            DeviceError: as `benchmark`.
        """
        length = RunLength.brief(min_runs, min_seconds)
        with self._start() as process:
            return [self._measure(process, path, length) for path in paths]

    def profile(self, path: str | Path) -> tuple[Operator, ...]:
        """Raises DeviceError: the runtimes have no profiler in Python."""
        raise DeviceError(
            f"{self.identity['runtime']} has no profiler in Python, so operators cannot be timed on this computer: "
            f"profile on a phone."
        )

    def close(self) -> None:
        """Nothing to remove: every process ends with its measurement."""

    def __enter__(self) -> "HostDevice":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> JsonProcess:
        """Starts a process that measures."""
        environment = _environment(self._folder)
        try:
            return JsonProcess(_PROGRAM, json.dumps(self._settings), environment=environment, name="amc_tf-host")
        except OSError as error:
            raise DeviceError(f"No process to measure in could be started ({error}): free some memory.") from error

    def _measure(self, process: JsonProcess, path: str | Path, length: RunLength) -> Timing:
        path = Path(path).absolute()
        if not path.is_file():
            raise DeviceError(f"There is no file {str(path)!r} to measure; give the path of a .tflite.")
        before = _state()
        reply = self._ask(process, path, length)
        if "error" in reply:
            raise DeviceError(
                f"{self.identity['runtime']} cannot run {path.name} ({reply['error']}); it is damaged or "
                f"has operators that this runtime lacks: make the file anew."
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

    def _ask(self, process: JsonProcess, path: Path, length: RunLength) -> dict[str, Any]:
        """The process's reply on one model.

        Raises:
            DeviceError: there is none in time.
        """
        seconds = self._timeout + length.min_seconds + length.warmup_seconds + _START_SECONDS
        try:
            return process.ask({"path": str(path), **asdict(length)}, seconds)
        except ProcessLost as lost:
            if lost.late:
                raise DeviceError(
                    f"Measuring {path.name} took more than {seconds:.0f} s, so its process was killed; give the device "
                    f"a larger timeout if the model is that slow."
                ) from None
            raise DeviceError(f"The process that measured {path.name} {lost}.") from None


def _find_runtime(runtime: str) -> tuple[Path | None, str]:
    """The folder of a runtime, None if it is in this environment; and its version.

    Raises:
        DeviceError: the runtime is not installed and cannot be.
    """
    try:
        if runtime == "tflite":
            return provide(RUNTIMES[runtime]), isolated_version(RUNTIMES[runtime])
        return None, metadata.version(RUNTIMES[runtime])
    except SetupError as error:
        raise DeviceError(str(error)) from error
    except metadata.PackageNotFoundError:
        raise DeviceError(
            f"The runtime {RUNTIMES[runtime]} is not installed: run `pip install {RUNTIMES[runtime]}` or give another "
            f"runtime ({', '.join(RUNTIMES)})."
        ) from None


def _environment(folder: Path | None) -> dict[str, str]:
    """Environment variables of a process that measures.

    Args:
        folder: goes before the environment's own packages on the path, since its NumPy is another one.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if folder is not None:
        others = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(folder), *([others] if others else [])])
    return environment


def _cpus(mask: str) -> list[int] | None:
    """The cores of a hex mask, None for "all".

    Raises:
        ValueError: the mask is no mask, or names cores that this process may not use.
    """
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
    """State of this computer that may affect a measurement."""
    return {"load": round(psutil.getloadavg()[0], 2)}


def _processor() -> str:
    """Name of the processor and number of its cores. A latency on another processor means nothing here."""
    try:
        words = (line.partition(":") for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines())
        name = next((value.strip() for key, _, value in words if key.strip() == "model name"), "")
    except OSError:  # not Linux
        name = platform.processor()
    return f"{name or platform.machine()} x{os.cpu_count()}"
