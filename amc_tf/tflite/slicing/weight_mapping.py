"""Weight mapping: which formula computes which constant of a .tflite, found in probe conversions of random weights.

That is found by comparing numbers: those of a network with random weights (`shapes.Probe`) can hardly be equal
by chance, and a second network must agree.
"""

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from amc_tf.errors import ConversionError
from amc_tf.graph.network import Graph
from amc_tf.tflite.operators import names
from amc_tf.tflite.slicing.shapes import Probe
from amc_tf.tflite.slicing.weight_formulas import Bias, Formula, Kernel, Norm, Scale, Shift, Weights

_NEAR = 1e-4  # of the largest value: the converter folds in float32
_SAMPLES = 24  # numbers that are compared before whole arrays are


def find(graph: Graph, whole: Probe, narrow: Probe, varying: Collection[tuple[int, int]]) -> dict[int, Formula]:
    """The formula of every constant that follows the weights.

    Args:
        graph: the network.
        whole, narrow: the whole network and a narrower one, with other random weights.
        varying: (tensor, axis) of every axis in the file whose length follows the widths.

    Returns:
        Tensor -> formula.

    Raises:
        ConversionError: a constant is made of the weights in a way that is not known here.
    """
    norms = list(dict.fromkeys(_norms(graph)))
    found: dict[int, Formula] = {}
    called = names(whole.file)
    for index, operator in enumerate(whole.file.subgraphs[0].operators):
        for position, tensor in enumerate(operator.inputs):
            values, expected = _values(narrow.file, tensor), _values(whole.file, tensor)
            if values is None or np.array_equal(values, expected[tuple(map(slice, values.shape))]):
                continue  # not a constant, or one that has nothing to do with weights
            still = [axis for axis in range(values.ndim) if (tensor, axis) not in varying]
            formulas = _matching(values, norms, narrow.weights, whole.weights, still)
            formula = next((f for f in formulas if _agrees(f, whole.weights, expected)), None)
            if formula is None:
                raise ConversionError(
                    f"Constant {position} of operator {index} ({called[index]}) in the .tflite, of shape "
                    f"{expected.shape}, is made of the network's weights in a way that is not known"
                )
            found[tensor] = formula
    return found


def _norms(graph: Graph) -> Iterator[Norm]:
    for node in graph.nodes:
        at = {weight.name: index for index, weight in enumerate(node.weights)}
        if {"moving_mean", "moving_variance"} <= at.keys() and "epsilon" in node.settings:
            epsilon = float(node.settings["epsilon"])
            mean, variance = at["moving_mean"], at["moving_variance"]
            yield Norm(node.layer, epsilon, at.get("gamma"), at.get("beta"), mean, variance)


def _values(file: Any, tensor: int) -> np.ndarray | None:
    """A constant of floats; None for all else."""
    from ai_edge_litert.schema_py_generated import TensorType

    if tensor < 0:
        return None
    described = file.subgraphs[0].tensors[tensor]
    data = file.buffers[described.buffer].data
    if data is None or described.type != TensorType.FLOAT32:
        return None
    shape = [] if described.shape is None else described.shape
    return np.frombuffer(np.ascontiguousarray(data), np.float32).reshape(shape)


def _matching(
    values: np.ndarray, norms: list[Norm], weights: Weights, whole: Weights, still: Sequence[int]
) -> Iterator[Formula]:
    """The formulas that give these values, the likely ones first; `still` are the axes that never vary."""
    arrays = {
        (layer, index): array
        for layer, of_layer in weights.items()
        for index, array in enumerate(of_layer)
        if array.dtype.kind == "f"
    }
    fitting = [norm for norm in norms if len(weights[norm.layer][norm.mean]) == values.size]
    for norm in fitting:
        biases = (key for key, array in arrays.items() if array.shape == weights[norm.layer][norm.mean].shape)
        for formula in (Scale(norm), Shift(norm), *(Shift(norm, bias) for bias in biases)):
            if near(formula(weights, values.shape), values):
                yield formula
    plain = [
        Kernel(key, order)
        for key, array in arrays.items()
        if array.size == values.size
        for order in _orders(whole[key[0]][key[1]].shape)
    ]
    for formula in plain:
        yield from _kernels(formula, values, norms, weights)
    for formula in plain:
        yield from _times_factors(formula, values, norms, weights, still)
    for key, array in arrays.items():
        if array.ndim == 2 and array.shape[1] == values.size:
            biases = (bias for bias, of_bias in arrays.items() if of_bias.shape == (values.size,))
            for formula in (Bias(key, *pair) for pair in itertools.product(norms, (None, *biases))):
                channels = len(weights[formula.norm.layer][formula.norm.mean])
                if len(array) % channels == 0 and near(formula(weights, values.shape), values):
                    yield formula


def _kernels(plain: Kernel, values: np.ndarray, norms: list[Norm], weights: Weights) -> Iterator[Kernel]:
    """The formulas of one weight in one order of its axes; a few numbers are compared before all are."""
    array = weights[plain.weight[0]][plain.weight[1]]
    rng = np.random.default_rng(0)
    some, others = (tuple(rng.integers(0, side, _SAMPLES) for side in values.shape) for _ in range(2))
    ratio = _ratio(values[some], _at(array, plain.order, values.shape, some))
    if np.allclose(ratio, 1, _NEAR) and near(plain(weights, values.shape), values):
        yield plain
    for axis, side in enumerate(values.shape):
        beside = (*others[:axis], some[axis], *others[axis + 1 :])  # scaled alike, since at the same place on the axis
        if not np.allclose(ratio, _ratio(values[beside], _at(array, plain.order, values.shape, beside)), _NEAR):
            continue
        for norm in norms:
            formula = Kernel(plain.weight, plain.order, norm, axis)
            if len(weights[norm.layer][norm.mean]) == side and near(formula(weights, values.shape), values):
                yield formula


def _times_factors(
    plain: Kernel, values: np.ndarray, norms: list[Norm], weights: Weights, still: Sequence[int]
) -> Iterator[Kernel]:
    """The same with factors: what is left when the weight and a scale are divided out lies along one axis."""
    scaled = [
        replace(plain, norm=norm, axis=axis)
        for axis, side in enumerate(values.shape)
        for norm in norms
        if len(weights[norm.layer][norm.mean]) == side
    ]
    for formula in (plain, *scaled):
        rest = _ratio(values, formula(weights, values.shape))
        if not np.isfinite(rest).all():
            continue
        for axis in still:
            others = tuple(other for other in range(values.ndim) if other != axis)
            factors = rest.mean(axis=others, keepdims=True)
            if near(np.broadcast_to(factors, rest.shape), rest):
                yield replace(formula, factors=factors.astype(np.float32))


def _orders(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every order of the axes that makes a difference: where an axis of one position stands, does not."""
    single = [axis for axis, side in enumerate(shape) if side == 1]
    for order in itertools.permutations(axis for axis, side in enumerate(shape) if side != 1):
        yield (*single, *order)


def _at(array: np.ndarray, order: Sequence[int], shape: Sequence[int], places: tuple[np.ndarray, ...]) -> np.ndarray:
    """`array.transpose(order).reshape(shape)[places]` without making that array."""
    ordered = [array.shape[axis] for axis in order]
    where = np.unravel_index(np.ravel_multi_index(places, tuple(shape)), ordered)
    return array[tuple(where[order.index(axis)] for axis in range(array.ndim))]


def _agrees(formula: Formula, weights: Weights, values: np.ndarray) -> bool:
    """Whether a formula that was found in one network holds in another."""
    try:
        return near(formula(weights, values.shape), values)
    except ValueError:  # of a weight that only happened to have as many elements
        return False


def _ratio(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """NaN or infinity where a weight is zero, as those that are not random may be; it is like no other number then."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return one / other


def near(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two constants are the same but for rounding."""
    return bool(np.abs(one - other).max(initial=0) <= _NEAR * np.abs(other).max(initial=0))
