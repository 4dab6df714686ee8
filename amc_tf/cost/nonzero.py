"""Params and bytes of a network whose single weights are pruned: sums over its kernels, exact."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from amc_tf.cost.counts import BYTES
from amc_tf.pruning.kernels import kernels
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.tflite.sparse.encoding import kernel_bytes


class Sum:
    """A cost to which each kernel adds something of its own, whatever the others keep.

    Args:
        full: weights of each unit that are not zero, (units,).
        prices: for each unit, how many of its weights are kept -> what it costs; non-decreasing.
        unit: word for what is counted: "params", "bytes".
        offset: what all else costs.
    """

    def __init__(
        self, full: Sequence[int], prices: Sequence[Callable[[int], float]], unit: str, offset: float = 0.0
    ):
        self.full, self.unit, self.offset = np.array(full), unit, offset
        self._prices = tuple(prices)

    def __call__(self, widths: Sequence[int]) -> float:
        """The cost when unit i keeps `widths[i]` weights: int array (units,) -> number in `unit`."""
        return float(sum(price(int(width)) for price, width in zip(self._prices, widths, strict=True)) + self.offset)


def params(pruning: MagnitudePruner) -> Sum:
    """Number of weights, as `model.count_params()`, less the zeros in the kernels."""
    total = sum(array.size for arrays in pruning.weights.values() for array in arrays)
    zeros = sum(kernel.size - np.count_nonzero(kernel) for kernel in _kernels(pruning).values())
    return Sum(pruning.full, [float] * len(pruning.full), "params", total - zeros - sum(pruning.full))


def size(pruning: MagnitudePruner, base_bytes: int) -> Sum:
    """Bytes of the .tflite with its kernels in the sparse encoding where that is smaller; see tflite.sparse.

    Args:
        pruning: of the network.
        base_bytes: size of the file that the whole network converts to.
    """
    arrays, kinds = _kernels(pruning), {node.layer: node.kind for node in pruning.graph.nodes}
    prices = {layer: _price(kernel, kinds[layer]) for layer, kernel in arrays.items()}
    units = {unit.name for unit in pruning.units}
    fixed = sum(price(np.count_nonzero(arrays[layer])) for layer, price in prices.items() if layer not in units)
    dense = BYTES * sum(kernel.size for kernel in arrays.values())
    return Sum(pruning.full, [prices[unit.name] for unit in pruning.units], "bytes", base_bytes - dense + fixed)


def _price(kernel: np.ndarray, kind: str) -> Callable[[int], float]:
    """How many weights of a kernel are kept -> its bytes."""
    if kind.startswith("Conv3D"):  # its operator takes no sparse kernel
        return lambda kept: BYTES * kernel.size
    inputs = kernel.shape[-1 if kind.endswith("Transpose") else -2]  # the last axis in the file
    return partial(kernel_bytes, (kernel.size // inputs, inputs))


def _kernels(pruning: MagnitudePruner) -> dict[str, np.ndarray]:
    """All kernels that zeros may be in, those that are no unit too: layer path -> array."""
    return {layer: pruning.weights[layer][index] for layer, index in kernels(pruning.graph).items()}
