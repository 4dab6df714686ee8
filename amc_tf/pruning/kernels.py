"""Kernels: which weights may go singly, and a plan of weights laid over them."""

import math
from collections.abc import Mapping

import numpy as np

from amc_tf.graph.network import Graph, Node

WEIGHTS = "weights"  # what such a plan is of, see Plan.of
# Kind of layer -> its weight whose single weights may go. Depthwise kernels hold next to nothing and are worth much.
KERNELS = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "Dense"), "kernel"),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), "kernel"),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), "pointwise_kernel"),
}
_WEIGHTS = {"kernel", "bias", "depthwise_kernel", "pointwise_kernel"}  # with others a kernel is not all that multiplies


def kernels(graph: Graph) -> dict[str, int]:
    """Layer path -> index of the weight whose single weights may go, in the network's order."""
    found = {}
    for node in graph.nodes:
        names = [weight.name for weight in node.weights]
        if KERNELS.get(node.kind) in names and set(names) <= _WEIGHTS and not _by_channel(node):
            found[node.layer] = names.index(KERNELS[node.kind])
    return found


def _by_channel(node: Node) -> bool:
    """Whether it is a convolution of as many groups as channels: a depthwise one by another name."""
    return (node.settings.get("groups") or 1) > 1 and node.weights[0].shape[-2] == 1


def masks(graph: Graph, plan: Mapping[str, np.ndarray]) -> dict[str, tuple[int, np.ndarray]]:
    """Where a plan of weights says what stays: layer path -> (index of the weight, bool array of its shape).

    Raises:
        ValueError: the plan is of channels, names a unit that is no kernel of the network, or of another size.
    """
    if plan.of != WEIGHTS:
        raise ValueError(f"The plan is of {plan.of}, where one of weights is expected; see Plan.of.")
    known, weights = kernels(graph), graph.weights
    found = {}
    for name, mask in plan.items():
        shape = weights[name][known[name]].shape if name in known else None
        if shape is None or math.prod(shape) != mask.size:
            there = "has no such kernel" if shape is None else f"has a kernel of {math.prod(shape)} weights there"
            raise ValueError(
                f"The plan has a mask of {mask.size} for unit {name!r}, but the model {there}; use a plan that was "
                f"made for this very model."
            )
        found[name] = known[name], mask.reshape(shape)
    return found


def zeroed(graph: Graph, plan: Mapping[str, np.ndarray], weights: Mapping) -> dict[str, tuple[np.ndarray, ...]]:
    """The weights with zeros where a plan drops them.

    Args:
        graph: of the network.
        plan: of weights.
        weights: layer path -> arrays; not changed.

    Raises:
        ValueError: as of `masks`.
    """
    new = dict(weights)
    for layer, (index, mask) in masks(graph, plan).items():
        arrays = list(new[layer])
        arrays[index] = np.where(mask, arrays[index], arrays[index].dtype.type(0))
        new[layer] = tuple(arrays)
    return new
