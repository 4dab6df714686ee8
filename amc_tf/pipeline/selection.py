"""The winner of a search: which networks to build, what was kept in them, and what stands beside them in a Result."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from amc_tf.errors import BadPredictions, ConversionError, DeviceError, RunDirError
from amc_tf.latency.session import Latency
from amc_tf.pipeline.export import Exporter, MeasurementSession
from amc_tf.pruning.plan import Plan
from amc_tf.pruning.pruner import Pruner
from amc_tf.pruning.unit_lines import unit_lines
from amc_tf.result import FLOAT, Figures, packed
from amc_tf.search.budget import narrowed, uniform
from amc_tf.search.guarantee import Guarantee, negative_cost, unheld
from amc_tf.search.rewards import Reward
from amc_tf.search.scoring.evaluator import Evaluator
from amc_tf.search.study import Study

_NARROWER = (0.99, 0.97, 0.9, 0.8)  # of the best plan's bytes, where its file turned out larger than its limit


def finalists(
    search: Study, latency: Latency | None, reward: Reward, evaluator: Evaluator, guarantee: Guarantee | None
) -> Iterable[tuple[int, ...]]:
    """Widths to build, best first; only a latency can turn out another than was foretold.

    Raises:
        BudgetError: no network but the original holds the accuracy.
    """
    full = tuple(unit.size for unit in search.units)
    made = [t for t in search.trials if t.state == "complete" and t.widths != full]
    candidates = [t for t in made if t.kind != "sensitivity"]
    if guarantee is not None and candidates:
        holding = guarantee.holding(candidates)
        if not holding and (latency is not None or search.best is None or search.best.widths == full):
            raise unheld(guarantee, candidates)
        candidates, reward = holding, negative_cost
    if latency is not None and candidates:
        return latency.finalists(candidates, search.limit, reward, evaluator)
    if latency is None and search.best is not None:
        best = search.best.widths
        # A file is larger than was counted by what aligns its parts: it is narrowed until it holds its limit.
        narrower = (narrowed(search.units, search.cost, best, search.cost(best) * part) for part in _NARROWER)
        return (best, *narrower)
    if search.interrupted:
        raise KeyboardInterrupt
    if search.stop_search:
        raise ValueError("A callback ended the search before it had tried a network within the budget; let it go on.")
    raise RunDirError(f"All trials in {search.journal.path} failed; the reasons stand there.")


def uniform_network(
    search: Study,
    winner: tuple[int, ...],
    figures: Callable[..., Figures],
    finishing: Exporter,
    pruning: Pruner,
    evaluator: Evaluator,
    bench: MeasurementSession,
) -> Figures | None:
    """The uniform plan at the same budget, or of the winner's cost where there is none; made and scored likewise."""
    widths = next((trial.widths for trial in search.trials if trial.kind == "uniform"), None)
    if widths is None:  # Ctrl-C came before
        return None
    if search.limit is None:
        widths = uniform(search.units, search.cost, search.cost(winner))
    ms = None
    try:
        tflite = finishing.shipped(evaluator.tflite(widths))
        accuracy = bench.sample.accuracy(tflite)
        timed = tflite
        if finishing.timed_format != FLOAT:
            plan = pruning.plan(widths)
            timed = finishing.file(pruning.apply(plan, evaluator.weights(plan)), finishing.timed_format)
        ms = bench.ms(bench.compare(timed))
    except DeviceError:  # nothing else hangs on this figure
        pass
    except (BadPredictions, ConversionError):
        return None
    return figures(widths, accuracy, tflite, ms)


def figures_of(
    costs: Mapping[str, Any], dense: Any, widths: tuple[int, ...], accuracy: float, tflite: bytes, ms: float | None
) -> Figures:
    macs = costs["macs"](widths) if "macs" in costs else dense(())  # zeros are multiplied like all others
    return Figures(accuracy, int(macs), int(costs["params"](widths)), len(tflite), ms, packed(tflite))


def units_of(pruning: Pruner, plan: Plan, round_to: int) -> tuple[dict[str, Any], ...]:
    """What was kept of everything that could be pruned, and why the rest could not."""
    kept = {unit.name: width for unit, width in zip(pruning.units, pruning.widths(plan), strict=True)}
    return tuple(
        {
            "name": line.name, "layers": list(line.layers), "size": line.size,
            "kept": int(kept.get(line.name, line.size)), "frozen": line.frozen,
        }
        for line in unit_lines(pruning, round_to)
    )  # fmt: skip
