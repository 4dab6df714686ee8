"""Biases: what rounding a layer's weights adds to its outputs on average, taken out of its bias again.

A weight that was rounded is off by up to half a step, the same for every example. Inputs behind a ReLU are never below
zero, so these errors add up to a constant for each output channel: most of what the first depthwise layers of a
MobileNet lose, and enough to cost such a network some points. The constant is known, since it is a convolution of the
mean input with the rounding errors (Nagel et al., Data-Free Quantization, ICCV 2019, arXiv 1906.04721, section 4.2,
with measured means for those they derive).
"""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from amc_tf.errors import ConversionError
from amc_tf.tflite import flatbuffer
from amc_tf.tflite.operators import names
from amc_tf.tflite.silence import silence

_SORTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")  # inputs, weights and bias are their operands 0, 1 and 2
_EXAMPLES = 64  # a mean needs no more
_SAME = 0  # of the schema's Padding

_log = logging.getLogger(__name__)


def corrected(tflite: bytes, flat: bytes, examples: Sequence[np.ndarray]) -> bytes:
    """A .tflite of whole numbers with its biases corrected.

    Args:
        tflite: of whole numbers.
        flat: the same network in floats.
        examples: one array (examples, ...) for each input of `flat`, in its order and types.

    Returns:
        `tflite` where the layers of the two cannot be told to be the same.

    Raises:
        ConversionError: the examples make NaN or infinity in the network.
    """
    rounded, exact = flatbuffer.unpack(tflite), flatbuffer.unpack(flat)
    pairs = list(zip(_layers(rounded), _layers(exact), strict=False))
    if [name for name, _ in _layers(rounded)] != [name for name, _ in _layers(exact)]:
        _log.warning("An int8 file keeps the biases of the converter, since it has other layers than the float file.")
        return tflite
    wanted = list(dict.fromkeys(int(operator.inputs[0]) for _, (_, operator) in pairs))
    means = _means(exact, wanted, examples)
    for tensor, mean in means.items():
        if not np.isfinite(mean).all():
            raise ConversionError(
                f"The examples make {exact.subgraphs[0].tensors[tensor].name.decode()!r} in the network NaN or "
                f"infinite, so that it cannot be quantised by them; give examples as it was trained on, and look at "
                f"its weights."
            )
    changes: dict[int, list[np.ndarray]] = {}  # by tensor: calls of one layer may share a bias
    for (name, whole), (_, operator) in pairs:
        bias = int(whole.inputs[2]) if len(whole.inputs) > 2 else -1
        if bias < 0 or rounded.buffers[rounded.subgraphs[0].tensors[bias].buffer].data is None:
            continue  # it has none, or one that is computed
        error = _error(rounded, whole, exact, operator)
        if error is not None:
            shape = exact.subgraphs[0].tensors[operator.outputs[0]].shape
            added = _ADDED[name](means[int(operator.inputs[0])], error, operator.builtinOptions, shape)
            changes.setdefault(bias, []).append(added)
    for tensor, added in changes.items():
        _subtract(rounded, tensor, np.mean(added, axis=0))
    used = {tensor.buffer for graph in rounded.subgraphs for tensor in graph.tensors}
    for index in set(range(1, len(rounded.buffers))) - used:
        rounded.buffers[index].data = None
    return flatbuffer.pack(rounded)


def _layers(file: Any) -> list[tuple[str, Any]]:
    """(name, operator) of those that have weights, in the order in which they run."""
    called = zip(names(file), file.subgraphs[0].operators, strict=True)
    return [(name, operator) for name, operator in called if name in _SORTS]


def _means(file: Any, wanted: Sequence[int], examples: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    """The mean of tensors over examples, each of the tensor's shape."""
    from ai_edge_litert.interpreter import Interpreter

    showing, graph = copy.copy(file), copy.copy(file.subgraphs[0])
    showing.subgraphs = [graph, *file.subgraphs[1:]]
    inputs = [int(entry.tensorIndex) for entry in file.signatureDefs[0].inputs]
    showing.signatureDefs = None
    graph.outputs = list(wanted)
    with silence():
        interpreter = Interpreter(model_content=flatbuffer.pack(showing))
        interpreter.allocate_tensors()
    count = min(len(examples[0]), _EXAMPLES)
    sums = {tensor: np.float32(0) for tensor in wanted}
    for number in range(count):
        for tensor, array in zip(inputs, examples, strict=True):
            interpreter.set_tensor(tensor, array[number : number + 1])
        interpreter.invoke()
        for tensor in wanted:
            sums[tensor] = sums[tensor] + interpreter.get_tensor(tensor)
    return {tensor: total / count for tensor, total in sums.items()}


def _error(rounded: Any, whole: Any, exact: Any, operator: Any) -> np.ndarray | None:
    """What rounding did to the weights of a layer; None where they are no constants, or not the same weights."""
    here, there = (file.subgraphs[0].tensors[op.inputs[1]] for file, op in ((rounded, whole), (exact, operator)))
    data, expected = rounded.buffers[here.buffer].data, exact.buffers[there.buffer].data
    if data is None or expected is None or not np.array_equal(here.shape, there.shape):
        return None
    expected = np.frombuffer(np.ascontiguousarray(expected), np.float32).reshape(there.shape)
    along = [1] * expected.ndim
    along[here.quantization.quantizedDimension if len(here.quantization.scale) > 1 else 0] = -1
    steps = np.asarray(here.quantization.scale, np.float32).reshape(along)
    error = np.frombuffer(np.ascontiguousarray(data), np.int8).reshape(here.shape) * steps - expected
    return error if (np.abs(error) <= steps).all() else None


def _of_convolution(mean: np.ndarray, error: np.ndarray, options: Any, shape: Sequence[int]) -> np.ndarray:
    """What errors (out, height, width, in) of a kernel add to each output, (out,)."""
    taps = _taps(mean, error.shape[1:3], options, shape)
    groups = mean.shape[-1] // error.shape[-1]
    grouped = error.reshape(groups, -1, *error.shape[1:])
    return np.einsum("hwgi,gohwi->go", taps.reshape(*taps.shape[:2], groups, -1), grouped).reshape(-1)


def _of_depthwise(mean: np.ndarray, error: np.ndarray, options: Any, shape: Sequence[int]) -> np.ndarray:
    """What errors (1, height, width, out) of a kernel add to each output, (out,)."""
    taps = _taps(mean, error.shape[1:3], options, shape)
    return (error[0] * taps.repeat(error.shape[-1] // taps.shape[-1], axis=-1)).sum(axis=(0, 1))


def _of_dense(mean: np.ndarray, error: np.ndarray, *_) -> np.ndarray:
    """What errors (out, in) of a kernel add to each output, (out,)."""
    return error @ mean.reshape(-1, error.shape[1]).mean(axis=0)


_ADDED = {"CONV_2D": _of_convolution, "DEPTHWISE_CONV_2D": _of_depthwise, "FULLY_CONNECTED": _of_dense}


def _taps(mean: np.ndarray, kernel: Sequence[int], options: Any, shape: Sequence[int]) -> np.ndarray:
    """What each tap of a kernel reads on average over all places that the kernel takes, (height, width, channels)."""
    strides, dilations = (options.strideH, options.strideW), (options.dilationHFactor, options.dilationWFactor)
    spans = [(int(out) - 1) * stride + 1 for out, stride in zip(shape[1:3], strides, strict=True)]
    pads = [(0, 0)] * 3
    if options.padding == _SAME:
        reach = [span + (side - 1) * dilation for span, side, dilation in zip(spans, kernel, dilations, strict=True)]
        missing = [max(0, needed - side) for needed, side in zip(reach, mean.shape[1:3], strict=True)]
        pads = [*((lack // 2, lack - lack // 2) for lack in missing), (0, 0)]
    padded = np.pad(mean[0], pads)
    taps = np.empty((*kernel, mean.shape[-1]), np.float64)
    for row, column in np.ndindex(*kernel):
        read = padded[row * dilations[0] :, column * dilations[1] :]
        taps[row, column] = read[: spans[0] : strides[0], : spans[1] : strides[1]].mean(axis=(0, 1))
    return taps


def _subtract(file: Any, tensor: int, added: np.ndarray) -> None:
    """Takes (channels,) from a bias of whole numbers."""
    bias = file.subgraphs[0].tensors[tensor] = copy.copy(file.subgraphs[0].tensors[tensor])
    steps = np.round(added / np.asarray(bias.quantization.scale, np.float64))
    limits = np.iinfo(np.int32)
    values = np.frombuffer(np.ascontiguousarray(file.buffers[bias.buffer].data), np.int32) - steps
    buffer = copy.copy(file.buffers[bias.buffer])
    buffer.data = np.clip(values, limits.min, limits.max).astype(np.int32).view(np.uint8)
    bias.buffer = len(file.buffers)  # the old one may be that of another bias too, as long as they are equal
    file.buffers.append(buffer)
