"""ModelIO: the inputs and outputs of a .tflite, and a check that examples fit them."""

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
    """An input of a .tflite.

    Attributes:
        index: number of its tensor.
        name, shape, dtype: of its tensor; the shape's first side is the batch.
        scale, zero: see Output.
    """

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
        index: number of its tensor.
        scale, zero: a quantised number q stands for scale * (q - zero); scale is None if the tensor is not quantised.
    """

    index: int
    scale: float | None
    zero: int


@dataclass(frozen=True)
class ModelIO:
    """All inputs and outputs of a .tflite."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]


def read_model_io(data: bytes) -> ModelIO:
    """Reads inputs and outputs in the order of the signature, or of the first subgraph if there is no signature.

    The runtime does not tell that order: it sorts a signature's names.

    Raises:
        ConversionError: the .tflite is damaged.
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
        return ModelIO(
            tuple(
                Input(
                    number,
                    t.name.decode(),
                    tuple(map(int, t.shape if t.shape is not None else ())),
                    _dtype(t.type),
                    *_quantization(t),
                )
                for number, t in tensors
            ),
            tuple(Output(int(number), *_quantization(graph.tensors[number])) for number in results),
        )
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, MemoryError) as error:
        raise ConversionError(
            f"The .tflite is damaged, perhaps cut short ({next(iter(str(error).splitlines()), type(error).__name__)}); "
            f"make it anew."
        ) from error


def _quantization(tensor: Any) -> tuple[float | None, int]:
    """Scale and zero of a tensor; (None, 0) if it is not quantised as a whole."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) != 1:
        return None, 0
    return float(quantization.scale[0]), int(quantization.zeroPoint[0])


def _dtype(number: int) -> np.dtype:
    """NumPy's type for a TensorType of the schema; `V` (void) for types that are no numbers."""
    from ai_edge_litert import schema_py_generated as schema

    names = {getattr(schema.TensorType, name): name.lower() for name in dir(schema.TensorType) if name.isupper()}
    try:
        return np.dtype(names[number])
    except (KeyError, TypeError):  # strings, resources, numbers of four bits
        return np.dtype("V")


def batch_size(model_io: ModelIO, dataset: SharedDataset) -> int:
    """How many examples a .tflite takes at once.

    Raises:
        ConversionError: its inputs do not fit the examples.
    """
    if len(model_io.inputs) != len(dataset.shapes):
        raise ConversionError(
            f"The .tflite has {len(model_io.inputs)} inputs, but the examples have {len(dataset.shapes)}; convert the "
            f"model that they belong to."
        )
    for tensor, shape, dtype, limits in zip(
        model_io.inputs, dataset.shapes, dataset.dtypes, dataset.ranges, strict=True
    ):
        if tensor.shape[:1] != model_io.inputs[0].shape[:1] or not tensor.shape or tensor.shape[0] < 1:
            raise ConversionError(
                f"The .tflite's inputs have shapes {[each.shape for each in model_io.inputs]}; expected the same batch "
                f"as the first side of each: convert the model with the batch fixed."
            )
        if tensor.shape[1:] != shape:
            raise ConversionError(
                f"The .tflite's input {tensor.name!r} takes examples of shape {tensor.shape[1:]}, but the shared ones "
                f"have shape {shape}; convert the model that they belong to."
            )
        if tensor.scale is None and not _holds(tensor.dtype, dtype, limits):
            raise ConversionError(
                f"The .tflite's input {tensor.name!r} is of type {tensor.dtype}, which cannot hold the examples' "
                f"{dtype}{f' from {limits[0]} to {limits[1]}' if dtype.kind in 'iu' else ''}; convert the model that "
                f"they belong to."
            )
    return model_io.inputs[0].shape[0]


def _holds(target: np.dtype, dtype: np.dtype, limits: tuple[int, int]) -> bool:
    """Whether another type may hold the values of a dtype within limits. Floats may lose digits, integers nothing."""
    if target.kind == "f":
        return True
    if target.kind in "iu" and dtype.kind in "iu":
        return np.iinfo(target).min <= limits[0] and limits[1] <= np.iinfo(target).max
    return target.kind in "biu" and np.can_cast(dtype, target)
