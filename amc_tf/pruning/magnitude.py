"""Fine-grained pruning: a unit is one kernel, a keep ratio becomes a mask over its weights, by their magnitude."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from amc_tf.errors import UnsupportedModel
from amc_tf.graph import keras_builder
from amc_tf.graph.network import Graph, Node
from amc_tf.pruning.kernels import WEIGHTS, kernels, zeroed
from amc_tf.pruning.lengths import Lengths
from amc_tf.pruning.plan import Plan
from amc_tf.pruning.pruner import Pruner, is_ratio
from amc_tf.pruning.unit import Unit, seen_by

MIN_KEEP, MIN_KEEP_DENSE = 0.2, 0.02  # the paper removes at most 0.8 of a convolution and 0.98 of a dense layer
_ONE = 1 - 1e-9  # weight, as floating point has it
LEVELLINGS = (0.0, 0.25, 0.5, 0.75)  # of the plans that a search begins with; the best lies between, and costs no more
_STEPS = 100  # widths of a unit are hundredths of its weights: finer than any accuracy tells apart


class MagnitudePruner(Pruner):
    """Fine-grained pruning of one model: weights become zero, the smallest of each kernel first.

    Weights that are zero already are gone: they count neither as kept nor to a unit's size.

    Args:
        model: Keras model (functional or Sequential); it is not changed.
        min_keep: least keep ratio of a kernel; None for the paper's, 0.2 of a convolution and 0.02 of a Dense layer.
        frozen: layer paths to leave alone.

    Attributes:
        kernels: layer path -> the weight, of every layer that is not frozen.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range, or keeps less than one weight.
        UnsupportedModel: the model cannot be read, or nothing in it can go.
    """

    of = WEIGHTS

    def __init__(self, model: Any, *, min_keep: float | None = None, frozen: Sequence[str] = ()):
        if min_keep is not None and not is_ratio(min_keep):
            raise ValueError(f"min_keep is {min_keep!r}; the least keep ratio of a kernel is expected, in (0, 1].")
        super().__init__(model, frozen)
        places = {layer: index for layer, index in kernels(self.graph).items() if layer not in frozen}
        self.kernels = {layer: self.weights[layer][index] for layer, index in places.items()}
        calls = {node.layer: node for node in reversed(self.graph.nodes)}  # the first call of each
        made = [_unit(calls[layer], self.graph, kernel, min_keep) for layer, kernel in self.kernels.items()]
        self.units: tuple[Unit, ...] = tuple(unit for unit in made if len(unit.widths) > 1)
        if not self.units:
            raise UnsupportedModel(
                f"The model has no kernel whose weights may go (of {len(kernels(self.graph))} convolution and Dense "
                f"layers {len(places)} are not frozen, with min_keep={min_keep}); fine-grained pruning cannot make it "
                f"smaller."
            )
        self.low = min(unit.widths[0] / unit.size for unit in self.units)

    @property
    def lengths(self) -> Lengths:
        return Lengths.of(np.array(self.full), np.zeros(0, int), np.zeros((0, len(self.full)), int))

    def mask(self, unit: Unit, keep: float) -> np.ndarray:
        """The largest weights of a unit.

        Args:
            unit: one of `units`.
            keep: keep ratio in (0, 1], of any size.

        Returns:
            bool array (weights,) in C order.

        Raises:
            ValueError: it is no keep ratio, or keeps less than one weight.
        """
        if not is_ratio(keep):
            raise ValueError(f"The keep ratio of {unit.name!r} is {keep!r}; a number in (0, 1] is expected.")
        if keep * unit.size < _ONE:
            raise ValueError(below_one(f"The keep ratio of {unit.name!r} is {keep!r}", unit.name, unit.size))
        return self._mask(self.units.index(unit), round(keep * unit.size))

    def sliced(self, plan: Plan, weights: Mapping | None = None) -> dict[str, tuple[np.ndarray, ...]]:
        """Weights (the model's own where None) with zeros where they are dropped, layer path -> arrays."""
        return zeroed(self.graph, plan, weights or self.weights)

    def apply(self, plan: Plan, sliced: Mapping | None = None) -> Any:
        """A new model of the same shape, with these weights where given, else the model's own with zeros."""
        return keras_builder.rebuild(self.model, weights=self.sliced(plan) if sliced is None else dict(sliced))

    def thresholds(self) -> tuple[Callable[[Callable, float], tuple[int, ...]], ...]:
        return tuple(partial(self.thresholded, levelling=levelling) for levelling in LEVELLINGS)

    def thresholded(
        self, cost: Callable[[np.ndarray], float], limit: float, levelling: float = 0.0, bounded: bool = True
    ) -> tuple[int, ...]:
        """The widths that one threshold for all kernels leaves: the largest plan of that kind that fits.

        Args:
            cost: widths (units,) -> cost; non-decreasing in each.
            limit: what the plan may cost; where not even the highest threshold fits, that one's widths are returned.
            levelling: weights are compared after division by this power of their kernel's root mean square: 0 spares
                kernels of large weights, 1 treats kernels about alike.
            bounded: whether to take the nearest of each unit's allowed widths; else whatever is left, one at least.
        """
        kernels = [np.abs(self.kernels[unit.name].reshape(-1)) for unit in self.units]
        levelled = [kernel / np.sqrt(np.mean(np.square(kernel))) ** levelling for kernel in kernels]
        sizes = [np.sort(kernel)[::-1][: unit.size] for kernel, unit in zip(levelled, self.units, strict=True)]
        every = np.sort(np.concatenate(sizes))[::-1]

        def widths(kept: int) -> np.ndarray:
            left = [int(np.searchsorted(-of_unit, -every[kept - 1], side="right")) for of_unit in sizes]
            if not bounded:
                return np.maximum(left, 1)
            pairs = zip(self.units, left, strict=True)
            return np.array([min(unit.widths, key=lambda w, n=n: (abs(w - n), w)) for unit, n in pairs])

        most = bisect_right(range(1, len(every) + 1), limit, key=lambda kept: cost(widths(kept)))
        return tuple(map(int, widths(max(most, 1))))

    def _ranked(self, index: int) -> np.ndarray:
        unit = self.units[index]
        # Stable, so that equal weights fall the same way on every machine.
        order = np.argsort(-np.abs(self.kernels[unit.name].reshape(-1)), kind="stable")
        return order[: unit.size].astype(np.uint32)

    def _length(self, index: int) -> int:
        return self.kernels[self.units[index].name].size


def _unit(node: Node, graph: Graph, kernel: np.ndarray, min_keep: float | None) -> Unit:
    size = int(np.count_nonzero(kernel))
    share = min_keep or (MIN_KEEP_DENSE if node.kind == "Dense" else MIN_KEEP)
    if min_keep is not None and size > 1 and min_keep * size < _ONE:
        raise ValueError(below_one(f"min_keep is {min_keep!r}", node.layer, size))
    least = max(1, math.ceil(share * size - 1e-9))
    steps = (round(size * step / _STEPS) for step in range(1, _STEPS))
    widths = tuple(sorted({least, *(width for width in steps if width > least), size})) if size else (0,)
    return Unit(name=node.layer, size=size, widths=widths, filters=kernel.shape[-1], **seen_by(node, graph))


def below_one(said: str, layer: str, size: int) -> str:
    """The sentence for a keep ratio that keeps less than one weight."""
    digits = 3 + len(str(size))  # that is four that count
    least = math.ceil(10**digits / size) / 10**digits  # rounded up, or it would be refused as well
    return f"{said}, less than one of the {size} weights of {layer!r}; give {least:.4g} or more, or freeze that layer."
