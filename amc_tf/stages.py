"""Stages: pruning and fine-tuning in turns, for budgets too small to be met in one go.

The paper goes to 0.5, 0.35, 0.25 and 0.2 of ResNet-50's weights (arXiv 1802.03494, section 4.3).
"""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from amc_tf import request, settings
from amc_tf.errors import RunDirError
from amc_tf.files import write
from amc_tf.finetune import check, finetune
from amc_tf.graph import keras_graph
from amc_tf.graph.graph import digest
from amc_tf.pruning.plan import WEIGHTS, Plan
from amc_tf.pruning.pruning import is_ratio
from amc_tf.request import named
from amc_tf.result import Result

_FIELDS = {"macs": "macs", "flops": "macs", "params": "params", "size": "size_bytes"}  # target -> of Figures


@dataclass(frozen=True)
class Training:
    """The fine-tuning that a search ends with.

    Attributes:
        model: that was compressed; the smaller one is trained as it was compiled.
        data, epochs, seed, verbose: see finetune().
    """

    model: Any
    data: Any
    epochs: int
    seed: int
    verbose: bool

    def check(self, zeros_stay: bool) -> None:
        """Raises what stands in the way of the training, before the search."""
        check(self.model, self.data, self.epochs, zeros_stay)

    def tuned(self, model: Any, plan: Plan, run_dir: Path) -> Any:
        """The model trained on; taken from the run directory where an earlier call left it there.

        Raises:
            TypeError, ValueError, AmcError: see finetune().
            RunDirError: the weights cannot be written.
        """
        own = settings.own(self.model, model)
        if own is not None:
            model = keras_graph.rebuild(model)
            model.compile(**own)
        path = run_dir / f"finetuned-{self._key(model, plan, own)}.npz"
        weights = _stored(path)
        if weights is not None:
            trained = keras_graph.rebuild(model, weights=weights)
            again = settings.own(model, trained)
            if again is not None:
                trained.compile(**again)
            return trained
        held = plan if plan.of == WEIGHTS else None
        trained = finetune(
            model, self.data, plan=held, epochs=self.epochs, seed=self.seed, verbose=2 if self.verbose else 0
        )
        arrays = [(layer, array) for layer, arrays in keras_graph.read(trained)[1].items() for array in arrays]
        buffer = io.BytesIO()
        np.savez(buffer, **{f"{number}:{layer}": array for number, (layer, array) in enumerate(arrays)})
        write(buffer.getvalue(), path)
        return trained

    def _key(self, model: Any, plan: Plan, own: Mapping[str, Any] | None) -> str:
        """Names a training: what it starts from, by which settings, on which arrays."""
        state = hashlib.sha256(f"{plan.digest} {self.epochs} {self.seed}".encode())
        state.update(digest(*keras_graph.read(model)).encode())
        if own is not None:
            state.update(repr((own["optimizer"].get_config(), named(own.get("loss")))).encode())
        for part in self.data if isinstance(self.data, tuple) else ():  # a data set cannot be told from another
            if isinstance(part, np.ndarray):
                state.update(np.ascontiguousarray(part).data)
        return state.hexdigest()[:16]


def _stored(path: Path) -> dict[str, tuple[np.ndarray, ...]] | None:
    """The weights that an earlier call left; None where there are none, or the file is damaged."""
    weights: dict[str, list[np.ndarray]] = {}
    try:
        with np.load(path) as stored:
            for name in sorted(stored.files, key=lambda name: int(name.partition(":")[0])):
                weights.setdefault(name.partition(":")[2], []).append(stored[name])
    except (OSError, ValueError, EOFError, BadZipFile):
        return None
    return {layer: tuple(arrays) for layer, arrays in weights.items()}


def staged(compress: Callable[..., Result], arguments: Mapping[str, Any]) -> Result:
    """What compress() does with `stages`: one search a stage, each on the network that the one before left, fine-tuned.

    Stage k lies in the folder stage-k of the run directory, the last one in the run directory itself. Keep ratios and
    `min_keep` of a stage are of what the stage before left; seconds, uniform and untrained of the Result are the last
    stage's.

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
    stages, run_dir, budget = asked.pop("stages"), asked.pop("run_dir"), asked["budget"]
    stages, field = _checked(stages, budget, asked)
    request.check(asked["target"], asked["method"], asked["metric"], asked["on_episode_end"], run_dir)
    model, base, result = asked.pop("model"), None, None
    folder = Path("runs") / f"{model.name}-stages" if run_dir is None else Path(run_dir)
    for number, share in enumerate((*stages, budget), 1):
        last = number > len(stages)
        limit = share if base is None else share * getattr(base, field)
        where = folder if last else folder / f"stage-{number}"
        try:
            result = compress(model, **{**asked, "budget": limit, "run_dir": where})
        except RunDirError as error:
            if base is None:
                raise
            raise RunDirError(
                f"Stage {number} in {where} cannot go on, because stages before it were prolonged or changed, and it "
                f"began with what they left ({error}); choose another run_dir."
            ) from error
        if result.interrupted and not last:  # the next stage would begin with a network that was not trained
            raise KeyboardInterrupt
        model, base = result.model, base or result.base
    result = replace(result, base=base, budget=budget)
    result.save((folder / "stage-1" / "base.tflite").read_bytes(), result.tflite.read_bytes())
    return result


def _checked(stages: Any, budget: Any, asked: Mapping[str, Any]) -> tuple[tuple, str]:
    """The stages, and the field of Figures that the budget is about."""
    stages = tuple(stages) if isinstance(stages, (list, tuple)) else (stages,)
    shares = (*stages, budget)
    if not all(is_ratio(share) and share < 1 for share in shares) or any(a <= b for a, b in pairwise(shares)):
        raise ValueError(
            f"stages is {stages} with budget {budget!r}; fractions below 1 that fall are expected, the budget being "
            f"the last and smallest, such as stages=(0.5, 0.35, 0.25) with budget=0.2."
        )
    if asked["target"] not in _FIELDS:
        raise ValueError(f"target is {asked['target']!r}; in stages it can be {', '.join(_FIELDS)}.")
    if not asked["finetune_epochs"]:
        raise ValueError(f"stages is {stages}, but nothing is done between stages; give finetune_epochs of 1 or more.")
    return stages, _FIELDS[asked["target"]]
