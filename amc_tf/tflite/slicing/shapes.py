"""Shapes: every number in a .tflite that follows the widths, found by probe conversions of a few odd widths.

The converter folds, fuses and renames, so nothing in its file says which channel an axis came from. But every length in
a network is affine in the widths of its units (`pruning.lengths`). So the whole network and a few of odd widths are
converted once: a number that differs between their files must follow the one length that takes those very values.
Their weights are random, since the converter drops what is all zeros or ones, and so that the constants tell what they
are made of (weight_mapping.py).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amc_tf.checks import is_whole
from amc_tf.errors import ConversionError
from amc_tf.pruning.lengths import Lengths
from amc_tf.pruning.pruner import Pruner
from amc_tf.tflite import flatbuffer
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.operators import names

# Where a number stands: ("dim", tensor, axis), ("element", tensor, position) or ("option", operator, field, position).
Place = tuple[str | int, ...]

_PROBES = (2, 3, 4, 6)  # narrower networks that are converted: as few as tell all lengths apart
_DRAWS = 200  # of widths, for each number of probes
_LEAST_SHARE = 0.5  # of the channels that a probe keeps; a network of single channels might be converted differently


@dataclass(frozen=True)
class Probe:
    """A network of some widths that was converted.

    Attributes:
        widths: of the units.
        weights: layer path -> arrays; random in every layer that has channels.
        file: ModelT; no two of its operators share a constant.
    """

    widths: tuple[int, ...]
    weights: Mapping[str, tuple[np.ndarray, ...]]
    file: Any


class Shapes:
    """The shapes of one network's .tflite at any widths.

    Args:
        pruning: of the network.
        to_tflite: what converts it, Keras model -> .tflite; default: `convert`.
        seed: of the widths and weights of the probes.

    Attributes:
        lengths: every different length that varies.
        places: place -> index of the length that the number there follows.
        probes: the networks that were converted, the whole one first.

    Raises:
        ConversionError: the converter makes files of another structure at other widths, or a number follows no length.
    """

    def __init__(self, pruning: Pruner, to_tflite: Callable[[Any], bytes] | None = None, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.lengths = pruning.lengths
        widths = [self.lengths.full, *_telling(self.lengths, rng)]
        self.probes = [_probe(pruning, tuple(row), to_tflite or convert, rng) for row in widths]
        self.places = _places([probe.file for probe in self.probes], np.stack([self.lengths(row) for row in widths]))

    @property
    def model(self) -> Any:
        """The whole network's file as a ModelT of the schema; not to be changed."""
        return self.probes[0].file

    def tflite(self, widths: Sequence[int]) -> bytes:
        """A .tflite of the shapes that a plan's has at these widths: good for its time, not for what it computes."""
        return rewritten(self.model, self.numbers(widths))

    def numbers(self, widths: Sequence[int]) -> dict[Place, int]:
        """The numbers that follow the widths, at these widths."""
        lengths = self.lengths(widths).tolist()
        return {place: lengths[row] for place, row in self.places.items()}


def rewritten(
    model: Any, numbers: Mapping[Place, int], constants: Mapping[int, Callable[[Any], np.ndarray]] | None = None
) -> bytes:
    """A .tflite with other numbers at some places; of constants that shrink, and of the scales that they are quantised
    with, the leading part of each axis stays.

    Args:
        model: ModelT in which no two operators share a constant; not changed.
        numbers: place -> number.
        constants: tensor of floats -> what makes its new values, given its new shape.
    """
    constants = constants or {}
    file = copy.copy(model)
    graph = copy.copy(model.subgraphs[0])
    file.subgraphs, file.buffers = [graph, *model.subgraphs[1:]], list(model.buffers)
    graph.tensors, graph.operators = list(graph.tensors), list(graph.operators)
    sides: dict[int, dict[int, int]] = {tensor: {} for tensor in constants}
    elements: dict[int, dict[int, int]] = {}
    for (sort, index, what, *_), number in numbers.items():
        if sort != "option":
            (sides if sort == "dim" else elements).setdefault(index, {})[what] = number
    for tensor in sides.keys() | elements.keys():
        new = graph.tensors[tensor] = copy.copy(graph.tensors[tensor])
        old = [int(side) for side in new.shape]
        new.shape = np.array([sides.get(tensor, {}).get(axis, side) for axis, side in enumerate(old)], np.int32)
        if new.shapeSignature is not None:
            new.shapeSignature = new.shape
        if _scales(new) > 1:
            new.quantization = told = copy.copy(new.quantization)
            length = new.shape[told.quantizedDimension]
            told.scale, told.zeroPoint = told.scale[:length], told.zeroPoint[:length]
        data = file.buffers[new.buffer].data
        if data is None:
            continue
        if tensor in constants:
            values = np.ascontiguousarray(constants[tensor](new.shape), np.float32)
        else:
            values = np.frombuffer(np.ascontiguousarray(data), _dtype(len(data), old)).reshape(old)
            values = np.array(values[tuple(slice(side) for side in new.shape)], order="C")
            for position, number in elements.get(tensor, {}).items():
                values.reshape(-1)[position] = number
        buffer = copy.copy(file.buffers[new.buffer])
        buffer.data = values.reshape(-1).view(np.uint8)
        new.buffer = len(file.buffers)
        file.buffers.append(buffer)
    for _, operator, field, position in (place for place in numbers if place[0] == "option"):
        new = graph.operators[operator] = copy.copy(graph.operators[operator])
        new.builtinOptions = options = copy.copy(new.builtinOptions)
        value = getattr(options, field)
        if position is None:
            setattr(options, field, numbers["option", operator, field, None])
        else:
            values = np.array(value)
            values[position] = numbers["option", operator, field, position]
            setattr(options, field, values)
    used = {tensor.buffer for subgraph in file.subgraphs for tensor in subgraph.tensors}
    empty = copy.copy(model.buffers[0])
    file.buffers = [buffer if index in used or not index else empty for index, buffer in enumerate(file.buffers)]
    return flatbuffer.pack(file)


def _probe(
    pruning: Pruner, widths: tuple[int, ...], to_tflite: Callable[[Any], bytes], rng: np.random.Generator
) -> Probe:
    """The network of these widths with random weights, all of them different and none of a layer's near zero."""
    plan = pruning.plan(widths)
    weights = pruning.sliced(plan)
    channels = {layer for layer, _, _ in pruning.groups.axes}
    for layer, described in pruning.graph.weights.items():
        if layer in channels or any(weight.name == "moving_variance" for weight in described):
            arrays = zip(described, weights[layer], strict=True)
            weights[layer] = tuple(_drawn(rng, weight.name, array) for weight, array in arrays)
    file = flatbuffer.unpack(to_tflite(pruning.apply(plan, weights)))
    _unshare(file)
    return Probe(widths, weights, file)


def _drawn(rng: np.random.Generator, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    values = rng.uniform(0.5, 1.5, array.shape)
    if array.ndim > 1:
        values /= np.sqrt(np.prod(array.shape[:-1]))  # keeps signals near 1, so that the network can be quantised
    return (values if "variance" in name else values * rng.choice((-1, 1), array.shape)).astype(array.dtype)


def _telling(lengths: Lengths, rng: np.random.Generator) -> np.ndarray:
    """Widths (probes, units) at which, and at full width, every length varies and no two take the same values."""
    least = np.maximum(1, np.ceil(lengths.full * _LEAST_SHARE)).astype(int)
    for probes in _PROBES if len(lengths.fixed) else (1,):
        for _ in range(_DRAWS):
            widths = rng.integers(least, lengths.full + 1, size=(probes, len(lengths.full)))
            values = np.stack([lengths(row) for row in (lengths.full, *widths)])
            if len(np.unique(values.T, axis=0)) == values.shape[1] and (values != values[0]).any(axis=0).all():
                return widths
    raise ConversionError(
        f"The {len(lengths.fixed)} lengths that vary in the network cannot be told apart by {_PROBES[-1]} conversions, "
        f"so that the shapes of a candidate cannot be foretold; freeze some layers."
    )


def _places(files: list[Any], values: np.ndarray) -> dict[Place, int]:
    """Which length each number follows that is not the same in all files; `values` is (files, lengths)."""
    found = [dict(_numbers(file)) for file in files]
    structure = [_structure(file) for file in files]
    if any(other != structure[0] for other in structure) or any(f.keys() != found[0].keys() for f in found):
        raise ConversionError(
            "The converter makes a .tflite of other operators when the network is narrower, so that the shapes of a "
            "candidate cannot be foretold; freeze the layers in question."
        )
    rows = {tuple(column): row for row, column in enumerate(values.T.tolist())}
    places = {}
    for place, first in found[0].items():
        taken = tuple(file[place] for file in found)
        if any(number != first for number in taken):
            if taken not in rows:
                raise ConversionError(
                    f"{_told(files[0], place)} in the .tflite is {taken} at {len(taken)} sets of widths, which no "
                    f"channel axis of the network explains; freeze the layers there."
                )
            places[place] = rows[taken]
    return places


def _told(file: Any, place: Place) -> str:
    """A place in words; the names of tensors hold those of the Keras layers that made them."""
    graph, (sort, index, what, *_) = file.subgraphs[0], place
    if sort == "option":
        return f"The option {what} of operator {index} ({names(file)[index]})"
    name = (graph.tensors[index].name or b"").decode()
    return f"{'Axis' if sort == 'dim' else 'Element'} {what} of tensor {name!r}"


def _structure(file: Any) -> list[tuple]:
    """What must be the same in all files: operators and what they are wired to."""
    graph = file.subgraphs[0]
    codes = [(max(c.builtinCode, c.deprecatedBuiltinCode), c.customCode) for c in file.operatorCodes]
    return [(codes[op.opcodeIndex], tuple(op.inputs), tuple(op.outputs)) for op in graph.operators]


def _numbers(file: Any):
    """(place, number) of every number that might follow the widths."""
    graph = file.subgraphs[0]
    for index, tensor in enumerate(graph.tensors):
        shape = [] if tensor.shape is None else tensor.shape
        yield from ((("dim", index, axis), int(side)) for axis, side in enumerate(shape))
        data = file.buffers[tensor.buffer].data
        if data is not None and tensor.type == _int32() and not _scales(tensor):  # no bias of a quantised layer
            values = np.frombuffer(np.ascontiguousarray(data), np.int32)
            yield from ((("element", index, position), int(value)) for position, value in enumerate(values))
    for index, operator in enumerate(graph.operators):
        for field, value in vars(operator.builtinOptions).items() if operator.builtinOptions is not None else ():
            if is_whole(value):
                yield ("option", index, field, None), int(value)
            elif isinstance(value, (list, np.ndarray)):
                yield from ((("option", index, field, position), int(v)) for position, v in enumerate(value))


def _unshare(file: Any) -> None:
    """Gives each operator its own constants, and numbers the tensors in the order of their use.

    The converter lets operators share constants that happen to be equal, which they are not at other widths.
    """
    graph, buffers = file.subgraphs[0], file.buffers
    order: list[int] = []
    numbers: dict[int, int] = {}

    def number(tensor: int) -> int:
        if tensor < 0:
            return tensor
        if buffers[graph.tensors[tensor].buffer].data is not None or tensor not in numbers:
            order.append(tensor)
            numbers[tensor] = len(order) - 1
            return len(order) - 1
        return numbers[tensor]

    graph.inputs = [number(int(tensor)) for tensor in graph.inputs]
    for operator in graph.operators:
        operator.inputs = [number(int(tensor)) for tensor in operator.inputs]
        operator.outputs = [number(int(tensor)) for tensor in operator.outputs]
    graph.outputs = [numbers[int(tensor)] for tensor in graph.outputs]
    graph.tensors = [copy.copy(graph.tensors[tensor]) for tensor in order]
    for signature in file.signatureDefs or ():
        for named in (*signature.inputs, *signature.outputs):
            named.tensorIndex = numbers[int(named.tensorIndex)]


def _scales(tensor: Any) -> int:
    """How many scales a tensor is quantised with: none, one, or one for each position of an axis."""
    told = tensor.quantization
    return 0 if told is None or told.scale is None else len(told.scale)


def _int32() -> int:
    from ai_edge_litert.schema_py_generated import TensorType

    return TensorType.INT32


def _dtype(size: int, shape: list[int]) -> np.dtype:
    """An unsigned type as wide as one element: slicing need not know what the bytes mean."""
    return np.dtype(f"u{size // max(1, int(np.prod(shape)))}")
