"""The one file that knows how Keras 3 and tf_keras store a network: read it, and build it again with changes."""

import contextlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from amc_tf.errors import UnsupportedModel
from amc_tf.graph.network import Graph, Node, Tensor, Weight

# Operations whose name differs between the two Kerases, or between a function and the operator sign that calls it.
_SAME_OPERATION = {
    "reduce_mean": "mean", "reduce_max": "max", "reduce_min": "min", "reduce_sum": "sum", "concat": "concatenate",
    "absolute": "abs", "get_item": "getitem", "amax": "max", "amin": "min", "sub": "subtract", "mul": "multiply",
}  # fmt: skip


def keras_of(model) -> Any:
    """The Keras module that a model belongs to: `keras` (Keras 3) or `tf_keras`.

    Raises:
        TypeError: the object is not a Keras model.
        UnsupportedModel: the model belongs to a Keras that does not run on TensorFlow.
    """
    for base in type(model).__mro__:
        root = base.__module__.split(".")[0]
        if root not in ("keras", "tf_keras") or base.__name__ != "Model":
            continue
        module = sys.modules[root]
        if root == "keras" and module.backend.backend() != "tensorflow":
            raise UnsupportedModel(
                f"Keras runs on the backend {module.backend.backend()!r} here, but a .tflite can be made from "
                f'TensorFlow only; set the environment variable KERAS_BACKEND to "tensorflow" before Keras is imported.'
            )
        return module
    advice = "load the model first (keras.saving.load_model)"
    if hasattr(model, "signatures"):
        advice = "an exported SavedModel has lost its layers, so load the .keras or .h5 file that it was made from"
    raise TypeError(
        f"Expected a keras.Model or tf_keras.Model, but received an object of {type(model).__module__}."
        f"{type(model).__qualname__}; {advice}."
    )


def read(model) -> tuple[Graph, dict[str, tuple[np.ndarray, ...]]]:
    """Reads a built functional or Sequential model, nested models included.

    Args:
        model: keras.Model (Keras 3) or tf_keras.Model; it is not changed.

    Returns:
        The Graph, and the weights' values: layer path -> arrays in the order of `layer.get_weights()`.

    Raises:
        TypeError: not a Keras model.
        UnsupportedModel: a subclassed or unbuilt model, or one whose inputs leave a size open.
    """
    check(model)
    reader = _Reader()
    tensors = [reader.tensor(t) for t in _flat(_functional(model).inputs)]
    outputs = reader.walk(model, "", tensors)
    if any(None in shape for shape in reader.shapes):
        # A nested model that was built for any size, or a layer that does not say what it returns.
        reader = _Reader(runs=True)
        tensors = [reader.tensor(_zeros(t)) for t in _flat(_functional(model).inputs)]
        outputs = reader.walk(model, "", tensors)
    graph = Graph(tuple(reader.nodes), tuple(reader.shapes), tuple(tensors), tuple(outputs))
    return graph, {path: tuple(layer.get_weights()) for path, layer in reader.layers.items()}


def check(model) -> None:
    """Raises what `read` would raise for a model that cannot be read at all."""
    keras_of(model)
    name = getattr(model, "name", type(model).__name__)
    if _functional(model) is None:
        if isinstance(model, keras_of(model).Sequential):
            raise UnsupportedModel(
                f"The Sequential model {name!r} has not been built, so its shapes are unknown; "
                f"call model.build((None, ...)) with the input's shape, or give it an Input layer."
            )
        raise UnsupportedModel(
            f"The model {name!r} is subclassed (class {type(model).__name__} defines its own call()), and its layers' "
            f"connections cannot be read; build it as a functional model, keras.Model(inputs, outputs)."
        )
    for tensor in _flat(_functional(model).inputs):
        if None in tuple(tensor.shape)[1:]:
            raise UnsupportedModel(
                f"The input {tensor.name!r} of model {name!r} has shape {tuple(tensor.shape)}, but costs and a .tflite "
                f"need every size but the batch's; build the model with fixed sizes, for instance Input((224, 224, 3))."
            )


def rebuild(model, edit: Callable | None = None, weights: dict[str, tuple[np.ndarray, ...]] | None = None):
    """Builds the model again from fresh layers.

    Args:
        model: a model that `read` accepts; it is not changed.
        edit: (layer path, settings) -> settings, for layers and for the arguments of operations; default: no change.
        weights: layer path -> arrays for the layers whose weights are not to be the model's own.

    Returns:
        A new model of the same Keras and sort (functional or Sequential), with the same layer names.
    """
    builder = _Builder(keras_of(model), edit or (lambda path, settings: settings))
    with builder.scope(model):
        root = _functional(model)
        shapes = [tuple(t.shape)[1:] for t in _flat(root.inputs)]
        new = builder.model(model, "", shapes)
    for path, (old_layer, new_layer) in builder.layers.items():
        values = (weights or {}).get(path)
        values = old_layer.get_weights() if values is None else list(values)
        if values:
            new_layer.set_weights(values)
            if type(new_layer).__name__ == "Normalization":  # derives its tensors from the weights when told to
                new_layer.finalize_state()
    return new


def overridden(model, calls: Mapping[str, Callable]):
    """The same model from fresh layers, some of which compute by other functions.

    Args:
        model: a model that `read` accepts; it is not changed.
        calls: layer path -> (layer, inputs, ...) -> outputs, in the place of the layer's own `call`.
    """
    copy = rebuild(model)
    for path, layer in layers(copy).items():
        if path in calls:
            layer.call = partial(calls[path], layer)
    return copy


def input_structure(model) -> Any:
    """The symbolic inputs in the structure that the model was built with: a tensor, a list or a dict."""
    return getattr(model, "input", model.inputs[0])  # a Sequential of Keras 3 has only the second


def operations(model) -> list[Any]:
    """The live layer or operation behind each node of `read`, in its order."""
    reader = _Reader()
    reader.walk(model, "", [reader.tensor(t) for t in _flat(_functional(model).inputs)])
    return reader.operations


def layers(model) -> dict[str, Any]:
    """Layer path -> the live layer of the model, for every layer that is not itself a model."""
    reader = _Reader()
    root = _functional(model)
    reader.walk(model, "", [reader.tensor(t) for t in _flat(root.inputs)])
    return reader.layers


# ---------------------------------------------------------------------------------------------------- reading


class _Reader:
    """Walks the calls of a model and of the models nested in it."""

    def __init__(self, runs: bool = False):
        self.runs = runs  # whether the layers are called on values, for the shapes of what they really return
        self.nodes: list[Node] = []
        self.operations: list[Any] = []  # behind each node
        self.shapes: list[tuple[int | None, ...]] = []
        self.values: list[Any] = []
        self.layers: dict[str, Any] = {}
        self.paths: dict[int, str] = {}  # id of a layer -> path; a layer reached twice keeps its first path

    def tensor(self, tensor) -> int:
        self.shapes.append(tuple(tensor.shape)[1:])
        self.values.append(tensor)
        return len(self.shapes) - 1

    def walk(self, model, prefix: str, inputs: list[int]) -> list[int]:
        """Appends the nodes of `model` called on `inputs`; returns its output tensors."""
        functional = _functional(model)
        known = {id(t): index for t, index in zip(_flat(functional.inputs), inputs, strict=True)}
        for node in _calls(functional):
            operation = _operation(node)
            args, kwargs = _arguments(node)
            read = (args, {key: value for key, value in kwargs.items() if key != "mask"})  # masks hold no channels
            tensors = [known[id(t)] for t in _flat(read) if id(t) in known]
            path = self._path(operation, prefix + operation.name)
            if _functional(operation) is not None:
                outputs = self.walk(operation, path + "/", tensors)
            else:
                made = self._run(operation, path, args, kwargs, known) if self.runs else node.outputs
                outputs = [self.tensor(t) for t in _flat(made)]
                self._append(operation, path, args, kwargs, known, tensors, outputs)
            known.update(zip((id(t) for t in _flat(node.outputs)), outputs, strict=True))
        return [known[id(t)] for t in _flat(functional.outputs)]

    def _path(self, operation, path: str) -> str:
        if id(operation) not in self.paths and path in self.paths.values():
            raise UnsupportedModel(
                f"Two layers go by the name {path!r}, one of them inside the nested model {path.split('/')[0]!r}; "
                f"give one of them another name."
            )
        return self.paths.setdefault(id(operation), path)

    def _run(self, operation, path, args, kwargs, known):
        values = {key: self.values[index] for key, index in known.items()}
        try:
            return operation(*_fill(args, values), **_fill(kwargs, values))
        except Exception as error:  # whatever a layer may raise
            raise UnsupportedModel(
                f"The sizes behind the layer {path!r} are open, and calling it to learn them fails "
                f"({_sentence(error)}); build the model with fixed sizes throughout."
            ) from error

    def _append(self, operation, path, args, kwargs, known, inputs, outputs) -> None:
        values = _flat((args, kwargs))
        constants = tuple(tuple(np.shape(v)) for v in values if id(v) not in known and _is_array(v) and np.ndim(v))
        kind = _kind(operation)
        if kind.startswith("op:"):
            settings = {k: _replace(v, known) for k, v in _named_arguments(operation, args, kwargs).items()}
            weights = ()
        else:
            settings = _settings(operation)
            self.layers[path] = operation
            weights = tuple(Weight(_weight_name(w), tuple(w.shape)) for w in operation.weights)
        self.operations.append(operation)
        self.nodes.append(Node(path, kind, settings, tuple(inputs), tuple(outputs), constants, weights))


def _functional(model):
    """The object that holds the graph of a functional or Sequential model, or None."""
    name = type(model).__name__
    if not hasattr(model, "layers") or not hasattr(model, "get_config"):
        return None
    if type(model).__module__.startswith("tf_keras") or any(
        base.__module__.startswith("tf_keras") for base in type(model).__mro__
    ):
        return model if getattr(model, "_is_graph_network", False) else None
    if any(base.__name__ == "Sequential" for base in type(model).__mro__):
        return model._functional if model.built else None
    if name != "Functional" and not any(base.__name__ == "Functional" for base in type(model).__mro__):
        return None
    return model if hasattr(model, "_nodes_by_depth") else None


def _calls(functional):
    """The calls inside a model in computing order, without its inputs."""
    operations = getattr(functional, "operations", None) or functional._self_tracked_trackables
    order = {id(operation): index for index, operation in enumerate(operations)}
    for depth in sorted(functional._nodes_by_depth, reverse=True):
        # Keras lists the nodes of one depth backwards; as its layers are listed reads more naturally.
        for node in sorted(functional._nodes_by_depth[depth], key=lambda node: order[id(_operation(node))]):
            if not node.is_input and type(_operation(node)).__name__ != "InputLayer":
                yield node


def _operation(node):
    return node.operation if hasattr(node, "operation") else node.layer


def _arguments(node) -> tuple[tuple, dict]:
    found = getattr(node, "arguments", None)
    args, kwargs = (found.args, found.kwargs) if found else (node.call_args or (), node.call_kwargs or {})
    return tuple(args), {key: value for key, value in kwargs.items() if not (key == "mask" and value is None)}


def _flat(structure) -> list:
    """The leaves of nested lists, tuples and dicts (dicts by their sorted keys, as Keras flattens them)."""
    if isinstance(structure, dict):
        return [leaf for key in sorted(structure) for leaf in _flat(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [leaf for item in structure for leaf in _flat(item)]
    return [structure]


def _replace(structure, known: dict[int, int]):
    """The structure with Tensor(index) in the place of every Keras tensor."""
    if isinstance(structure, dict):
        return {key: _replace(item, known) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        return tuple(_replace(item, known) for item in structure)
    return Tensor(known[id(structure)]) if id(structure) in known else structure


def _zeros(keras_tensor):
    import tensorflow as tf

    return tf.zeros((1, *tuple(keras_tensor.shape)[1:]), keras_tensor.dtype)


def _sentence(error: Exception) -> str:
    """The first line of what an error says, without the colours that Keras adds."""
    lines = [line for line in re.sub(r"\x1b\[\d+m", "", str(error)).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return f"{type(error).__name__}: {(told or lines or ['no reason given'])[0].strip()}"


def _is_array(value) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _kind(operation) -> str:
    cls = type(operation)
    root = cls.__module__.split(".")[0]
    if cls.__name__ in ("TFOpLambda", "SlicingOpLambda"):
        name = operation.symbol.split(".")[-1].strip("_")
        return "op:" + _SAME_OPERATION.get(name, name)
    if not hasattr(operation, "weights"):  # a Keras 3 operation that is no layer
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        return "op:" + _SAME_OPERATION.get(name, name)
    return cls.__name__ if root in ("keras", "tf_keras") else "custom:" + cls.__name__


def _settings(layer) -> dict[str, Any]:
    try:
        return layer.get_config()
    except NotImplementedError:  # a custom layer without get_config: frozen; rebuilding it says what is missing
        return {}


def _named_arguments(operation, args, kwargs) -> dict[str, Any]:
    """Arguments of an operation by name: those it was made with (Keras 3) and those it is called with."""
    function = getattr(operation, "function", None) or operation.call
    made_with = {k: v for k, v in vars(operation).items() if not k.startswith("_") and k not in ("name", "function")}
    if type(operation).__name__ in ("TFOpLambda", "SlicingOpLambda"):
        made_with = {}
    try:
        called_with = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        called_with = {str(i): value for i, value in enumerate(args)} | kwargs
    return made_with | called_with


def _weight_name(weight) -> str:
    return re.sub(r":\d+$", "", weight.name).split("/")[-1]


# ---------------------------------------------------------------------------------------------------- building


class _Builder:
    """Builds fresh layers from edited settings and calls them as the old ones were called."""

    def __init__(self, keras, edit: Callable):
        self.keras = keras
        self.edit = edit
        self.layers: dict[str, tuple[Any, Any]] = {}  # path -> (old layer, new layer)
        self.made: dict[int, Any] = {}  # id of an old layer or nested model -> the new one
        self.paths: dict[int, str] = {}

    @contextlib.contextmanager
    def scope(self, model):
        """Custom classes and functions of the caller's own model are known while it is built again."""
        objects = {}
        for layer in layers(model).values():
            if type(layer).__module__.split(".")[0] not in ("keras", "tf_keras"):
                name = self.keras.saving.get_registered_name(type(layer))
                objects |= {type(layer).__name__: type(layer), name: type(layer)}
            for value in vars(layer).values():
                if inspect.isfunction(value) and value.__module__.split(".")[0] not in ("keras", "tf_keras"):
                    objects |= {value.__name__: value, self.keras.saving.get_registered_name(value): value}
        with self.keras.saving.custom_object_scope(objects):
            yield

    def model(self, model, prefix: str, shapes: list[tuple[int, ...]]):
        functional = _functional(model)
        old_inputs = _flat(functional.inputs)
        names = [_input_name(t) for t in old_inputs]
        new_inputs = [
            self.keras.Input(shape=shape, batch_size=None if prefix else old.shape[0], dtype=old.dtype, name=name)
            for shape, old, name in zip(shapes, old_inputs, names, strict=True)
        ]
        known = {id(old): new for old, new in zip(old_inputs, new_inputs, strict=True)}
        order = []
        for node in _calls(functional):
            operation = _operation(node)
            args, kwargs = (_fill(part, known) for part in _arguments(node))
            new = self._call(operation, prefix, args, kwargs, order)
            for old_output, new_output in zip(_flat(node.outputs), _flat(new), strict=True):
                known[id(old_output)] = new_output
        if isinstance(model, self.keras.Sequential):
            new_model = self.keras.Sequential([new_inputs[0], *order], name=model.name)
        else:
            inputs = _fill(_structure(functional, "inputs"), known)
            outputs = _fill(_structure(functional, "outputs"), known)
            new_model = self.keras.Model(inputs, outputs, name=model.name)
        if not model.trainable:
            own = [(layer, layer.trainable) for layer in new_model._flatten_layers(include_self=False)]
            new_model.trainable = False
            for layer, trainable in own:  # which the line above has changed
                layer.trainable = trainable
        return new_model

    def _call(self, operation, prefix, args, kwargs, order):
        path = self.paths.setdefault(id(operation), prefix + operation.name)
        if _kind(operation).startswith("op:"):
            return self._operation(operation, path, args, kwargs)
        if id(operation) not in self.made:
            if _functional(operation) is not None:
                tensors = [t for t in _flat((args, kwargs)) if _is_array(t) and hasattr(t, "name")]
                self.made[id(operation)] = self.model(operation, path + "/", _inner_shapes(operation, tensors))
            else:
                self.made[id(operation)] = self._layer(operation, path)
                self.layers[path] = (operation, self.made[id(operation)])
        new = self.made[id(operation)]
        order.append(new)
        return self._called(new, path, args, kwargs)

    def _called(self, new, path: str, args, kwargs):
        try:
            return new(*args, **kwargs)
        except Exception as error:  # whatever a layer may raise
            raise UnsupportedModel(
                f"The layer {path!r} cannot be called again as it was called ({_sentence(error)}); name it, or the "
                f"layers before it, in frozen=[...]."
            ) from error

    def _layer(self, layer, path: str):
        cls = type(layer)
        if cls.__name__ == "Lambda" and cls.__module__.split(".")[0] in ("keras", "tf_keras"):
            # Not through its settings: Keras refuses to revive a Python lambda from those, and here is the live one.
            return cls(
                layer.function, output_shape=layer._output_shape, mask=layer.mask, arguments=layer.arguments,
                name=layer.name,
            )  # fmt: skip
        try:
            new = cls.from_config(self.edit(path, layer.get_config()))
        except (NotImplementedError, TypeError, ValueError) as error:
            raise UnsupportedModel(
                f"The layer {path!r} (class {cls.__name__}) cannot be made again from its own settings "
                f"({_sentence(error)}); give the class a get_config() that returns all arguments of its constructor."
            ) from error

        if new.name != layer.name:
            raise UnsupportedModel(
                f"The layer {path!r} (class {cls.__name__}) cannot be made again from its own settings, which lack its "
                f"name; let its get_config() start from super().get_config() and its constructor pass on **kwargs."
            )
        return new

    def _operation(self, operation, path: str, args, kwargs):
        named = _named_arguments(operation, args, kwargs)
        edited = self.edit(path, dict(named))
        changed = {k: v for k, v in edited.items() if v is not named.get(k)}
        if type(operation).__name__ in ("TFOpLambda", "SlicingOpLambda"):
            new = type(operation).from_config(operation.get_config())
            if changed:
                bound = inspect.signature(operation.function).bind(*args, **kwargs)
                bound.arguments.update(changed)
                args, kwargs = bound.args, bound.kwargs
            return self._called(new, path, args, kwargs)
        if changed:
            new = type(operation).from_config(operation.get_config() | changed)
        else:
            # Not copy.copy, which saves and loads it. The caller's own operation must not learn of these calls.
            new = object.__new__(type(operation))
            vars(new).update(vars(operation), _inbound_nodes=[], _outbound_nodes=[])
        return self._called(new, path, args, kwargs)


def _inner_shapes(model, tensors) -> list[tuple[int | None, ...]]:
    """Input shapes of a nested model: those of `tensors`, but open where the model leaves them open."""
    built_for = [tuple(t.shape)[1:] for t in _flat(_functional(model).inputs)]
    called_with = [tuple(t.shape)[1:] for t in tensors]
    return [
        tuple(None if old is None else new for old, new in zip(*shapes, strict=True))
        for shapes in zip(built_for, called_with, strict=True)
    ]


def _structure(functional, side: str):
    """The inputs or outputs in the structure (list, dict, single tensor) that the model was made with."""
    for name in (f"_{side}_struct", f"_nested_{side}"):
        if hasattr(functional, name):
            return getattr(functional, name)
    return getattr(functional, side)


def _fill(structure, known: dict[int, Any]):
    if isinstance(structure, dict):
        return {key: _fill(item, known) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(_fill(item, known) for item in structure)
    return known.get(id(structure), structure)


def _input_name(tensor) -> str:
    history = tensor._keras_history
    return (getattr(history, "operation", None) or history.layer).name
