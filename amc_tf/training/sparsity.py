"""Zeros that stay: a model made ready to be trained without its dropped weights ever coming back."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from amc_tf.errors import UnsupportedModel
from amc_tf.graph import keras_reader
from amc_tf.isolated.provide import provide

Masks = Mapping[str, tuple[int, np.ndarray]]  # layer path -> (index of the weight, bool array of its shape)


def held(model: Any, masks: Masks) -> tuple[Any, list]:
    """A model to train in the place of another one, in which what a mask drops is zero after every step.

    In Keras 3 it is the model itself, with constraints on its kernels, which the optimizer applies inside the training
    step. In tf_keras it is a model of tensorflow-model-optimization's wrappers around the same layers.

    Args:
        model: functional or Sequential Keras model, of which the caller has no further use but `plain`; changed.
        masks: as `pruning.kernels.masks` gives them.

    Returns:
        (the model to compile and train, callbacks that its `fit` has to have before all others).

    Raises:
        SetupError: a tf_keras model, and tensorflow-model-optimization could not be installed.
    """
    live = keras_reader.layers(model)
    if keras_reader.keras_of(model).__name__ == "tf_keras":
        tfmot = _tfmot()
        wrapping = _Wrapping(tfmot, {id(live[path]): mask for path, mask in masks.items()})
        return wrapping.model(model), [tfmot.UpdatePruningStep()]
    for path, (index, mask) in masks.items():
        kernel = live[path].weights[index]
        kernel.constraint = _zero(mask, kernel.constraint)
    return model, []


def check(model: Any) -> None:
    """Raises what `held` would, where the zeros of a model cannot be held."""
    if keras_reader.keras_of(model).__name__ == "tf_keras":
        _tfmot()


def plain(trained: Any) -> Any:
    """What `held` returned, without the wrappers."""
    wrapped = keras_reader.keras_of(trained).__name__ == "tf_keras"
    return _tfmot().strip_pruning(trained) if wrapped else trained


def _zero(mask: np.ndarray, own: Callable | None) -> Callable:
    """The constraint that a variable has of its own, and then the mask."""
    import tensorflow as tf

    stays = tf.constant(mask)  # made here, so that the training step refers to it instead of holding a copy

    def constrain(kernel):
        value = tf.convert_to_tensor(kernel if own is None else own(kernel))
        return tf.where(stays, value, tf.zeros((), value.dtype))

    return constrain


class _Wrapping:
    """Builds a tf_keras model around the same layers, some of them inside tfmot's wrappers.

    Args:
        tfmot: the module tensorflow_model_optimization.sparsity.keras.
        masks: id of a layer -> (index of its weight, mask).
    """

    def __init__(self, tfmot: Any, masks: Mapping[int, tuple[int, np.ndarray]]):
        self.tfmot = tfmot
        self.masks = masks
        self.made: dict[int, Any] = {}  # id of a layer or nested model -> what stands in its place
        self.wrappers: list[Any] = []

    def model(self, model: Any) -> Any:
        wrapped = self._clone(model)
        for wrapper in self.wrappers:  # which have their variables now that they were called
            ((_, variable, _),) = wrapper.pruning_vars
            variable.assign(self.masks[id(wrapper.layer)][1].astype(variable.dtype.as_numpy_dtype))
        return wrapped

    def _clone(self, model: Any) -> Any:
        keras = keras_reader.keras_of(model)
        clone = keras.models.clone_model(model, clone_function=self._instead)
        if not model.trainable:  # hides the flags of its layers, which keep their own
            own = [(layer, layer.trainable) for layer in clone._flatten_layers(include_self=False)]
            clone.trainable = False
            for layer, trainable in own:
                layer.trainable = trainable
        return clone

    def _instead(self, layer: Any) -> Any:
        if id(layer) not in self.made:
            if hasattr(layer, "layers"):
                self.made[id(layer)] = self._clone(layer)
            else:
                self.made[id(layer)] = self._wrapped(layer) if id(layer) in self.masks else layer
        return self.made[id(layer)]

    def _wrapped(self, layer: Any) -> Any:
        index, mask = self.masks[id(layer)]
        # tfmot asks a layer for this before it looks whether it knows the class; Conv1DTranspose it does not know.
        layer.get_prunable_weights = lambda: [layer.weights[index]]
        # An interval that is over before the first step, 1: tfmot's own masks come from a threshold with rounding, and
        # among kernels with zeros the threshold can become 0 and the mask all ones. Ours are set once, above; tfmot
        # multiplies by them before every forward pass, whatever the schedule says, and after every epoch.
        schedule = self.tfmot.ConstantSparsity(float(1 - mask.mean()), begin_step=0, end_step=0)
        wrapper = self.tfmot.prune_low_magnitude(layer, schedule, dtype=layer.dtype_policy)
        # Losses, metrics and labels are told apart by the names of the output layers.
        wrapper._name = layer.name
        # These three the wrapper does not take over by itself.
        wrapper.supports_masking = layer.supports_masking
        wrapper._call_spec.expects_mask_arg = layer._expects_mask_arg
        wrapper._activity_regularizer = layer.activity_regularizer
        layer._losses = []  # of its own call, when `model` was built, which the wrapper would add to the training's
        self.wrappers.append(wrapper)
        return wrapper


def _tfmot() -> Any:
    """The module tensorflow_model_optimization.sparsity.keras, imported without a trace in the caller's process.

    Where this environment lacks it, its folder joins the end of the path: it hides nothing of the caller's.
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
    """While it lasts, nothing changes which Keras the caller's `tf.keras` is, nor the environment for good.

    tfmot sets TF_USE_LEGACY_KERAS when it is imported, and TensorFlow looks at that when its `keras` is first used.
    """
    import tensorflow as tf

    name = "TF_USE_LEGACY_KERAS"
    before = os.environ.get(name)
    for lazy in (tf.keras, tf.compat.v1.keras, tf.compat.v2.keras):
        _ = lazy.layers  # decides it, by the environment as it is now
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
