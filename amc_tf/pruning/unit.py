"""Unit: the part of a network whose width one action of the agent decides."""

from dataclasses import dataclass

import numpy as np

from amc_tf.graph.network import Graph, Node


@dataclass(frozen=True)
class Unit:
    """A channel group or a kernel, with the features that the agent observes.

    Attributes:
        name: name of the channel group, or path of the layer with the kernel.
        size: number of channels of the group, or of nonzero weights of the kernel.
        widths: the allowed numbers of kept channels or weights, ascending; the last one is `size`.
        filters: output channels of the layer that creates the group or has the kernel (n in the paper).
        inputs: input channels of that layer (c in the paper).
        height, width: size of that layer's input in pixels.
        stride, kernel: stride and kernel size of that layer in pixels.
    """

    name: str
    size: int
    widths: tuple[int, ...]
    filters: int
    inputs: int
    height: int
    width: int
    stride: int
    kernel: int


def layer_features(node: Node, graph: Graph) -> dict[str, int]:
    """The features of a layer that a Unit has: inputs, height, width, stride, kernel.

    Args:
        node: a call of the layer.
        graph: the network of the node.
    """
    shape = graph.shapes[node.inputs[0]]
    if node.settings.get("data_format") == "channels_first":
        shape = (*shape[1:], shape[0])
    sides = ([1, 1, *shape[:-1]] if len(shape) < 3 else list(shape[:-1]))[-2:]
    return {
        "inputs": shape[-1],
        "height": sides[0],
        "width": sides[1],
        "stride": int(np.max(node.settings.get("strides") or 1)),
        "kernel": int(np.max(node.settings.get("kernel_size") or 1)),
    }
