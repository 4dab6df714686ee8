"""Fine-tuning: trains a pruned model to recover its accuracy; dropped weights stay zero."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from amc_tf.checks import is_number, is_whole
from amc_tf.data.fit_data import Examples, examples
from amc_tf.graph import keras_builder, keras_reader
from amc_tf.graph.network import Graph, KerasModel, KerasModule, WeightArrays
from amc_tf.pruning.kernels import masks, zeroed
from amc_tf.pruning.plan import Plan
from amc_tf.training import compile_settings, sparsity
from amc_tf.training.distillation import TEMPERATURE, WEIGHT, Distillation
from amc_tf.training.divergence import divergence_watch, recover

BATCH = 128
_STATISTICS = 20  # BatchNorm's moving statistics are renewed at least this many times in a training


def finetune(
    model: KerasModel,
    train_data: Any,
    *,
    plan: Plan | None = None,
    epochs: int = 10,
    batch_size: int = BATCH,
    learning_rate: float | None = None,
    validation_data: Any = None,
    callbacks: Sequence[Any] = (),
    teacher: KerasModel | None = None,
    temperature: float = TEMPERATURE,
    distill_weight: float = WEIGHT,
    seed: int = 0,
    verbose: bool | int = True,
) -> KerasModel:
    """Trains a copy of a model. Weights that a plan of weights drops are zero before, during and after.

    A compiled model is trained with its own loss, metrics and optimizer; the optimizer starts from a fresh state. Any
    other model is trained as a classifier: cross-entropy by the shapes of labels and outputs; stochastic gradient
    descent with Nesterov momentum 0.9; a learning rate that rises shortly and falls along a cosine (constant if a data
    set does not state its length); a weight decay of 1e-4 on kernels only.

    In Keras 3 constraints on the variables keep the zeros, in tf_keras tensorflow-model-optimization with the plan's
    masks.

    In a short training the moving statistics of BatchNorm use a smaller momentum, in this training only.

    With a teacher, for instance the model before it was pruned, the loss is (1 - w) times the model's own plus w times
    the distance between the outputs of both: for classes the Kullback-Leibler divergence, softened by a temperature T,
    times T squared (arXiv 1503.02531); for other outputs the mean squared difference.

    If the loss becomes NaN or infinite, the training ends with a warning and returns the weights of the best earlier
    epoch, by the validation loss if there are validation data, else by the training loss.

    Args:
        model: functional or Sequential keras.Model (Keras 3) or tf_keras.Model, with or without the zeros. It is not
            changed. A train_step of its own is not used.
        train_data: (x, y) arrays, or a batched tf.data.Dataset or keras PyDataset of (x, y) or (x, y, sample weights).
            A data set goes to Keras's `fit` as it is, and is read anew in every epoch, with its augmentation.
        plan: a plan of weights for this very model; None to keep no zeros, for instance after channel pruning.
        epochs: passes through the data.
        batch_size: examples per step, for arrays. A data set has its own.
        learning_rate: the highest learning rate; None for the compiled optimizer's own, else 0.01.
        validation_data: like `train_data`, scored after each epoch; None for none.
        callbacks: Keras callbacks, passed to `fit`.
        teacher: model of the same Keras with the same inputs and outputs; None to learn from labels alone. It is not
            changed.
        temperature: T, above 0.
        distill_weight: w, 0 to 1.
        seed: of the order of arrays. Dropout and other random layers use Keras's global seed, which is not changed.
        verbose: as in Keras's `fit`.

    Returns:
        A new, plain model of the same Keras. It is compiled like the caller's if that was compiled.

    Raises:
        TypeError, ValueError: an argument has the wrong type or does not fit the model.
        UnsupportedModel: the model cannot be read.
        SetupError: a tf_keras model needs tensorflow-model-optimization, which is missing and cannot be installed.
        TrainingError: the loss became NaN or infinite in the first epoch.
    """
    distillation = None if teacher is None else Distillation(teacher, temperature, distill_weight)
    _check_numbers(epochs, batch_size, learning_rate, seed)
    graph, weights = keras_reader.read(model)
    keras = keras_reader.keras_of(model)
    callbacks = _checked_callbacks(callbacks, keras)
    masks_of_layers = {} if plan is None else masks(graph, _checked_plan(plan))
    if distillation is not None:
        distillation.check(model)
    copy = keras_builder.rebuild(model, weights=weights if plan is None else zeroed(graph, plan, weights))
    data, settings = _prepare(model, copy, graph, train_data, epochs, batch_size, learning_rate, seed)
    _limit_momentum(copy, data.steps, epochs)
    validation = None
    if validation_data is not None:
        validation = examples(validation_data, copy, keras, batch_size, None, "validation_data").data
    trained, first_callbacks = sparsity.keep_zeros(copy, masks_of_layers) if masks_of_layers else (copy, [])
    watch = divergence_watch(keras)
    trained.compile(**settings)
    if distillation is not None:
        distillation.teach(trained, settings["loss"])
    trained.fit(
        data.data,
        epochs=epochs,
        shuffle=data.shuffle,
        validation_data=validation,
        callbacks=[*first_callbacks, watch, *callbacks],
        verbose=int(verbose),
    )
    recover(watch, trained, epochs, settings["optimizer"])
    trained_weights = keras_reader.read(sparsity.strip_wrappers(trained) if masks_of_layers else trained)[1]
    # An average over steps contains weights from before their zeros were restored.
    averaged = bool(getattr(settings["optimizer"], "use_ema", False))
    new = keras_builder.rebuild(model, weights=_with_exact_zeros(trained_weights, masks_of_layers, averaged))
    own_settings = compile_settings.own(model, new)
    if own_settings:
        new.compile(**own_settings)
    return new


def _limit_momentum(model: KerasModel, steps: int | None, epochs: int) -> None:
    """Limits the momentum of BatchNorm in a short training: at 0.99 its statistics lag by hundreds of steps."""
    if steps is None:
        return
    limit = max(0.5, 1 - _STATISTICS / (steps * epochs))
    for layer in keras_reader.layers(model).values():
        momentum: Any = getattr(layer, "momentum", None)
        if hasattr(layer, "moving_variance") and is_number(momentum) and float(momentum) > limit:
            layer.momentum = limit


def check(
    model: KerasModel,
    train_data: Any,
    epochs: int,
    zeros_stay: bool,
    batch_size: int = BATCH,
    callbacks: Sequence[Any] = (),
) -> None:
    """Raises the errors that `finetune` would raise before it trains. A search calls this before its hours of work.

    Args:
        model: the model that will be pruned.
        train_data, epochs, batch_size, callbacks: see finetune().
        zeros_stay: whether `finetune` will get a plan of weights.
    """
    graph, _ = keras_reader.read(model)
    _checked_callbacks(callbacks, keras_reader.keras_of(model), "finetune_callbacks")
    _prepare(model, keras_builder.rebuild(model), graph, train_data, epochs, batch_size, None, 0)
    if zeros_stay:
        sparsity.check(model)


def _prepare(
    model: KerasModel,
    copy: KerasModel,
    graph: Graph,
    train_data: Any,
    epochs: int,
    batch_size: int,
    learning_rate: float | None,
    seed: int,
) -> tuple[Examples, dict[str, Any]]:
    """The data for `fit`, and the arguments of compile()."""
    data = examples(train_data, copy, keras_reader.keras_of(model), batch_size, seed, "train_data")
    own = compile_settings.own(model, copy, learning_rate)
    return data, own or compile_settings.default(copy, graph, data.labels, data.steps, epochs, learning_rate)


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


def _checked_callbacks(callbacks: Any, keras: KerasModule, name: str = "callbacks") -> list[Any]:
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


def _with_exact_zeros(
    weights: WeightArrays, masks_of_layers: sparsity.Masks, averaged: bool
) -> dict[str, tuple[np.ndarray, ...]]:
    """The trained weights with zeros for all dropped weights.

    Raises:
        RuntimeError: a dropped weight is not zero, and the weights are not averages over steps.
    """
    new = dict(weights)
    for layer, (index, mask) in masks_of_layers.items():
        arrays = list(new[layer])
        nonzero = int(np.count_nonzero(arrays[index][~mask]))
        if nonzero and not averaged:
            raise RuntimeError(
                f"{nonzero} dropped weights of {layer!r} are not zero after the training; a callback that sets weights "
                f"did that, or it is a bug of amc_tf."
            )
        arrays[index] = np.where(mask, arrays[index], arrays[index].dtype.type(0))  # not -0.0 either
        new[layer] = tuple(arrays)
    return new
