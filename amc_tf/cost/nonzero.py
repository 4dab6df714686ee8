"""Params and bytes of a network with pruned single weights: exact sums over its kernels."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from amc_tf.cost.counts import BYTES
from amc_tf.pruning.kernels import kernels
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.tflite.sparse.encoding import kernel_bytes


class KernelSum:
    """A Cost that is a sum over kernels; the cost of a kernel depends only on its own kept weights.

    Args:
        full: Number of nonzero weights of each unit, (units,).
        prices: For each unit a non-decreasing function: number of kept weights -> cost.
        unit: Word for what is counted: "params", "bytes".
        offset: Cost of everything else.
    """

    def __init__(
        self, full: Sequence[int], prices: Sequence[Callable[[int], float]], unit: str, offset: float = 0.0
    ):
        self.full, self.unit, self.offset = np.array(full), unit, offset
        self._prices = tuple(prices)

    def __call__(self, widths: Sequence[int] | np.ndarray) -> float:
        """The cost, in `unit`, if unit i keeps `widths[i]` weights."""
        return float(sum(price(int(width)) for price, width in zip(self._prices, widths, strict=True)) + self.offset)


def params(pruner: MagnitudePruner) -> KernelSum:
    """Number of weights, as of `model.count_params()`, minus the zeros in the kernels."""
    total = sum(array.size for arrays in pruner.weights.values() for array in arrays)
    zeros = sum(kernel.size - np.count_nonzero(kernel) for kernel in _kernels(pruner).values())
    return KernelSum(pruner.full, [float] * len(pruner.full), "params", total - zeros - sum(pruner.full))


def size(pruner: MagnitudePruner, base_bytes: int) -> KernelSum:
    """Bytes of the .tflite; each kernel has the sparse encoding of tflite.sparse if that is smaller.

    Args:
        pruner: Of the network.
        base_bytes: Size of the .tflite of the whole network.
    """
    arrays, kinds = _kernels(pruner), {node.layer: node.kind for node in pruner.graph.nodes}
    prices = {layer: _price(kernel, kinds[layer]) for layer, kernel in arrays.items()}
    units = {unit.name for unit in pruner.units}
    fixed = sum(price(np.count_nonzero(arrays[layer])) for layer, price in prices.items() if layer not in units)
    dense = BYTES * sum(kernel.size for kernel in arrays.values())
    return KernelSum(pruner.full, [prices[unit.name] for unit in pruner.units], "bytes", base_bytes - dense + fixed)


def _price(kernel: np.ndarray, kind: str) -> Callable[[int], float]:
    """Number of kept weights of a kernel -> its bytes."""
    if kind.startswith("Conv3D"):  # its operator has no sparse kernel
        return lambda kept: BYTES * kernel.size
    inputs = kernel.shape[-1 if kind.endswith("Transpose") else -2]  # the last axis in the file
    return partial(kernel_bytes, (kernel.size // inputs, inputs))


def _kernels(pruner: MagnitudePruner) -> dict[str, np.ndarray]:
    """All kernels that may have zeros, also those that are not units: layer path -> array."""
    return {layer: pruner.weights[layer][index] for layer, index in kernels(pruner.graph).items()}
