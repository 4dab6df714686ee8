"""Unit: what one action of the agent decides."""

from dataclasses import dataclass

import numpy as np

from amc_tf.graph.network import Graph, Node


@dataclass(frozen=True)
class Unit:
    """What one action decides, and what the agent is told of it.

    Attributes:
        name: of the channel group, or path of the layer that has the kernel.
        size: how many channels the group has, or weights that are not zero the kernel.
        widths: ascending numbers of them that may be kept; the last one is all of them.
        filters, inputs: n and c of the layer that makes the channels or has the kernel.
        height, width: size of that layer's input in pixels.
        stride, kernel: of that layer, in pixels.
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


def seen_by(node: Node, graph: Graph) -> dict[str, int]:
    """What the agent is told of a layer, by the names of Unit: inputs, height, width, stride, kernel.

    Args:
        node: a call of the layer.
        graph: that it is of.
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
