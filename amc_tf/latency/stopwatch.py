"""Stopwatch: what candidates really take on a device, beside what the base network takes there at the same time."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from amc_tf.devices.interleave import Comparison, interleave
from amc_tf.errors import DeviceError

T = TypeVar("T")
BASE_ROUNDS = 5  # the time that all others are shares of
_BRIEF = {"min_runs": 30, "min_seconds": 0.5}  # of one process in the search
_THOROUGH = {"min_runs": 50, "min_seconds": 1.0}  # of what is reported: benchmark_model's own


class Stopwatch:
    """Measures candidates in turns with the base network.

    A phone warms up and its clock falls; base and candidate slow down alike, so their ratio stays. The latency of a
    candidate is that ratio times the base network's latency, which is measured once, at the start.

    Args:
        device: see devices.
        base: the base .tflite.
        make: widths -> the .tflite of a candidate; None where only finished files are measured.
        base_us: what the base takes, where that is known from an earlier start of the same search.

    Raises:
        DeviceError: the base cannot be measured.
    """

    def __init__(
        self,
        device: Any,
        base: bytes,
        make: Callable[[Sequence[int]], bytes] | None = None,
        base_us: float | None = None,
    ):
        self.device, self._make = device, make
        self._folder = tempfile.TemporaryDirectory(prefix="amc_tf-")
        self._base = Path(self._folder.name) / "base.tflite"
        self._base.write_bytes(base)
        self.base_us = base_us
        if base_us is None:
            try:
                (timing,) = again(lambda: interleave(device, [self._base], rounds=BASE_ROUNDS, **_THOROUGH)).timings
            except BaseException:
                self.close()
                raise
            self.base_us = timing.median_us

    def candidates(self, plans: Sequence[Sequence[int]], rounds: int = 1) -> list[float]:
        """Microseconds of the candidates of these widths, measured in turns with the base and each other.

        Raises:
            DeviceError: a measurement failed.
        """
        paths = [Path(self._folder.name) / f"candidate_{number}.tflite" for number in range(len(plans))]
        for path, widths in zip(paths, plans, strict=True):
            path.write_bytes(self._make(widths))
        found = interleave(self.device, [self._base, *paths], rounds=rounds, **_BRIEF)
        return [ratio.value * self.base_us for ratio in found.ratios[1:]]

    def compare(self, tflite: bytes, rounds: int = BASE_ROUNDS) -> Comparison:
        """The base and a finished file in turns.

        Raises:
            DeviceError: the measurement failed.
        """
        path = Path(self._folder.name) / "model.tflite"
        path.write_bytes(tflite)
        return again(lambda: interleave(self.device, [self._base, path], rounds=rounds, **_THOROUGH))

    def us(self, comparison: Comparison) -> float:
        """What a file takes: its share of the base network's time, times what that takes on a cool device."""
        return comparison.ratios[1].value * self.base_us

    def close(self) -> None:
        """Removes its files; the device is the caller's."""
        self._folder.cleanup()


def again(measurement: Callable[[], T]) -> T:
    """Does a measurement, and once more where the device failed: minutes of others would be lost with it.

    Raises:
        DeviceError: it failed twice.
    """
    try:
        return measurement()
    except DeviceError:
        return measurement()
