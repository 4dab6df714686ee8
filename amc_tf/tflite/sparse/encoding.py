"""TFLite's sparse encoding: kernels are stored without their zeros; and the bytes that a kernel takes so.

The converter writes the same encoding (Optimize.EXPERIMENTAL_SPARSITY). This module encodes a finished file, in
milliseconds, and saves bytes that the converter wastes: it leaves a kernel dense if the encoding would be larger, and
it never stores blocks of four weights, as the converter does in a dense layer with few weights left. So the bytes of a
kernel follow from its shape and the number of its nonzero weights alone.
"""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.tflite.flatbuffer import pack, unpack
from amc_tf.tflite.operators import names

# Operators with a kernel as second input that run behind DENSIFY. Depthwise kernels are too small to gain.
_READERS = {"CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
_KERNEL = 1
_OVERHEAD = 216  # bytes of the operator that unpacks a kernel, of its output and of the tables around the weights
_INDEX_TYPES = (
    (1 << 8, np.uint8, "Uint8Vector"),
    (1 << 16, np.uint16, "Uint16Vector"),
    (1 << 31, np.int32, "Int32Vector"),
)


def kernel_bytes(shape: Sequence[int], kept: int) -> int:
    """The bytes of a float32 kernel in a file made by `encoded`; never fewer for more nonzero weights.

    The figure leaves out the alignment of the file's parts (some bytes a kernel) and about 140 bytes a file that all
    sparse kernels share. It also leaves out zeros that the converter itself makes when it folds a BatchNormalization
    that scales a channel by zero.

    Args:
        shape: in the .tflite: (out, height, width, in) of a convolution, (out, in) of a dense layer.
        kept: number of nonzero weights.

    Raises:
        ValueError: the kernel has fewer weights.
    """
    size = math.prod(shape)
    if not 0 <= kept <= size:
        raise ValueError(f"kept is {kept}; a kernel of shape {tuple(shape)} has 0 to {size} weights that are not zero.")
    starts, indices = _index_type(kept + 1)[1], _index_type(shape[-1])[1]
    rows = size // shape[-1]
    sparse = kept * (4 + np.dtype(indices).itemsize) + (rows + 1) * np.dtype(starts).itemsize
    return min(4 * size, sparse + _OVERHEAD)


def encoded(tflite: bytes | str | Path) -> bytes:
    """The same network with each kernel in the sparse encoding if that takes fewer bytes.

    A DENSIFY operator before the first reader unpacks the kernel when the file is loaded.

    Args:
        tflite: a file with dense kernels, as convert() makes it; contents or path.

    Returns:
        The contents of the new file. Its outputs are those of the old one to the bit, unless XNNPACK takes its sparse
        kernels. These add in another order, and compute wrong numbers in some networks (see `safe` in
        unsupported_operators.py).

    Raises:
        ConversionError: there is no such file, or it is no .tflite.
    """
    file = unpack(tflite)
    graph = file.subgraphs[0]
    for tensor in _kernels(file):
        values = file.buffers[graph.tensors[tensor].buffer].data.view(np.float32)
        shape = tuple(map(int, graph.tensors[tensor].shape))
        if kernel_bytes(shape, np.count_nonzero(values)) < values.nbytes:
            _encode(file, tensor, values.reshape(-1, shape[-1]))
    return pack(file)


def _kernels(file: Any) -> list[int]:
    """Tensors that are float32 constants, read as kernels and as nothing else."""
    from ai_edge_litert import schema_py_generated as schema

    graph = file.subgraphs[0]
    reads = Counter(int(tensor) for operator in graph.operators for tensor in operator.inputs)
    readers = (operator for name, operator in zip(names(file), graph.operators, strict=True) if name in _READERS)
    as_kernel = Counter(int(operator.inputs[_KERNEL]) for operator in readers)
    shared = Counter(tensor.buffer for subgraph in file.subgraphs for tensor in subgraph.tensors)
    return [
        tensor
        for tensor, count in as_kernel.items()
        if count == reads[tensor]
        and tensor not in graph.outputs
        and graph.tensors[tensor].type == schema.TensorType.FLOAT32
        and file.buffers[graph.tensors[tensor].buffer].data is not None
        and shared[graph.tensors[tensor].buffer] == 1
    ]


def _encode(file: Any, tensor: int, rows: np.ndarray) -> None:
    """Removes the zeros from a constant and adds the operator that restores them.

    Args:
        file: ModelT.
        tensor: the constant.
        rows: its values as (weights / in, in).
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = file.subgraphs[0]
    kernel = graph.tensors[tensor]
    present = rows != 0
    file.buffers[kernel.buffer].data = np.frombuffer(rows[present].tobytes(), np.uint8)
    starts = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
    last = len(kernel.shape) - 1
    dimensions = [schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=int(n)) for n in kernel.shape]
    dimensions[last] = schema.DimensionMetadataT(
        format=schema.DimensionType.SPARSE_CSR,
        **_vector("arraySegments", starts, int(starts[-1]) + 1),
        **_vector("arrayIndices", np.nonzero(present)[1], rows.shape[1]),
    )
    order = np.arange(last + 1, dtype=np.int32)
    kernel.sparsity = schema.SparsityParametersT(traversalOrder=order, dimMetadata=dimensions)
    dense = len(graph.tensors)
    graph.tensors.append(schema.TensorT(shape=kernel.shape, type=kernel.type, buffer=0, hasRank=kernel.hasRank))
    readers = [k for k, operator in enumerate(graph.operators) if tensor in operator.inputs]
    for reader in readers:
        inputs = graph.operators[reader].inputs
        graph.operators[reader].inputs = np.where(inputs == tensor, dense, inputs).astype(np.int32)
    graph.operators.insert(readers[0], schema.OperatorT(
        opcodeIndex=_densify(file),
        inputs=np.array([tensor], np.int32),
        outputs=np.array([dense], np.int32),
        builtinOptionsType=schema.BuiltinOptions.DensifyOptions,
        builtinOptions=schema.DensifyOptionsT(),
    ))  # fmt: skip


def _densify(file: Any) -> int:
    """The index of DENSIFY among the file's operator codes; it is added if it is missing."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.BuiltinOperator.DENSIFY
    for number, known in enumerate(file.operatorCodes):
        if known.builtinCode == code:
            return number
    file.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=1))
    return len(file.operatorCodes) - 1


def _vector(field: str, values: np.ndarray, limit: int) -> dict[str, Any]:
    """The fields of an index vector of the schema, in the narrowest type for numbers below a limit."""
    from ai_edge_litert import schema_py_generated as schema

    _, dtype, name = _index_type(limit)
    vector = getattr(schema, f"{name}T")(values=values.astype(dtype))
    return {f"{field}Type": getattr(schema.SparseIndexVector, name), field: vector}


def _index_type(limit: int) -> tuple[int, type[np.integer], str]:
    """The narrowest index type for numbers below a limit: its own limit, NumPy's type, the schema's name."""
    return next(index_type for index_type in _INDEX_TYPES if limit <= index_type[0])
