"""Latency: one search's way to a device: the device itself, the table of prices, the stopwatch, the finalists."""

import contextlib
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from amc_tf.devices.choose import choose
from amc_tf.devices.interleave import Comparison
from amc_tf.errors import BadPredictions, BudgetError, ConversionError, DeviceError, RunDirError
from amc_tf.graph.identity import digest
from amc_tf.latency.calibration import FINAL_ROUNDS, Measured, correction, finalists, nearby
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

_FORMAT = 2  # of latency.json; 1, of amc_tf 0.1, did not say so; a later one counts as missing
_FILE = "latency.json"  # in the run directory: a search that goes on must go on with the same prices
_SHARE = 0.98  # of the limit, which a finalist above it is narrowed to


class Latency:
    """What latency means for one search, and its cost: widths -> microseconds. Closes the device where it opened it.

    Args:
        device: see compress().
        pruning: of the network.
        base: its .tflite.
        finished: a candidate's .tflite -> the file that would ship, which is what is measured.
        to_tflite: Keras model -> .tflite of the format in which is measured, see quantize.rough; None for float.

    Attributes:
        identity: of the device; a search belongs to one.
        table: prices of plans, or None before `prepare` with an evaluator.
        stopwatch: None before `prepare`.
        shares: what plans near the limit took for each microsecond that the table foretold.

    Raises:
        TypeError, ValueError, DeviceError: the device is none, or cannot be used.
    """

    unit = LatencyTable.unit

    def __init__(
        self,
        device: Any,
        pruning: Pruner,
        base: bytes,
        finished: Callable[[bytes], bytes] = bytes,
        to_tflite: Callable[[Any], bytes] | None = None,
    ):
        self.full = pruning.full
        self._finished, self._to_tflite = finished, to_tflite
        self._pruning, self._base = pruning, base
        self.device, self._opened = choose(device)
        self.identity = dict(self.device.identity)
        self.table: LatencyTable | SparsePrices | None = None
        self.stopwatch: Stopwatch | None = None
        self.shares: list[float] = []
        self._key: str | None = None

    def __call__(self, widths: Sequence[int]) -> float:
        """The price of a plan; only after `prepare` with an evaluator."""
        return self.table(widths)

    def prepare(
        self,
        run_dir: Path,
        evaluator: Evaluator | None,
        trials: Sequence[Trial] = (),
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Measures the base network and, where plans are to be priced, the table; or takes what run_dir has of both.

        Args:
            run_dir: of the search.
            evaluator: makes the candidates; None where no plans are to be priced.
            trials: those of an earlier start of the search.
            on_progress: called with (small models measured, all of them).

        Raises:
            DeviceError: a measurement failed.
            ConversionError: the shapes of candidates cannot be foretold.
            RunDirError: the earlier start left no prices.
        """
        if evaluator is None:
            self.stopwatch = Stopwatch(self.device, self._base)
            return
        zeros = self._pruning.of == WEIGHTS
        shapes = evaluator.shapes if self._to_tflite is None else Shapes(self._pruning, self._to_tflite)
        self._key = self._own_key() if zeros else key(self.device, shapes, self._pruning.units)
        stored = self._stored(run_dir)
        if trials and not stored:
            raise RunDirError(
                f"{run_dir / _FILE} is missing, damaged or of another network, and without the prices in it the search "
                f"there cannot go on as it began: choose another run_dir."
            )
        made = evaluator.tflite if self._to_tflite is None else shapes.tflite
        if zeros:
            made = lambda widths: self._finished(evaluator.tflite(widths))  # noqa: E731
        self.stopwatch = Stopwatch(self.device, self._base, made, stored.get("base_us"))
        self.table = stored.get("table")
        if self.table is None and zeros:
            if self.device.name == "host" and (why := unsupported_processor()):
                raise DeviceError(f"Zeros make no network faster here: {why}")
            self.table = measure(self._pruning, self.stopwatch.candidates, on_progress)
        elif self.table is None:
            self.table = load_or_measure(self.device, shapes, self._pruning.units, on_progress)
        self.table.fit(self.stopwatch.base_us)
        self.shares = stored.get("shares", [])

    def approach(self, limit: float | None) -> None:
        """Measures a few plans at the limit, without one at half of the base, unless the search did so before.

        Where the device fails, the search begins without, and is corrected as it goes.
        """
        if self.shares:
            return
        least = self.table([unit.widths[0] for unit in self._pruning.units])
        plans = nearby(self._pruning.units, self.table, limit or max(least, 0.5 * self.stopwatch.base_us))
        try:
            taken = self.stopwatch.candidates(plans, FINAL_ROUNDS)
        except DeviceError as error:
            _LOG.warning("The search begins with uncorrected prices: %s", error)
            return
        self.shares = [us / self.table(widths) for us, widths in zip(taken, plans, strict=True)]

    def correction(self, trials: Sequence[Trial]) -> float:
        """See search.measured.correction."""
        return correction(self.shares, trials)

    def save(self, run_dir: Path) -> None:
        """Leaves what was measured before the search in the run directory, for the search that goes on there."""
        stored = {
            "format": _FORMAT,
            "key": self._key,
            "base_us": self.stopwatch.base_us,
            "shares": self.shares,
            "table": self.table.to_dict(),
        }
        write(json.dumps(stored).encode(), run_dir / _FILE)

    @property
    def in_flight(self) -> int:
        """How many candidates the search may evaluate at once: while this computer measures, nothing else may run."""
        return 1 if self.device.name == "host" or getattr(self.device, "local", False) else 2

    def measured(self, trials: Sequence[Trial]) -> Measured:
        """What measures the candidates of the search whose trials these are, see search.measured."""
        return Measured(self.stopwatch, self._pruning.full, self.shares, trials)

    def finalists(
        self,
        trials: Sequence[Trial],
        limit: float | None,
        reward: Reward,
        evaluate: Callable[[Sequence[int], float | None], Outcome],
    ) -> Iterator[tuple[int, ...]]:
        """Widths to build, best first; the caller takes the first whose finished file holds the limit too.

        Raises:
            DeviceError: they cannot be measured.
        """

        def rescore(widths: tuple[int, ...]) -> Outcome | None:
            with contextlib.suppress(BadPredictions, ConversionError):
                return evaluate(widths, None)  # nothing to beat: on all examples

        def narrower(widths: tuple[int, ...], us: float) -> tuple[tuple[int, ...], Outcome] | None:
            wanted = self.table(widths) * limit / us * _SHARE
            narrow = narrowed(self._pruning.units, self.table, widths, wanted)
            outcome = None if narrow == widths else rescore(narrow)
            return None if outcome is None else (narrow, outcome)

        for widths, _ in finalists(trials, self.stopwatch, limit, reward, narrower, rescore):
            yield widths

    def holds(self, comparison: Comparison, limit: float | None) -> bool:
        """Whether a finished file holds the limit."""
        return limit is None or self.stopwatch.us(comparison) <= limit

    def record(self, comparison: Comparison) -> dict[str, Any]:
        """The measurement in plain types."""
        seconds = None if self.table is None else self.table.seconds
        return {"device": self.identity, **taken(comparison), "table_seconds": seconds}

    def close(self) -> None:
        """Removes what was left on the device and on disk."""
        if self.stopwatch is not None:
            self.stopwatch.close()
        if self._opened:
            self.device.close()

    def __enter__(self) -> "Latency":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _own_key(self) -> str:
        """What the prices of zeros belong to: the device and the weights themselves."""
        whose = [dict(self.device.identity), digest(self._pruning.model)]
        whose.append([[unit.name, *unit.widths] for unit in self._pruning.units])
        return hashlib.sha256(json.dumps(whose, sort_keys=True).encode()).hexdigest()[:16]

    def _stored(self, run_dir: Path) -> dict[str, Any]:
        """What an earlier start of the search left, if it is of the same device and network."""
        with contextlib.suppress(OSError, LookupError, TypeError, ValueError):
            stored = json.loads((run_dir / _FILE).read_text())
            numbers = [float(number) for number in (stored["base_us"], *stored["shares"])]
            known = stored.get("format", 1) <= _FORMAT and stored["key"] == self._key
            if known and all(math.isfinite(number) and number > 0 for number in numbers):
                prices = SparsePrices if self._pruning.of == WEIGHTS else LatencyTable
                table = prices.from_dict(stored["table"])
                return {"base_us": numbers[0], "shares": numbers[1:], "table": table}
        return {}


def taken(comparison: Comparison) -> dict[str, Any]:
    """What a file took beside the base network, in plain types."""
    ratio = comparison.ratios[1]
    return {
        "ratio": ratio.value,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "base": comparison.timings[0].to_dict(),
        "compressed": comparison.timings[1].to_dict(),
    }


def missed(limit: float) -> BudgetError:
    """What there is to say where nothing held the budget when it was measured."""
    return BudgetError(
        f"No network of the search takes at most {limit / 1e3:.4g} ms on the device, although the table foretold it: "
        f"measure again on a cool and idle device, give a larger budget or more episodes."
    )
