"""Stopwatch: measured latency of candidates on a device, relative to the base network measured in turns with them."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from amc_tf.devices.interleave import Comparison, interleave
from amc_tf.errors import DeviceError

T = TypeVar("T")
BASE_ROUNDS = 5  # many, since all other latencies are relative to the base network's
_BRIEF = {"min_runs": 30, "min_seconds": 0.5}  # per process, during the search
_THOROUGH = {"min_runs": 50, "min_seconds": 1.0}  # for reported latencies: the defaults of benchmark_model


class Stopwatch:
    """Measures candidates in turns with the base network.

    A phone warms up and lowers its clock. Base and candidate then slow down by the same factor, so their ratio stays.
    The latency of a candidate is this ratio times the base network's latency, which is measured once, at the start.

    Args:
        device: See devices.
        base: The .tflite of the base network.
        make: Widths -> .tflite of the candidate; None if only finished files are measured.
        base_us: Latency of the base network in microseconds, if an earlier start of the same search measured it.

    Raises:
        DeviceError: The base cannot be measured.
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
                comparison = retry_once(lambda: interleave(device, [self._base], rounds=BASE_ROUNDS, **_THOROUGH))
            except BaseException:
                self.close()
                raise
            self.base_us = comparison.timings[0].median_us

    def candidates(self, plans: Sequence[Sequence[int]], rounds: int = 1) -> list[float]:
        """Microseconds of the candidates of these plans, measured in turns with the base network and each other.

        Raises:
            DeviceError: A measurement failed.
        """
        paths = [Path(self._folder.name) / f"candidate_{number}.tflite" for number in range(len(plans))]
        for path, widths in zip(paths, plans, strict=True):
            path.write_bytes(self._make(widths))
        comparison = interleave(self.device, [self._base, *paths], rounds=rounds, **_BRIEF)
        return [ratio.value * self.base_us for ratio in comparison.ratios[1:]]

    def compare(self, tflite: bytes, rounds: int = BASE_ROUNDS) -> Comparison:
        """Measures the base network and a finished file in turns.

        Raises:
            DeviceError: The measurement failed.
        """
        path = Path(self._folder.name) / "model.tflite"
        path.write_bytes(tflite)
        return retry_once(lambda: interleave(self.device, [self._base, path], rounds=rounds, **_THOROUGH))

    def us(self, comparison: Comparison) -> float:
        """Microseconds of a compared file: its ratio to the base network, times the base network's latency."""
        return comparison.ratios[1].value * self.base_us

    def close(self) -> None:
        """Removes its files. The device stays open."""
        self._folder.cleanup()


def retry_once(measurement: Callable[[], T]) -> T:
    """The result of a measurement. If the device fails, it is repeated once, so that earlier ones are not lost.

    Raises:
        DeviceError: It failed twice.
    """
    try:
        return measurement()
    except DeviceError:
        return measurement()
