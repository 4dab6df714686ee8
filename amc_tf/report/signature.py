"""The inputs and outputs of a .tflite as an app meets them: by the names of its signature, and what integers mean."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amc_tf.errors import ConversionError
from amc_tf.tflite.flatbuffer import unpack


@dataclass(frozen=True)
class End:
    """An input or output.

    Attributes:
        name: in the signature.
        shape: with the batch.
        dtype: as NumPy calls it.
        scale, zero_point: what an integer stands for, scale * (integer - zero_point); None for what is no such integer.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


def ends(tflite: Path) -> tuple[tuple[End, ...], tuple[End, ...]] | None:
    """(inputs, outputs) of a file in the order of its signature; None where it is missing, damaged or has none."""
    try:
        file = unpack(tflite)
        signature = file.signatureDefs[0]
        tensors = file.subgraphs[signature.subgraphIndex].tensors
        return _side(signature.inputs, tensors), _side(signature.outputs, tensors)
    except (ConversionError, struct.error, LookupError, TypeError, ValueError, AttributeError):
        return None


def _side(entries: Sequence[Any], tensors: Sequence[Any]) -> tuple[End, ...]:
    return tuple(_end(entry.name.decode(), tensors[entry.tensorIndex]) for entry in entries)


def _end(name: str, tensor: Any) -> End:
    from ai_edge_litert import schema_py_generated as schema

    types = {getattr(schema.TensorType, kind): kind.lower() for kind in dir(schema.TensorType) if kind.isupper()}
    shape = () if tensor.shape is None else tuple(map(int, tensor.shape))
    scale = getattr(tensor.quantization, "scale", None)
    if scale is None or len(scale) != 1:
        return End(name, shape, types[tensor.type])
    return End(name, shape, types[tensor.type], float(scale[0]), int(tensor.quantization.zeroPoint[0]))
