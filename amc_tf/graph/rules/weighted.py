"""Rules for layers that hold weights."""

from math import prod

import numpy as np

from amc_tf.graph.dependency import Axis, Labels, Tracer
from amc_tf.graph.network import Node
from amc_tf.graph.rules.common import channel_axis, check_activation, mixes, unknown, with_axis


def convolution(tracer: Tracer, node: Node, x: Labels):
    settings, kernel = node.settings, _weight_shape(node, "kernel")
    if kernel is None or len(node.weights) != 1 + bool(settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain convolution")
    channel = channel_axis(node, x)
    shape, out_shape = tracer.shape(node.inputs[0]), tracer.shape(node.outputs[0])
    channels, filters, groups = shape[channel], settings["filters"], settings.get("groups", 1) or 1
    x = tracer.freeze_all(x, mixes(node), but=channel)
    seen = x[channel]
    positions = prod(out_shape) // filters
    if groups > 1 and channels == groups:  # depthwise by another name: a channel makes filters // groups channels
        made = None if seen is None else np.repeat(seen, filters // groups)
        tracer.size(node, ("groups",), seen)
        tracer.macs(node, positions * prod(kernel[:-1]), (made, filters))
    else:
        made = tracer.fresh(node.layer, filters)
        if groups > 1:  # the groups stay alike: the same positions go in each of them
            made = _tie_rows(tracer, made, groups, node)
            if seen is not None:
                seen = _tie_rows(tracer, seen, groups, node)[: channels // groups]
        tracer.weight(node, "kernel", -2, seen, "in")
        tracer.macs(node, positions * prod(kernel[:-2]), (seen, channels // groups), (made, filters))
    _bias_and_filters(tracer, node, made, "filters")
    return with_axis(out_shape, channel, made)


def transposed_convolution(tracer: Tracer, node: Node, x: Labels):
    kernel = _weight_shape(node, "kernel")
    if kernel is None or len(node.weights) != 1 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain transposed convolution")
    channel = channel_axis(node, x)
    shape, out_shape = tracer.shape(node.inputs[0]), tracer.shape(node.outputs[0])
    x = tracer.freeze_all(x, mixes(node), but=channel)
    made = tracer.fresh(node.layer, kernel[-2])
    tracer.weight(node, "kernel", -1, x[channel], "in")
    tracer.weight(node, "kernel", -2, made, "out")
    positions = prod(shape) // shape[channel]  # every input position meets the whole kernel
    tracer.macs(node, positions * prod(kernel[:-2]), (x[channel], kernel[-1]), (made, kernel[-2]))
    _bias_and_filters(tracer, node, made, "filters", kernel=False)
    return with_axis(out_shape, channel, made)


def depthwise_convolution(tracer: Tracer, node: Node, x: Labels):
    kernel = _weight_shape(node, "depthwise_kernel", "kernel")
    if kernel is None or len(node.weights) != 1 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain depthwise convolution")
    channel = channel_axis(node, x)
    out_shape = tracer.shape(node.outputs[0])
    x = tracer.freeze_all(x, mixes(node), but=channel)
    seen = x[channel]
    made = None if seen is None else np.repeat(seen, kernel[-1])
    tracer.weight(node, node.weights[0].name, -2, seen)
    tracer.weight(node, "bias", 0, made)
    filters = kernel[-2] * kernel[-1]
    tracer.macs(node, prod(out_shape) // filters * prod(kernel[:-2]), (made, filters))
    check_activation(tracer, node, made)
    return with_axis(out_shape, channel, made)


def separable_convolution(tracer: Tracer, node: Node, x: Labels):
    kernel = _weight_shape(node, "depthwise_kernel")
    if kernel is None or len(node.weights) != 2 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain separable convolution")
    channel = channel_axis(node, x)
    out_shape = tracer.shape(node.outputs[0])
    x = tracer.freeze_all(x, mixes(node), but=channel)
    seen, filters = x[channel], node.settings["filters"]
    middle = None if seen is None else np.repeat(seen, kernel[-1])
    made = tracer.fresh(node.layer, filters)
    tracer.weight(node, "depthwise_kernel", -2, seen)
    tracer.weight(node, "pointwise_kernel", -2, middle, "in")
    tracer.weight(node, "pointwise_kernel", -1, made, "out")
    positions = prod(out_shape) // filters
    tracer.macs(node, positions * prod(kernel[:-2]), (middle, kernel[-2] * kernel[-1]))
    tracer.macs(node, positions, (middle, kernel[-2] * kernel[-1]), (made, filters))
    _bias_and_filters(tracer, node, made, "filters", kernel=False)
    return with_axis(out_shape, channel, made)


def dense(tracer: Tracer, node: Node, x: Labels):
    kernel = _weight_shape(node, "kernel")
    if kernel is None or len(node.weights) != 1 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain Dense layer")
    made = tracer.fresh(node.layer, kernel[1])
    tracer.weight(node, "kernel", 0, x[-1], "in")
    positions = prod(tracer.shape(node.outputs[0])) // kernel[1]
    x = tracer.freeze_all(x, mixes(node), but=-1)
    tracer.macs(node, positions, (x[-1], kernel[0]), (made, kernel[1]))
    _bias_and_filters(tracer, node, made, "units")
    return (*x[:-1], made)


def batch_normalization(tracer: Tracer, node: Node, x: Labels):
    names = {weight.name for weight in node.weights}
    if not names <= {"gamma", "beta", "moving_mean", "moving_variance"}:
        return unknown(tracer, node, x, why="BatchNormalization with renorm keeps more statistics than can be followed")
    axis = node.settings["axis"]
    axis = axis[0] if isinstance(axis, (list, tuple)) else axis
    axis = axis - 1 if axis > 0 else axis
    x = tracer.freeze_all(x, f"{node.layer!r} normalizes another axis", but=axis)
    for name in names:
        tracer.weight(node, name, 0, x[axis])
    return x


def joint_normalization(tracer: Tracer, node: Node, x: Labels):
    tracer.freeze_all(x, f"{node.layer!r} ({node.kind}) computes its statistics across these channels")
    return (None,) * len(x)


def parametric_relu(tracer: Tracer, node: Node, x: Labels):
    for axis, (labels, length) in enumerate(zip(x, _weight_shape(node, "alpha"), strict=True)):
        if length > 1:
            tracer.weight(node, "alpha", axis, labels)
    return x


def layer_scale(tracer: Tracer, node: Node, x: Labels):
    tracer.weight(node, "gamma", 0, x[-1])
    tracer.size(node, ("projection_dim",), x[-1])
    return x


def _weight_shape(node: Node, *names: str) -> tuple[int, ...] | None:
    return next((weight.shape for weight in node.weights if weight.name in names), None)


def _tie_rows(tracer: Tracer, atoms: np.ndarray, groups: int, node: Node) -> np.ndarray:
    rows = atoms.reshape(groups, -1)
    for row in rows[1:]:
        tracer.join(rows[0], row, f"the groups of {node.layer!r} must stay alike, and one of them cannot shrink")
    return atoms


def _bias_and_filters(tracer: Tracer, node: Node, made: Axis, key: str, kernel: bool = True) -> None:
    if kernel:
        tracer.weight(node, "kernel", -1, made, "out")
    tracer.weight(node, "bias", 0, made)
    tracer.size(node, (key,), made)
    check_activation(tracer, node, made)
