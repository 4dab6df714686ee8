"""Ends: the inputs and outputs of a .tflite, and whether examples fit them."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from amc_tf.errors import ConversionError
from amc_tf.tflite.conversion.keras_to_tflite import SIGNATURE
from amc_tf.tflite.flatbuffer import unpack
from amc_tf.tflite.runtime.shared_dataset import SharedDataset


@dataclass(frozen=True)
class Input:
    """An input of a .tflite; `index` is the number of its tensor, `scale` and `zero` see Output."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    scale: float | None = None
    zero: int = 0


@dataclass(frozen=True)
class Output:
    """An output of a .tflite.

    Attributes:
        index: the number of its tensor.
        scale, zero: the number q in it stands for scale * (q - zero); scale None where it stands for itself.
    """

    index: int
    scale: float | None
    zero: int


@dataclass(frozen=True)
class Ends:
    """Where a .tflite begins and ends."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]


def ends_of(data: bytes) -> Ends:
    """Inputs and outputs in the order of the signature; in that of the first subgraph where there is none.

    The runtime is no help here: it sorts a signature's names.
    """
    try:
        file = unpack(data)
        graph = file.subgraphs[0]
        signature = next(
            (s for s in file.signatureDefs or () if s.signatureKey in (SIGNATURE, SIGNATURE.encode())), None
        )
        if signature is None or signature.subgraphIndex != 0:
            inputs, results = (() if side is None else side for side in (graph.inputs, graph.outputs))
        else:
            inputs, results = ([entry.tensorIndex for entry in side] for side in (signature.inputs, signature.outputs))
        tensors = [(int(number), graph.tensors[number]) for number in inputs]
        return Ends(
            tuple(
                Input(
                    number,
                    t.name.decode(),
                    tuple(map(int, t.shape if t.shape is not None else ())),
                    _dtype(t.type),
                    *_stands_for(t),
                )
                for number, t in tensors
            ),
            tuple(Output(int(number), *_stands_for(graph.tensors[number])) for number in results),
        )
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, MemoryError) as error:
        raise ConversionError(
            f"The .tflite is damaged, perhaps cut short ({next(iter(str(error).splitlines()), type(error).__name__)}); "
            f"make it anew."
        ) from error


def _stands_for(tensor: Any) -> tuple[float | None, int]:
    """Scale and zero of a quantised tensor."""
    told = tensor.quantization
    if told is None or told.scale is None or len(told.scale) != 1:
        return None, 0
    return float(told.scale[0]), int(told.zeroPoint[0])


def _dtype(number: int) -> np.dtype:
    """NumPy's type for one of the schema's; `V` (void) for what is no number."""
    from ai_edge_litert import schema_py_generated as schema

    names = {getattr(schema.TensorType, name): name.lower() for name in dir(schema.TensorType) if name.isupper()}
    try:
        return np.dtype(names[number])
    except (KeyError, TypeError):  # strings, resources, numbers of four bits
        return np.dtype("V")


def batch_of(ends: Ends, held: SharedDataset) -> int:
    """How many examples a file takes at once.

    Raises:
        ConversionError: its inputs are not those of the examples.
    """
    if len(ends.inputs) != len(held.shapes):
        raise ConversionError(
            f"The .tflite has {len(ends.inputs)} inputs, but the examples are of {len(held.shapes)}; convert the model "
            f"that they belong to."
        )
    for given, shape, dtype, limits in zip(ends.inputs, held.shapes, held.dtypes, held.ranges, strict=True):
        if given.shape[:1] != ends.inputs[0].shape[:1] or not given.shape or given.shape[0] < 1:
            raise ConversionError(
                f"The .tflite's inputs have shapes {[tensor.shape for tensor in ends.inputs]}; expected the same batch "
                f"as the first side of each: convert the model with the batch fixed."
            )
        if given.shape[1:] != shape:
            raise ConversionError(
                f"The .tflite's input {given.name!r} takes examples of shape {given.shape[1:]}, but those held are of "
                f"shape {shape}; convert the model that they belong to."
            )
        if given.scale is None and not _holds(given.dtype, dtype, limits):
            raise ConversionError(
                f"The .tflite's input {given.name!r} is of type {given.dtype}, which cannot hold the examples' "
                f"{dtype}{f' from {limits[0]} to {limits[1]}' if dtype.kind in 'iu' else ''}; convert the model that "
                f"they belong to."
            )
    return ends.inputs[0].shape[0]


def _holds(target: np.dtype, dtype: np.dtype, limits: tuple[int, int]) -> bool:
    """Whether examples keep their meaning as another type; floats may lose digits, integers may lose nothing."""
    if target.kind == "f":
        return True
    if target.kind in "iu" and dtype.kind in "iu":
        return np.iinfo(target).min <= limits[0] and limits[1] <= np.iinfo(target).max
    return target.kind in "biu" and np.can_cast(dtype, target)
