"""Calibration of predicted latencies: which candidates are measured, and how that corrects the predictions."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.cost.cost_model import Cost
from amc_tf.errors import DeviceError
from amc_tf.latency.stopwatch import Stopwatch
from amc_tf.search.budget import nearest_width
from amc_tf.search.proposers.handmade import uniform
from amc_tf.search.rewards import Reward
from amc_tf.search.trial import Outcome, Trial

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

Widths = tuple[int, ...]

MARGIN = 0.02  # usual error of a prediction: proposals stay that far below the limit, so that most hold it
EVERY = 10  # at least each tenth candidate is measured, so that the correction stays up to date
_LATEST = 15  # number of measured candidates, the latest ones, that the correction is computed from
NEAR_LIMIT = 5  # plans that are measured before the search, so that its first proposals hold the limit too
FINALISTS = 5
NARROWINGS = 3  # how often a finalist above the limit is narrowed
FINAL_ROUNDS = 3  # fewer rounds than for the file that ships, which is measured again


class LatencyMeasurer:
    """Turns outcomes with predicted costs into outcomes in microseconds on a device: `measure` of a SearchProblem.

    Four kinds of plans are measured: the base network, the uniform plan, every candidate more accurate than all before
    it, and at least every tenth candidate. The other costs are predictions, corrected by the measured ones.

    Args:
        stopwatch: Measures candidates.
        full: Widths of the whole network.
        before: Ratios of measured to predicted latency of the plans that were measured before the search.
        trials: Those so far; a list that grows with the search, as Journal.trials does. Measuring and correcting depend
            on nothing else, so that a resumed search does the same.
    """

    def __init__(
        self, stopwatch: Stopwatch, full: Sequence[int], before: Sequence[float] = (), trials: Sequence[Trial] = ()
    ):
        self._stopwatch, self._full = stopwatch, tuple(full)
        self._before, self._trials = list(before), trials

    def __call__(self, widths: Sequence[int], outcome: Outcome) -> Outcome:
        """The outcome of these widths, with a measured or corrected cost instead of the predicted one.

        Raises:
            DeviceError: It cannot be measured.
        """
        widths = tuple(widths)
        base_us, predicted = self._stopwatch.base_us, outcome.cost
        # A sensitivity sample is not a candidate and may be above the limit.
        complete = [t for t in self._trials if t.outcome is not None and t.kind != "sensitivity"]
        known = [trial.outcome for trial in complete]
        same_plan = (trial.outcome for trial in complete if trial.widths == widths)
        measured = next((outcome for outcome in same_plan if outcome.predicted is not None), None)
        if widths == self._full:
            cost, predicted = base_us, None
        elif measured is not None:  # an earlier measurement of the same plan is kept
            cost, predicted = measured.cost, measured.predicted
        elif self._is_due(outcome, known):
            cost = self._stopwatch.candidates([widths])[0]
        else:
            cost, predicted = predicted * measured_per_predicted(self._before, known), None
        return replace(outcome, cost=cost, base_cost=base_us, predicted=predicted)

    def _is_due(self, outcome: Outcome, known: Sequence[Outcome]) -> bool:
        """Whether a candidate is to be measured."""
        pruned = [o for o in known if o.cost != o.base_cost]
        exact = [o for o in pruned if o.examples is None]  # the accuracy of the others is an estimate
        is_best = outcome.examples is None and all(o.accuracy < outcome.accuracy for o in exact)
        return is_best or (len(pruned) >= EVERY - 1 and all(o.predicted is None for o in pruned[-EVERY + 1 :]))


def measured_per_predicted(before: Sequence[float], outcomes: Sequence[Outcome]) -> float:
    """Measured latency per predicted latency: the median of the latest measured candidates.

    Args:
        before: Such ratios of the plans that were measured before the search.
        outcomes: Those of the search so far; outcomes that were not measured are ignored.
    """
    ratios = [*before, *(outcome.cost / outcome.predicted for outcome in outcomes if outcome.predicted is not None)]
    return float(np.median(ratios[-_LATEST:])) if ratios else 1.0


def correction(before: Sequence[float], trials: Sequence[Trial]) -> float:
    """The number that the search divides its limit by, see SearchProblem.correction."""
    return measured_per_predicted(before, [t.outcome for t in trials if t.outcome is not None]) * (1 + MARGIN)


def plans_near_limit(units: Sequence["Unit"], cost: Cost, limit: float, count: int = NEAR_LIMIT) -> list[Widths]:
    """Plans to measure before the search: the uniform plan and random ones that all just hold the limit."""
    rng = np.random.default_rng(0)
    plans = [uniform(units, cost, limit)]
    while len(plans) < count:
        factors = rng.uniform(0.6, 1.4, len(units))  # how much more than the uniform ratio each unit keeps

        def plan_at(ratio: float, factors: np.ndarray = factors) -> Widths:
            return tuple(
                nearest_width(unit, float(np.clip(ratio * factor, 0.01, 1)), unit.widths[0], unit.widths[-1])
                for unit, factor in zip(units, factors, strict=True)
            )

        ratios = np.linspace(0.01, 1.7, 200)
        plans.append(plan_at(ratios[max(0, bisect_right(ratios, limit, key=lambda ratio: cost(plan_at(ratio))) - 1)]))
    return plans


def finalists(
    trials: Sequence[Trial],
    stopwatch: Stopwatch,
    limit: float | None,
    reward: Reward,
    narrower: Callable[[Widths, float], tuple[Widths, Outcome] | None],
    rescore: Callable[[Widths], Outcome | None],
    count: int = FINALISTS,
) -> Iterator[tuple[Widths, float]]:
    """The best networks that hold the limit when measured thoroughly, best first: (widths, microseconds).

    The trials are measured `count` at a time, best first; the next ones only when the caller asks for more. A network
    above the limit is narrowed, scored and measured again: a good network just above the limit beats a poor one below.
    Trials whose scoring stopped early come last, and are first scored on all examples.

    Args:
        trials: Those of the search.
        stopwatch: Measures candidates.
        limit: Microseconds, or None.
        reward: Outcome -> number; computed again with the measured cost.
        narrower: (widths, their microseconds) -> narrower widths with their outcome, or None if there are none.
        rescore: Widths -> outcome on all examples, or None if that fails.
        count: Number of networks that are measured at a time.

    Raises:
        DeviceError: None of a group can be measured.
    """
    for waiting in _ranked(trials, reward, rescore, count):
        holding = []
        for _ in range(NARROWINGS + 1):
            measured = _measured(waiting, stopwatch)
            waiting = []
            for widths, outcome, us in measured:
                if limit is None or us <= limit:
                    exact = Outcome(outcome.accuracy, us, outcome.base_accuracy, stopwatch.base_us)
                    holding.append((reward(exact), widths, us))
                elif (narrow := narrower(widths, us)) is not None:
                    waiting.append(narrow)
            if not waiting:
                break
        for _, widths, us in sorted(holding, key=lambda network: -network[0]):
            yield widths, us


def _ranked(
    trials: Sequence[Trial], reward: Reward, rescore: Callable[[Widths], Outcome | None], count: int
) -> Iterator[list[tuple[Widths, Outcome]]]:
    """(widths, outcome) of the trials, best first, `count` at a time."""
    first_of: dict[Widths, Trial] = {}
    for trial in trials:
        if trial.outcome is not None and trial.kind not in ("base", "sensitivity"):
            first_of.setdefault(trial.widths, trial)
    ranked = sorted(first_of.values(), key=lambda trial: (-reward(trial.outcome), trial.outcome.cost))
    exact = [trial for trial in ranked if trial.outcome.examples is None]
    stopped_early = [trial for trial in ranked if trial.outcome.examples is not None]
    for start in range(0, len(exact), count):
        yield [(trial.widths, trial.outcome) for trial in exact[start : start + count]]
    for start in range(0, len(stopped_early), count):
        rescored = [(trial.widths, rescore(trial.widths)) for trial in stopped_early[start : start + count]]
        if scored := [(widths, outcome) for widths, outcome in rescored if outcome is not None]:
            yield scored


def _measured(
    networks: Sequence[tuple[Widths, Outcome]], stopwatch: Stopwatch
) -> list[tuple[Widths, Outcome, float]]:
    """(widths, outcome, microseconds) of each network; those that cannot be measured are left out.

    Raises:
        DeviceError: None can be measured.
    """
    try:
        times = stopwatch.candidates([widths for widths, _ in networks], FINAL_ROUNDS)
        return [(*network, us) for network, us in zip(networks, times, strict=True)]
    except DeviceError:
        measured, failure = [], None
        for widths, outcome in networks:
            try:
                measured.append((widths, outcome, stopwatch.candidates([widths], FINAL_ROUNDS)[0]))
            except DeviceError as error:
                failure = error
        if not measured:
            raise failure from None
        return measured
