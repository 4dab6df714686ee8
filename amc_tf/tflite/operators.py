"""Operators of a .tflite and the tensors that they read and write, without the weights."""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from amc_tf.checks import is_whole
from amc_tf.tflite.flatbuffer import unpack


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        name: of the schema ("CONV_2D"), or the custom code of a custom operator ("FlexErf").
        custom: it is a custom operator.
        activation: it has a fused activation.
        inputs, outputs: numbers of tensors within its subgraph; -1 for an absent optional input.
    """

    name: str
    custom: bool
    activation: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """One tensor.

    Attributes:
        name, shape: of the tensor.
        signature: the shape with -1 for sizes that may change at run time.
        constant: its values are in the file.
    """

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    constant: bool


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
    """The subgraphs of a .tflite, without its weights.

    Raises:
        ConversionError: there is no such file, or it is no .tflite.
    """
    model = unpack(tflite)
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
    return Operator(
        name=name,
        custom=custom,
        activation=bool(getattr(op.builtinOptions, "fusedActivationFunction", 0)),  # 0 is NONE
        inputs=tuple(map(int, op.inputs)) if op.inputs is not None else (),
        outputs=tuple(map(int, op.outputs)) if op.outputs is not None else (),
    )


def _value(tensor: Any, buffers: list[Any]) -> Value:
    shape = tuple(map(int, tensor.shape)) if tensor.shape is not None else ()
    return Value(
        name=(tensor.name or b"").decode(),
        shape=shape,
        signature=tuple(map(int, tensor.shapeSignature)) if tensor.shapeSignature is not None else shape,
        constant=buffers[tensor.buffer].data is not None,
    )


@cache
def _names() -> dict[int, str]:
    """BuiltinOperator of the schema, number -> name."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {number: name for name, number in vars(BuiltinOperator).items() if is_whole(number)}
