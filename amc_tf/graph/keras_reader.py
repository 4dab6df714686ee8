"""Reads a Keras model into a Graph, its weights and its live layers."""

import sys
from typing import Any

import numpy as np

from amc_tf.errors import UnsupportedModel
from amc_tf.graph.keras_internals import (
    call_arguments,
    calls,
    first_line,
    flatten,
    functional_graph,
    is_array,
    kind_of,
    named_arguments,
    operation_of,
    settings_of,
    substitute,
    weight_name,
)
from amc_tf.graph.network import Graph, KerasLayer, KerasModel, KerasModule, Node, Tensor, Weight


def keras_of(model: KerasModel) -> KerasModule:
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


def read(model: KerasModel) -> tuple[Graph, dict[str, tuple[np.ndarray, ...]]]:
    """Reads a built functional or Sequential model, nested models included.

    Args:
        model: keras.Model (Keras 3) or tf_keras.Model; it is not changed.

    Returns:
        The Graph, and the weights' values: layer path -> arrays in the order of `layer.get_weights()`.

    Raises:
        TypeError: the object is not a Keras model.
        UnsupportedModel: the model is subclassed or not built, or an input has an open size.
    """
    check(model)
    reader, inputs, outputs = _walk(model)
    if any(None in shape for shape in reader.shapes):
        # A nested model was built for any size, or a layer does not state its output shape: run the layers.
        reader, inputs, outputs = _walk(model, run_layers=True)
    graph = Graph(tuple(reader.nodes), tuple(reader.shapes), tuple(inputs), tuple(outputs))
    return graph, {path: tuple(layer.get_weights()) for path, layer in reader.layers.items()}


def check(model: KerasModel) -> None:
    """Raises the error that `read` would raise for a model that cannot be read at all."""
    keras = keras_of(model)
    name = getattr(model, "name", type(model).__name__)
    functional = functional_graph(model)
    if functional is None:
        if isinstance(model, keras.Sequential):
            raise UnsupportedModel(
                f"The Sequential model {name!r} has not been built, so its shapes are unknown; "
                f"call model.build((None, ...)) with the input's shape, or give it an Input layer."
            )
        raise UnsupportedModel(
            f"The model {name!r} is subclassed (class {type(model).__name__} defines its own call()), and its layers' "
            f"connections cannot be read; build it as a functional model, keras.Model(inputs, outputs)."
        )
    for tensor in flatten(functional.inputs):
        if None in tuple(tensor.shape)[1:]:
            raise UnsupportedModel(
                f"The input {tensor.name!r} of model {name!r} has shape {tuple(tensor.shape)}, but costs and a .tflite "
                f"need every size but the batch's; build the model with fixed sizes, for instance Input((224, 224, 3))."
            )


def input_structure(model: KerasModel) -> Any:
    """The symbolic inputs in the structure that built the model: a tensor, a list or a dict."""
    return getattr(model, "input", model.inputs[0])  # a Sequential of Keras 3 has only the second


def operations(model: KerasModel) -> list[KerasLayer]:
    """The live layer or operation behind each node of `read`, in the same order."""
    return _walk(model)[0].operations


def layers(model: KerasModel) -> dict[str, KerasLayer]:
    """Layer path -> the live layer, for every layer that is not itself a model."""
    return _walk(model)[0].layers


def _walk(model: KerasModel, run_layers: bool = False) -> tuple["_Reader", list[int], list[int]]:
    """Reads all calls; returns the reader and the indices of the model's inputs and outputs."""
    reader = _Reader(run_layers)
    tensors = flatten(functional_graph(model).inputs)
    inputs = [reader.add_tensor(_zeros_like(tensor) if run_layers else tensor) for tensor in tensors]
    return reader, inputs, reader.walk(model, "", inputs)


class _Reader:
    """Walks the calls of a model and of the models nested in it.

    Args:
        run_layers: whether to call the layers on zeros, to learn the shapes of their real outputs.

    Attributes:
        nodes, operations: one entry per call: plain data, and the live layer or operation.
        shapes, values: one entry per tensor: shape without the batch axis, and the symbolic or computed tensor.
        layers: layer path -> live layer.
    """

    def __init__(self, run_layers: bool = False):
        self.run_layers = run_layers
        self.nodes: list[Node] = []
        self.operations: list[KerasLayer] = []
        self.shapes: list[tuple[int | None, ...]] = []
        self.values: list[Any] = []
        self.layers: dict[str, KerasLayer] = {}
        self.paths: dict[int, str] = {}  # id of a layer -> path; a layer reached twice keeps its first path

    def add_tensor(self, tensor: Any) -> int:
        """Appends a tensor; returns its index."""
        self.shapes.append(tuple(tensor.shape)[1:])
        self.values.append(tensor)
        return len(self.shapes) - 1

    def walk(self, model: KerasModel, prefix: str, inputs: list[int]) -> list[int]:
        """Appends the nodes of `model` called on `inputs`; returns its output tensors."""
        functional = functional_graph(model)
        indices = {id(t): index for t, index in zip(flatten(functional.inputs), inputs, strict=True)}
        for node in calls(functional):
            operation = operation_of(node)
            args, kwargs = call_arguments(node)
            without_masks = (args, {key: value for key, value in kwargs.items() if key != "mask"})
            tensors = [indices[id(t)] for t in flatten(without_masks) if id(t) in indices]
            path = self._path(operation, prefix + operation.name)
            if functional_graph(operation) is not None:
                outputs = self.walk(operation, path + "/", tensors)
            else:
                results = self._run(operation, path, args, kwargs, indices) if self.run_layers else node.outputs
                outputs = [self.add_tensor(t) for t in flatten(results)]
                self.nodes.append(self._node(operation, path, (args, kwargs), indices, tensors, outputs))
                self.operations.append(operation)
            indices.update(zip((id(t) for t in flatten(node.outputs)), outputs, strict=True))
        return [indices[id(t)] for t in flatten(functional.outputs)]

    def _path(self, operation: KerasLayer, path: str) -> str:
        if id(operation) not in self.paths and path in self.paths.values():
            raise UnsupportedModel(
                f"Two layers go by the name {path!r}, one of them inside the nested model {path.split('/')[0]!r}; "
                f"give one of them another name."
            )
        return self.paths.setdefault(id(operation), path)

    def _run(self, operation: KerasLayer, path: str, args: tuple, kwargs: dict, indices: dict[int, int]) -> Any:
        values = {key: self.values[index] for key, index in indices.items()}
        try:
            return operation(*substitute(args, values), **substitute(kwargs, values))
        except Exception as error:  # a layer may raise anything
            raise UnsupportedModel(
                f"The sizes behind the layer {path!r} are open, and calling it to learn them fails "
                f"({first_line(error)}); build the model with fixed sizes throughout."
            ) from error

    def _node(
        self, operation: KerasLayer, path: str, arguments: tuple[tuple, dict], indices: dict[int, int],
        inputs: list[int], outputs: list[int],
    ) -> Node:  # fmt: skip
        leaves = flatten(arguments)
        constants = tuple(tuple(np.shape(v)) for v in leaves if id(v) not in indices and is_array(v) and np.ndim(v))
        kind = kind_of(operation)
        if kind.startswith("op:"):
            named = named_arguments(operation, *arguments)
            settings = {name: _with_indices(value, indices) for name, value in named.items()}
            weights: tuple[Weight, ...] = ()
        else:
            settings = settings_of(operation)
            self.layers[path] = operation
            weights = tuple(Weight(weight_name(w), tuple(w.shape)) for w in operation.weights)
        return Node(path, kind, settings, tuple(inputs), tuple(outputs), constants, weights)


def _with_indices(structure: Any, indices: dict[int, int]) -> Any:
    """A copy of a structure with Tensor(index) instead of every Keras tensor."""
    if isinstance(structure, dict):
        return {key: _with_indices(item, indices) for key, item in structure.items()}
    if isinstance(structure, (list, tuple)):
        return tuple(_with_indices(item, indices) for item in structure)
    return Tensor(indices[id(structure)]) if id(structure) in indices else structure


def _zeros_like(keras_tensor: Any) -> Any:
    """Zeros in the shape of a symbolic tensor, with batch size 1."""
    import tensorflow as tf

    return tf.zeros((1, *tuple(keras_tensor.shape)[1:]), keras_tensor.dtype)
