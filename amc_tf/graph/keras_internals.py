"""How Keras 3 and tf_keras store a network: the one file that reads their private attributes."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from amc_tf.graph.network import KerasLayer, KerasModel

# Operations with two names: one per Keras, or one for the function and one for the operator sign.
_SAME_OPERATION = {
    "reduce_mean": "mean", "reduce_max": "max", "reduce_min": "min", "reduce_sum": "sum", "concat": "concatenate",
    "absolute": "abs", "get_item": "getitem", "amax": "max", "amin": "min", "sub": "subtract", "mul": "multiply",
}  # fmt: skip


def is_part_of_keras(definition: Any) -> bool:
    """Whether a class or function is defined in Keras 3 or tf_keras."""
    return definition.__module__.split(".")[0] in ("keras", "tf_keras")


def functional_graph(model: KerasModel) -> Any:
    """The object that holds the graph of a functional or Sequential model; None for any other object."""
    bases = type(model).__mro__
    if not hasattr(model, "layers") or not hasattr(model, "get_config"):
        return None
    if any(base.__module__.startswith("tf_keras") for base in bases):
        return model if getattr(model, "_is_graph_network", False) else None
    if any(base.__name__ == "Sequential" for base in bases):
        return model._functional if model.built else None
    if not any(base.__name__ == "Functional" for base in bases):
        return None
    return model if hasattr(model, "_nodes_by_depth") else None


def loose_variables(layer: KerasLayer) -> dict[str, Any]:
    """The tf.Variables that a layer or one of its parts holds beside its weights: path of attributes -> variable.

    Keras 3 neither saves nor copies them. tf_keras counts all of them among the weights.
    """
    import tensorflow as tf

    seen = {id(weight) for weight in layer.weights}
    found: dict[str, Any] = {}

    def walk(path: str, value: Any) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, tf.Variable):
            found[path] = value
        elif isinstance(value, Mapping):
            for key, item in value.items():
                walk(f"{path}[{key!r}]", item)
        elif isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                walk(f"{path}[{index}]", item)
        elif hasattr(value, "get_config") and hasattr(value, "weights"):
            for name, item in vars(value).items():
                if not name.startswith("_self_"):  # where TensorFlow keeps what it tracks
                    walk(f"{path}.{name}" if path else name, item)

    walk("", layer)
    return found


def calls(functional: Any) -> Iterator[Any]:
    """The Keras nodes inside a model in computing order, without its inputs."""
    operations = getattr(functional, "operations", None) or functional._self_tracked_trackables
    order = {id(operation): index for index, operation in enumerate(operations)}
    for depth in sorted(functional._nodes_by_depth, reverse=True):
        # Keras lists the nodes of one depth backwards. The order of its layers reads more naturally.
        for node in sorted(functional._nodes_by_depth[depth], key=lambda node: order[id(operation_of(node))]):
            if not node.is_input and type(operation_of(node)).__name__ != "InputLayer":
                yield node


def operation_of(node: Any) -> KerasLayer:
    """The layer or operation that a Keras node calls."""
    return node.operation if hasattr(node, "operation") else node.layer


def call_arguments(node: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments of a Keras node, without empty masks."""
    arguments = getattr(node, "arguments", None)
    if arguments:
        args, kwargs = arguments.args, arguments.kwargs
    else:
        args, kwargs = node.call_args or (), node.call_kwargs or {}
    return tuple(args), {key: value for key, value in kwargs.items() if not (key == "mask" and value is None)}


def flatten(structure: Any) -> list[Any]:
    """The leaves of nested lists, tuples and dicts (dicts by their sorted keys, as Keras flattens them)."""
    if isinstance(structure, dict):
        return [leaf for key in sorted(structure) for leaf in flatten(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [leaf for item in structure for leaf in flatten(item)]
    return [structure]


def substitute(structure: Any, values: Mapping[int, Any]) -> Any:
    """A copy of a nested structure. Leaves whose id is a key of `values` are replaced."""
    if isinstance(structure, dict):
        return {key: substitute(item, values) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(substitute(item, values) for item in structure)
    return values.get(id(structure), structure)


def nested_structure(functional: Any, side: str) -> Any:
    """The `side` ("inputs" or "outputs") in the structure that built the model: a list, a dict or a single tensor."""
    for name in (f"_{side}_struct", f"_nested_{side}"):
        if hasattr(functional, name):
            return getattr(functional, name)
    return getattr(functional, side)


def input_name(tensor: Any) -> str:
    """The name of the input layer that created a symbolic tensor."""
    history = tensor._keras_history
    return (getattr(history, "operation", None) or history.layer).name


def is_array(value: Any) -> bool:
    """Whether a value is a tensor or an array."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def is_lambda_operation(operation: KerasLayer) -> bool:
    """Whether tf_keras wrapped a TensorFlow function into this layer."""
    return type(operation).__name__ in ("TFOpLambda", "SlicingOpLambda")


def kind_of(operation: KerasLayer) -> str:
    """The `kind` of a Node, see there."""
    cls = type(operation)
    if is_lambda_operation(operation):
        name = operation.symbol.split(".")[-1].strip("_")
        return "op:" + _SAME_OPERATION.get(name, name)
    if not hasattr(operation, "weights"):  # a Keras 3 operation that is no layer
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        return "op:" + _SAME_OPERATION.get(name, name)
    return cls.__name__ if is_part_of_keras(cls) else "custom:" + cls.__name__


def settings_of(layer: KerasLayer) -> dict[str, Any]:
    """What `get_config` returns; empty for a class without one."""
    try:
        return layer.get_config()
    except NotImplementedError:  # a custom layer: its channels are frozen, and rebuilding it names what is missing
        return {}


def named_arguments(operation: KerasLayer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an operation by name: those of its constructor (Keras 3) and those of the call."""
    function = getattr(operation, "function", None) or operation.call
    attributes = vars(operation).items()
    from_constructor = {k: v for k, v in attributes if not k.startswith("_") and k not in ("name", "function")}
    if is_lambda_operation(operation):
        from_constructor = {}
    try:
        from_call = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        from_call = {str(i): value for i, value in enumerate(args)} | dict(kwargs)
    return from_constructor | from_call


def weight_name(weight: Any) -> str:
    """The last part of a variable's name, without TensorFlow's ":0"."""
    return re.sub(r":\d+$", "", weight.name).split("/")[-1]


def copy_operation(operation: KerasLayer) -> KerasLayer:
    """A copy of a Keras 3 operation without its calls, so that new calls leave the caller's operation as it is."""
    new = object.__new__(type(operation))  # copy.copy would save and load it
    vars(new).update(vars(operation), _inbound_nodes=[], _outbound_nodes=[])
    return new


def copy_lambda(layer: KerasLayer) -> KerasLayer:
    """A copy of a Lambda layer around the live function: Keras refuses to load a Python lambda from settings."""
    return type(layer)(
        layer.function, output_shape=layer._output_shape, mask=layer.mask, arguments=layer.arguments, name=layer.name,
    )  # fmt: skip


def set_untrainable(model: KerasModel) -> None:
    """Sets `model.trainable = False` and leaves the flags of its layers as they are."""
    flags = [(layer, layer.trainable) for layer in model._flatten_layers(include_self=False)]
    model.trainable = False  # also sets the flag of every layer
    for layer, trainable in flags:
        layer.trainable = trainable


def first_line(error: Exception) -> str:
    """Type and first line of an error, without Keras's colours and its line "Exception encountered when calling"."""
    lines = [line for line in re.sub(r"\x1b\[\d+m", "", str(error)).splitlines() if line.strip()]
    reasons = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return f"{type(error).__name__}: {(reasons or lines or ['no reason given'])[0].strip()}"
