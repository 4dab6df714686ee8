"""Reads a .tflite into a plain graph: operators, the tensors that they read and write, and the bodies of its loops."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from amc_tf.checks import is_whole
from amc_tf.tflite.flatbuffer import unpack

# Options that hold the number of a subgraph, in the order in which Operator.subgraphs has them.
_SUBGRAPHS = (
    "condSubgraphIndex", "bodySubgraphIndex",  # WHILE
    "thenSubgraphIndex", "elseSubgraphIndex",  # IF
    "initSubgraphIndex",  # CALL_ONCE
    "subgraph",  # CALL
    "decompositionSubgraphIndex",  # STABLEHLO_COMPOSITE
)  # fmt: skip
_NUMPY_NAMES = {
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "complex64", "complex128",
}  # fmt: skip
_BITS = {"INT2": 2, "INT4": 4, "UINT4": 4, "BFLOAT16": 16, "FLOAT8_E4M3FN": 8, "FLOAT8_E5M2": 8}  # not in NumPy


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        name: of the schema ("CONV_2D"), or the custom code of a custom operator ("FlexErf").
        custom: it is a custom operator.
        activation: it has a fused activation.
        inputs, outputs: numbers of tensors within its subgraph; -1 for an absent optional input.
        options: its own settings, by the schema's names: "strideH", "keepDims".
        subgraphs: numbers of the subgraphs that it runs: condition and body of a loop, both branches of a choice.
    """

    name: str
    custom: bool
    activation: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    subgraphs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Value:
    """One tensor.

    Attributes:
        name, shape: of the tensor.
        signature: the shape with -1 for sizes that may change at run time.
        constant: its values are in the file.
        bytes: size of its values; 0 for strings and resources, whose size the file does not tell.
        data: the values of a constant as the file holds them, a view of uint8; None of other tensors.
        dtype: type of its values; None for types that NumPy does not have.
        quantized: its whole numbers stand for others, by a scale.
    """

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    constant: bool
    bytes: int = 0
    data: np.ndarray | None = field(default=None, repr=False, compare=False)
    dtype: np.dtype | None = None
    quantized: bool = False

    @property
    def values(self) -> np.ndarray | None:
        """The values of a constant, in its shape; None if there are none, or its type or form is not plain."""
        if self.data is None or self.dtype is None or self.data.size != self.bytes:
            return None
        return np.ascontiguousarray(self.data).view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Subgraph:
    """One function of the file; the first is the network, others are bodies of loops."""

    operators: tuple[Operator, ...]
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def readers(self, value: int) -> list[Operator]:
        """The operators that read a tensor."""
        return [operator for operator in self.operators if value in operator.inputs]


def operators(tflite: bytes | str | Path) -> Counter[str]:
    """How often each operator occurs, including the subgraphs of loops.

    Raises:
        ConversionError: there is no such file, or it is no .tflite.
    """
    return Counter(operator.name for subgraph in read(tflite) for operator in subgraph.operators)


def read(tflite: bytes | str | Path) -> tuple[Subgraph, ...]:
    """The subgraphs of a .tflite. The values of constants are views of the file.

    Raises:
        ConversionError: there is no such file, or it is no .tflite.
    """
    return read_model(unpack(tflite))


def read_model(model: Any) -> tuple[Subgraph, ...]:
    """The subgraphs of a ModelT."""
    return tuple(
        Subgraph(
            operators=tuple(_operator(model.operatorCodes[op.opcodeIndex], op) for op in subgraph.operators or ()),
            values=tuple(_value(tensor, model.buffers) for tensor in subgraph.tensors),
            inputs=tuple(map(int, subgraph.inputs)),
            outputs=tuple(map(int, subgraph.outputs)),
        )
        for subgraph in model.subgraphs
    )


def names(model: Any) -> list[str]:
    """Names of the operators in the first subgraph of a ModelT, in execution order."""
    return [_name(model.operatorCodes[operator.opcodeIndex])[0] for operator in model.subgraphs[0].operators]


def _name(code: Any) -> tuple[str, bool]:
    """The name of an operator code, and whether it is a custom operator's."""
    name = _names()[max(code.builtinCode, code.deprecatedBuiltinCode)]  # old files fill only the deprecated field
    return (code.customCode.decode(), True) if name == "CUSTOM" else (name, False)


def _operator(code: Any, op: Any) -> Operator:
    name, custom = _name(code)
    options = vars(op.builtinOptions or op.builtinOptions2 or SimpleNamespace())
    return Operator(
        name=name,
        custom=custom,
        activation=bool(getattr(op.builtinOptions, "fusedActivationFunction", 0)),  # 0 is NONE
        inputs=tuple(map(int, op.inputs)) if op.inputs is not None else (),
        outputs=tuple(map(int, op.outputs)) if op.outputs is not None else (),
        options=options,
        subgraphs=tuple(int(options[field]) for field in _SUBGRAPHS if field in options),
    )


def _value(tensor: Any, buffers: list[Any]) -> Value:
    shape = tuple(map(int, tensor.shape)) if tensor.shape is not None else ()
    dtype, data = _dtypes().get(tensor.type), buffers[tensor.buffer].data
    return Value(
        name=(tensor.name or b"").decode(),
        shape=shape,
        signature=tuple(map(int, tensor.shapeSignature)) if tensor.shapeSignature is not None else shape,
        constant=data is not None,
        bytes=_bytes(tensor.type, math.prod(shape)),
        data=data,
        dtype=dtype,
        quantized=getattr(tensor.quantization, "scale", None) is not None,
    )


def _bytes(tensor_type: int, elements: int) -> int:
    """Size of so many elements; smaller ones than a byte share it."""
    dtype = _dtypes().get(tensor_type)
    bits = _bits().get(tensor_type, 0) if dtype is None else 8 * dtype.itemsize
    return -(-elements * bits // 8)


@cache
def _dtypes() -> dict[int, np.dtype]:
    """TensorType of the schema -> the NumPy type of its values."""
    return {number: np.dtype(name.lower()) for name, number in _types().items() if name.lower() in _NUMPY_NAMES}


@cache
def _bits() -> dict[int, int]:
    """TensorType of the schema -> bits of one value, for types that NumPy does not have."""
    return {number: _BITS[name] for name, number in _types().items() if name in _BITS}


@cache
def _types() -> dict[str, int]:
    from ai_edge_litert.schema_py_generated import TensorType

    return {name: number for name, number in vars(TensorType).items() if is_whole(number)}


@cache
def _names() -> dict[int, str]:
    """BuiltinOperator of the schema, number -> name."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {number: name for name, number in vars(BuiltinOperator).items() if is_whole(number)}
