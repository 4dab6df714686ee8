"""Stages: pruning and fine-tuning in turns, for budgets too small to be met in one go.

The paper goes to 0.5, 0.35, 0.25 and 0.2 of ResNet-50's weights (arXiv 1802.03494, section 4.3).
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from amc_tf.data.fit_data import contents
from amc_tf.errors import RunDirError
from amc_tf.fingerprint import fingerprint
from amc_tf.graph.identity import digest
from amc_tf.options import Options
from amc_tf.pipeline.pruning_methods import PRUNING_METHODS, pruner_of
from amc_tf.pipeline.searching import RUNS
from amc_tf.pipeline.steps import search_once
from amc_tf.pruning.pruner import Pruner
from amc_tf.report import page
from amc_tf.result import Result, check_folder
from amc_tf.search.budget import Budget
from amc_tf.search.journal import JOURNAL
from amc_tf.system.files import write
from amc_tf.targets import TARGETS
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.conversion.quantize import FORMATS

# Options that are plain data and change the result. The journal of each stage has those of the stage.
_PLAIN = (
    "target", "budget", "stages", "seed", "method", "max_drop", "round_to", "min_keep", "reconstruct", "paper",
    "finetune_epochs", "temperature", "distill_weight", "formats", "integer_io", "calibration_size", "reward_size",
)  # fmt: skip
_LEAST_KEEP = 1e-6  # rounds to as little as round_to allows


def search_in_stages(model: Any, options: Options) -> Result:
    """One search per stage, each on the fine-tuned network of the stage before.

    Stage k lies in the folder stage-k of the run directory, the last one in the run directory itself. In each stage,
    keep ratios and `min_keep` are relative to the network of the stage before. A stage is left out if the network
    already holds its share.

    Returns:
        The last stage's Result, beside the network that the first stage began with.

    Raises:
        KeyboardInterrupt: a stage before the last was stopped; the same call goes on there.
        BudgetError: not even all stages together can reach the budget.
        AmcError: as compress().
    """
    check_reach(model, options, convert(model))
    folder = options.folder or RUNS / _run_name(model, options)
    check_folder(folder)  # the last stage comes hours later
    if isinstance(options.teacher, str):
        options = replace(options, teacher=model)  # of every stage
    results: list[Result] = []
    shares: list[float] = []
    for share in (*options.shares, options.share):
        is_last = share == options.share
        budget: float | str = share
        if results:
            whole = _cost(results[0].base, options)
            if _cost(results[-1].compressed, options) <= share * whole:
                continue
            budget = f"{share * whole} ms" if options.is_latency else share * whole
        stage = len(results) + 1
        place = folder if is_last else folder / f"stage-{stage}"
        result = _search_stage(stage, model, replace(options, budget=budget, run_dir=place, stages=()))
        if result.interrupted and not is_last:  # the next stage would begin with a network that was not trained
            raise KeyboardInterrupt
        model = result.model
        options = replace(options, sensitivity=None)  # a table is of the network that the first stage began with
        results.append(result)
        shares.append(share)
    last = results[-1] if results[-1].run_dir == folder else _moved(results[-1], folder)
    seconds = sum(result.seconds for result in results)
    return _beside(results[0], {"budget": options.budget, "stages": tuple(shares[:-1]), "seconds": seconds}, last)


def check_reach(model: Any, options: Options, base: bytes) -> None:
    """Raises BudgetError if not even all stages together can reach a budget that is counted.

    Args:
        model: that the first stage begins with.
        options: whose budget is a share of the network.
        base: its .tflite.
    """
    method = PRUNING_METHODS[options.method]
    if options.is_latency or method.zeros:  # a kernel goes down to one weight, in as many stages as that takes
        return
    pruner = narrowest(model, options)
    cost = method.cost(method.costs(pruner, base), options.target)
    Budget(pruner.units, cost, options.share * cost(cost.full))


def narrowest(model: Any, options: Options) -> Pruner:
    """A Pruner whose narrowest plan is what many stages together can come to."""
    return pruner_of(model, replace(options, min_keep=_LEAST_KEEP))


def _search_stage(stage: int, model: Any, options: Options) -> Result:
    try:
        return search_once(model, options)
    except RunDirError as error:
        if stage == 1:
            raise
        raise RunDirError(
            f"Stage {stage} in {options.run_dir} cannot go on, because stages before it were prolonged or changed, and "
            f"it began with what they left ({error}); choose another run_dir."
        ) from error


def _cost(figures: Any, options: Options) -> float:
    """What the budget is about, of one network."""
    return getattr(figures, TARGETS[options.target].figure)


def _beside(first: Result, changes: Mapping[str, Any], last: Result) -> Result:
    """The last stage's Result beside the network that the first stage began with, written."""
    again = partial(_with_model, first, changes, last)
    result = replace(last, **_relative_to(first, last), **changes, again=again)
    result.save((first.run_dir / "base.tflite").read_bytes(), result.files())
    return result


def _with_model(first: Result, changes: Mapping[str, Any], last: Result, result: Result, trained: Any) -> Result:
    """See Result.with_model. The last stage measures beside the network of the stage before."""
    own = replace(last, compressed=result.compressed, untrained=result.untrained)
    new = _beside(first, changes, own.with_model(trained))
    if (result.run_dir / page.PAGE).exists():
        page.write_or_warn(result.run_dir)
    return new


def _moved(result: Result, folder: Path) -> Result:
    """A stage that already holds the whole budget as the last one: its files move to the run directory itself."""
    for name in (JOURNAL, "sensitivity.json", *(FORMATS[format] for format in result.files())):
        if (result.run_dir / name).exists():
            write((result.run_dir / name).read_bytes(), folder / name)
    return replace(result, run_dir=folder, tflite=folder / result.tflite.name)


def _relative_to(first: Result, last: Result) -> dict[str, Any]:
    """Figures of the last stage, relative to the network that the first stage began with."""
    left = {unit["name"]: unit["kept"] for unit in last.units}
    units = tuple(unit | {"kept": left.get(unit["name"], unit["kept"])} for unit in first.units)
    latency = last.latency
    times = last.compressed.latency_ms, first.base.latency_ms
    if latency is not None and first.latency is not None and times[0] and times[1]:
        share = times[0] / times[1]
        factor = share / latency["ratio"]
        low, high = (latency[name] * factor for name in ("ratio_low", "ratio_high"))
        latency = latency | {"ratio": share, "ratio_low": low, "ratio_high": high, "base": first.latency["base"]}
    return {"base": first.base, "units": units, "latency": latency}


def _run_name(model: Any, options: Options) -> str:
    """The name of the run directory: another one for whatever would come out otherwise."""
    searched = {name: getattr(options, name) for name in _PLAIN} | options.function_identities()
    for name in ("train_data", "reward_data"):
        data = getattr(options, name)
        searched[name] = None if data is None else contents(data)
    searched["frozen"] = list(options.frozen)
    searched["device"] = options.device if isinstance(options.device, str) else None
    named = options.teacher is None or isinstance(options.teacher, str)
    searched["teacher"] = options.teacher if named else digest(options.teacher)
    return f"{model.name}-stages-{fingerprint([digest(model), searched])[:8]}"
