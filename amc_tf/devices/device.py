"""Device: the plug point for hardware that measures the latency of .tflite files. A caller may pass an own one.

`Device` is what every device must have; the other protocols are optional. Code that uses an optional method looks for
it with isinstance. Two more attributes are optional:

* `local: bool`: True if the device times the computer that runs the search. The search then evaluates one candidate at
  a time, so that nothing else runs during a measurement. A device with the name "host" counts as local.
* `__enter__` and `__exit__`: both devices of this package are context managers that call `close`.

tests/contracts/device.py holds the tests that every device must pass.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from amc_tf.devices.timing import Operator, Timing


@runtime_checkable
class Device(Protocol):
    """Measures one .tflite at a time.

    Attributes:
        name: shown in logs and results, such as "adb:SERIAL".
        identity: what a latency depends on besides the model, such as the phone, the runtime and the threads. Measured
            times are cached under it.
    """

    name: str
    identity: Mapping[str, str]

    def benchmark(self, path: str | Path, *, min_runs: int = 50, min_seconds: float = 1.0) -> Timing:
        """Times one model in one new process.

        Args:
            path: of the .tflite.
            min_runs, min_seconds: the measurement ends when both are reached.

        Raises:
            DeviceError: the measurement failed; says why in one sentence.
        """


@runtime_checkable
class BatchDevice(Device, Protocol):
    """A device that times many small models faster than one after another."""

    def benchmark_many(
        self, paths: Sequence[str | Path], *, min_runs: int = 10, min_seconds: float = 0.1
    ) -> list[Timing]:
        """Times models, one Timing for each, in the order of the paths.

        Raises:
            DeviceError: a measurement failed.
        """


@runtime_checkable
class ProfilingDevice(Device, Protocol):
    """A device that knows the time of each operator."""

    def profile(self, path: str | Path) -> tuple[Operator, ...]:
        """Mean time of each operator, in execution order.

        Raises:
            DeviceError: the model cannot be profiled.
        """


@runtime_checkable
class ClosableDevice(Device, Protocol):
    """A device that leaves something behind until it is closed."""

    def close(self) -> None:
        """Removes all that the measurements left on the device. A second call does nothing."""
