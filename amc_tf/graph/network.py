"""The network as plain data: one Node per layer call, tensors as numbers with shapes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

KerasModel = Any  # keras.Model (Keras 3) or tf_keras.Model
KerasLayer = Any  # a layer or an operation of either Keras
KerasModule = Any  # the module `keras` or `tf_keras`
WeightArrays = Mapping[str, tuple[np.ndarray, ...]]  # layer path -> arrays in the order of `layer.get_weights()`


@dataclass(frozen=True)
class Tensor:
    """Stands for a tensor in the arguments of a node; `index` points into Graph.shapes."""

    index: int


@dataclass(frozen=True)
class Weight:
    """One weight of a layer: its own name ("kernel", "gamma", ...) and its shape."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One call of one layer or operation.

    Attributes:
        layer: path of the layer through nested models, "backbone/conv1". A shared layer has one path and several nodes.
        kind: class name of a Keras layer ("Conv2D"), "op:add" of an operation, or "custom:Name" of a class that is not
            part of Keras.
        settings: the layer's own arguments as its `get_config` gives them, or the arguments of an operation by name.
        inputs, outputs: indices into Graph.shapes. Constants are not inputs.
        constants: shapes of the constant arrays among the arguments (scalars left out).
        weights: the layer's weights in the order of `layer.get_weights()`.
    """

    layer: str
    kind: str
    settings: dict[str, Any] = field(repr=False)
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: tuple[tuple[int, ...], ...] = ()
    weights: tuple[Weight, ...] = ()


@dataclass(frozen=True)
class Graph:
    """The nodes of a network, sorted so that every input is computed before it is used.

    Attributes:
        nodes: the layer calls.
        shapes: shape of every tensor without its batch axis.
        inputs, outputs: indices into `shapes`.
    """

    nodes: tuple[Node, ...]
    shapes: tuple[tuple[int, ...], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def weights(self) -> dict[str, tuple[Weight, ...]]:
        """Layer path -> its weights. A shared layer has one entry."""
        return {node.layer: node.weights for node in self.nodes if node.weights}
