"""The best trial of a search."""

from collections.abc import Iterable

from amc_tf.search.guarantee import Guarantee
from amc_tf.search.trial import Trial


def best_trial(
    trials: Iterable[Trial], limit: float | None, guarantee: Guarantee | None, samples_count: bool
) -> Trial | None:
    """The trial of the highest reward, of equal rewards the cheapest; with a guarantee the cheapest that holds it.

    Args:
        trials: Those that were scored on all examples and cost at most the limit are considered.
        limit: Most that a trial may cost, or None.
        guarantee: How far the accuracy may fall, or None.
        samples_count: Whether sensitivity samples are considered as well.

    Returns:
        None if no trial is considered, or none holds the guarantee.
    """
    scored = [t for t in trials if t.state == "complete" and t.outcome.examples is None]
    affordable = [trial for trial in scored if limit is None or trial.outcome.cost <= limit]
    candidates = [trial for trial in affordable if samples_count or trial.kind != "sensitivity"]
    if guarantee is not None:
        return guarantee.best(candidates)
    return max(candidates, key=lambda trial: (trial.reward, -trial.outcome.cost), default=None)
