"""finetune(): trains a pruned model on, so that it makes up for what was dropped; dropped weights stay zero."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from amc_tf.checks import is_number, is_whole
from amc_tf.data.fit_data import Examples, examples
from amc_tf.errors import TrainingError
from amc_tf.graph import keras_builder, keras_reader
from amc_tf.graph.network import Graph
from amc_tf.pruning.kernels import masks, zeroed
from amc_tf.pruning.plan import Plan
from amc_tf.training import compile_settings, sparsity
from amc_tf.training.distillation import TEMPERATURE, WEIGHT, Distillation

BATCH = 128
_STATISTICS = 20  # so many times in a training, at least, what BatchNorm's moving statistics remember is renewed


def finetune(
    model: Any,
    train_data: Any,
    *,
    plan: Plan | None = None,
    epochs: int = 10,
    batch_size: int = BATCH,
    learning_rate: float | None = None,
    validation_data: Any = None,
    callbacks: Sequence[Any] = (),
    teacher: Any = None,
    temperature: float = TEMPERATURE,
    distill_weight: float = WEIGHT,
    seed: int = 0,
    verbose: bool | int = True,
) -> Any:
    """Trains a copy of a model; what a plan of weights drops is zero before, during and after.

    A compiled model is trained by its own loss, metrics and optimizer, the latter from its configuration and in a fresh
    state. Any other is trained as a classifier: cross-entropy by the form of labels and outputs; stochastic gradient
    descent with Nesterov momentum 0.9, a learning rate that rises shortly and falls along a cosine (constant where a
    data set does not say how long it is), and a weight decay of 1e-4 that leaves out norms and biases.

    A model of Keras 3 keeps its zeros by constraints on its variables, one of tf_keras by
    tensorflow-model-optimization, with the plan's own masks.

    Where a training is short, the moving statistics of BatchNorm take a smaller momentum than theirs while it lasts.

    With a teacher, for instance the model before it was pruned, the loss is (1 - w) times the model's own plus w times
    how far its outputs are from the teacher's: for classes the Kullback-Leibler divergence of both, softened by a
    temperature T, times T squared (arXiv 1503.02531); for other outputs the mean squared difference.

    Where the loss becomes NaN or infinite, training ends with a warning, with the weights of the best epoch before: by
    the loss on the validation data where there are some, else by that of the training.

    Args:
        model: functional or Sequential keras.Model (Keras 3) or tf_keras.Model, with the zeros in it or not; it is not
            changed. A train_step of its own is not used.
        train_data: (x, y) arrays, or a batched tf.data.Dataset or keras PyDataset of (x, y) or (x, y, sample weights),
            which goes to Keras's `fit` as it is, so that it is read anew, augmentation included, in every epoch.
        plan: of weights, for this very model; None holds no zeros, for instance for a model that lost channels.
        epochs: times through the data.
        batch_size: examples a step, of arrays; a data set has its own.
        learning_rate: the highest one; None for the compiled optimizer's own, else 0.01.
        validation_data: likewise, scored after each epoch; None for none.
        callbacks: Keras callbacks, passed to `fit`.
        teacher: model of the same Keras with the same inputs and outputs, whose outputs are learnt from as well; None
            for labels alone. It is not changed.
        temperature: T, above 0.
        distill_weight: w, 0 to 1.
        seed: of the order of arrays. Dropout and other layers with chance follow Keras's global seed, which stays as it
            is.
        verbose: as of Keras's `fit`.

    Returns:
        A new model of the same Keras, plain, compiled as the caller's if that was.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, or does not fit the model.
        UnsupportedModel: the model cannot be read.
        SetupError: tensorflow-model-optimization, which one of tf_keras takes, is not there and cannot be installed.
        TrainingError: the loss became NaN or infinite in the first epoch.
    """
    distillation = None if teacher is None else Distillation(teacher, temperature, distill_weight)
    _check_numbers(epochs, batch_size, learning_rate, seed)
    graph, weights = keras_reader.read(model)
    keras = keras_reader.keras_of(model)
    callbacks = _checked_callbacks(callbacks, keras)
    kept = {} if plan is None else masks(graph, _checked_plan(plan))
    if distillation is not None:
        distillation.check(model)
    copy = keras_builder.rebuild(model, weights=weights if plan is None else zeroed(graph, plan, weights))
    given, compiled = _ready(model, copy, graph, train_data, epochs, batch_size, learning_rate, seed)
    _keep_up(copy, given.steps, epochs)
    scored = None
    if validation_data is not None:
        scored = examples(validation_data, copy, keras, batch_size, None, "validation_data").data
    trained, first = sparsity.held(copy, kept) if kept else (copy, [])
    watch = _watch(keras)
    trained.compile(**compiled)
    if distillation is not None:
        distillation.teach(trained, compiled["loss"])
    trained.fit(
        given.data,
        epochs=epochs,
        shuffle=given.shuffle,
        validation_data=scored,
        callbacks=[*first, watch, *callbacks],
        verbose=int(verbose),
    )
    _recover(watch, trained, epochs, compiled["optimizer"])
    found = keras_reader.read(sparsity.plain(trained) if kept else trained)[1]
    # An average over steps holds a little of what a step does before its zeros are put back.
    averaged = bool(getattr(compiled["optimizer"], "use_ema", False))
    new = keras_builder.rebuild(model, weights=_exact(found, kept, averaged))
    again = compile_settings.own(model, new)
    if again:
        new.compile(**again)
    return new


def _keep_up(model: Any, steps: int | None, epochs: int) -> None:
    """Lets the statistics of BatchNorm follow a short training: at a momentum of 0.99 they lag by hundreds of steps."""
    if steps is None:
        return
    most = max(0.5, 1 - _STATISTICS / (steps * epochs))
    for layer in keras_reader.layers(model).values():
        momentum = getattr(layer, "momentum", None)
        if hasattr(layer, "moving_variance") and is_number(momentum) and momentum > most:
            layer.momentum = most


def check(
    model: Any, train_data: Any, epochs: int, zeros_stay: bool, batch_size: int = BATCH, callbacks: Sequence[Any] = ()
) -> None:
    """Raises what `finetune` would before it trains; for whoever has hours of work to do first.

    Args:
        model: the one that will be pruned.
        train_data, epochs, batch_size, callbacks: see finetune().
        zeros_stay: whether there will be a plan of weights.
    """
    graph, _ = keras_reader.read(model)
    _checked_callbacks(callbacks, keras_reader.keras_of(model), "finetune_callbacks")
    _ready(model, keras_builder.rebuild(model), graph, train_data, epochs, batch_size, None, 0)
    if zeros_stay:
        sparsity.check(model)


def _ready(
    model: Any, copy: Any, graph: Graph, train_data: Any, epochs: int, batch_size: int, rate: float | None, seed: int
) -> tuple[Examples, dict[str, Any]]:
    """The data for `fit`, and the arguments of compile()."""
    given = examples(train_data, copy, keras_reader.keras_of(model), batch_size, seed, "train_data")
    own = compile_settings.own(model, copy, rate)
    return given, own or compile_settings.default(copy, graph, given.labels, given.steps, epochs, rate)


def _check_numbers(epochs: Any, batch_size: Any, learning_rate: Any, seed: Any) -> None:
    for name, value, least in (("epochs", epochs, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if not is_whole(value):
            raise TypeError(f"{name} is {value!r}; a whole number of at least {least} is expected.")
        if value < least:
            raise ValueError(f"{name} is {value}; a whole number of at least {least} is expected.")
    if learning_rate is None:
        return
    if not is_number(learning_rate):
        raise TypeError(f"learning_rate is {learning_rate!r}; a number above 0 is expected, for instance 0.01.")
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise ValueError(f"learning_rate is {learning_rate}; a number above 0 is expected, for instance 0.01.")


def _checked_plan(plan: Any) -> Plan:
    if not isinstance(plan, Plan):
        raise TypeError(f"plan is of type {type(plan).__name__}; an amc_tf.Plan is expected, see Plan.load.")
    return plan


def _checked_callbacks(callbacks: Any, keras: Any, name: str = "callbacks") -> list:
    if isinstance(callbacks, keras.callbacks.Callback):
        return [callbacks]
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"{name} is {callbacks!r}; a list of objects of {keras.__name__}.callbacks is expected.")
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            kind = f"{type(callback).__module__}.{type(callback).__name__}"
            raise TypeError(
                f"{name} holds an object of {kind}, but the model is one of {keras.__name__}; give objects of "
                f"{keras.__name__}.callbacks."
            )
    return list(callbacks)


def _watch(keras: Any) -> Any:
    """A callback that ends the training when it is lost, remembers when that was, and the best weights before."""

    class Watch(keras.callbacks.Callback):
        epoch, lost = 0, None  # the current one, and that in which it was lost; from 1
        best, weights = math.inf, None
        since = None  # loss and weights of the epoch before, of which the next step shows whether they are any good

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch + 1

        def on_train_batch_end(self, batch, logs=None):
            self._look((logs or {}).get("loss", 0.0))
            if self.lost is None and self.since is not None:
                if self.since[0] < self.best:
                    self.best, self.weights = self.since
                self.since = None

        def on_epoch_end(self, epoch, logs=None):
            loss = float((logs or {}).get("val_loss", (logs or {}).get("loss", 0.0)))
            self._look(loss)
            weights = self.model.get_weights()
            if not all(np.isfinite(array).all() for array in weights if array.dtype.kind == "f"):
                self._look(math.nan)
            self.since = loss, weights

        def _look(self, loss):
            if self.lost is None and not math.isfinite(float(loss)):
                self.lost = self.epoch
                self.model.stop_training = True

    return Watch()


def _recover(watch: Any, trained: Any, epochs: int, optimizer: Any) -> None:
    """Takes a training that was lost back to its best epoch.

    Raises:
        TrainingError: it was lost in the first.
    """
    if watch.lost is None:
        return
    what = f"The loss or the weights became infinite or no numbers in epoch {watch.lost} of {epochs}"
    advice = f"give a smaller learning_rate{_rate(optimizer)}, or look for wrong values in the data."
    if watch.weights is None:
        raise TrainingError(f"{what}, so there is nothing to return; {advice}")
    trained.set_weights(watch.weights)
    warnings.warn(f"{what}; the model is that of the best epoch before: {advice}", stacklevel=3)


def _rate(optimizer: Any) -> str:
    rate = getattr(optimizer, "learning_rate", None)
    try:
        return f" than {float(rate):.3g}"
    except (TypeError, ValueError):  # a schedule
        return ""


def _exact(weights: Mapping[str, tuple], kept: sparsity.Masks, averaged: bool) -> dict[str, tuple]:
    """The trained weights, after a look at every zero that had to stay, but where they are averages."""
    new = dict(weights)
    for layer, (index, mask) in kept.items():
        arrays = list(new[layer])
        back = int(np.count_nonzero(arrays[index][~mask]))
        if back and not averaged:
            raise RuntimeError(
                f"{back} dropped weights of {layer!r} are not zero after the training; a callback that sets weights "
                f"did that, or it is a bug of amc_tf."
            )
        arrays[index] = np.where(mask, arrays[index], arrays[index].dtype.type(0))  # -0.0 is no zero byte for byte
        new[layer] = tuple(arrays)
    return new
