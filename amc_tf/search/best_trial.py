"""Which trial of a search is its best."""

from collections.abc import Iterable

from amc_tf.search.guarantee import Guarantee
from amc_tf.search.trial import Trial


def best_trial(trials: Iterable[Trial], limit: float | None, guarantee: Guarantee | None, points: bool) -> Trial | None:
    """The trial of the highest reward, of equal ones the cheapest; with a guarantee the cheapest that holds it.

    Args:
        trials: of which those count that were scored on all examples and cost no more than the limit.
        limit: of the cost, or None.
        guarantee: of the accuracy, or None.
        points: whether the points of the sensitivity table count as well.

    Returns:
        None where no trial counts, or none holds the guarantee.
    """
    whole = [t for t in trials if t.state == "complete" and t.outcome.examples is None]
    able = [t for t in whole if (limit is None or t.outcome.cost <= limit) and (points or t.kind != "sensitivity")]
    if guarantee is not None:
        return guarantee.best(able)
    return max(able, key=lambda trial: (trial.reward, -trial.outcome.cost), default=None)
