"""The identity of a network: its structure, its weights, and the effective settings of its layers.

`get_config` alone does not identify a layer. Another release of Keras adds keys and spells a dtype or an activation
differently. Of a caller's own function `get_config` gives only the name. So this module leaves out settings at their
default, and settings that only create the initial weights. The caller's own functions and classes count by their code.
"""

import functools
import inspect
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import numpy as np

from amc_tf.errors import UnsupportedModel
from amc_tf.fingerprint import Unknown, fingerprint
from amc_tf.graph import keras_reader
from amc_tf.graph.keras_internals import is_part_of_keras
from amc_tf.graph.network import Graph, KerasLayer, KerasModel, KerasModule, Tensor
from amc_tf.system.installed_code import is_importable

# Names and bookkeeping, initial weights, and where the layer runs.
_WITHOUT_EFFECT = {"name", "batch_input_shape", "build_config", "registered_name", "module", "shared_object_id"}
_TRAINING = {"trainable", "momentum", "rate", "seed", "noise_shape", "synchronized"}
_SERIALIZED = {"class_name", "config"}


def digest(model: KerasModel) -> str:
    """Identifies a network by its structure, the settings of its layers and its weights. Every process gets the same.

    Args:
        model: one that `keras_reader.read` accepts.

    Raises:
        UnsupportedModel: a layer holds an object without a fingerprint.
    """
    graph, weights = keras_reader.read(model)
    arrays = {path: list(of_layer) for path, of_layer in weights.items()}
    return fingerprint([_calls(model, graph), graph.shapes, graph.inputs, graph.outputs, arrays])


def difference(model: KerasModel, other: KerasModel) -> str | None:
    """Compares what two networks compute from the same weights.

    Args:
        model, other: two models of one Keras that `keras_reader.read` accepts.

    Returns:
        The path of the first layer that differs, or None.

    Raises:
        UnsupportedModel: see `digest`.
    """
    first, second = (_calls(each, keras_reader.read(each)[0], inference=True) for each in (model, other))
    for call, other_call in zip_longest(first, second):
        if call != other_call:
            return (call or other_call)[0]
    return None


def _calls(model: KerasModel, graph: Graph, inference: bool = False) -> list[tuple[Any, ...]]:
    """For each node its layer, kind, inputs, outputs and settings; `inference` leaves out settings of the training."""
    keras = keras_reader.keras_of(model)
    calls = []
    for node, operation in zip(graph.nodes, keras_reader.operations(model), strict=True):
        settings = {name: v for name, v in node.settings.items() if not (inference and _is_for_training(name))}
        try:
            settings_digest = meaning(operation, settings, keras)
        except Unknown as error:
            raise UnsupportedModel(
                f"The layer {node.layer!r} cannot be identified in a later call ({error}); give its class "
                f"a get_config() of numbers, texts and lists."
            ) from error
        calls.append((node.layer, node.kind, node.inputs, node.outputs, settings_digest))
    return calls


def _is_for_training(setting: str) -> bool:
    """Whether a setting has an effect in training alone."""
    return setting in _TRAINING or setting.endswith(("_regularizer", "_constraint"))


def meaning(layer: KerasLayer, settings: Mapping[str, Any], keras: KerasModule) -> str:
    """A digest of the effective settings of a layer or an operation.

    Args:
        layer: a layer of `keras`, or the caller's own.
        settings: what its `get_config` returns, or the arguments of an operation by name.
        keras: the Keras module of the layer.

    Raises:
        Unknown: a setting holds an object without a fingerprint.
    """
    effective = _effective_settings(settings, type(layer), keras, layer)
    return fingerprint([None if is_part_of_keras(type(layer)) else fingerprint(type(layer)), effective])


def _effective_settings(
    settings: Mapping[str, Any], cls: type | None, keras: KerasModule, layer: KerasLayer | None = None
) -> dict[str, Any]:
    """The settings that differ from their default and have an effect, in canonical form."""
    defaults = {} if cls is None else _defaults(cls)
    effective = {}
    for name, value in settings.items():
        if name in _WITHOUT_EFFECT or name.endswith("_initializer"):
            continue
        value = _canonical(name, value, keras, getattr(layer, name, None))
        default = _canonical(name, defaults.get(name), keras)
        if _is_same(value, default) or (name == "trainable" and value is True):
            continue
        effective[name] = value
    return effective


def _canonical(name: str, value: Any, keras: KerasModule, live: Any = None) -> Any:
    """A setting in the form that is the same for every release of Keras.

    Args:
        name: of the setting.
        value: as a release of Keras spells it.
        keras: the Keras module of the layer.
        live: the layer's attribute of that name.
    """
    if _is_callers_own(live):
        return ["own", fingerprint(live)]
    if name == "dtype":
        return _canonical_dtype(value)
    if name.endswith("activation") and value is None:
        return "linear"
    if isinstance(value, Mapping):
        if set(value) >= _SERIALIZED and isinstance(value["config"], Mapping):
            class_name = str(value["class_name"])
            return ["made", class_name, _effective_settings(value["config"], _keras_class(keras, class_name), keras)]
        if set(value) >= _SERIALIZED:  # a function by its name
            return ["function", value["config"]]
        return {str(key): _canonical("", item, keras) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical("", item, keras) for item in value]
    if callable(value) and hasattr(value, "__name__") and is_importable(value):
        return value.__name__
    if isinstance(value, Tensor):
        return ["tensor", value.index]
    if isinstance(value, slice):
        return ["slice", *(_canonical("", part, keras) for part in (value.start, value.stop, value.step))]
    return _canonical_number(value)


def _canonical_number(value: Any) -> Any:
    """Python's own number for a NumPy number, and an int for a whole float; any other value as it is."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return int(value)
    if isinstance(value, np.generic):
        return value.item()
    return value


def _canonical_dtype(value: Any) -> Any:
    if isinstance(value, Mapping):  # a serialized dtype policy
        config = value["config"]
        if set(config) != {"name"}:  # the policy of a quantised layer
            return dict(config)
        value = config["name"]
    name = getattr(value, "name", value)
    return "float32" if name is None else str(name)


def _is_callers_own(live: Any) -> bool:
    """Whether an attribute of a layer is the caller's own function, or an object of the caller's own class."""
    if live is None or not (callable(live) or hasattr(live, "get_config")):
        return False
    if inspect.ismethod(live):
        return False  # a method of the layer itself, whose class has a fingerprint already
    if inspect.isfunction(live) or inspect.isbuiltin(live):
        return not is_importable(live)
    return not is_importable(type(live))


@functools.cache
def _defaults(cls: type) -> dict[str, Any]:
    """Argument -> default, over the constructors of a class and of its base classes."""
    defaults: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__init__" not in vars(base):
            continue
        try:
            parameters = inspect.signature(vars(base)["__init__"]).parameters
        except (TypeError, ValueError):
            continue
        for name, parameter in parameters.items():
            defaults.pop(name, None)
            if parameter.default is not parameter.empty:
                defaults[name] = parameter.default
    return defaults


def _keras_class(keras: KerasModule, class_name: str) -> type | None:
    """The class of that name in one of Keras's modules, or None."""
    name = class_name.split(">")[-1]
    for module in ("layers", "regularizers", "constraints", "initializers", "activations"):
        cls = getattr(getattr(keras, module, None), name, None)
        if isinstance(cls, type):
            return cls
    return None


def _is_same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and value == default
