"""The third step of compress(): which network of a search wins. It is the best one whose file holds the budget."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from amc_tf.devices.interleave import Comparison
from amc_tf.errors import RunDirError
from amc_tf.latency.search_latency import missed
from amc_tf.pipeline.measurement import MeasurementSession
from amc_tf.pipeline.searching import SearchRun
from amc_tf.pruning.plan import Plan
from amc_tf.search.budget import narrowed, too_large
from amc_tf.search.guarantee import negative_cost, unheld
from amc_tf.search.trial import Trial

_NARROWER = (0.99, 0.97, 0.9, 0.8)  # of the best plan's bytes, if its file is larger than its limit


@dataclass(frozen=True)
class Winner:
    """The network that ships.

    Attributes:
        widths, plan: what is kept.
        model: the compressed Keras model.
        tflite: its file in the format that latencies are of.
        comparison: of that file with the base network; None if no latency is measured.
    """

    widths: tuple[int, ...]
    plan: Plan
    model: Any
    tflite: bytes
    comparison: Comparison | None


def select(run: SearchRun, session: MeasurementSession) -> Winner:
    """Builds the best networks of a search, best first, until one holds the budget as a finished file.

    Args:
        run: of the search.
        session: scores and times files.

    Raises:
        BudgetError: no file holds the budget, or no network holds the accuracy.
        ConversionError, DeviceError: as compress().
        KeyboardInterrupt: Ctrl-C ended the search before there was a network to ship.
    """
    problem = run.problem
    for widths in finalists(run):
        plan = problem.pruner.plan(widths)
        model = problem.pruner.apply(plan, run.evaluator.weights(plan))
        tflite = problem.exporter.file(model, problem.options.timed_format)
        comparison = session.compare(tflite)
        if _holds(run, tflite, comparison):
            return Winner(widths, plan, model, tflite, comparison)
    limit = cast(float, run.limit)  # without one the first file holds it
    raise missed(limit) if problem.options.is_latency else too_large(limit)


def finalists(run: SearchRun) -> Iterable[tuple[int, ...]]:
    """Widths to build, best first. More than one, because a file may take more bytes or time than was predicted.

    Raises:
        BudgetError: no network but the original holds the accuracy.
    """
    study, latency = run.study, run.latency if run.problem.options.is_latency else None
    candidates = _candidates(run)
    if latency is not None and candidates:
        reward = run.problem.options.reward_function if run.problem.options.guarantee is None else negative_cost
        return latency.finalists(candidates, study.limit, reward, run.evaluator)
    if latency is None and study.best is not None:
        best = study.best.widths
        # A file is larger than its counted bytes, because its parts are aligned: narrow it until it holds its limit.
        narrower = (narrowed(study.units, study.cost, best, study.cost(best) * part) for part in _NARROWER)
        return (best, *narrower)
    if study.interrupted:
        raise KeyboardInterrupt
    if study.stop_search:
        raise ValueError("A callback ended the search before it had tried a network within the budget; let it go on.")
    raise RunDirError(f"All trials in {study.journal.path} failed; the reasons stand there.")


def _candidates(run: SearchRun) -> list[Trial]:
    """The complete trials that may win; with a guarantee those that hold the accuracy."""
    study, guarantee = run.study, run.problem.options.guarantee
    full = tuple(unit.size for unit in study.units)
    complete = [trial for trial in study.trials if trial.state == "complete" and trial.widths != full]
    candidates = [trial for trial in complete if trial.kind != "sensitivity"]
    if guarantee is None or not candidates:
        return candidates
    holding = guarantee.holding(candidates)
    nothing_counted = study.best is None or study.best.widths == full
    if not holding and (run.problem.options.is_latency or nothing_counted):
        raise unheld(guarantee, candidates)
    return holding


def _holds(run: SearchRun, tflite: bytes, comparison: Comparison | None) -> bool:
    """Whether a file holds the budget."""
    if run.latency is not None and comparison is not None and run.problem.options.is_latency:
        return run.latency.holds(comparison, run.limit)
    return run.problem.options.target != "size" or run.limit is None or len(tflite) <= run.limit
