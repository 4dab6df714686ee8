"""The inputs and outputs of a .tflite as an app sees them: names of the signature, shapes, types, quantisation."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amc_tf.errors import ConversionError
from amc_tf.tflite.flatbuffer import unpack


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a .tflite.

    Attributes:
        name: in the signature.
        shape: with the batch.
        dtype: NumPy's name of the type.
        scale, zero_point: a quantised integer stands for scale * (integer - zero_point); None for all other types.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


TensorSpecs = tuple[TensorSpec, ...]


def read_signature(tflite: Path) -> tuple[TensorSpecs, TensorSpecs] | None:
    """(inputs, outputs) in the order of the signature; None if the file is missing, damaged or has no signature."""
    try:
        model = unpack(tflite)
        signature = model.signatureDefs[0]
        tensors = model.subgraphs[signature.subgraphIndex].tensors
        return _specs(signature.inputs, tensors), _specs(signature.outputs, tensors)
    except (ConversionError, struct.error, LookupError, TypeError, ValueError, AttributeError):
        return None


def _specs(entries: Sequence[Any], tensors: Sequence[Any]) -> TensorSpecs:
    """The specs of a signature's TensorMapT entries, which point into the TensorT list of their subgraph."""
    return tuple(_spec(entry.name.decode(), tensors[entry.tensorIndex]) for entry in entries)


def _spec(name: str, tensor: Any) -> TensorSpec:
    from ai_edge_litert import schema_py_generated as schema

    types = {getattr(schema.TensorType, kind): kind.lower() for kind in dir(schema.TensorType) if kind.isupper()}
    shape = () if tensor.shape is None else tuple(map(int, tensor.shape))
    scale = getattr(tensor.quantization, "scale", None)
    if scale is None or len(scale) != 1:
        return TensorSpec(name, shape, types[tensor.type])
    return TensorSpec(name, shape, types[tensor.type], float(scale[0]), int(tensor.quantization.zeroPoint[0]))
