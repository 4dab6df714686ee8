"""Pruner: the interface of a pruning method, and what all methods share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from amc_tf.checks import is_number
from amc_tf.graph import keras_reader
from amc_tf.graph.groups import ChannelGroups, channel_groups
from amc_tf.graph.network import Graph, KerasModel, WeightArrays
from amc_tf.pruning.lengths import Lengths
from amc_tf.pruning.plan import Plan
from amc_tf.pruning.unit import Unit

Cost = Callable[[np.ndarray], float]  # widths (units,) -> cost
ThresholdPlan = Callable[[Cost, float], tuple[int, ...]]  # (cost, largest cost of a plan) -> widths (units,)


class Pruner(ABC):
    """Prunes one model by one method; the plug point for a pruning method.

    Args:
        model: Keras model (functional or Sequential); it is not changed.
        frozen: layer paths to leave alone.

    Attributes:
        model: the caller's model.
        graph, weights, groups: its Graph, its weights (layer path -> arrays) and its channel groups.
        units: the units in the order of the network.
        low: the smallest keep ratio of any unit.
        of: "channels" or "weights": the elements of a unit, see Plan.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value, or a weight is not finite.
        UnsupportedModel: the model cannot be read.
    """

    units: tuple[Unit, ...]
    low: float
    of: str

    def __init__(self, model: KerasModel, frozen: Sequence[str]):
        self.model = model
        self.graph, self.weights = keras_reader.read(model)
        _check_frozen(frozen, self.graph, model)
        _check_finite(self.weights)
        self.groups: ChannelGroups = channel_groups(self.graph, frozen)
        self._ranks: dict[str, np.ndarray] = {}

    @property
    def full(self) -> tuple[int, ...]:
        """The widths of the whole network."""
        return tuple(unit.size for unit in self.units)

    @property
    @abstractmethod
    def lengths(self) -> Lengths:
        """All lengths in the network that depend on the widths; none if a method only sets weights to zero."""

    def mask(self, unit: Unit, keep: float) -> np.ndarray:
        """The mask of one unit: its most important channels or weights stay.

        Args:
            unit: one of `units`.
            keep: keep ratio in (0, 1]. It is rounded to the nearest allowed width of the unit.

        Returns:
            bool array (channels,) for a group or (weights,) for a kernel, True = stays.
        """
        if not 0 < keep <= 1:
            raise ValueError(f"The keep ratio of {unit.name!r} is {keep!r}; a number in (0, 1] is expected.")
        width = min(unit.widths, key=lambda w: (abs(w - keep * unit.size), -w))  # of two at equal distance the wider
        return self._mask(self.units.index(unit), width)

    def plan(self, widths: Sequence[int]) -> Plan:
        """The plan that keeps the `widths[i]` most important channels or weights of unit i."""
        numbered = enumerate(zip(self.units, widths, strict=True))
        return Plan({unit.name: self._mask(index, int(width)) for index, (unit, width) in numbered}, of=self.of)

    def widths(self, plan: Plan) -> tuple[int, ...]:
        """The width of each unit in a plan."""
        return tuple(int(plan[unit.name].sum()) for unit in self.units)

    def thresholds(self) -> tuple[ThresholdPlan, ...]:
        """Functions that propose the first plans of a search."""
        return ()

    @abstractmethod
    def sliced(self, plan: Plan, weights: WeightArrays | None = None) -> dict[str, tuple[np.ndarray, ...]]:
        """The weights of the pruned network.

        Args:
            plan: what stays.
            weights: layer path -> arrays of the whole network; None for the model's own.

        Returns:
            Layer path -> arrays.
        """

    @abstractmethod
    def apply(self, plan: Plan, sliced: WeightArrays | None = None) -> KerasModel:
        """A new, pruned model.

        Args:
            plan: what stays.
            sliced: its weights, layer path -> arrays; None for those of `sliced(plan)`.
        """

    @abstractmethod
    def _ranked(self, index: int) -> np.ndarray:
        """int array (size,): positions in the mask of unit `index`, the most important first."""

    @abstractmethod
    def _length(self, index: int) -> int:
        """Length of the mask of unit `index`."""

    def _mask(self, index: int, width: int) -> np.ndarray:
        name = self.units[index].name
        if name not in self._ranks:
            self._ranks[name] = self._ranked(index)
        mask = np.zeros(self._length(index), dtype=bool)
        mask[self._ranks[name][:width]] = True
        return mask


def is_ratio(value: Any) -> bool:
    """Whether a value is a number in (0, 1]."""
    return is_number(value) and bool(0 < value <= 1)


def _check_finite(weights: WeightArrays) -> None:
    for layer, arrays in weights.items():
        if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
            raise ValueError(f"The weights of layer {layer!r} hold NaN or infinity; load or train the model anew.")


def _check_frozen(frozen: Any, graph: Graph, model: KerasModel) -> None:
    if not isinstance(frozen, (list, tuple, set, frozenset)):
        raise TypeError(f"frozen is {frozen!r}; a list of layer names is expected, for instance ['conv1'].")
    layers = {node.layer for node in graph.nodes}
    inputs = {layer.name for layer in model.layers} - layers  # which have no channels of their own to prune
    for name in frozen:
        if name not in layers | inputs:
            near = [path for path in sorted(layers) if path.split("/")[-1] == name]
            hint = f"did you mean {near[0]!r}?" if near else "see amc_tf.analyze(model) for the names."
            raise ValueError(f"frozen names the layer {name!r}, which the model does not have; {hint}")
