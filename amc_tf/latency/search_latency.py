"""Latency: the device, the prices, the measurements and the finalists of one search with a latency."""

import contextlib
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.devices.choose import choose
from amc_tf.devices.interleave import Comparison
from amc_tf.errors import BadPredictions, BudgetError, ConversionError, DeviceError, RunDirError
from amc_tf.graph.identity import digest
from amc_tf.latency.candidate_timing import FINAL_ROUNDS, LatencyMeasurer, correction, finalists, plans_near_limit
from amc_tf.latency.sparse_prices import SparsePrices, measure
from amc_tf.latency.stopwatch import Stopwatch
from amc_tf.latency.table import LatencyTable, key, load_or_measure
from amc_tf.pruning.plan import WEIGHTS
from amc_tf.pruning.pruner import Pruner
from amc_tf.search.budget import narrowed
from amc_tf.search.rewards import Reward
from amc_tf.search.scoring.evaluator import Evaluator
from amc_tf.search.trial import Outcome, Trial
from amc_tf.system.files import write
from amc_tf.tflite.slicing.shapes import Shapes
from amc_tf.tflite.sparse.unsupported_operators import unsupported_processor

_LOG = logging.getLogger(__name__)

_FORMAT = 2  # of latency.json; format 1, of amc_tf 0.1, has no format field; a later format counts as missing
_FILE = "latency.json"  # in the run directory: a resumed search must use the same prices
_NARROWED_TO = 0.98  # share of the limit that a finalist above it is narrowed to


class Latency:
    """The latency of one search. As a Cost it predicts microseconds from widths; it also measures on the device.

    A search that optimises latency calls it in this order: `prepare` measures the base network and the prices;
    `calibrate` measures a few plans near the limit; `measurer` measures candidates during the search; `finalists`
    measures the best of them; `holds` and `record` judge the file that ships. If the latency is only reported, a search
    calls `prepare` without an evaluator, and `record`.

    Args:
        device: The device argument of compress(). A device that is opened here is closed here.
        pruner: Of the network.
        base: The .tflite of the base network.
        finished: .tflite of a candidate -> the file that would ship, which is measured.
        to_tflite: Keras model -> .tflite of the format that is measured, see quantize.rough; None for float.

    Attributes:
        full: Widths of the whole network.
        device, identity: The device, and what identifies it; a search belongs to one device.
        table: Prices of plans; None before `prepare`, and after it without an evaluator.
        stopwatch: Measures files; None before `prepare`.
        ratios: Measured per predicted latency of plans near the limit.

    Raises:
        TypeError, ValueError, DeviceError: The device is not a device, or cannot be used.
    """

    unit = LatencyTable.unit

    def __init__(
        self,
        device: Any,
        pruner: Pruner,
        base: bytes,
        finished: Callable[[bytes], bytes] = bytes,
        to_tflite: Callable[[Any], bytes] | None = None,
    ):
        self.full = pruner.full
        self._finished, self._to_tflite = finished, to_tflite
        self._pruner, self._base = pruner, base
        self.device, self._opened = choose(device)
        self.identity = dict(self.device.identity)
        self.table: LatencyTable | SparsePrices | None = None
        self.stopwatch: Stopwatch | None = None
        self.ratios: list[float] = []
        self._key: str | None = None

    def __call__(self, widths: Sequence[int] | np.ndarray) -> float:
        """Predicted microseconds of a plan; only after `prepare` with an evaluator."""
        return self.table(widths)

    def prepare(
        self,
        run_dir: Path,
        evaluator: Evaluator | None,
        trials: Sequence[Trial] = (),
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Measures the base network and, with an evaluator, the prices. Both are taken from `run_dir` if it has them.

        Args:
            run_dir: Run directory of the search.
            evaluator: Makes the candidates; None if plans need no prices.
            trials: Those of an earlier start of the search.
            on_progress: Called with (number of small models measured, number of all).

        Raises:
            DeviceError: A measurement failed.
            ConversionError: The shapes of candidates cannot be predicted.
            RunDirError: The earlier start left no prices.
        """
        if evaluator is None:
            self.stopwatch = Stopwatch(self.device, self._base)
            return
        sparse = self._pruner.of == WEIGHTS
        shapes = evaluator.shapes if self._to_tflite is None else Shapes(self._pruner, self._to_tflite)
        self._key = self._sparse_key() if sparse else key(self.device, shapes, self._pruner.units)
        stored = self._stored(run_dir)
        if trials and not stored:
            raise RunDirError(
                f"{run_dir / _FILE} is missing, damaged or of another network, and without the prices in it the search "
                f"there cannot go on as it began: choose another run_dir."
            )
        make = self._candidate_maker(evaluator, shapes)
        self.stopwatch = Stopwatch(self.device, self._base, make, stored.get("base_us"))
        self.table = stored.get("table")
        if self.table is None and sparse:
            if self.device.name == "host" and (reason := unsupported_processor()):
                raise DeviceError(f"Zeros make no network faster here: {reason}")
            self.table = measure(self._pruner, self.stopwatch.candidates, on_progress)
        elif self.table is None:
            self.table = load_or_measure(self.device, shapes, self._pruner.units, on_progress)
        self.table.fit(self.stopwatch.base_us)
        self.ratios = stored.get("shares", [])

    def calibrate(self, limit: float | None) -> None:
        """Measures a few plans near the limit, or near half of the base without one; not if `prepare` found such.

        If the device fails, the search begins with uncorrected prices and corrects them by its own measurements.
        """
        if self.ratios:
            return
        least = self.table([unit.widths[0] for unit in self._pruner.units])
        limit = limit or max(least, 0.5 * self.stopwatch.base_us)
        plans = plans_near_limit(self._pruner.units, self.table, limit)
        try:
            times = self.stopwatch.candidates(plans, FINAL_ROUNDS)
        except DeviceError as error:
            _LOG.warning("The search begins with uncorrected prices: %s", error)
            return
        self.ratios = [us / self.table(widths) for us, widths in zip(times, plans, strict=True)]

    def correction(self, trials: Sequence[Trial]) -> float:
        """Measured per predicted latency, see SearchProblem.correction."""
        return correction(self.ratios, trials)

    def save(self, run_dir: Path) -> None:
        """Writes what was measured before the search to the run directory, so that the search can resume."""
        stored = {
            "format": _FORMAT,
            "key": self._key,
            "base_us": self.stopwatch.base_us,
            "shares": self.ratios,
            "table": self.table.to_dict(),
        }
        write(json.dumps(stored).encode(), run_dir / _FILE)

    @property
    def in_flight(self) -> int:
        """Candidates that may be evaluated at once: 1 if this computer measures, since nothing else may run then."""
        return 1 if self.device.name == "host" or getattr(self.device, "local", False) else 2

    def measurer(self, trials: Sequence[Trial]) -> LatencyMeasurer:
        """Measures the candidates of the search with these trials, see SearchProblem.measure."""
        return LatencyMeasurer(self.stopwatch, self._pruner.full, self.ratios, trials)

    def finalists(
        self,
        trials: Sequence[Trial],
        limit: float | None,
        reward: Reward,
        evaluate: Callable[[Sequence[int], float | None], Outcome],
    ) -> Iterator[tuple[int, ...]]:
        """Widths to build, best first. The caller takes the first whose finished file holds the limit too.

        Raises:
            DeviceError: They cannot be measured.
        """

        def rescore(widths: tuple[int, ...]) -> Outcome | None:
            with contextlib.suppress(BadPredictions, ConversionError):
                return evaluate(widths, None)  # on all examples, since there is no reward to beat

        def narrower(widths: tuple[int, ...], us: float) -> tuple[tuple[int, ...], Outcome] | None:
            price_limit = self.table(widths) * limit / us * _NARROWED_TO
            narrow = narrowed(self._pruner.units, self.table, widths, price_limit)
            outcome = None if narrow == widths else rescore(narrow)
            return None if outcome is None else (narrow, outcome)

        for widths, _ in finalists(trials, self.stopwatch, limit, reward, narrower, rescore):
            yield widths

    def holds(self, comparison: Comparison, limit: float | None) -> bool:
        """Whether a finished file, measured beside the base network, holds the limit."""
        return limit is None or self.stopwatch.us(comparison) <= limit

    def record(self, comparison: Comparison) -> dict[str, Any]:
        """The measurement of a file in plain types, with the device."""
        seconds = None if self.table is None else self.table.seconds
        return {"device": self.identity, **comparison_record(comparison), "table_seconds": seconds}

    def close(self) -> None:
        """Removes temporary files; closes the device if it was opened here."""
        if self.stopwatch is not None:
            self.stopwatch.close()
        if self._opened:
            self.device.close()

    def __enter__(self) -> "Latency":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _candidate_maker(self, evaluator: Evaluator, shapes: Shapes) -> Callable[[Sequence[int]], bytes]:
        """Widths -> the .tflite of a candidate that is measured. Its weights matter only if they may be zero."""
        if self._pruner.of == WEIGHTS:
            return lambda widths: self._finished(evaluator.tflite(widths))
        return evaluator.tflite if self._to_tflite is None else shapes.tflite

    def _sparse_key(self) -> str:
        """What sparse prices belong to: the device and the weights themselves."""
        identity = [dict(self.device.identity), digest(self._pruner.model)]
        identity.append([[unit.name, *unit.widths] for unit in self._pruner.units])
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def _stored(self, run_dir: Path) -> dict[str, Any]:
        """What an earlier start of the search wrote; empty if it is of another device or network, or damaged."""
        with contextlib.suppress(OSError, LookupError, TypeError, ValueError):
            stored = json.loads((run_dir / _FILE).read_text())
            numbers = [float(number) for number in (stored["base_us"], *stored["shares"])]
            known = stored.get("format", 1) <= _FORMAT and stored["key"] == self._key
            if known and all(math.isfinite(number) and number > 0 for number in numbers):
                prices = SparsePrices if self._pruner.of == WEIGHTS else LatencyTable
                table = prices.from_dict(stored["table"])
                return {"base_us": numbers[0], "shares": numbers[1:], "table": table}
        return {}


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """Times of a file and of the base network, measured in turns, in plain types."""
    ratio = comparison.ratios[1]
    return {
        "ratio": ratio.value,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "base": comparison.timings[0].to_dict(),
        "compressed": comparison.timings[1].to_dict(),
    }


def missed(limit: float) -> BudgetError:
    """The error for a search whose networks are all above the limit when measured."""
    return BudgetError(
        f"No network of the search takes at most {limit / 1e3:.4g} ms on the device, although the table predicted one: "
        f"measure again on a cool and idle device, give a larger budget or more episodes."
    )
