"""Keeps dropped weights at zero during a training: constraints in Keras 3, tfmot's wrappers in tf_keras."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from amc_tf.errors import UnsupportedModel
from amc_tf.graph import keras_reader
from amc_tf.graph.keras_internals import set_untrainable
from amc_tf.graph.network import KerasLayer, KerasModel
from amc_tf.isolated.provide import provide

Masks = Mapping[str, tuple[int, np.ndarray]]  # layer path -> (index of the weight, bool array of its shape)


def keep_zeros(model: KerasModel, masks: Masks) -> tuple[KerasModel, list[Any]]:
    """Prepares a model for a training in which the weights that a mask drops are zero after every step.

    In Keras 3 the kernels get constraints, which the optimizer applies inside the training step. In tf_keras the layers
    get the wrappers of tensorflow-model-optimization (tfmot).

    Args:
        model: functional or Sequential Keras model. It is changed: afterwards, use it in `strip_wrappers` only.
        masks: layer path -> (index of the weight, bool array of its shape), see `pruning.kernels.masks`.

    Returns:
        The model to compile and train, and the callbacks that must come first in its `fit`.

    Raises:
        SetupError: the model is one of tf_keras, and tfmot could not be installed.
    """
    live = keras_reader.layers(model)
    if keras_reader.keras_of(model).__name__ == "tf_keras":
        tfmot = _tfmot()
        wrapping = _Wrapping(tfmot, {id(live[path]): mask for path, mask in masks.items()})
        return wrapping.model(model), [tfmot.UpdatePruningStep()]
    for path, (index, mask) in masks.items():
        kernel = live[path].weights[index]
        kernel.constraint = _zero_constraint(mask, kernel.constraint)
    return model, []


def check(model: KerasModel) -> None:
    """Raises the errors of `keep_zeros`."""
    if keras_reader.keras_of(model).__name__ == "tf_keras":
        _tfmot()


def strip_wrappers(trained: KerasModel) -> KerasModel:
    """The model that `keep_zeros` returned, without tfmot's wrappers."""
    is_wrapped = keras_reader.keras_of(trained).__name__ == "tf_keras"
    return _tfmot().strip_pruning(trained) if is_wrapped else trained


def _zero_constraint(mask: np.ndarray, own: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """A constraint that applies a variable's own constraint first and then the mask."""
    import tensorflow as tf

    stays = tf.constant(mask)  # created once: the training step refers to it instead of storing a copy

    def constrain(kernel: Any) -> Any:
        value = tf.convert_to_tensor(kernel if own is None else own(kernel))
        return tf.where(stays, value, tf.zeros((), value.dtype))

    return constrain


class _Wrapping:
    """Builds a tf_keras model from the same layers, some of them inside tfmot's wrappers.

    Args:
        tfmot: the module tensorflow_model_optimization.sparsity.keras.
        masks: id of a layer -> (index of its weight, mask).
    """

    def __init__(self, tfmot: ModuleType, masks: Mapping[int, tuple[int, np.ndarray]]):
        self.tfmot = tfmot
        self.masks = masks
        self.replacements: dict[int, KerasLayer] = {}  # id of a layer or nested model -> the layer of the new model
        self.wrappers: list[KerasLayer] = []

    def model(self, model: KerasModel) -> KerasModel:
        wrapped = self._clone(model)
        for wrapper in self.wrappers:  # their variables exist since they were called
            ((_, variable, _),) = wrapper.pruning_vars
            variable.assign(self.masks[id(wrapper.layer)][1].astype(variable.dtype.as_numpy_dtype))
        return wrapped

    def _clone(self, model: KerasModel) -> KerasModel:
        keras = keras_reader.keras_of(model)
        clone = keras.models.clone_model(model, clone_function=self._replacement)
        if not model.trainable:
            set_untrainable(clone)
        return clone

    def _replacement(self, layer: KerasLayer) -> KerasLayer:
        if id(layer) not in self.replacements:
            if hasattr(layer, "layers"):
                self.replacements[id(layer)] = self._clone(layer)
            else:
                self.replacements[id(layer)] = self._wrap(layer) if id(layer) in self.masks else layer
        return self.replacements[id(layer)]

    def _wrap(self, layer: KerasLayer) -> KerasLayer:
        index, mask = self.masks[id(layer)]
        # tfmot calls this method before it looks up the class. It does not know every class: not Conv1DTranspose.
        layer.get_prunable_weights = lambda: [layer.weights[index]]
        # The interval ends before step 1, the first one, so that tfmot computes no masks: its threshold can become 0
        # for kernels with zeros, and the mask all ones. `model` sets our masks once. tfmot applies them before every
        # forward pass, whatever the schedule says, and after every epoch.
        schedule = self.tfmot.ConstantSparsity(float(1 - mask.mean()), begin_step=0, end_step=0)
        wrapper = self.tfmot.prune_low_magnitude(layer, schedule, dtype=layer.dtype_policy)
        # Losses, metrics and labels refer to the output layers by name.
        wrapper._name = layer.name
        # The wrapper does not copy these three.
        wrapper.supports_masking = layer.supports_masking
        wrapper._call_spec.expects_mask_arg = layer._expects_mask_arg
        wrapper._activity_regularizer = layer.activity_regularizer
        layer._losses = []  # losses of the call that built the model: the wrapper would add them to the training's
        self.wrappers.append(wrapper)
        return wrapper


def _tfmot() -> ModuleType:
    """Imports tensorflow_model_optimization.sparsity.keras without side effects on the caller's `tf.keras`.

    If the environment lacks the package, its own folder is appended to the path. At the end it hides no other package.
    """
    folder = provide("tensorflow-model-optimization")
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        with own_tf_keras():
            from tensorflow_model_optimization.sparsity import keras
    except ImportError as error:
        raise UnsupportedModel(
            f"The zeros of a tf_keras model are kept by tensorflow-model-optimization, which cannot be imported "
            f"({error}): run `amc-tf setup --check`, or give a model of Keras 3."
        ) from error
    return keras


@contextlib.contextmanager
def own_tf_keras() -> Iterator[None]:
    """Protects the caller's `tf.keras` and environment while tfmot is imported.

    tfmot sets TF_USE_LEGACY_KERAS on import. TensorFlow reads that variable at the first use of `tf.keras`, so this
    function uses it first and restores the variable at the end.
    """
    import tensorflow as tf

    name = "TF_USE_LEGACY_KERAS"
    before = os.environ.get(name)
    for lazy in (tf.keras, tf.compat.v1.keras, tf.compat.v2.keras):
        _ = lazy.layers  # decides which Keras it is, by the environment as it is now
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
