"""Measured: an evaluator whose cost is a latency, foretold for every candidate and measured for those that matter."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from amc_tf.search.budget import narrowed, uniform
from amc_tf.search.outcome import Outcome, Trial
from amc_tf.search.rewards import Reward

if TYPE_CHECKING:
    from amc_tf.pruning.channel import Unit

MARGIN = 0.02  # a price is off by about so much: proposals stay that far below the limit, so that most hold it
EVERY = 10  # at the latest each tenth candidate is measured, so that the correction stays fresh
_LATEST = 15  # measured candidates that the correction is taken from
NEARBY = 5  # plans that are measured before the search, so that its first proposals hold the limit too
FINALISTS = 5
FINAL_ROUNDS = 3  # the one that is chosen is measured again, as the file that ships


class Measured:
    """Scores like the evaluator it wraps; the cost is microseconds on a device.

    Measured are the base network, the uniform plan, every candidate more accurate than all before it, and at the latest
    every tenth. The others cost what the table says, corrected by those that were measured.

    Args:
        evaluate: widths -> Outcome whose cost is foretold.
        stopwatch: see cost.stopwatch.
        full: widths of the whole network.
        before: shares, see `share`, of plans that were measured before the search.
        trials: those of an earlier start of the same search.
    """

    def __init__(
        self,
        evaluate: Callable[[Sequence[int]], Outcome],
        stopwatch: Any,
        full: Sequence[int],
        before: Sequence[float] = (),
        trials: Sequence[Trial] = (),
    ):
        self._evaluate, self._stopwatch, self._full = evaluate, stopwatch, tuple(full)
        self._before = list(before)
        self._outcomes = [trial.outcome for trial in trials if trial.outcome is not None]

    def __call__(self, widths: Sequence[int]) -> Outcome:
        """The outcome of keeping `widths[i]` channels of unit i.

        Raises:
            BadPredictions, DeviceError: it cannot be scored or measured.
        """
        outcome = self._evaluate(widths)
        base_us, predicted = self._stopwatch.base_us, outcome.cost
        if tuple(widths) == self._full:
            cost, foretold = base_us, None
        elif self._matters(outcome):
            cost, foretold = self._stopwatch.candidates([widths])[0], predicted
        else:
            cost, foretold = predicted * share(self._before, self._outcomes), None
        outcome = Outcome(outcome.accuracy, cost, outcome.base_accuracy, base_us, foretold)
        self._outcomes.append(outcome)
        return outcome

    def _matters(self, outcome: Outcome) -> bool:
        pruned = [o for o in self._outcomes if o.cost != o.base_cost]
        return all(o.accuracy < outcome.accuracy for o in pruned) or (
            len(pruned) >= EVERY - 1 and all(o.predicted is None for o in pruned[-EVERY + 1 :])
        )


def share(before: Sequence[float], outcomes: Sequence[Outcome]) -> float:
    """What candidates took for each microsecond that was foretold: the median of the latest.

    Args:
        before: the same of plans that were measured before the search.
        outcomes: of the search so far; those that were only foretold do not count.
    """
    shares = [*before, *(outcome.cost / outcome.predicted for outcome in outcomes if outcome.predicted is not None)]
    return float(np.median(shares[-_LATEST:])) if shares else 1.0


def correction(before: Sequence[float], trials: Sequence[Trial]) -> float:
    """What Search divides its limit by."""
    return share(before, [trial.outcome for trial in trials if trial.outcome is not None]) * (1 + MARGIN)


def nearby(
    units: Sequence["Unit"], cost: Callable[[np.ndarray], float], limit: float, count: int = NEARBY
) -> list[tuple[int, ...]]:
    """The uniform plan and random ones that all just hold the limit: what to measure before the search begins."""
    rng = np.random.default_rng(0)
    drawn = [[rng.choice(unit.widths) for unit in units] for _ in range(count - 1)]
    return [uniform(units, cost, limit), *(narrowed(units, cost, widths, limit) for widths in drawn)]


def finalists(
    trials: Sequence[Trial], stopwatch: Any, limit: float | None, reward: Reward, count: int = FINALISTS
) -> Iterator[tuple[Trial, float]]:
    """The best trials that hold the limit when measured thoroughly, best first, with their microseconds.

    They are measured so many at a time; those further down only when the caller wants more.

    Args:
        trials: of the search.
        stopwatch: see cost.stopwatch.
        limit: microseconds, or None.
        reward: Outcome -> number; taken anew of what was measured.
        count: how many are measured at a time.

    Raises:
        DeviceError: they cannot be measured.
    """
    best_of: dict[tuple[int, ...], Trial] = {}
    for trial in trials:
        if trial.outcome is not None and trial.kind != "base":
            best_of.setdefault(trial.widths, trial)
    ranked = sorted(best_of.values(), key=lambda trial: (-trial.reward, trial.outcome.cost))
    for start in range(0, len(ranked), count):
        few = ranked[start : start + count]
        measured = []
        for trial, us in zip(few, stopwatch.candidates([trial.widths for trial in few], FINAL_ROUNDS), strict=True):
            outcome = Outcome(trial.outcome.accuracy, us, trial.outcome.base_accuracy, trial.outcome.base_cost)
            measured.append((reward(outcome), trial, us))
        for _, trial, us in sorted(measured, key=lambda found: -found[0]):
            if limit is None or us <= limit:
                yield trial, us
