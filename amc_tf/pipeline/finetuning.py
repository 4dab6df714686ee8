"""Fine-tuning: the training that a search ends with, and its stored weights of an earlier call."""

import io
import json
import logging
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from amc_tf import keras_state
from amc_tf.data.fit_data import contents, examples
from amc_tf.errors import TrainingError, UnsupportedModel
from amc_tf.fingerprint import Unknown, fingerprint
from amc_tf.graph import keras_builder, keras_reader
from amc_tf.graph.identity import digest
from amc_tf.pipeline.exporter import Exporter
from amc_tf.pipeline.measurement import MeasurementSession
from amc_tf.pipeline.re_export import re_export
from amc_tf.pruning.plan import WEIGHTS, Plan
from amc_tf.result import FINETUNING, Result
from amc_tf.system.files import write
from amc_tf.training import compile_settings
from amc_tf.training.distillation import Distillation
from amc_tf.training.finetune import BATCH, check, finetune

_LOG = logging.getLogger(__name__)
_STEPS = 6  # of a training, to know how long one takes


@dataclass(frozen=True)
class FineTuning:
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

        None for data of unknown length.
        """
        keras, took = keras_reader.keras_of(self.model), []

        def stop(batch: int, logs: Any = None) -> None:
            took.append(time.monotonic())
            if len(took) > _STEPS:
                watch.model.stop_training = True

        watch = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
        steps = examples(self.data, self.model, keras, BATCH, self.seed, "train_data").steps
        finetune(
            self.model, self.data, epochs=_STEPS + 1, seed=self.seed, callbacks=[watch], verbose=0,
            **_teacher_arguments(self.distillation),
        )  # fmt: skip
        if steps is None or len(took) < 2:
            return None
        return self.epochs * steps * float(np.median(np.diff(took)))

    def finetuned(self, result: Result, exporter: Exporter, session: MeasurementSession, base: bytes) -> Result:
        """Trains the model of a result. If the training is lost, or stopped by Ctrl-C, the result stays as it is.

        Args:
            result: of the search.
            exporter, session, base: see re_export().

        Raises:
            TypeError, ValueError, AmcError: see finetune() and re_export().
            RunDirError: the weights cannot be written.
        """
        started = time.monotonic()
        try:
            trained, record = self.tuned(result.model, result.plan, result.run_dir)
        except TrainingError as error:
            warnings.warn(f"The result is the network without fine-tuning: {error}", stacklevel=3)
            return result
        except KeyboardInterrupt:
            warnings.warn(
                "The fine-tuning was stopped, so the result is the network without it; the same call trains it anew.",
                stacklevel=3,
            )
            stopped = replace(result, stopped=FINETUNING)
            stopped.save(base, stopped.files())
            return stopped
        seconds = result.seconds + time.monotonic() - started
        new = re_export(result, trained, exporter, session, base, training=record, seconds=seconds)
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
        own = compile_settings.own(self.model, model)
        if own is not None:
            model = keras_builder.rebuild(model)
            model.compile(**own)
        key = self._key(model, plan, own)
        path = None if key is None else run_dir / f"finetuned-{key}.npz"
        stored = None if path is None else _stored(path)
        if stored is not None:
            weights, history = stored
            trained = keras_builder.rebuild(model, weights=weights)
            again = compile_settings.own(model, trained)
            if again is not None:
                trained.compile(**again)
            return trained, self._record(history)
        past = keras_reader.keras_of(self.model).callbacks.History()
        trained = finetune(
            model, self.data, plan=plan if plan.of == WEIGHTS else None, epochs=self.epochs, seed=self.seed,
            callbacks=[past, *self._boards(run_dir), *self._own_callbacks()],
            verbose=2 if self.verbose else 0,
            **_teacher_arguments(self.distillation),
        )  # fmt: skip
        history = {name: [_number(value) for value in values] for name, values in past.history.items()}
        if path is not None:
            _store(path, keras_reader.read(trained)[1], history)
        return trained, self._record(history)

    def _record(self, history: dict[str, list[float | None]]) -> dict[str, Any]:
        distillation = self.distillation
        return {
            "epochs": max((len(values) for values in history.values()), default=self.epochs),
            "distilled": distillation is not None,
            "temperature": None if distillation is None else distillation.temperature,
            "weight": None if distillation is None else distillation.weight,
            "history": history,
        }

    def _own_callbacks(self) -> Sequence[Any]:
        return self.callbacks if isinstance(self.callbacks, (list, tuple)) else [self.callbacks]

    def _boards(self, run_dir: Path) -> list:
        if self.board is None:
            return []
        return [keras_reader.keras_of(self.model).callbacks.TensorBoard(str(run_dir / self.board), write_graph=False)]

    def _key(self, model: Any, plan: Plan, own: Mapping[str, Any] | None) -> str | None:
        """Names a training: what it starts from, by which settings, on which examples; None where it has no name."""
        try:
            return fingerprint(
                [
                    plan.digest, self.epochs, self.seed, digest(model),
                    None if own is None else keras_state.of_compile(own), self._distillation_key(),
                    [keras_state.of_callback(each) for each in self._own_callbacks()], contents(self.data),
                ]
            )  # fmt: skip
        except (Unknown, UnsupportedModel) as error:
            _LOG.warning("A later call will train again, as it cannot tell this fine-tuning from another: %s.", error)
            return None

    def _distillation_key(self) -> list[Any] | None:
        distillation = self.distillation
        if distillation is None:
            return None
        return [digest(distillation.teacher), distillation.temperature, distillation.weight]


def _number(value: Any) -> float | None:
    """A number for JSON, which knows no NaN; of a metric that has one for each class their mean."""
    number = float(np.mean(value))
    return number if math.isfinite(number) else None


def _teacher_arguments(distillation: Distillation | None) -> dict[str, Any]:
    """The arguments of finetune() that are about a teacher."""
    if distillation is None:
        return {}
    return {
        "teacher": distillation.teacher,
        "temperature": distillation.temperature,
        "distill_weight": distillation.weight,
    }


def _store(path: Path, weights: Mapping[str, Sequence[np.ndarray]], history: Mapping[str, Any]) -> None:
    arrays = [(layer, array) for layer, arrays in weights.items() for array in arrays]
    numbered = {f"{number}:{layer}": array for number, (layer, array) in enumerate(arrays)}
    buffer = io.BytesIO()
    np.savez(buffer, history=json.dumps(history), **numbered)  # type: ignore[arg-type]
    write(buffer.getvalue(), path)


def _stored(path: Path) -> tuple[dict[str, tuple[np.ndarray, ...]], dict[str, list[float | None]]] | None:
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
