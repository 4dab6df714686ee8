"""Stages: pruning and fine-tuning in turns, for budgets too small to be met in one go.

The paper goes to 0.5, 0.35, 0.25 and 0.2 of ResNet-50's weights (arXiv 1802.03494, section 4.3).
"""

import contextlib
import hashlib
import io
import itertools
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from amc_tf import request, settings
from amc_tf.distillation import Distillation
from amc_tf.errors import RunDirError, TrainingError
from amc_tf.examples import examples
from amc_tf.files import write
from amc_tf.finetune import BATCH, check, finetune
from amc_tf.finishing import Bench, Finishing, finished_again, write_page
from amc_tf.graph import keras_graph
from amc_tf.graph.graph import digest
from amc_tf.pruning.plan import WEIGHTS, Plan
from amc_tf.pruning.pruning import is_ratio
from amc_tf.request import ORIGINAL, named
from amc_tf.result import Result
from amc_tf.tflite.quantize import FORMATS

_STEPS = 6  # of a training, to know how long one takes
# target -> the field of Figures that a share is of
_FIELDS = {"macs": "macs", "flops": "macs", "params": "params", "size": "size_bytes", "latency": "latency_ms"}


@dataclass(frozen=True)
class Training:
    """The fine-tuning that a search ends with.

    Attributes:
        model: that was compressed; the smaller one is trained as it was compiled.
        data, epochs, seed, verbose, callbacks: see finetune().
        distillation: None to learn from labels alone.
        board: folder in the run directory for TensorBoard; None for none.
    """

    model: Any
    data: Any
    epochs: int
    seed: int
    verbose: bool
    distillation: Distillation | None = None
    callbacks: Sequence[Any] = ()
    board: str | None = None

    def check(self, zeros_stay: bool) -> None:
        """Raises what stands in the way of the training, before the search."""
        check(self.model, self.data, self.epochs, zeros_stay, callbacks=self.callbacks)

    def seconds(self) -> float | None:
        """About how long the training takes, from a few steps of it on a copy of the whole model, so an upper bound.

        None for data of one batch or of unknown length.
        """
        keras, took = keras_graph.keras_of(self.model), []

        def stop(batch: int, logs: Any = None) -> None:
            took.append(time.monotonic())
            if len(took) > _STEPS:
                watch.model.stop_training = True

        watch = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
        steps = examples(self.data, self.model, keras, BATCH, self.seed, "train_data").steps
        finetune(
            self.model, self.data, epochs=_STEPS + 1, seed=self.seed, callbacks=[watch], verbose=0,
            **_taught_by(self.distillation),
        )  # fmt: skip
        if steps is None or len(took) < 2:
            return None
        return self.epochs * steps * float(np.median(np.diff(took)))

    def result(self, result: Result, finishing: Finishing, bench: Bench, base: bytes) -> Result:
        """The result with its model trained on; as it was where the training was lost or ended by Ctrl-C.

        Args:
            result: of the search.
            finishing, bench, base: see finished_again().

        Raises:
            TypeError, ValueError, AmcError: see finetune() and finished_again().
            RunDirError: the weights cannot be written.
        """
        started = time.monotonic()
        try:
            trained, told = self.tuned(result.model, result.plan, result.run_dir)
        except TrainingError as error:
            warnings.warn(f"The result is the network without fine-tuning: {error}", stacklevel=3)
            return result
        except KeyboardInterrupt:
            warnings.warn(
                "The fine-tuning was stopped, so the result is the network without it; the same call trains it anew.",
                stacklevel=3,
            )
            stopped = replace(result, interrupted=True)
            stopped.save(base, _files(result))
            return stopped
        seconds = result.seconds + time.monotonic() - started
        new = finished_again(result, trained, finishing, bench, base, training=told, seconds=seconds)
        if new.compressed.accuracy < result.compressed.accuracy:
            warnings.warn(
                f"The fine-tuning made the network worse: {result.scored_by} {result.compressed.accuracy:.4g} before, "
                f"{new.compressed.accuracy:.4g} after it; give another learning rate, more epochs or more data.",
                stacklevel=3,
            )
        return new

    def tuned(self, model: Any, plan: Plan, run_dir: Path) -> tuple[Any, dict[str, Any]]:
        """The model trained on, and how, see Result; taken from the run directory where an earlier call left it there.

        Raises:
            TypeError, ValueError, AmcError: see finetune().
            RunDirError: the weights cannot be written.
        """
        own = settings.own(self.model, model)
        if own is not None:
            model = keras_graph.rebuild(model)
            model.compile(**own)
        path = run_dir / f"finetuned-{self._key(model, plan, own)}.npz"
        stored = _stored(path)
        if stored is not None:
            weights, history = stored
            trained = keras_graph.rebuild(model, weights=weights)
            again = settings.own(model, trained)
            if again is not None:
                trained.compile(**again)
            return trained, self._told(history)
        history = {}
        trained = finetune(
            model, self.data, plan=plan if plan.of == WEIGHTS else None, epochs=self.epochs, seed=self.seed,
            callbacks=[self._recorder(history), *self._boards(run_dir), *self._own_callbacks()],
            verbose=2 if self.verbose else 0,
            **_taught_by(self.distillation),
        )  # fmt: skip
        arrays = [(layer, array) for layer, arrays in keras_graph.read(trained)[1].items() for array in arrays]
        buffer = io.BytesIO()
        numbered = {f"{number}:{layer}": array for number, (layer, array) in enumerate(arrays)}
        np.savez(buffer, history=json.dumps(history), **numbered)
        write(buffer.getvalue(), path)
        return trained, self._told(history)

    def _told(self, history: dict[str, list[float]]) -> dict[str, Any]:
        taught = self.distillation
        return {
            "epochs": max((len(values) for values in history.values()), default=self.epochs),
            "distilled": taught is not None,
            "temperature": None if taught is None else taught.temperature,
            "weight": None if taught is None else taught.weight,
            "history": history,
        }

    def _own_callbacks(self) -> Sequence[Any]:
        return self.callbacks if isinstance(self.callbacks, (list, tuple)) else [self.callbacks]

    def _recorder(self, history: dict[str, list[float | None]]) -> Any:
        """A callback that writes down what each epoch came to."""

        def record(epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            for name, value in (logs or {}).items():
                with contextlib.suppress(TypeError, ValueError):  # not a number
                    number = float(value)
                    history.setdefault(name, []).append(number if math.isfinite(number) else None)

        return keras_graph.keras_of(self.model).callbacks.LambdaCallback(on_epoch_end=record)

    def _boards(self, run_dir: Path) -> list:
        if self.board is None:
            return []
        return [keras_graph.keras_of(self.model).callbacks.TensorBoard(str(run_dir / self.board), write_graph=False)]

    def _key(self, model: Any, plan: Plan, own: Mapping[str, Any] | None) -> str:
        """Names a training: what it starts from, by which settings, on which arrays."""
        state = hashlib.sha256(f"{plan.digest} {self.epochs} {self.seed}".encode())
        state.update(digest(*keras_graph.read(model)).encode())
        if own is not None:
            optimizer = {name: value for name, value in own["optimizer"].get_config().items() if name != "name"}
            losses = [_described(loss) for loss in _leaves(own.get("loss"))]
            state.update(repr((optimizer, losses, own.get("loss_weights"))).encode())
        if self.distillation is not None:
            state.update(digest(*keras_graph.read(self.distillation.teacher)).encode())
            state.update(repr((self.distillation.temperature, self.distillation.weight)).encode())
        for part in _leaves(self.data) if isinstance(self.data, tuple) else ():  # a data set's examples are not known
            state.update(np.ascontiguousarray(part).data)
        return state.hexdigest()[:16]


def _leaves(structure: Any) -> list[Any]:
    import tensorflow as tf

    return tf.nest.flatten(structure)


def _described(loss: Any) -> Any:
    """A loss such that another one is another text, and the same one the same in every process."""
    config = getattr(loss, "get_config", None)
    try:
        settings = {name: named(value) for name, value in config().items()} if config is not None else None
    except (NotImplementedError, TypeError):
        settings = None
    return named(loss), settings


def _taught_by(distillation: Distillation | None) -> dict[str, Any]:
    """The arguments of finetune() that are about a teacher."""
    if distillation is None:
        return {}
    return {
        "teacher": distillation.teacher,
        "temperature": distillation.temperature,
        "distill_weight": distillation.weight,
    }


def _stored(path: Path) -> tuple[dict[str, tuple[np.ndarray, ...]], dict[str, list[float]]] | None:
    """Weights and history that an earlier call left; None where there are none, or the file is damaged."""
    weights: dict[str, list[np.ndarray]] = {}
    try:
        with np.load(path) as stored:
            history = json.loads(str(stored["history"]))
            for name in sorted(set(stored.files) - {"history"}, key=lambda name: int(name.partition(":")[0])):
                weights.setdefault(name.partition(":")[2], []).append(stored[name])
    except (OSError, ValueError, EOFError, LookupError, BadZipFile):
        return None
    return {layer: tuple(arrays) for layer, arrays in weights.items()}, history


def halves(budget: Any, target: str) -> tuple[float, ...]:
    """The stages of a budget that is less than half of the network: a half, a quarter and so on, above the budget."""
    budget = _share(budget)
    if not is_ratio(budget) or target not in _FIELDS:
        return ()
    return tuple(itertools.takewhile(lambda share: share > budget, (0.5**k for k in itertools.count(1))))


def _share(budget: Any) -> Any:
    """A budget in percent as a fraction; any other as it is."""
    if isinstance(budget, str) and budget.strip().endswith("%"):
        with contextlib.suppress(ValueError):
            return float(budget.strip()[:-1]) / 100
    return budget


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
    stages, run_dir, budget = asked.pop("stages"), asked.pop("run_dir"), _share(asked["budget"])
    stages, field = checked(stages, budget, asked)
    request.check(asked["target"], asked["method"], asked["metric"], run_dir)
    model, first, result = asked.pop("model"), None, None
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
        model, first = result.model, first or result
    whole = (folder / "stage-1" / "base.tflite").read_bytes()
    result = replace(result, **_beside(first, result), budget=budget, again=partial(_again, whole, result.again))
    result.save(whole, _files(result))
    if asked["report"]:
        write_page(folder)
    return result


def _files(result: Result) -> dict[str, bytes]:
    """The files of a result by format, as they lie in its run directory."""
    return {line.format: (result.run_dir / FORMATS[line.format]).read_bytes() for line in result.formats}


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
