"""What each kind of layer does to channels: one row a kind, and one rule for all kinds that act alike.

A rule gets the Tracer, the Node and the labels of its inputs, and returns the labels of its output. What stands in no
row is frozen with the layer's name (`unknown`): nothing is guessed.
"""

from collections.abc import Callable
from math import prod

import numpy as np

from amc_tf.graph.atoms import FIXED, Axis, Labels, Tracer
from amc_tf.graph.graph import Node

# Functions that treat every element alone. Softmax is none of them: it looks across the channels.
ELEMENTWISE = frozenset(
    "linear relu relu6 leaky_relu elu selu celu gelu silu swish mish sigmoid hard_sigmoid hard_silu hard_swish "
    "tanh hard_tanh tanh_shrink hard_shrink soft_shrink softplus softsign exponential log_sigmoid squareplus "
    "sparse_plus threshold".split()
)
ELEMENTWISE_OPERATIONS = ELEMENTWISE | frozenset(
    "add subtract multiply divide true_divide truediv maximum minimum exp expm1 log log1p sqrt rsqrt abs negative "
    "neg square clip clip_by_value cast identity power pow reciprocal stop_gradient floor ceil round sign erf sin "
    "cos zeros_like ones_like divide_no_nan".split()
)


BATCH = -1  # what `_batchless` makes of the batch axis


def trace(tracer: Tracer, node: Node) -> None:
    """Lets `node` act on the labels of its inputs."""
    inputs = [tracer.labels[i] for i in node.inputs]
    rule = RULES.get(node.kind, unknown)
    if rule is unknown or not inputs:
        outputs = unknown(tracer, node, *inputs)
    elif len(inputs) > 1 and rule not in (merge, concatenate):
        outputs = unknown(tracer, node, *inputs, why="it is called with more tensors than one")
    else:
        outputs = rule(tracer, node, *inputs)
    if outputs is None:
        outputs = tuple((None,) * len(tracer.shape(i)) for i in node.outputs)
    elif len(node.outputs) == 1:
        outputs = (outputs,)
    for tensor, labels in zip(node.outputs, outputs, strict=True):
        tracer.labels[tensor] = labels


def unknown(tracer: Tracer, node: Node, *inputs: Labels, why: str = "") -> None:
    """Freezes all that a layer reads."""
    name = node.kind.split(":")[-1]
    sort = "operation" if node.kind.startswith("op:") else "class"
    reason = f"{node.layer!r} reads it, and {why or f'the {sort} {name} is not understood'}"
    for labels in inputs:
        tracer.freeze_all(labels, reason)
    tracer.unknown[node.layer] = why or f"the {sort} {name} is not understood"


# ------------------------------------------------------------------------------------------------ layers with weights


def convolution(tracer: Tracer, node: Node, x: Labels):
    settings, kernel = node.settings, _weight_shape(node, "kernel")
    if kernel is None or len(node.weights) != 1 + bool(settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain convolution")
    channel = _channel_axis(node, x)
    shape, out_shape = tracer.shape(node.inputs[0]), tracer.shape(node.outputs[0])
    channels, filters, groups = shape[channel], settings["filters"], settings.get("groups", 1) or 1
    x = tracer.freeze_all(x, _mixes(node), but=channel)
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
    return _with_axis(out_shape, channel, made)


def transposed_convolution(tracer: Tracer, node: Node, x: Labels):
    kernel = _weight_shape(node, "kernel")
    if kernel is None or len(node.weights) != 1 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain transposed convolution")
    channel = _channel_axis(node, x)
    shape, out_shape = tracer.shape(node.inputs[0]), tracer.shape(node.outputs[0])
    x = tracer.freeze_all(x, _mixes(node), but=channel)
    made = tracer.fresh(node.layer, kernel[-2])
    tracer.weight(node, "kernel", -1, x[channel], "in")
    tracer.weight(node, "kernel", -2, made, "out")
    positions = prod(shape) // shape[channel]  # every input position meets the whole kernel
    tracer.macs(node, positions * prod(kernel[:-2]), (x[channel], kernel[-1]), (made, kernel[-2]))
    _bias_and_filters(tracer, node, made, "filters", kernel=False)
    return _with_axis(out_shape, channel, made)


def depthwise_convolution(tracer: Tracer, node: Node, x: Labels):
    kernel = _weight_shape(node, "depthwise_kernel", "kernel")
    if kernel is None or len(node.weights) != 1 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain depthwise convolution")
    channel = _channel_axis(node, x)
    out_shape = tracer.shape(node.outputs[0])
    x = tracer.freeze_all(x, _mixes(node), but=channel)
    seen = x[channel]
    made = None if seen is None else np.repeat(seen, kernel[-1])
    tracer.weight(node, node.weights[0].name, -2, seen)
    tracer.weight(node, "bias", 0, made)
    filters = kernel[-2] * kernel[-1]
    tracer.macs(node, prod(out_shape) // filters * prod(kernel[:-2]), (made, filters))
    _check_activation(tracer, node, made)
    return _with_axis(out_shape, channel, made)


def separable_convolution(tracer: Tracer, node: Node, x: Labels):
    kernel = _weight_shape(node, "depthwise_kernel")
    if kernel is None or len(node.weights) != 2 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain separable convolution")
    channel = _channel_axis(node, x)
    out_shape = tracer.shape(node.outputs[0])
    x = tracer.freeze_all(x, _mixes(node), but=channel)
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
    return _with_axis(out_shape, channel, made)


def dense(tracer: Tracer, node: Node, x: Labels):
    kernel = _weight_shape(node, "kernel")
    if kernel is None or len(node.weights) != 1 + bool(node.settings["use_bias"]):
        return unknown(tracer, node, x, why="its weights are not those of a plain Dense layer")
    made = tracer.fresh(node.layer, kernel[1])
    tracer.weight(node, "kernel", 0, x[-1], "in")
    positions = prod(tracer.shape(node.outputs[0])) // kernel[1]
    x = tracer.freeze_all(x, _mixes(node), but=-1)
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


# ---------------------------------------------------------------------------------------------- layers without weights


def activation(tracer: Tracer, node: Node, x: Labels):
    for axis in x:
        _check_activation(tracer, node, axis)
    return x


def softmax(tracer: Tracer, node: Node, x: Labels):
    axis = node.settings.get("axis", -1)
    for index in _batchless(axis if axis is not None else -1, len(x)):
        tracer.freeze(x[index], f"{node.layer!r} (softmax) looks across these channels")
    return x


def same(tracer: Tracer, node: Node, x: Labels):
    return x


def dropout(tracer: Tracer, node: Node, x: Labels):
    noise = node.settings.get("noise_shape") or ()
    for index, (axis, length) in enumerate(zip(x, noise[1:], strict=False), start=1):
        if length not in (None, 1):
            tracer.size(node, ("noise_shape", index), axis)
    return x


def rescaling(tracer: Tracer, node: Node, x: Labels):
    if np.ndim(node.settings["scale"]) or np.ndim(node.settings["offset"]):
        tracer.freeze_all(x, f"{node.layer!r} has its own number for each of these channels")
    return x


def spatial(tracer: Tracer, node: Node, x: Labels):
    """Pooling, padding of rows and columns, up-sampling: each channel alone."""
    channel = _channel_axis(node, x)
    labels = tracer.freeze_all(x, _mixes(node), but=channel)[channel]
    out_shape = tracer.shape(node.outputs[0])
    return _with_axis(out_shape, channel if len(out_shape) == len(x) else 0, labels)


def padding(tracer: Tracer, node: Node, x: Labels):
    """Zero padding and cropping; `channels_first` on a channels-last tensor pads channels, as residual shortcuts do."""
    key = "cropping" if "cropping" in node.settings else "padding"
    amounts = node.settings[key]
    first = 1 if node.settings.get("data_format") == "channels_first" else 0
    labels = list(x)
    for index, axis in enumerate(x):
        touched = first <= index < first + (len(x) - 1)
        amount = amounts[index - first] if touched and np.ndim(amounts) == 2 else None
        if axis is None or not touched or (amount is not None and not any(amount)):
            continue
        if amount is None:
            tracer.freeze(axis, f"{node.layer!r} pads or crops these channels")
            labels[index] = None
            continue
        before, after = amount
        if key == "padding":
            labels[index] = _padded(tracer, node, axis, (before, after), (key, index - first))
            continue
        end = len(axis) - after
        for side, part in enumerate((axis[:before], axis[end:])):
            tracer.size(node, (key, index - first, side), part)
        labels[index] = axis[before:end]
    return tuple(labels)


def _padded(tracer: Tracer, node: Node, axis: np.ndarray, amount: tuple[int, int], path: tuple) -> np.ndarray:
    """New channels before and after those of `axis`; their numbers stand at `path` of the layer's settings."""
    sides = [tracer.fresh(node.layer, count, tag) for tag, count in zip(("before", "after"), amount, strict=True)]
    for side, made in enumerate(sides):
        tracer.size(node, (*path, side), made)
    return np.concatenate([sides[0], axis, sides[1]])


def flatten(tracer: Tracer, node: Node, x: Labels):
    shape = tracer.shape(node.inputs[0])
    if node.settings.get("data_format") == "channels_first" and len(shape) > 1:
        x, shape = (*x[1:], x[0]), (*shape[1:], shape[0])
    return tracer.reshape(x, shape, tracer.shape(node.outputs[0]), f"{node.layer!r} tears these channels apart")


def reshape(tracer: Tracer, node: Node, x: Labels):
    key, skip = ("target_shape", 0) if node.kind == "Reshape" else (_first(node, "newshape", "shape"), 1)
    target = node.settings.get(key)
    if not isinstance(target, (tuple, list)) or not all(isinstance(n, (int, np.integer)) for n in target[skip:]):
        return unknown(tracer, node, x, why="its target shape is computed at run time")
    old, new = tracer.shape(node.inputs[0]), tracer.shape(node.outputs[0])
    if prod(old) != prod(new):
        return unknown(tracer, node, x, why="it mixes the batch into the other axes")
    labels = tracer.reshape(x, old, new, f"{node.layer!r} tears these channels apart")
    for axis, atoms in enumerate(labels):
        tracer.size(node, (key, axis + skip), atoms)
    return labels


def permute(tracer: Tracer, node: Node, x: Labels):
    if node.kind == "Permute":
        return tuple(x[axis - 1] for axis in node.settings["dims"])
    order = node.settings.get(_first(node, "axes", "perm")) or tuple(reversed(range(len(x) + 1)))
    if order[0] != 0:
        return unknown(tracer, node, x, why="it moves the batch axis")
    return tuple(x[axis - 1] for axis in order[1:])


def repeat_vector(tracer: Tracer, node: Node, x: Labels):
    return (None, *x)


def concatenate(tracer: Tracer, node: Node, *inputs: Labels):
    rank = len(inputs[0])
    (axis,) = _batchless(node.settings.get("axis", -1), rank)
    if axis == BATCH or node.constants:
        return unknown(tracer, node, *inputs, why="it joins batches or constants")
    out: list[Axis] = []
    for index in range(rank):
        if index != axis:
            joined = inputs[0][index]
            for labels in inputs[1:]:
                joined = _join(tracer, node, joined, labels[index])
            out.append(joined)
        elif all(labels[index] is None for labels in inputs):
            out.append(None)
        else:
            lengths = [tracer.shape(tensor)[index] for tensor in node.inputs]
            parts = zip(lengths, inputs, strict=True)
            out.append(np.concatenate([np.full(n, FIXED) if p[index] is None else p[index] for n, p in parts]))
    return tuple(out)


def merge(tracer: Tracer, node: Node, *inputs: Labels):
    """Element by element over several tensors, broadcasting as NumPy does (Keras layers: after the batch axis)."""
    out_shape = tracer.shape(node.outputs[0])
    out: list[Axis] = [None] * len(out_shape)
    lengths = [0] * len(out_shape)
    for tensor, labels in zip(node.inputs, inputs, strict=True):
        shape = tracer.shape(tensor)
        for index, axis in enumerate(labels, start=len(out_shape) - len(labels)):
            length = shape[index - len(out_shape)]
            if length == 1 and out_shape[index] > 1:
                tracer.freeze(axis, f"{node.layer!r} spreads this one channel over several")
            elif lengths[index] == 0:
                out[index], lengths[index] = axis, length
            else:
                out[index] = _join(tracer, node, out[index], axis)
    for shape in node.constants:
        for index, length in enumerate(shape, start=len(out_shape) - len(shape)):
            if length > 1 and index >= 0:
                tracer.freeze(out[index], f"{node.layer!r} combines it with a constant of {length} channels")
    return tuple(out)


# ------------------------------------------------------------------------------------------------------- operations


def reduction(tracer: Tracer, node: Node, x: Labels):
    axis = node.settings.get("axis")
    axes = [BATCH] if axis is None else _batchless(axis, len(x))
    if BATCH in axes:
        return unknown(tracer, node, x, why="it reduces across the batch")
    for index in axes:
        tracer.freeze(x[index], f"{node.layer!r} reduces across these channels")
    if node.settings.get("keepdims"):
        return tuple(None if index in axes else labels for index, labels in enumerate(x))
    return tuple(labels for index, labels in enumerate(x) if index not in axes)


def pad(tracer: Tracer, node: Node, x: Labels):
    key = _first(node, "pad_width", "paddings")
    amounts = node.settings.get(key)
    pairs = amounts if isinstance(amounts, (tuple, list)) and np.shape(amounts) == (len(x) + 1, 2) else None
    if pairs is None or any(pairs[0]):
        return unknown(tracer, node, x, why="what it pads cannot be followed")
    labels = list(x)
    for index, (axis, amount) in enumerate(zip(x, pairs[1:], strict=True)):
        if axis is None or not any(amount):
            continue
        if str(node.settings.get("mode", "constant")).lower() == "constant":
            labels[index] = _padded(tracer, node, axis, tuple(amount), (key, index + 1))
        else:
            tracer.freeze(axis, f"{node.layer!r} repeats these channels")
            labels[index] = None
    return tuple(labels)


def expand_dims(tracer: Tracer, node: Node, x: Labels):
    (index,) = _batchless(node.settings["axis"], len(x) + 1)
    if index == BATCH:
        return unknown(tracer, node, x, why="it moves the batch axis")
    return (*x[:index], None, *x[index:])


def squeeze(tracer: Tracer, node: Node, x: Labels):
    axis = node.settings.get("axis")
    gone = [BATCH] if axis is None or axis == [] else _batchless(axis, len(x))
    if BATCH in gone:
        return unknown(tracer, node, x, why="it drops axes by their size, or the batch")
    for index in gone:
        tracer.freeze(x[index], f"{node.layer!r} relies on this being one channel")
    return tuple(labels for index, labels in enumerate(x) if index not in gone)


def getitem(tracer: Tracer, node: Node, x: Labels):
    key = node.settings.get("key", node.settings.get("slice_spec"))
    parts = [_slice(part) for part in (key if isinstance(key, tuple) else (key,))]
    if parts.count(Ellipsis) == 1:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(x) + 1 - (len(parts) - 1))
    parts += [slice(None)] * (len(x) + 1 - len(parts))
    if len(parts) != len(x) + 1 or not all(isinstance(p, (slice, int)) for p in parts) or parts[0] != slice(None):
        return unknown(tracer, node, x, why="it takes a part of the tensor that cannot be followed")
    out = []
    for labels, part in zip(x, parts[1:], strict=True):
        if part != slice(None):
            tracer.freeze(labels, f"{node.layer!r} takes channels by their number")
            labels = None
        if not isinstance(part, int):
            out.append(labels)
    return tuple(out)


# ---------------------------------------------------------------------------------------------------------- helpers


def _weight_shape(node: Node, *names: str) -> tuple[int, ...] | None:
    return next((weight.shape for weight in node.weights if weight.name in names), None)


def _channel_axis(node: Node, x: Labels) -> int:
    return 0 if node.settings.get("data_format") == "channels_first" else len(x) - 1


def _mixes(node: Node) -> str:
    return f"{node.layer!r} mixes these channels as if they were positions"


def _with_axis(shape: tuple[int, ...], axis: int, atoms: Axis) -> Labels:
    return tuple(atoms if index == axis else None for index in range(len(shape)))


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
    _check_activation(tracer, node, made)


def _check_activation(tracer: Tracer, node: Node, made: Axis) -> None:
    function = node.settings.get("activation", "linear")
    if isinstance(function, dict):  # a function or layer in its serialized form
        function = function["config"] if isinstance(function.get("config"), str) else function.get("class_name", "?")
        function = {"ReLU": "relu", "LeakyReLU": "leaky_relu"}.get(function, function)
    name = str(function or "linear").split(">")[-1]
    if name not in ELEMENTWISE:
        tracer.freeze(made, f"the activation {name!r} of {node.layer!r} may look across channels")


def _batchless(axis, rank: int) -> list[int]:
    """Axes of a whole tensor as axes of its labels, which lack the batch axis: that one is BATCH."""
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    return [a % (rank + 1) - 1 for a in axes]


def _first(node: Node, *names: str) -> str:
    return next((name for name in names if name in node.settings), names[0])


def _slice(part):
    if isinstance(part, dict):  # the form in which tf_keras keeps a slice
        return slice(part.get("start"), part.get("stop"), part.get("step"))
    return part


def _join(tracer: Tracer, node: Node, first: Axis, second: Axis) -> Axis:
    if first is None and second is None:
        return None
    return tracer.join(first, second, f"{node.layer!r} combines it with a tensor that cannot shrink")


_LAYERS: dict[Callable, str] = {
    convolution: "Conv1D Conv2D Conv3D",
    transposed_convolution: "Conv1DTranspose Conv2DTranspose Conv3DTranspose",
    depthwise_convolution: "DepthwiseConv1D DepthwiseConv2D",
    separable_convolution: "SeparableConv1D SeparableConv2D",
    dense: "Dense",
    batch_normalization: "BatchNormalization SyncBatchNormalization",
    joint_normalization: "LayerNormalization GroupNormalization UnitNormalization RMSNormalization Normalization",
    parametric_relu: "PReLU",
    layer_scale: "LayerScale",
    activation: "Activation",
    softmax: "Softmax",
    same: "ReLU LeakyReLU ELU ThresholdedReLU SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianDropout "
    "GaussianNoise ActivityRegularization Identity StochasticDepth",
    dropout: "Dropout AlphaDropout",
    rescaling: "Rescaling",
    spatial: "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D "
    "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D GlobalAveragePooling2D "
    "GlobalAveragePooling3D UpSampling1D UpSampling2D UpSampling3D Resizing CenterCrop RandomFlip RandomRotation "
    "RandomZoom RandomTranslation RandomCrop RandomContrast RandomBrightness",
    padding: "ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D Cropping3D",
    flatten: "Flatten",
    reshape: "Reshape",
    permute: "Permute",
    repeat_vector: "RepeatVector",
    concatenate: "Concatenate",
    merge: "Add Subtract Multiply Average Maximum Minimum",
}
_OPERATIONS: dict[Callable, str] = {
    merge: " ".join(sorted(ELEMENTWISE_OPERATIONS)),
    softmax: "softmax log_softmax",
    reduction: "mean max min sum prod",
    concatenate: "concatenate",
    reshape: "reshape",
    permute: "transpose",
    pad: "pad",
    spatial: "resize",
    expand_dims: "expand_dims",
    squeeze: "squeeze",
    getitem: "getitem",
}
RULES: dict[str, Callable] = {kind: rule for rule, kinds in _LAYERS.items() for kind in kinds.split()} | {
    "op:" + name: rule for rule, names in _OPERATIONS.items() for name in names.split()
}
