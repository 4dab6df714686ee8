"""Segments: the operators of a .tflite that are timed one by one, each as a small model of its own."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amc_tf.tflite import flatbuffer
from amc_tf.tflite.operators import names
from amc_tf.tflite.slicing.shapes import Place, Shapes, rewritten

_INTO_CONVOLUTION = ("PAD",)  # XNNPACK folds a padding into the next convolution if nothing else reads it
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_WORK = 4e6  # least multiplications of a small model: about 100 us on one core of a phone
_MOST_COPIES = 8
_COLD_BYTES = 4 << 20  # of weights: more than a core's second-level cache, which does not hold them in a network either
_MOST_COLD_COPIES = 16
_FLOAT32 = 0  # of the schema's TensorType
_WORK_OF_AN_ELEMENT = 10  # cost of moving one element, in multiplications, roughly

# Objects of the .tflite schema, see tflite.flatbuffer; their classes are generated.
Model = SubGraph = Tensor = Any


@dataclass(frozen=True)
class Segment:
    """One operator, or two that run as one. Its repr is part of the key of stored latency tables.

    Attributes:
        operators: Their indices in the file.
        rows: Indices of the lengths that numbers in the segment depend on, each once; those of its outputs last.
        kind: Segments of equal kinds are the same computation if their lengths have equal values.
    """

    operators: tuple[int, ...]
    rows: tuple[int, ...]
    kind: tuple


def segments(shapes: Shapes) -> list[Segment]:
    """All segments of a network's .tflite, in the order in which they run."""
    graph = shapes.model.subgraphs[0]
    op_names = names(shapes.model)
    readers: dict[int, list[int]] = {}
    for index, operator in enumerate(graph.operators):
        for tensor in operator.inputs:
            readers.setdefault(tensor, []).append(index)
    done: set[int] = set()
    result = []
    for index, operator in enumerate(graph.operators):
        if index in done:
            continue
        chain = (index,)
        after = readers.get(operator.outputs[0], []) if operator.outputs else []
        if op_names[index] in _INTO_CONVOLUTION and len(after) == 1 and op_names[after[0]] in _CONVOLUTIONS:
            chain = (index, after[0])
        done.update(chain)
        result.append(_segment(shapes, chain, [op_names[i] for i in chain]))
    return result


def model_of(shapes: Shapes, segment: Segment, values: Sequence[int]) -> tuple[bytes, int]:
    """A .tflite of one segment alone, which a small segment repeats side by side.

    The copies share their input but not their weights. There are two reasons for them. A small segment takes too little
    time beside the clock's resolution and the start of an inference. And if a segment has more weights than outputs,
    its weights must come from memory, as in a network, not from the cache that the inference before filled.

    Args:
        shapes, segment: Those of the network.
        values: Values of the lengths `segment.rows`.

    Returns:
        The file and the number of copies of the segment in it.
    """
    by_row = dict(zip(segment.rows, values, strict=True))
    numbers = {place: by_row[row] for place, row in _places(shapes, segment.operators).items()}
    alone, local = _extract(shapes.model, segment.operators, numbers)
    one = flatbuffer.unpack(rewritten(alone, local))
    count = _copies(one)
    return (flatbuffer.pack(_repeated(one, count)) if count > 1 else flatbuffer.pack(one)), count


def _segment(shapes: Shapes, operators: tuple[int, ...], op_names: list[str]) -> Segment:
    graph = shapes.model.subgraphs[0]
    places = _places(shapes, operators)
    outputs = {tensor for index in operators for tensor in graph.operators[index].outputs}
    output_rows = {row for place, row in places.items() if place[0] == "dim" and place[1] in outputs}
    rows = tuple(sorted(dict.fromkeys(places.values()), key=lambda row: row in output_rows))
    tensors = _tensors(graph, operators)
    kind: list = []
    for index, name in zip(operators, op_names, strict=True):
        operator = graph.operators[index]
        options = vars(operator.builtinOptions) if operator.builtinOptions is not None else {}
        kind += [name, tuple((f, str(v)) for f, v in options.items() if ("option", index, f, None) not in places)]
        kind.append(tuple(tensors.index(t) if t >= 0 else -1 for t in (*operator.inputs, *operator.outputs)))
    for tensor in tensors:
        sides = [int(side) for side in graph.tensors[tensor].shape] if graph.tensors[tensor].shape is not None else []
        side_rows = [places.get(("dim", tensor, axis)) for axis in range(len(sides))]
        kind.append(tuple(s if r is None else f"row {rows.index(r)}" for s, r in zip(sides, side_rows, strict=True)))
        if graph.tensors[tensor].type != _FLOAT32:
            kind.append(int(graph.tensors[tensor].type))
    return Segment(operators, rows, tuple(kind))


def _tensors(graph: SubGraph, operators: Sequence[int]) -> list[int]:
    """Indices of all tensors that the operators read or write, in the order of use."""
    used = (t for i in operators for t in (*graph.operators[i].inputs, *graph.operators[i].outputs) if t >= 0)
    return list(dict.fromkeys(int(t) for t in used))


def _places(shapes: Shapes, operators: Sequence[int]) -> dict[Place, int]:
    """The numbers in the operators and their tensors that depend on a length: place -> index of the length."""
    tensors = set(_tensors(shapes.model.subgraphs[0], operators))
    return {
        place: row
        for place, row in shapes.places.items()
        if place[1] in (operators if place[0] == "option" else tensors)
    }


def _extract(model: Model, operators: Sequence[int], numbers: Mapping[Place, int]) -> tuple[Model, dict[Place, int]]:
    """A model of these operators alone, and the numbers at their places in it."""
    graph = model.subgraphs[0]
    tensors = _tensors(graph, operators)
    new_index = {tensor: index for index, tensor in enumerate(tensors)}
    written = [t for i in operators for t in graph.operators[i].outputs]
    read = {t for i in operators for t in graph.operators[i].inputs}
    file, alone = copy.copy(model), copy.copy(graph)
    alone.tensors = [graph.tensors[tensor] for tensor in tensors]
    alone.operators = []
    for index in operators:
        operator = copy.copy(graph.operators[index])
        operator.inputs = [new_index.get(t, -1) for t in operator.inputs]
        operator.outputs = [new_index[t] for t in operator.outputs]
        alone.operators.append(operator)
    constant = {t for t in tensors if model.buffers[graph.tensors[t].buffer].data is not None}
    alone.inputs = [new_index[t] for t in tensors if t not in constant and t not in written]
    alone.outputs = [new_index[t] for t in written if t not in read]
    file.subgraphs = [alone, *model.subgraphs[1:]]  # loops refer to their bodies by number
    file.signatureDefs = file.metadata = file.metadataBuffer = None
    places = {}
    for (sort, index, *rest), number in numbers.items():
        places[(sort, operators.index(index) if sort == "option" else new_index[index], *rest)] = number
    return file, places


def _repeated(model: Model, count: int) -> Model:
    """The same operators `count` times side by side. All copies read the same inputs; each has its own constants."""
    graph = model.subgraphs[0]
    file, wide = copy.copy(model), copy.copy(graph)
    wide.tensors, wide.operators, wide.outputs = list(graph.tensors), list(graph.operators), list(graph.outputs)
    file.subgraphs, file.buffers = [wide, *model.subgraphs[1:]], list(model.buffers)
    for number in range(1, count):
        new_index = {}
        for index, tensor in enumerate(graph.tensors):
            if index in graph.inputs:
                new_index[index] = index
                continue
            new = copy.copy(tensor)
            new.name = b"%s_%d" % (tensor.name or b"tensor", number)
            if model.buffers[tensor.buffer].data is not None:
                file.buffers.append(copy.copy(model.buffers[tensor.buffer]))
                new.buffer = len(file.buffers) - 1
            new_index[index] = len(wide.tensors)
            wide.tensors.append(new)
        for operator in graph.operators:
            new = copy.copy(operator)
            new.inputs = [new_index.get(int(t), -1) for t in operator.inputs]
            new.outputs = [new_index[int(t)] for t in operator.outputs]
            wide.operators.append(new)
        wide.outputs += [new_index[int(t)] for t in graph.outputs]
    return file


def _copies(model: Model) -> int:
    """Number of copies of the operators of a small model."""
    graph = model.subgraphs[0]
    count = np.clip(np.ceil(_WORK / max(1.0, _work(model))), 1, _MOST_COPIES)
    weights = sum(buffer.data.size for buffer in model.buffers if buffer.data is not None)
    outputs = sum(_bytes(graph.tensors[tensor]) for tensor in graph.outputs)
    if weights > outputs:
        count = max(count, min(np.ceil(_COLD_BYTES / weights), _MOST_COLD_COPIES))
    return int(count)


def _work(model: Model) -> float:
    """Multiplications of one inference, roughly; it decides the number of copies."""
    graph = model.subgraphs[0]
    work = 0.0
    for operator in graph.operators:
        shape = graph.tensors[operator.outputs[0]].shape
        elements = float(np.prod(shape))
        weights = [
            np.prod(t.shape) for t in (graph.tensors[i] for i in operator.inputs if i >= 0)
            if model.buffers[t.buffer].data is not None and t.shape is not None and len(t.shape) > 1
        ]  # fmt: skip
        channels = max(1, int(shape[-1])) if len(shape) else 1
        work += elements * max([_WORK_OF_AN_ELEMENT, *(float(w) / channels for w in weights)])
    return work


def _bytes(tensor: Tensor) -> float:
    """Bytes of a float32 or 8-bit tensor."""
    return (4 if tensor.type == _FLOAT32 else 1) * float(np.prod(tensor.shape))
