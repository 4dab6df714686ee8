"""Measurement session: scores and times exported files; and its spec, which opens it again after the search."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amc_tf.devices.choose import choose
from amc_tf.devices.interleave import Comparison
from amc_tf.errors import DeviceError
from amc_tf.latency.stopwatch import Stopwatch
from amc_tf.search.scoring.evalset import EvalSet
from amc_tf.tflite.runtime.scorer import Scorer


@dataclass(frozen=True)
class MeasurementSession:
    """Scores and times exported files.

    Attributes:
        evalset: the examples whose accuracy is reported.
        stopwatch: times a .tflite in turns with the base network; None if no latency is measured.
    """

    evalset: EvalSet
    stopwatch: Stopwatch | None = None

    def compare(self, tflite: bytes) -> Comparison | None:
        """Times a .tflite beside the base network; None if no latency is measured."""
        return None if self.stopwatch is None else self.stopwatch.compare(tflite)

    def ms(self, comparison: Comparison | None) -> float | None:
        """Milliseconds of the file in a comparison with the base."""
        return None if comparison is None or self.stopwatch is None else self.stopwatch.us(comparison) / 1e3


@dataclass(frozen=True)
class MeasurementSpec:
    """What it takes to open the measurement session of a search again.

    Attributes:
        evalset: the examples whose accuracy is reported.
        base: the .tflite that others are timed in turns with.
        device: as compress() was given it.
        base_us: microseconds of the base network; None if no latency was measured.
        identity: of the device then.
    """

    evalset: EvalSet
    base: bytes
    device: Any
    base_us: float | None
    identity: dict[str, Any] | None

    @contextlib.contextmanager
    def session(self) -> Iterator[MeasurementSession]:
        """Opens the session, and closes it at the end.

        Raises:
            DeviceError: the device is not connected, or is another one.
        """
        with contextlib.ExitStack() as stack:
            evalset = self.evalset.on(stack.enter_context(Scorer()))
            if self.base_us is None:
                yield MeasurementSession(evalset)
                return
            device, opened = choose(self.device)
            if opened:
                stack.callback(device.close)  # type: ignore[attr-defined]  # what choose() opens can be closed
            if dict(device.identity) != self.identity:
                raise DeviceError(
                    f"The network was measured on {self.identity}, but the device is now {dict(device.identity)}; "
                    f"connect the same one."
                )
            stopwatch = Stopwatch(device, self.base, base_us=self.base_us)
            stack.callback(stopwatch.close)
            yield MeasurementSession(evalset, stopwatch)
