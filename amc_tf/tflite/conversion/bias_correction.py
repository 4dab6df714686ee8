"""Bias correction of an int8 .tflite: subtracts from each bias the mean error that rounded weights cause.

A rounded weight is off by up to half a step, in the same way for every example. Inputs behind a ReLU are never below
zero, so these errors add up to a constant for each output channel. That is most of the loss in the first depthwise
layers of a MobileNet, and costs such a network some points of accuracy. The constant is the convolution of the mean
input with the rounding errors (Nagel et al., Data-Free Quantization, ICCV 2019, arXiv 1906.04721, section 4.2). The
means are measured here; the paper derives them.
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

_KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")  # operands 0, 1, 2: input, weights, bias
_EXAMPLES = 64  # a mean needs no more
_SAME = 0  # of the schema's Padding

_log = logging.getLogger(__name__)


def corrected(tflite: bytes, float_file: bytes, examples: Sequence[np.ndarray]) -> bytes:
    """An int8 .tflite with corrected biases.

    Args:
        tflite: the int8 file.
        float_file: the same network in floats.
        examples: one array (examples, ...) for each input of `float_file`, in its order and types.

    Returns:
        The corrected file; `tflite` itself if the layers of the two files do not correspond.

    Raises:
        ConversionError: the examples cause NaN or infinity in the network.
    """
    rounded, exact = flatbuffer.unpack(tflite), flatbuffer.unpack(float_file)
    pairs = list(zip(_layers(rounded), _layers(exact), strict=False))
    if [name for name, _ in _layers(rounded)] != [name for name, _ in _layers(exact)]:
        _log.warning("An int8 file keeps the biases of the converter, since it has other layers than the float file.")
        return tflite
    inputs = list(dict.fromkeys(int(operator.inputs[0]) for _, (_, operator) in pairs))
    means = _means(exact, inputs, examples)
    for tensor, mean in means.items():
        if not np.isfinite(mean).all():
            raise ConversionError(
                f"The examples make {exact.subgraphs[0].tensors[tensor].name.decode()!r} in the network NaN or "
                f"infinite, so that it cannot be quantised by them; give examples as it was trained on, and look at "
                f"its weights."
            )
    changes: dict[int, list[np.ndarray]] = {}  # by tensor, since calls of one layer may share a bias
    for (name, whole), (_, operator) in pairs:
        bias = int(whole.inputs[2]) if len(whole.inputs) > 2 else -1
        if bias < 0 or rounded.buffers[rounded.subgraphs[0].tensors[bias].buffer].data is None:
            continue  # there is no bias, or it is computed
        error = _rounding_error(rounded, whole, exact, operator)
        if error is not None:
            shape = exact.subgraphs[0].tensors[operator.outputs[0]].shape
            added = _MEAN_ERROR[name](means[int(operator.inputs[0])], error, operator.builtinOptions, shape)
            changes.setdefault(bias, []).append(added)
    for tensor, added in changes.items():
        _subtract(rounded, tensor, np.mean(added, axis=0))
    used = {tensor.buffer for graph in rounded.subgraphs for tensor in graph.tensors}
    for index in set(range(1, len(rounded.buffers))) - used:
        rounded.buffers[index].data = None
    return flatbuffer.pack(rounded)


def _layers(file: Any) -> list[tuple[str, Any]]:
    """(name, operator) of the operators with weights, in execution order."""
    pairs = zip(names(file), file.subgraphs[0].operators, strict=True)
    return [(name, operator) for name, operator in pairs if name in _KINDS]


def _means(file: Any, tensors: Sequence[int], examples: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
    """The mean of tensors over examples, each of the tensor's shape.

    It is computed by a copy of the file that has these tensors as outputs.
    """
    from ai_edge_litert.interpreter import Interpreter

    shown, graph = copy.copy(file), copy.copy(file.subgraphs[0])
    shown.subgraphs = [graph, *file.subgraphs[1:]]
    inputs = [int(entry.tensorIndex) for entry in file.signatureDefs[0].inputs]
    shown.signatureDefs = None
    graph.outputs = list(tensors)
    with silence():
        interpreter = Interpreter(model_content=flatbuffer.pack(shown))
        interpreter.allocate_tensors()
    count = min(len(examples[0]), _EXAMPLES)
    sums = {tensor: np.float32(0) for tensor in tensors}
    for number in range(count):
        for tensor, array in zip(inputs, examples, strict=True):
            interpreter.set_tensor(tensor, array[number : number + 1])
        interpreter.invoke()
        for tensor in tensors:
            sums[tensor] = sums[tensor] + interpreter.get_tensor(tensor)
    return {tensor: total / count for tensor, total in sums.items()}


def _rounding_error(rounded: Any, whole: Any, exact: Any, operator: Any) -> np.ndarray | None:
    """Rounded weights minus exact weights of a layer; None if they are no constants, or not the same weights.

    Args:
        rounded, whole: the int8 file and the operator in it.
        exact, operator: the float file and the operator in it.
    """
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
    """Mean error of each output, (out,), from errors (out, height, width, in) of a kernel."""
    taps = _taps(mean, error.shape[1:3], options, shape)
    groups = mean.shape[-1] // error.shape[-1]
    grouped = error.reshape(groups, -1, *error.shape[1:])
    return np.einsum("hwgi,gohwi->go", taps.reshape(*taps.shape[:2], groups, -1), grouped).reshape(-1)


def _of_depthwise(mean: np.ndarray, error: np.ndarray, options: Any, shape: Sequence[int]) -> np.ndarray:
    """Mean error of each output, (out,), from errors (1, height, width, out) of a kernel."""
    taps = _taps(mean, error.shape[1:3], options, shape)
    return (error[0] * taps.repeat(error.shape[-1] // taps.shape[-1], axis=-1)).sum(axis=(0, 1))


def _of_dense(mean: np.ndarray, error: np.ndarray, *_: object) -> np.ndarray:
    """Mean error of each output, (out,), from errors (out, in) of a kernel."""
    return error @ mean.reshape(-1, error.shape[1]).mean(axis=0)


_MEAN_ERROR = {"CONV_2D": _of_convolution, "DEPTHWISE_CONV_2D": _of_depthwise, "FULLY_CONNECTED": _of_dense}


def _taps(mean: np.ndarray, kernel: Sequence[int], options: Any, shape: Sequence[int]) -> np.ndarray:
    """Mean input of each tap of a kernel, over all positions of the kernel: (height, width, channels).

    Args:
        mean: mean input of the layer, (1, height, width, channels).
        kernel: its height and width.
        options: of the operator.
        shape: of its output.
    """
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
    """Subtracts (channels,), in real values, from an integer bias."""
    bias = file.subgraphs[0].tensors[tensor] = copy.copy(file.subgraphs[0].tensors[tensor])
    steps = np.round(added / np.asarray(bias.quantization.scale, np.float64))
    limits = np.iinfo(np.int32)
    values = np.frombuffer(np.ascontiguousarray(file.buffers[bias.buffer].data), np.int32) - steps
    buffer = copy.copy(file.buffers[bias.buffer])
    buffer.data = np.clip(values, limits.min, limits.max).astype(np.int32).view(np.uint8)
    bias.buffer = len(file.buffers)  # equal biases may share the old one
    file.buffers.append(buffer)
