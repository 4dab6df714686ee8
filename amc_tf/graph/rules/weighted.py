"""Rules for layers with weights.

In each rule `in_ids` are the channel ids that the layer reads and `out_ids` those of its output.
"""

from math import prod

import numpy as np

from amc_tf.graph.channel_ids import Axis, Labels, Tracer
from amc_tf.graph.network import Node
from amc_tf.graph.rules.common import channel_axis, check_activation, mixing_reason, unknown, with_axis


def convolution(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    settings, kernel = node.settings, _weight_shape(node, "kernel")
    if kernel is None or len(node.weights) != 1 + bool(settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain convolution")
    channel = channel_axis(node, x)
    shape, out_shape = tracer.shape(node.inputs[0]), tracer.shape(node.outputs[0])
    channels, filters, groups = shape[channel], settings["filters"], settings.get("groups", 1) or 1
    x = tracer.freeze_all(x, mixing_reason(node), but=channel)
    in_ids = x[channel]
    positions = prod(out_shape) // filters
    if groups > 1 and channels == groups:  # a depthwise one: each input channel creates filters // groups channels
        out_ids = None if in_ids is None else np.repeat(in_ids, filters // groups)
        tracer.size(node, ("groups",), in_ids)
        tracer.macs(node, positions * prod(kernel[:-1]), (out_ids, filters))
    else:
        out_ids = tracer.create(node.layer, filters)
        if groups > 1:  # the groups stay equal: the same positions are pruned in each of them
            out_ids = _join_groups(tracer, out_ids, groups, node)
            if in_ids is not None:
                in_ids = _join_groups(tracer, in_ids, groups, node)[: channels // groups]
        tracer.weight(node, "kernel", -2, in_ids, "in")
        tracer.macs(node, positions * prod(kernel[:-2]), (in_ids, channels // groups), (out_ids, filters))
    _record_outputs(tracer, node, out_ids, "filters")
    return with_axis(out_shape, channel, out_ids)


def transposed_convolution(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    kernel = _weight_shape(node, "kernel")
    if kernel is None or len(node.weights) != 1 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain transposed convolution")
    channel = channel_axis(node, x)
    shape, out_shape = tracer.shape(node.inputs[0]), tracer.shape(node.outputs[0])
    x = tracer.freeze_all(x, mixing_reason(node), but=channel)
    out_ids = tracer.create(node.layer, kernel[-2])
    tracer.weight(node, "kernel", -1, x[channel], "in")
    tracer.weight(node, "kernel", -2, out_ids, "out")
    positions = prod(shape) // shape[channel]  # every input position is multiplied with the whole kernel
    tracer.macs(node, positions * prod(kernel[:-2]), (x[channel], kernel[-1]), (out_ids, kernel[-2]))
    _record_outputs(tracer, node, out_ids, "filters", kernel=False)
    return with_axis(out_shape, channel, out_ids)


def depthwise_convolution(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    kernel = _weight_shape(node, "depthwise_kernel", "kernel")
    if kernel is None or len(node.weights) != 1 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain depthwise convolution")
    channel = channel_axis(node, x)
    out_shape = tracer.shape(node.outputs[0])
    x = tracer.freeze_all(x, mixing_reason(node), but=channel)
    in_ids = x[channel]
    out_ids = None if in_ids is None else np.repeat(in_ids, kernel[-1])
    tracer.weight(node, node.weights[0].name, -2, in_ids)
    tracer.weight(node, "bias", 0, out_ids)
    filters = kernel[-2] * kernel[-1]
    tracer.macs(node, prod(out_shape) // filters * prod(kernel[:-2]), (out_ids, filters))
    check_activation(tracer, node, out_ids)
    return with_axis(out_shape, channel, out_ids)


def separable_convolution(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    kernel = _weight_shape(node, "depthwise_kernel")
    if kernel is None or len(node.weights) != 2 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain separable convolution")
    channel = channel_axis(node, x)
    out_shape = tracer.shape(node.outputs[0])
    x = tracer.freeze_all(x, mixing_reason(node), but=channel)
    in_ids, filters = x[channel], node.settings["filters"]
    middle = None if in_ids is None else np.repeat(in_ids, kernel[-1])
    out_ids = tracer.create(node.layer, filters)
    tracer.weight(node, "depthwise_kernel", -2, in_ids)
    tracer.weight(node, "pointwise_kernel", -2, middle, "in")
    tracer.weight(node, "pointwise_kernel", -1, out_ids, "out")
    positions = prod(out_shape) // filters
    tracer.macs(node, positions * prod(kernel[:-2]), (middle, kernel[-2] * kernel[-1]))
    tracer.macs(node, positions, (middle, kernel[-2] * kernel[-1]), (out_ids, filters))
    _record_outputs(tracer, node, out_ids, "filters", kernel=False)
    return with_axis(out_shape, channel, out_ids)


def dense(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    kernel = _weight_shape(node, "kernel")
    if kernel is None or len(node.weights) != 1 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain Dense layer")
    out_ids = tracer.create(node.layer, kernel[1])
    tracer.weight(node, "kernel", 0, x[-1], "in")
    positions = prod(tracer.shape(node.outputs[0])) // kernel[1]
    x = tracer.freeze_all(x, mixing_reason(node), but=-1)
    tracer.macs(node, positions, (x[-1], kernel[0]), (out_ids, kernel[1]))
    _record_outputs(tracer, node, out_ids, "units")
    return (*x[:-1], out_ids)


def batch_normalization(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
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


def joint_normalization(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    tracer.freeze_all(x, f"{node.layer!r} ({node.kind}) computes its statistics across these channels")
    return (None,) * len(x)


def parametric_relu(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    for axis, (labels, length) in enumerate(zip(x, _weight_shape(node, "alpha"), strict=True)):
        if length > 1:
            tracer.weight(node, "alpha", axis, labels)
    return x


def layer_scale(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    tracer.weight(node, node.weights[0].name, 0, x[-1])  # Keras 3 leaves it without a name of its own
    tracer.size(node, ("projection_dim",), x[-1])
    return x


def _weight_shape(node: Node, *names: str) -> tuple[int, ...] | None:
    """The shape of a layer's weight of one of these names; None if it has none."""
    return next((weight.shape for weight in node.weights if weight.name in names), None)


def _join_groups(tracer: Tracer, channel_ids: np.ndarray, groups: int, node: Node) -> np.ndarray:
    """Joins the channels of the groups of a convolution, first to first, second to second and so on."""
    rows = channel_ids.reshape(groups, -1)
    for row in rows[1:]:
        tracer.join(rows[0], row, f"the groups of {node.layer!r} must stay alike, and one of them cannot shrink")
    return channel_ids


def _record_outputs(tracer: Tracer, node: Node, out_ids: Axis, key: str, kernel: bool = True) -> None:
    """Records output channels in the bias, in the setting `key` and, with `kernel`, on the kernel's last axis."""
    if kernel:
        tracer.weight(node, "kernel", -1, out_ids, "out")
    tracer.weight(node, "bias", 0, out_ids)
    tracer.size(node, (key,), out_ids)
    check_activation(tracer, node, out_ids)
