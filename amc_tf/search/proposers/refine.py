"""Refinement: the next plan to try, near the best ones so far, by what all trials say about each unit.

A regression tells reward from the units' keep ratios. Near the best plans rewards are almost a sum of what each unit
adds, so that a few dozen trials tell which unit deserves its channels; the paper's agent needs hundreds. Of many
exchanges that spend the budget exactly, the one is chosen that looks best to a regression drawn at random from those
that the trials allow (Thompson sampling): where little is known, more is tried.
"""

from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.search.trial import Trial

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

Cost = Callable[[np.ndarray], float]

_PARENTS, _ROUNDS, _CHILDREN = 8, 4, 30  # plans that exchanges start from; how often; how many each time
_NOISE, _PRIOR = 0.15, 0.6  # standard deviations of a reward and of a coefficient, of that of all rewards
_STEPS = (6, 24)  # an exchange moves a unit by at most a third of its widths, in steps of a sixth; or a quarter of that


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
    """Widths to try next.

    Args:
        units: In the order of the widths.
        cost: Widths (units,) -> cost; non-decreasing in each width.
        limit: What the plan may cost; None for no budget.
        trials: Those so far; with a limit, only plans that were made for one are learned from.
        rng: Where the chance comes from.
        avoid: Plans that are being tried.
        worth: What the regression is of: proportional to the error.
        wide: Whether to try something far from what is known instead, up to half of the units exchanged.
    """
    made = [trial for trial in trials if limit is None or trial.kind not in ("base", "sensitivity")]
    known = [trial for trial in made if trial.state == "complete"]
    best = sorted(known, key=lambda trial: -worth(trial))[:_PARENTS]
    if wide or len(known) < 3:
        parent = best[rng.integers(len(best))].widths if best else [unit.widths[0] for unit in units]
        return exchanged(units, cost, limit, parent, max(1, len(units) // 2), rng)
    promise = _promise(units, known, rng, worth)
    tried = {trial.widths for trial in trials} | set(avoid)
    pool = [trial.widths for trial in best]
    for _ in range(_ROUNDS):
        parents = [pool[i] for i in rng.integers(len(pool), size=_CHILDREN)]
        children = {exchanged(units, cost, limit, parent, 3, rng) for parent in parents}
        every = sorted(children | set(pool))
        pool = [every[i] for i in np.argsort(-promise(np.array(every)), kind="stable")[: 2 * _PARENTS]]
    return next((widths for widths in pool if widths not in tried), pool[0])


def exchanged(
    units: Sequence["Unit"], cost: Cost, limit: float | None, widths: Sequence[int], most: int, rng: np.random.Generator
) -> tuple[int, ...]:
    """Widths after an exchange: some units moved, others narrowed until it fits, and what is left over spent.

    Args:
        units, cost, limit: See refined.
        widths: That it starts from.
        most: How many units are moved at most.
        rng: Where the chance comes from.
    """
    found = np.array(widths)
    parts = _STEPS[rng.integers(len(_STEPS))]
    steps = [max(1, len(unit.widths) // parts) for unit in units]
    moved = rng.permutation(len(units))[: rng.integers(1, most + 1)]
    for i in moved:
        found[i] = _moved(units[i], found[i], int(rng.integers(-2, 3)) * steps[i])
    if limit is None:
        return tuple(map(int, found))
    while cost(found) > limit:
        able = [i for i, unit in enumerate(units) if found[i] > unit.widths[0]]
        if not able:
            break
        i = able[rng.integers(len(able))]
        found[i] = _moved(units[i], found[i], -steps[i])
    for i in rng.permutation(len(units)):
        while found[i] < units[i].widths[-1]:
            wider = found.copy()
            wider[i] = _moved(units[i], found[i], 1)
            if cost(wider) > limit:
                break
            found = wider
    return tuple(map(int, found))


def _moved(unit: "Unit", width: int, by: int) -> int:
    """The width so many places further in the unit's list."""
    place = int(np.searchsorted(unit.widths, width)) + by
    return unit.widths[min(max(place, 0), len(unit.widths) - 1)]


def _promise(
    units: Sequence["Unit"], known: Sequence[Trial], rng: np.random.Generator, worth: Callable[[Trial], float]
) -> Callable[[np.ndarray], np.ndarray]:
    """What plans (plans, units) promise: a linear regression in r and log r of every keep ratio r, drawn at random.

    Trials count the less the worse they are, since far from the best what units add no longer sums up; and the less,
    the fewer examples they were scored on.
    """
    sizes = np.array([unit.size for unit in units])

    def columns(widths: np.ndarray) -> np.ndarray:
        ratios = widths / sizes
        return np.hstack([ratios, np.log(ratios)])

    tried, rewards = np.array([trial.widths for trial in known]), np.array([worth(trial) for trial in known])
    raw = columns(tried)
    spread = max(float(rewards.std()), 1e-9)
    centre, scale = raw.mean(axis=0), raw.std(axis=0) + 1e-6

    def design(widths: np.ndarray) -> np.ndarray:
        return np.hstack([np.ones((len(widths), 1)), (columns(widths) - centre) / scale])

    variance = (_NOISE * spread) ** 2 + np.array([_uncertainty(trial, worth) for trial in known])
    weights = np.exp((rewards - rewards.max()) / spread) / variance
    x, middle = design(tried), rewards.mean()
    prior = np.full(x.shape[1], (_PRIOR * spread) ** -2)
    precision = (x * weights[:, None]).T @ x + np.diag(prior)
    mean = np.linalg.solve(precision, (x * weights[:, None]).T @ (rewards - middle))
    drawn = mean + np.linalg.solve(np.linalg.cholesky(precision).T, rng.standard_normal(len(mean)))
    return lambda widths: design(widths) @ drawn


def _uncertainty(trial: Trial, worth: Callable[[Trial], float]) -> float:
    """Variance of a reward whose accuracy is of a part of the examples; as if it were proportional to the error."""
    seen, accuracy = trial.outcome.examples, trial.outcome.accuracy
    if seen is None:
        return 0.0
    error = max(1 - accuracy, 1 / seen)
    return (worth(trial) / error) ** 2 * error * (1 - error) / seen
