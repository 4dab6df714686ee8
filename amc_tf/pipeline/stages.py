"""Stages: pruning and fine-tuning in turns, for budgets too small to be met in one go.

The paper goes to 0.5, 0.35, 0.25 and 0.2 of ResNet-50's weights (arXiv 1802.03494, section 4.3).
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from amc_tf import request
from amc_tf.data.fit_data import contents
from amc_tf.errors import RunDirError
from amc_tf.fingerprint import fingerprint, named
from amc_tf.graph.identity import digest
from amc_tf.pipeline import pruning_methods
from amc_tf.pipeline.export import write_page
from amc_tf.pruning.pruner import Pruner, is_ratio
from amc_tf.report.page import PAGE
from amc_tf.request import ORIGINAL
from amc_tf.result import FORMATS, Result
from amc_tf.search.budget import Budget, fraction
from amc_tf.search.journal import JOURNAL
from amc_tf.system.files import write
from amc_tf.tflite.conversion.keras_to_tflite import convert

# target -> the field of Figures that a share is of
_FIELDS = {"macs": "macs", "flops": "macs", "params": "params", "size": "size_bytes", "latency": "latency_ms"}
# Arguments of compress() that are plain data and decide what comes out; those of each stage stand in its journal.
_PLAIN = (
    "target", "budget", "seed", "method", "max_drop", "round_to", "min_keep", "frozen", "reconstruct", "paper",
    "finetune_epochs", "temperature", "distill_weight", "integer_io", "calibration_size", "reward_size",
)  # fmt: skip
_LEAST_KEEP = 1e-6  # rounds to as little as round_to allows


def halves(budget: Any, target: str) -> tuple[float, ...]:
    """The stages of a budget that is less than half of the network: a half, a quarter and so on, above the budget."""
    least = fraction(budget)
    if not is_ratio(least) or target not in _FIELDS:
        return ()
    return tuple(itertools.takewhile(lambda share: share > least, (0.5**k for k in itertools.count(1))))


def staged(compress: Callable[..., Result], arguments: Mapping[str, Any]) -> Result:
    """What compress() does with `stages`: one search a stage, each on the network that the one before left, fine-tuned.

    Stage k lies in the folder stage-k of the run directory, the last one in the run directory itself. Keep ratios and
    `min_keep` of a stage are of what the stage before left. A stage whose share is held already is left out.

    Args:
        compress: does one stage.
        arguments: of compress().

    Returns:
        The last stage's Result, beside the network that it all began with.

    Raises:
        KeyboardInterrupt: a stage before the last was stopped; the same call goes on there.
        TypeError, ValueError: the stages do not fall, or there is nothing that could be done between them.
        BudgetError: not even all stages together can reach the budget.
    """
    asked = dict(arguments)
    run_dir = asked.pop("run_dir")
    stages, budget, field = checked(asked.pop("stages"), asked["budget"], asked)
    request.check(asked["target"], asked["method"], asked["metric"], run_dir)
    check_reach(asked, budget, convert(asked["model"]))
    model = asked.pop("model")
    if asked["teacher"] == ORIGINAL:
        asked["teacher"] = model  # of every stage
    folder = Path("runs") / _name(model, stages, asked) if run_dir is None else Path(run_dir)
    done: list[Result] = []
    shares: list[float] = []
    for share in (*stages, budget):
        last, limit = share == budget, share
        if done:
            whole = getattr(done[0].base, field)
            if getattr(done[-1].compressed, field) <= share * whole:
                continue
            limit = f"{share * whole} ms" if field == "latency_ms" else share * whole
        where = folder if last else folder / f"stage-{len(done) + 1}"
        step = {"budget": limit, "run_dir": where, "stages": (), "report": False}
        try:
            result = compress(model, **{**asked, **step})
        except RunDirError as error:
            if not done:
                raise
            raise RunDirError(
                f"Stage {len(done) + 1} in {where} cannot go on, because stages before it were prolonged or changed, "
                f"and it began with what they left ({error}); choose another run_dir."
            ) from error
        if result.interrupted and not last:  # the next stage would begin with a network that was not trained
            raise KeyboardInterrupt
        model = result.model
        asked["sensitivity"] = None  # a table is of the network that the first stage began with
        done.append(result)
        shares.append(share)
    found = done[-1] if done[-1].run_dir == folder else _moved(done[-1], folder)
    told = {"budget": budget, "stages": tuple(shares[:-1]), "seconds": sum(result.seconds for result in done)}
    return _finished(done[0], told, asked["report"], found)


def _finished(first: Result, told: Mapping[str, Any], report: bool, last: Result) -> Result:
    """The last stage's Result beside the network that the first began with, written."""
    again = partial(_again, first, told, last)
    result = replace(last, **_beside(first, last), **told, again=again)
    result.save((first.run_dir / "base.tflite").read_bytes(), result.files())
    if report:
        write_page(result.run_dir)
    return result


def _again(first: Result, told: Mapping[str, Any], last: Result, result: Result, trained: Any) -> Result:
    """See Result.with_model; the last stage knows only what the one before left, and measures beside that."""
    own = replace(last, compressed=result.compressed, untrained=result.untrained)
    return _finished(first, told, (result.run_dir / PAGE).exists(), last.again(own, trained))


def _moved(result: Result, folder: Path) -> Result:
    """A stage that held the whole budget as the last one, with its files in the run directory itself."""
    for name in (JOURNAL, "sensitivity.json"):
        if (result.run_dir / name).exists():
            write((result.run_dir / name).read_bytes(), folder / name)
    for format, tflite in result.files().items():
        write(tflite, folder / FORMATS[format])
    return replace(result, run_dir=folder, tflite=folder / result.tflite.name)


def check_reach(asked: Mapping[str, Any], budget: float, base: bytes) -> None:
    """Raises BudgetError where not even all stages together can reach a budget that is counted.

    Args:
        asked: arguments of compress().
        budget: share of the network.
        base: its .tflite.
    """
    target = "macs" if asked["target"] == "flops" else asked["target"]
    way = pruning_methods.chosen(asked["method"], target)
    if target == "latency" or way.zeros:  # a kernel goes down to one weight, in as many stages as that takes
        return
    pruning = narrowest(asked)
    cost = pruning_methods.cost_of(way.costs(pruning, base), target)
    Budget(pruning.units, cost, budget * cost(cost.full))


def narrowest(asked: Mapping[str, Any]) -> Pruner:
    """The Pruner whose narrowest plan is what many stages of channels could come to."""
    options = {name: asked[name] for name in ("round_to", "importance", "frozen")}
    return pruning_methods.pruning("channel", asked["model"], min_keep=_LEAST_KEEP, **options)


def _beside(first: Result, last: Result) -> dict[str, Any]:
    """What the last stage says of the network that it began with, said of the one that the first began with."""
    left = {unit["name"]: unit["kept"] for unit in last.units}
    units = tuple(unit | {"kept": left.get(unit["name"], unit["kept"])} for unit in first.units)
    latency = last.latency
    if latency is not None and first.latency is not None:
        share = last.compressed.latency_ms / first.base.latency_ms
        more = share / latency["ratio"]
        low, high = (latency[name] * more for name in ("ratio_low", "ratio_high"))
        latency = latency | {"ratio": share, "ratio_low": low, "ratio_high": high, "base": first.latency["base"]}
    return {"base": first.base, "units": units, "latency": latency}


def _name(model: Any, stages: tuple, asked: Mapping[str, Any]) -> str:
    """The name of the run directory: the same for the same call, another for whatever would come out otherwise."""
    plain = {name: named(asked[name], name) for name in ("metric", "reward", "importance")}
    plain |= {name: asked[name] for name in _PLAIN}
    plain |= {name: None if asked[name] is None else contents(asked[name]) for name in ("train_data", "reward_data")}
    plain["quantize"] = request.formats(asked["quantize"], asked["integer_io"])
    plain["device"] = named(asked["device"], "device") if isinstance(asked["device"], str) else None
    plain["teacher"] = None if asked["teacher"] is None else digest(asked["teacher"])
    return f"{model.name}-stages-{fingerprint([digest(model), list(stages), plain])[:8]}"


def checked(stages: Any, budget: Any, asked: Mapping[str, Any]) -> tuple[tuple[float, ...], float, str]:
    """The stages and the budget as fractions, and the field of Figures that they are of."""
    stages = tuple(stages) if isinstance(stages, (list, tuple)) else (stages,)
    shares = (*stages, fraction(budget))
    if not is_ratio(shares[-1]) or not shares[-1] < 1:
        raise ValueError(
            f"stages is {stages} with budget {budget!r}; with stages the budget is a share of the network below 1, "
            f"such as 0.2 or '20%'."
        )
    if not all(is_ratio(share) and share < 1 for share in shares) or any(a <= b for a, b in itertools.pairwise(shares)):
        raise ValueError(
            f"stages is {stages} with budget {budget!r}; fractions below 1 that fall are expected, the budget being "
            f"the last and smallest, such as stages=(0.5, 0.35, 0.25) with budget=0.2."
        )
    if asked["target"] not in _FIELDS:
        raise ValueError(f"target is {asked['target']!r}; in stages it can be {', '.join(_FIELDS)}.")
    if not asked["finetune_epochs"]:
        raise ValueError(f"stages is {stages}, but nothing is done between stages; give finetune_epochs of 1 or more.")
    *stages, budget = map(float, shares)
    return tuple(stages), budget, _FIELDS[asked["target"]]
