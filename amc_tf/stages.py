"""Stages: pruning and fine-tuning in turns, for budgets too small to be met in one go.

The paper goes to 0.5, 0.35, 0.25 and 0.2 of ResNet-50's weights (arXiv 1802.03494, section 4.3).
"""

import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from amc_tf import request
from amc_tf.errors import RunDirError
from amc_tf.files import write
from amc_tf.finishing import write_page
from amc_tf.graph import keras_graph
from amc_tf.graph.graph import digest
from amc_tf.pruning.pruning import is_ratio
from amc_tf.request import ORIGINAL
from amc_tf.result import Result
from amc_tf.search.budget import fraction

# target -> the field of Figures that a share is of
_FIELDS = {"macs": "macs", "flops": "macs", "params": "params", "size": "size_bytes", "latency": "latency_ms"}


def halves(budget: Any, target: str) -> tuple[float, ...]:
    """The stages of a budget that is less than half of the network: a half, a quarter and so on, above the budget."""
    budget = fraction(budget)
    if not is_ratio(budget) or target not in _FIELDS:
        return ()
    return tuple(itertools.takewhile(lambda share: share > budget, (0.5**k for k in itertools.count(1))))


def staged(compress: Callable[..., Result], arguments: Mapping[str, Any]) -> Result:
    """What compress() does with `stages`: one search a stage, each on the network that the one before left, fine-tuned.

    Stage k lies in the folder stage-k of the run directory, the last one in the run directory itself. Keep ratios and
    `min_keep` of a stage are of what the stage before left.

    Args:
        compress: does one stage.
        arguments: of compress().

    Returns:
        The last stage's Result, beside the network that it all began with.

    Raises:
        KeyboardInterrupt: a stage before the last was stopped; the same call goes on there.
        TypeError, ValueError: the stages do not fall, or there is nothing that could be done between them.
    """
    asked = dict(arguments)
    stages, run_dir, budget = asked.pop("stages"), asked.pop("run_dir"), fraction(asked["budget"])
    stages, field = checked(stages, budget, asked)
    request.check(asked["target"], asked["method"], asked["metric"], run_dir)
    model, first, result, seconds = asked.pop("model"), None, None, 0.0
    if asked["teacher"] == ORIGINAL:
        asked["teacher"] = model  # of every stage
    folder = Path("runs") / _name(model, stages, asked) if run_dir is None else Path(run_dir)
    for number, share in enumerate((*stages, budget), 1):
        last = number > len(stages)
        limit = share if first is None else share * getattr(first.base, field)
        if first is not None and field == "latency_ms":
            limit = f"{limit} ms"
        where = folder if last else folder / f"stage-{number}"
        try:
            step = {"budget": limit, "run_dir": where, "stages": (), "report": False}
            result = compress(model, **{**asked, **step})
        except RunDirError as error:
            if first is None:
                raise
            raise RunDirError(
                f"Stage {number} in {where} cannot go on, because stages before it were prolonged or changed, and it "
                f"began with what they left ({error}); choose another run_dir."
            ) from error
        if result.interrupted and not last:  # the next stage would begin with a network that was not trained
            raise KeyboardInterrupt
        model, first, seconds = result.model, first or result, seconds + result.seconds
    whole = (folder / "stage-1" / "base.tflite").read_bytes()
    result = replace(
        result, **_beside(first, result), budget=budget, stages=stages, seconds=seconds,
        again=partial(_again, whole, result.again),
    )  # fmt: skip
    result.save(whole, result.files())
    if asked["report"]:
        write_page(folder)
    return result


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


def _again(whole: bytes, again: Callable[[Result, Any], Result], result: Result, trained: Any) -> Result:
    """As of the last stage, which knows only what the one before left, and would leave that as the base."""
    new = again(result, trained)
    write(whole, result.run_dir / "base.tflite")
    return new


def _name(model: Any, stages: tuple, asked: Mapping[str, Any]) -> str:
    """The same for the same call, another for another budget or target."""
    told = [asked[name] for name in ("target", "budget", "method", "seed", "finetune_epochs", "round_to", "min_keep")]
    whose = digest(*keras_graph.read(model))
    return f"{model.name}-stages-{hashlib.sha256(repr((whose, stages, told)).encode()).hexdigest()[:8]}"


def checked(stages: Any, budget: Any, asked: Mapping[str, Any]) -> tuple[tuple, str]:
    """The stages, and the field of Figures that the budget is about."""
    stages = tuple(stages) if isinstance(stages, (list, tuple)) else (stages,)
    shares = (*stages, budget)
    if not all(is_ratio(share) and share < 1 for share in shares) or any(a <= b for a, b in itertools.pairwise(shares)):
        raise ValueError(
            f"stages is {stages} with budget {budget!r}; fractions below 1 that fall are expected, the budget being "
            f"the last and smallest, such as stages=(0.5, 0.35, 0.25) with budget=0.2."
        )
    if asked["target"] not in _FIELDS:
        raise ValueError(f"target is {asked['target']!r}; in stages it can be {', '.join(_FIELDS)}.")
    if not asked["finetune_epochs"]:
        raise ValueError(f"stages is {stages}, but nothing is done between stages; give finetune_epochs of 1 or more.")
    return stages, _FIELDS[asked["target"]]
