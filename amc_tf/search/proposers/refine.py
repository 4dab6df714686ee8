"""Refinement: local search near the best plans, guided by a Bayesian linear regression of reward on keep ratios.

Near the best plans the reward is almost a sum over the units. So a few dozen trials tell which units deserve their
channels; the paper's agent needs hundreds. Each proposal is a Thompson sample: it draws one regression from the
posterior and takes, of many local moves that spend the budget exactly, the one with the best predicted reward. So the
search explores where the trials tell little.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.cost.cost_model import Cost
from amc_tf.search.trial import Trial

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

_PARENTS = 8  # best plans that local moves start from
_ROUNDS, _CHILDREN = 4, 30  # rounds of local moves, and moves per round
_NOISE, _PRIOR = 0.15, 0.6  # standard deviations of a reward and of a coefficient, relative to that of all rewards
_STEPS = (6, 24)  # a step is 1/6 or 1/24 of a unit's widths; a local move changes a unit by at most 2 steps


def refined(
    units: Sequence["Unit"],
    cost: Cost,
    limit: float | None,
    trials: Sequence[Trial],
    rng: np.random.Generator,
    wide: bool = False,
    avoid: Collection[tuple[int, ...]] = (),
    worth: Callable[[Trial], float] = attrgetter("reward"),
) -> tuple[int, ...]:
    """The widths to try next.

    Args:
        units: In the order of the widths.
        cost: Cost of a plan.
        limit: Most that the plan may cost; None for no budget.
        trials: Those so far. With a limit, the regression leaves out the base network and sensitivity samples.
        rng: Source of all random numbers.
        avoid: Widths of plans that are being tried.
        worth: Regression target of a trial; must scale linearly with the error.
        wide: Whether to explore: one local move of up to half of the units, without the regression.
    """
    candidates = [trial for trial in trials if limit is None or trial.kind not in ("base", "sensitivity")]
    known = [trial for trial in candidates if trial.state == "complete"]
    best = sorted(known, key=lambda trial: -worth(trial))[:_PARENTS]
    if wide or len(known) < 3:
        parent = best[rng.integers(len(best))].widths if best else [unit.widths[0] for unit in units]
        return local_move(units, cost, limit, parent, max(1, len(units) // 2), rng)
    predict = _sampled_regression(units, known, rng, worth)
    tried = {trial.widths for trial in trials} | set(avoid)
    pool = [trial.widths for trial in best]
    for _ in range(_ROUNDS):
        parents = [pool[i] for i in rng.integers(len(pool), size=_CHILDREN)]
        children = {local_move(units, cost, limit, parent, 3, rng) for parent in parents}
        plans = sorted(children | set(pool))
        pool = [plans[i] for i in np.argsort(-predict(np.array(plans)), kind="stable")[: 2 * _PARENTS]]
    return next((widths for widths in pool if widths not in tried), pool[0])


def local_move(
    units: Sequence["Unit"], cost: Cost, limit: float | None, widths: Sequence[int], most: int, rng: np.random.Generator
) -> tuple[int, ...]:
    """Widths after a local move: changes some units, narrows random ones until the plan fits, then spends the rest.

    Args:
        units, cost, limit: See refined.
        widths: Start of the move.
        most: Most units that are changed at first.
        rng: Source of all random numbers.
    """
    plan = np.array(widths)
    parts = _STEPS[rng.integers(len(_STEPS))]
    steps = [max(1, len(unit.widths) // parts) for unit in units]
    changed = rng.permutation(len(units))[: rng.integers(1, most + 1)]
    for i in changed:
        plan[i] = _shifted(units[i], plan[i], int(rng.integers(-2, 3)) * steps[i])
    if limit is None:
        return tuple(map(int, plan))
    while cost(plan) > limit:
        reducible = [i for i, unit in enumerate(units) if plan[i] > unit.widths[0]]
        if not reducible:
            break
        i = reducible[rng.integers(len(reducible))]
        plan[i] = _shifted(units[i], plan[i], -steps[i])
    for i in rng.permutation(len(units)):
        while plan[i] < units[i].widths[-1]:
            wider = plan.copy()
            wider[i] = _shifted(units[i], plan[i], 1)
            if cost(wider) > limit:
                break
            plan = wider
    return tuple(map(int, plan))


def _shifted(unit: "Unit", width: int, by: int) -> int:
    """The width `by` places further in the unit's list of widths; the first or last if the list ends before."""
    place = bisect_left(unit.widths, width) + by
    return unit.widths[min(max(place, 0), len(unit.widths) - 1)]


def _sampled_regression(
    units: Sequence["Unit"], known: Sequence[Trial], rng: np.random.Generator, worth: Callable[[Trial], float]
) -> Callable[[np.ndarray], np.ndarray]:
    """Widths (plans, units) -> predicted worth (plans,), by one regression drawn from the posterior.

    The regression is linear in r and log r of every keep ratio r. Poor trials have less weight, since the reward is a
    sum over units only near the best; trials that were scored on fewer examples have a larger variance.
    """
    sizes = np.array([unit.size for unit in units])

    def columns(widths: np.ndarray) -> np.ndarray:
        ratios = widths / sizes
        return np.hstack([ratios, np.log(ratios)])

    widths, rewards = np.array([trial.widths for trial in known]), np.array([worth(trial) for trial in known])
    raw = columns(widths)
    spread = max(float(rewards.std()), 1e-9)
    centre, scale = raw.mean(axis=0), raw.std(axis=0) + 1e-6

    def design(widths: np.ndarray) -> np.ndarray:
        return np.hstack([np.ones((len(widths), 1)), (columns(widths) - centre) / scale])

    variance = (_NOISE * spread) ** 2 + np.array([_uncertainty(trial, worth) for trial in known])
    weights = np.exp((rewards - rewards.max()) / spread) / variance
    x, middle = design(widths), rewards.mean()
    prior = np.full(x.shape[1], (_PRIOR * spread) ** -2)
    precision = (x * weights[:, None]).T @ x + np.diag(prior)
    mean = np.linalg.solve(precision, (x * weights[:, None]).T @ (rewards - middle))
    coefficients = mean + np.linalg.solve(np.linalg.cholesky(precision).T, rng.standard_normal(len(mean)))
    return lambda widths: design(widths) @ coefficients


def _uncertainty(trial: Trial, worth: Callable[[Trial], float]) -> float:
    """Variance of the worth of a trial that was scored on a part of the examples; 0 if it was scored on all.

    It assumes that the worth is proportional to the error.
    """
    examples, accuracy = trial.outcome.examples, trial.outcome.accuracy
    if examples is None:
        return 0.0
    error = max(1 - accuracy, 1 / examples)
    return (worth(trial) / error) ** 2 * error * (1 - error) / examples
