"""Measured: the cost of an outcome as a latency, foretold for every candidate and measured for those that matter."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from amc_tf.errors import DeviceError
from amc_tf.search.budget import nearest_width, uniform
from amc_tf.search.rewards import Reward
from amc_tf.search.trial import Outcome, Trial

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

MARGIN = 0.02  # a price is off by about so much: proposals stay that far below the limit, so that most hold it
EVERY = 10  # at the latest each tenth candidate is measured, so that the correction stays fresh
_LATEST = 15  # measured candidates that the correction is taken from
NEARBY = 5  # plans that are measured before the search, so that its first proposals hold the limit too
FINALISTS = 5
NARROWINGS = 3  # of a finalist that turns out above the limit
FINAL_ROUNDS = 3  # the one that is chosen is measured again, as the file that ships


class Measured:
    """Turns outcomes whose cost is foretold into those whose cost is microseconds on a device: `measure` of Search.

    Measured are the base network, the uniform plan, every candidate more accurate than all before it, and at the latest
    every tenth. The others cost what the table says, corrected by those that were measured.

    Args:
        stopwatch: see cost.stopwatch.
        full: widths of the whole network.
        before: shares, see `share`, of plans that were measured before the search.
        trials: those so far; a list that grows with the search, as Journal.trials does. What is measured and how the
            rest is corrected depends on nothing else, so that a search goes on as it would have.
    """

    def __init__(self, stopwatch: Any, full: Sequence[int], before: Sequence[float] = (), trials: Sequence[Trial] = ()):
        self._stopwatch, self._full = stopwatch, tuple(full)
        self._before, self._trials = list(before), trials

    def __call__(self, widths: Sequence[int], outcome: Outcome) -> Outcome:
        """The outcome of keeping `widths[i]` channels of unit i with its cost, which was foretold, as it is.

        Raises:
            DeviceError: it cannot be measured.
        """
        widths = tuple(widths)
        base_us, predicted = self._stopwatch.base_us, outcome.cost
        # A point of the sensitivity table is neither a candidate nor within the limit.
        complete = [t for t in self._trials if t.outcome is not None and t.kind != "sensitivity"]
        known = [trial.outcome for trial in complete]
        same = (trial.outcome for trial in complete if trial.widths == widths)
        measured = next((o for o in same if o.predicted is not None), None)
        if widths == self._full:
            cost, foretold = base_us, None
        elif measured is not None:  # what was measured once does not become a guess again
            cost, foretold = measured.cost, measured.predicted
        elif self._matters(outcome, known):
            cost, foretold = self._stopwatch.candidates([widths])[0], predicted
        else:
            cost, foretold = predicted * share(self._before, known), None
        return replace(outcome, cost=cost, base_cost=base_us, predicted=foretold)

    def _matters(self, outcome: Outcome, known: Sequence[Outcome]) -> bool:
        pruned = [o for o in known if o.cost != o.base_cost]
        whole = [o for o in pruned if o.examples is None]  # of the others the accuracy is an estimate
        return (outcome.examples is None and all(o.accuracy < outcome.accuracy for o in whole)) or (
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
    plans = [uniform(units, cost, limit)]
    while len(plans) < count:
        lean = rng.uniform(0.6, 1.4, len(units))  # which units the plan keeps more of than others

        def at(ratio: float, lean=lean) -> tuple[int, ...]:
            return tuple(
                nearest_width(unit, float(np.clip(ratio * own, 0.01, 1)), unit.widths[0], unit.widths[-1])
                for unit, own in zip(units, lean, strict=True)
            )

        ratios = np.linspace(0.01, 1.7, 200)
        plans.append(at(ratios[max(0, bisect_right(ratios, limit, key=lambda ratio: cost(at(ratio))) - 1)]))
    return plans


def finalists(
    trials: Sequence[Trial],
    stopwatch: Any,
    limit: float | None,
    reward: Reward,
    narrower: Callable[[tuple[int, ...], float], tuple[tuple[int, ...], Outcome] | None],
    rescore: Callable[[tuple[int, ...]], Outcome | None],
    count: int = FINALISTS,
) -> Iterator[tuple[tuple[int, ...], float]]:
    """The best networks that hold the limit when measured thoroughly, best first: (widths, microseconds).

    So many of the best trials are measured at a time; those further down only when the caller wants more. One that is
    above the limit is narrowed and scored and measured again: a good network just above it beats a bad one below. Those
    whose scoring stopped early come after all others, and are scored whole first.

    Args:
        trials: of the search.
        stopwatch: see cost.stopwatch.
        limit: microseconds, or None.
        reward: Outcome -> number; taken anew of what was measured.
        narrower: (widths, their microseconds) -> narrower widths with their outcome, or None where there are none.
        rescore: widths -> outcome on all examples, or None where that fails.
        count: how many are measured at a time.

    Raises:
        DeviceError: they cannot be measured.
    """
    for waiting in _ranked(trials, reward, rescore, count):
        holding = []
        for _ in range(NARROWINGS + 1):
            taken = _taken(waiting, stopwatch)
            waiting = []
            for widths, outcome, us in taken:
                if limit is None or us <= limit:
                    found = Outcome(outcome.accuracy, us, outcome.base_accuracy, stopwatch.base_us)
                    holding.append((reward(found), widths, us))
                elif (narrow := narrower(widths, us)) is not None:
                    waiting.append(narrow)
            if not waiting:
                break
        for _, widths, us in sorted(holding, key=lambda found: -found[0]):
            yield widths, us


def _ranked(
    trials: Sequence[Trial], reward: Reward, rescore: Callable[[tuple[int, ...]], Outcome | None], count: int
) -> Iterator[list[tuple[tuple[int, ...], Outcome]]]:
    """(widths, outcome) of the trials, the best first, so many at a time."""
    best_of: dict[tuple[int, ...], Trial] = {}
    for trial in trials:
        if trial.outcome is not None and trial.kind not in ("base", "sensitivity"):
            best_of.setdefault(trial.widths, trial)
    ranked = sorted(best_of.values(), key=lambda trial: (-reward(trial.outcome), trial.outcome.cost))
    whole = [trial for trial in ranked if trial.outcome.examples is None]
    stopped = [trial for trial in ranked if trial.outcome.examples is not None]
    for start in range(0, len(whole), count):
        yield [(trial.widths, trial.outcome) for trial in whole[start : start + count]]
    for start in range(0, len(stopped), count):
        rescored = [(trial.widths, rescore(trial.widths)) for trial in stopped[start : start + count]]
        if few := [(widths, outcome) for widths, outcome in rescored if outcome is not None]:
            yield few


def _taken(few: Sequence[tuple[tuple[int, ...], Outcome]], stopwatch: Any) -> list:
    """(widths, outcome, microseconds) of each; if one of them fails the device, it is left out.

    Raises:
        DeviceError: all of them do.
    """
    try:
        taken = stopwatch.candidates([widths for widths, _ in few], FINAL_ROUNDS)
        return [(*one, us) for one, us in zip(few, taken, strict=True)]
    except DeviceError:
        measured, failure = [], None
        for widths, outcome in few:
            try:
                measured.append((widths, outcome, stopwatch.candidates([widths], FINAL_ROUNDS)[0]))
            except DeviceError as error:
                failure = error
        if not measured:
            raise failure from None
        return measured
