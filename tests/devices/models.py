"""Small .tflite models made by hand: one convolution each, so that no converter has to be imported."""

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from amc_tf.tflite.flatbuffer import pack


def write(path: Path, size: int, channels: int, length: int | None = None) -> Path:
    """A 3x3 convolution from `channels` to `channels` on a map of `size` by `size`.

    Args:
        length: bytes that the file shall have; what it is longer than the model is padding.
    """
    model = schema.ModelT()
    model.version = 3
    model.operatorCodes = [_code(schema.BuiltinOperator.CONV_2D)]
    weights = np.full((channels, 3, 3, channels), 0.01, np.float32)
    model.buffers = [_buffer(None), _buffer(weights), _buffer(np.zeros(channels, np.float32))]
    shape = [1, size, size, channels]
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [
        _tensor("x", shape, 0),
        _tensor("w", weights.shape, 1),
        _tensor("b", [channels], 2),
        _tensor("y", shape, 0),
    ]
    graph.inputs, graph.outputs = [0], [3]
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    operator.builtinOptions = schema.Conv2DOptionsT()
    operator.builtinOptions.strideH = operator.builtinOptions.strideW = 1
    operator.builtinOptions.padding = schema.Padding.SAME
    graph.operators = [operator]
    model.subgraphs = [graph]
    data = pack(model)
    path.write_bytes(data if length is None else data.ljust(length, b"\0"))
    return path


def _code(number: int) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = number
    code.version = 1
    return code


def _buffer(values: np.ndarray | None) -> schema.BufferT:
    buffer = schema.BufferT()
    buffer.data = None if values is None else np.frombuffer(values.tobytes(), np.uint8)
    return buffer


def _tensor(name: str, shape, buffer: int) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, list(shape), buffer
    tensor.type = schema.TensorType.FLOAT32
    return tensor
