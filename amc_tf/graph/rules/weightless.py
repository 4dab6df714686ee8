"""Rules for layers and operations without weights: they keep, move or merge channels."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from amc_tf.checks import is_whole
from amc_tf.graph.channel_ids import FIXED, Axis, Labels, Tracer
from amc_tf.graph.network import Node
from amc_tf.graph.rules.common import channel_axis, check_activation, mixing_reason, unknown, with_axis

BATCH = -1  # the batch axis in the result of `_without_batch`


def activation(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    for axis in x:
        check_activation(tracer, node, axis)
    return x


def softmax(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    axis = node.settings.get("axis", -1)
    for index in _without_batch(axis if axis is not None else -1, len(x)):
        tracer.freeze(x[index], f"{node.layer!r} (softmax) looks across these channels")
    return x


def same(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    return x


def dropout(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    noise = node.settings.get("noise_shape") or ()
    for index, (axis, length) in enumerate(zip(x, noise[1:], strict=False), start=1):
        if length not in (None, 1):
            tracer.size(node, ("noise_shape", index), axis)
    return x


def rescaling(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    if np.ndim(node.settings["scale"]) or np.ndim(node.settings["offset"]):
        tracer.freeze_all(x, f"{node.layer!r} has its own number for each of these channels")
    return x


def spatial(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    """Pooling and resizing: every channel is computed alone."""
    channel = channel_axis(node, x)
    labels = tracer.freeze_all(x, mixing_reason(node), but=channel)[channel]
    out_shape = tracer.shape(node.outputs[0])
    return with_axis(out_shape, channel if len(out_shape) == len(x) else 0, labels)


def padding(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    """Zero padding and cropping. `channels_first` on a channels-last tensor pads channels: some residual shortcuts."""
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
    """Creates channels before and after those of `axis`; `path` leads to their numbers in the layer's settings."""
    sides = [tracer.create(node.layer, count, tag) for tag, count in zip(("before", "after"), amount, strict=True)]
    for side, channel_ids in enumerate(sides):
        tracer.size(node, (*path, side), channel_ids)
    return np.concatenate([sides[0], axis, sides[1]])


def flatten(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    shape = tracer.shape(node.inputs[0])
    if node.settings.get("data_format") == "channels_first" and len(shape) > 1:
        x, shape = (*x[1:], x[0]), (*shape[1:], shape[0])
    return tracer.reshape(x, shape, tracer.shape(node.outputs[0]), f"{node.layer!r} tears these channels apart")


def reshape(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    key, skip = ("target_shape", 0) if node.kind == "Reshape" else (_first_setting(node, "newshape", "shape"), 1)
    target = node.settings.get(key)
    if not isinstance(target, (tuple, list)) or not all(is_whole(n) for n in target[skip:]):
        return unknown(tracer, node, x, why="its target shape is computed at run time")
    old, new = tracer.shape(node.inputs[0]), tracer.shape(node.outputs[0])
    if prod(old) != prod(new):
        return unknown(tracer, node, x, why="it mixes the batch into the other axes")
    labels = tracer.reshape(x, old, new, f"{node.layer!r} tears these channels apart")
    for axis, channel_ids in enumerate(labels):
        tracer.size(node, (key, axis + skip), channel_ids)
    return labels


def permute(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    if node.kind == "Permute":
        return tuple(x[axis - 1] for axis in node.settings["dims"])
    order = node.settings.get(_first_setting(node, "axes", "perm")) or tuple(reversed(range(len(x) + 1)))
    if order[0] != 0:
        return unknown(tracer, node, x, why="it moves the batch axis")
    return tuple(x[axis - 1] for axis in order[1:])


def repeat_vector(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    return (None, *x)


def concatenate(tracer: Tracer, node: Node, *inputs: Labels) -> Labels | None:
    rank = len(inputs[0])
    (axis,) = _without_batch(node.settings.get("axis", -1), rank)
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


def merge(tracer: Tracer, node: Node, *inputs: Labels) -> Labels | None:
    """Element-wise functions of several tensors, with NumPy's broadcasting (Keras layers: after the batch axis)."""
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


def reduction(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    axis = node.settings.get("axis")
    axes = [BATCH] if axis is None else _without_batch(axis, len(x))
    if BATCH in axes:
        return unknown(tracer, node, x, why="it reduces across the batch")
    for index in axes:
        tracer.freeze(x[index], f"{node.layer!r} reduces across these channels")
    if node.settings.get("keepdims"):
        return tuple(None if index in axes else labels for index, labels in enumerate(x))
    return tuple(labels for index, labels in enumerate(x) if index not in axes)


def pad(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    key = _first_setting(node, "pad_width", "paddings")
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


def expand_dims(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    (index,) = _without_batch(node.settings["axis"], len(x) + 1)
    if index == BATCH:
        return unknown(tracer, node, x, why="it moves the batch axis")
    return (*x[:index], None, *x[index:])


def squeeze(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    axis = node.settings.get("axis")
    removed = [BATCH] if axis is None or axis == [] else _without_batch(axis, len(x))
    if BATCH in removed:
        return unknown(tracer, node, x, why="it drops axes by their size, or the batch")
    for index in removed:
        tracer.freeze(x[index], f"{node.layer!r} relies on this being one channel")
    return tuple(labels for index, labels in enumerate(x) if index not in removed)


def getitem(tracer: Tracer, node: Node, x: Labels) -> Labels | None:
    key = node.settings.get("key", node.settings.get("slice_spec"))
    parts = [_as_slice(part) for part in (key if isinstance(key, tuple) else (key,))]
    if parts.count(Ellipsis) == 1:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(x) + 1 - (len(parts) - 1))
    parts += [slice(None)] * (len(x) + 1 - len(parts))
    simple = all(isinstance(part, slice) or is_whole(part) for part in parts)
    if len(parts) != len(x) + 1 or not simple or parts[0] != slice(None):
        return unknown(tracer, node, x, why="it takes a part of the tensor that cannot be followed")
    out = []
    for labels, part in zip(x, parts[1:], strict=True):
        if part != slice(None):
            tracer.freeze(labels, f"{node.layer!r} takes channels by their number")
            labels = None
        if isinstance(part, slice):
            out.append(labels)
    return tuple(out)


def _without_batch(axis: int | Sequence[int], rank: int) -> list[int]:
    """Converts axes of a tensor to axes of its labels. Labels have no batch axis; BATCH stands for it."""
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    return [a % (rank + 1) - 1 for a in axes]


def _first_setting(node: Node, *names: str) -> str:
    """The first of these names that is a setting of the node; the Kerases use different names."""
    return next((name for name in names if name in node.settings), names[0])


def _as_slice(part: Any) -> Any:
    """A slice for a dict, the form in which tf_keras stores slices; any other value as it is."""
    if isinstance(part, dict):
        return slice(part.get("start"), part.get("stop"), part.get("step"))
    return part


def _join(tracer: Tracer, node: Node, first: Axis, second: Axis) -> Axis:
    """Joins two axes; channels that meet a position without channels are frozen."""
    if first is None and second is None:
        return None
    return tracer.join(first, second, f"{node.layer!r} combines it with a tensor that cannot shrink")
