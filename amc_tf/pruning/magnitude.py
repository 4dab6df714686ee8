"""Magnitude pruning (fine-grained): a unit is one kernel, and its mask keeps the weights of largest magnitude."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import partial

import numpy as np

from amc_tf.errors import UnsupportedModel
from amc_tf.graph import keras_builder
from amc_tf.graph.network import Graph, KerasModel, Node, WeightArrays
from amc_tf.pruning.kernels import WEIGHTS, kernels, zeroed
from amc_tf.pruning.lengths import Lengths
from amc_tf.pruning.plan import Plan
from amc_tf.pruning.pruner import Cost, Pruner, ThresholdPlan, is_ratio
from amc_tf.pruning.unit import Unit, layer_features

MIN_KEEP, MIN_KEEP_DENSE = 0.2, 0.02  # the paper removes at most 0.8 of a convolution and 0.98 of a dense layer
_ONE = 1 - 1e-9  # one weight, with room for rounding
# Powers of the layer-wise normalisation in the first plans of a search; the best power lies between 0 and 1.
NORMALISATIONS = (0.0, 0.25, 0.5, 0.75)
_STEPS = 100  # widths are hundredths of a unit's weights; accuracies do not resolve finer steps


class MagnitudePruner(Pruner):
    """Magnitude pruning of one model: the smallest weights of each kernel become zero.

    Weights that are zero from the start count neither as kept nor towards a unit's size.

    Args:
        model: Keras model (functional or Sequential); it is not changed.
        min_keep: smallest keep ratio of a kernel; None for the paper's, 0.2 for a convolution, 0.02 for a Dense layer.
        frozen: paths of layers whose weights all stay.

    Attributes:
        kernels: layer path -> kernel, for all layers with a prunable kernel that are not frozen.

    Raises:
        TypeError, ValueError: an argument has the wrong type, is out of range or keeps less than one weight.
        UnsupportedModel: the model cannot be read, or no kernel can be pruned.
    """

    of = WEIGHTS

    def __init__(self, model: KerasModel, *, min_keep: float | None = None, frozen: Sequence[str] = ()):
        if min_keep is not None and not is_ratio(min_keep):
            raise ValueError(f"min_keep is {min_keep!r}; the least keep ratio of a kernel is expected, in (0, 1].")
        super().__init__(model, frozen)
        indices = {layer: index for layer, index in kernels(self.graph).items() if layer not in frozen}
        self.kernels = {layer: self.weights[layer][index] for layer, index in indices.items()}
        calls = {node.layer: node for node in reversed(self.graph.nodes)}  # the first call of each layer
        units = [_unit(calls[layer], self.graph, kernel, min_keep) for layer, kernel in self.kernels.items()]
        self.units: tuple[Unit, ...] = tuple(unit for unit in units if len(unit.widths) > 1)
        if not self.units:
            raise UnsupportedModel(
                f"The model has no kernel whose weights may go (of {len(kernels(self.graph))} convolution and Dense "
                f"layers {len(indices)} are not frozen, with min_keep={min_keep}); fine-grained pruning cannot make it "
                f"smaller."
            )
        self.low = min(unit.widths[0] / unit.size for unit in self.units)

    @property
    def lengths(self) -> Lengths:
        return Lengths.from_arrays(np.array(self.full), np.zeros(0, int), np.zeros((0, len(self.full)), int))

    def mask(self, unit: Unit, keep: float) -> np.ndarray:
        """The mask that keeps the largest weights of a unit.

        Args:
            unit: one of `units`.
            keep: keep ratio in (0, 1]. It is rounded to whole weights, not to the unit's widths.

        Returns:
            bool array (weights,) in C order, True = stays.

        Raises:
            ValueError: `keep` is not in (0, 1], or keeps less than one weight.
        """
        if not is_ratio(keep):
            raise ValueError(f"The keep ratio of {unit.name!r} is {keep!r}; a number in (0, 1] is expected.")
        if keep * unit.size < _ONE:
            raise ValueError(below_one(f"The keep ratio of {unit.name!r} is {keep!r}", unit.name, unit.size))
        return self._mask(self.units.index(unit), round(keep * unit.size))

    def sliced(self, plan: Plan, weights: WeightArrays | None = None) -> dict[str, tuple[np.ndarray, ...]]:
        """The weights with zeros for the dropped ones, see Pruner.sliced."""
        return zeroed(self.graph, plan, weights or self.weights)

    def apply(self, plan: Plan, sliced: WeightArrays | None = None) -> KerasModel:
        """A new model of the same shapes with zeros, see Pruner.apply."""
        return keras_builder.rebuild(self.model, weights=self.sliced(plan) if sliced is None else dict(sliced))

    def thresholds(self) -> tuple[ThresholdPlan, ...]:
        """One global threshold per power of the layer-wise normalisation."""
        return tuple(partial(self.threshold_widths, normalisation=power) for power in NORMALISATIONS)

    def threshold_widths(
        self, cost: Cost, limit: float, normalisation: float = 0.0, bounded: bool = True
    ) -> tuple[int, ...]:
        """The widths that one magnitude threshold for all kernels leaves: the lowest threshold that meets the limit.

        Args:
            cost: widths (units,) -> cost; non-decreasing in each width.
            limit: the largest cost of the plan. If the highest threshold exceeds it too, its widths are returned.
            normalisation: power of the layer-wise normalisation. Magnitudes are divided by this power of their kernel's
                root mean square: 0 favours kernels of large weights, 1 treats all kernels about alike.
            bounded: whether to round to the allowed widths of each unit; otherwise one weight at least stays.
        """
        magnitudes = [np.abs(self.kernels[unit.name].reshape(-1)) for unit in self.units]
        normalised = [kernel / np.sqrt(np.mean(np.square(kernel))) ** normalisation for kernel in magnitudes]
        descending = [np.sort(kernel)[::-1][: unit.size] for kernel, unit in zip(normalised, self.units, strict=True)]
        thresholds = np.sort(np.concatenate(descending))[::-1]  # the n-th one keeps n weights or more

        def widths(kept: int) -> np.ndarray:
            counts = [int(np.searchsorted(-kernel, -thresholds[kept - 1], side="right")) for kernel in descending]
            if not bounded:
                return np.maximum(counts, 1)
            pairs = zip(self.units, counts, strict=True)
            return np.array([min(unit.widths, key=lambda w, n=n: (abs(w - n), w)) for unit, n in pairs])

        kept = bisect_right(range(1, len(thresholds) + 1), limit, key=lambda kept: cost(widths(kept)))
        return tuple(map(int, widths(max(kept, 1))))

    def _ranked(self, index: int) -> np.ndarray:
        unit = self.units[index]
        # Stable: equal weights have the same order on every machine.
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
    return Unit(name=node.layer, size=size, widths=widths, filters=kernel.shape[-1], **layer_features(node, graph))


def below_one(problem: str, layer: str, size: int) -> str:
    """The error message for a keep ratio that keeps less than one weight; `problem` is how it begins."""
    digits = 3 + len(str(size))  # four significant digits
    least = math.ceil(10**digits / size) / 10**digits  # rounded up, so that it is accepted
    return (
        f"{problem}, less than one of the {size} weights of {layer!r}; give {least:.4g} or more, or freeze that layer."
    )
