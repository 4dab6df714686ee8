"""What a network is known by: its structure, its weights, and what the settings of its layers mean.

`get_config` cannot stand for a layer. Another release of Keras adds keys, and writes a dtype or an activation
otherwise; of a caller's own function it gives the name alone. Here settings at their default are left out, and those
that have no effect once there are weights. The caller's own functions and classes go by their code.
"""

import functools
import inspect
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import numpy as np

from amc_tf.errors import UnsupportedModel
from amc_tf.fingerprint import Unknown, fingerprint, is_importable
from amc_tf.graph import keras_reader
from amc_tf.graph.network import Graph, Tensor

# Names and bookkeeping; how weights came about before there were any; where the layer ran.
_WITHOUT_EFFECT = {"name", "batch_input_shape", "build_config", "registered_name", "module", "shared_object_id"}
_TRAINING = {"trainable", "momentum", "rate", "seed", "noise_shape", "synchronized"}
_SERIALIZED = {"class_name", "config"}


def digest(model: Any) -> str:
    """Names a network by its structure, what its layers mean, and its weights: the same in every process.

    Args:
        model: one that `keras_reader.read` accepts.

    Raises:
        UnsupportedModel: a layer holds an object that cannot be told from another one.
    """
    graph, weights = keras_reader.read(model)
    values = {path: list(arrays) for path, arrays in weights.items()}
    return fingerprint([_calls(model, graph), graph.shapes, graph.inputs, graph.outputs, values])


def difference(model: Any, other: Any) -> str | None:
    """The first layer in which another network computes other outputs from the same weights; None where there is none.

    Args:
        model, other: of one Keras, such that `keras_reader.read` accepts them.

    Raises:
        UnsupportedModel: see `digest`.
    """
    both = [_calls(each, keras_reader.read(each)[0], inference=True) for each in (model, other)]
    for one, its in zip_longest(*both):
        if one != its:
            return (one or its)[0]
    return None


def _calls(model: Any, graph: Graph, inference: bool = False) -> list[tuple[Any, ...]]:
    """For each node its layer, kind, inputs, outputs and meaning."""
    keras = keras_reader.keras_of(model)
    calls = []
    for node, operation in zip(graph.nodes, keras_reader.operations(model), strict=True):
        settings = {name: value for name, value in node.settings.items() if not (inference and _of_training(name))}
        try:
            told = meaning(operation, settings, keras)
        except Unknown as error:
            raise UnsupportedModel(
                f"The layer {node.layer!r} cannot be told from another one in a later call ({error}); give its class "
                f"a get_config() of numbers, texts and lists."
            ) from error
        calls.append((node.layer, node.kind, node.inputs, node.outputs, told))
    return calls


def _of_training(setting: str) -> bool:
    """Whether a setting has an effect in training alone."""
    return setting in _TRAINING or setting.endswith(("_regularizer", "_constraint"))


def meaning(layer: Any, settings: Mapping[str, Any], keras: Any) -> str:
    """A digest of what a layer or an operation was told to do.

    Args:
        layer: of `keras`, or the caller's own.
        settings: as its `get_config` gives them, or the arguments of an operation by name.
        keras: the Keras module that it belongs to.

    Raises:
        Unknown: it holds an object that cannot be told from another one.
    """
    found = _told(settings, type(layer), keras, layer)
    return fingerprint([None if _is_keras(type(layer)) else fingerprint(type(layer)), found])


def _told(settings: Mapping[str, Any], cls: type | None, keras: Any, layer: Any = None) -> dict[str, Any]:
    """The settings that say something, each in one form."""
    defaults = {} if cls is None else _defaults(cls)
    kept = {}
    for name, value in settings.items():
        if name in _WITHOUT_EFFECT or name.endswith("_initializer"):
            continue
        value = _form(name, value, keras, getattr(layer, name, None))
        default = _form(name, defaults.get(name), keras)
        if _same(value, default) or (name == "trainable" and value is True):
            continue
        kept[name] = value
    return kept


def _form(name: str, value: Any, keras: Any, live: Any = None) -> Any:
    """One setting in one form, whichever release wrote it; `live` is what the layer holds by that name."""
    if _is_own(live):
        return ["own", fingerprint(live)]
    if name == "dtype":
        return _dtype(value)
    if name.endswith("activation") and value is None:
        return "linear"
    if isinstance(value, Mapping):
        if set(value) >= _SERIALIZED and isinstance(value["config"], Mapping):
            of = str(value["class_name"])
            return ["made", of, _told(value["config"], _found(keras, of), keras)]
        if set(value) >= _SERIALIZED:  # a function by its name
            return ["function", value["config"]]
        return {str(key): _form("", each, keras) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_form("", each, keras) for each in value]
    if callable(value) and hasattr(value, "__name__") and is_importable(value):
        return value.__name__
    if isinstance(value, Tensor):
        return ["tensor", value.index]
    if isinstance(value, slice):
        return ["slice", *(_form("", each, keras) for each in (value.start, value.stop, value.step))]
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return int(value)
    if isinstance(value, np.generic):
        return value.item()
    return value


def _dtype(value: Any) -> Any:
    if isinstance(value, Mapping):  # a policy as it is stored
        config = value["config"]
        if set(config) != {"name"}:  # of a quantised layer
            return dict(config)
        value = config["name"]
    found = getattr(value, "name", value)
    return "float32" if found is None else str(found)


def _is_own(live: Any) -> bool:
    """Whether a layer holds a function of the caller's, or an object of a class of the caller's."""
    if live is None or not (callable(live) or hasattr(live, "get_config")):
        return False
    if inspect.ismethod(live):
        return False  # of the layer itself, whose class is known
    if inspect.isfunction(live) or inspect.isbuiltin(live):
        return not is_importable(live)
    return not is_importable(type(live))


def _is_keras(cls: type) -> bool:
    return cls.__module__.split(".")[0] in ("keras", "tf_keras")


@functools.cache
def _defaults(cls: type) -> dict[str, Any]:
    """Argument -> default, of the constructors of a class and of those that it derives from."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__init__" not in vars(base):
            continue
        try:
            parameters = inspect.signature(vars(base)["__init__"]).parameters
        except (TypeError, ValueError):
            continue
        for name, parameter in parameters.items():
            found.pop(name, None)
            if parameter.default is not parameter.empty:
                found[name] = parameter.default
    return found


def _found(keras: Any, class_name: str) -> type | None:
    name = class_name.split(">")[-1]
    for where in ("layers", "regularizers", "constraints", "initializers", "activations"):
        found = getattr(getattr(keras, where, None), name, None)
        if isinstance(found, type):
            return found
    return None


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and value == default
