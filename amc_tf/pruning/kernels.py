"""Kernels whose single weights may be dropped, and the masks that a plan lays over them."""

import math
from typing import Any

import numpy as np

from amc_tf.graph.network import Graph, Node, WeightArrays

Plan = Any  # amc_tf.pruning.plan.Plan, which imports this module

WEIGHTS = "weights"  # see Plan.of
# Kind of layer -> name of the kernel that is pruned. Depthwise kernels stay: they are small and matter much.
KERNELS = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "Dense"), "kernel"),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), "kernel"),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), "pointwise_kernel"),
}
_WEIGHTS = {"kernel", "bias", "depthwise_kernel", "pointwise_kernel"}  # a layer with any other weight keeps its kernel


def kernels(graph: Graph) -> dict[str, int]:
    """Layer path -> index of the kernel whose weights may be dropped, in the network's order."""
    indices = {}
    for node in graph.nodes:
        names = [weight.name for weight in node.weights]
        if KERNELS.get(node.kind) in names and set(names) <= _WEIGHTS and not _is_depthwise(node):
            indices[node.layer] = names.index(KERNELS[node.kind])
    return indices


def _is_depthwise(node: Node) -> bool:
    """Whether a grouped convolution has one input channel per group, as a depthwise one."""
    return (node.settings.get("groups") or 1) > 1 and node.weights[0].shape[-2] == 1


def masks(graph: Graph, plan: Plan) -> dict[str, tuple[int, np.ndarray]]:
    """The masks of a plan of weights: layer path -> (index of the kernel, bool array of its shape, True = stays).

    Raises:
        ValueError: it is a plan of channels, or a unit is no kernel of the network or has another size.
    """
    if plan.of != WEIGHTS:
        raise ValueError(f"The plan is of {plan.of}, where one of weights is expected; see Plan.of.")
    indices, weights = kernels(graph), graph.weights
    shaped = {}
    for name, mask in plan.items():
        shape = weights[name][indices[name]].shape if name in indices else None
        if shape is None or math.prod(shape) != mask.size:
            actual = "has no such kernel" if shape is None else f"has a kernel of {math.prod(shape)} weights there"
            raise ValueError(
                f"The plan has a mask of {mask.size} for unit {name!r}, but the model {actual}; use a plan that was "
                f"made for this very model."
            )
        shaped[name] = indices[name], mask.reshape(shape)
    return shaped


def zeroed(graph: Graph, plan: Plan, weights: WeightArrays) -> dict[str, tuple[np.ndarray, ...]]:
    """The weights with zeros for the weights that a plan drops.

    Args:
        graph: the network.
        plan: a plan of weights.
        weights: layer path -> arrays; not changed.

    Raises:
        ValueError: see `masks`.
    """
    new = dict(weights)
    for layer, (index, mask) in masks(graph, plan).items():
        arrays = list(new[layer])
        arrays[index] = np.where(mask, arrays[index], arrays[index].dtype.type(0))
        new[layer] = tuple(arrays)
    return new
