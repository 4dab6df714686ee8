"""Pruning: what the methods of pruning a model have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from amc_tf.checks import is_number
from amc_tf.graph import keras_reader
from amc_tf.graph.groups import ChannelGroups, channel_groups
from amc_tf.pruning.lengths import Lengths
from amc_tf.pruning.plan import Plan
from amc_tf.pruning.unit import Unit


class Pruner(ABC):
    """One way to prune one model.

    Args:
        model: Keras model (functional or Sequential); it is not changed.
        frozen: layer paths to leave alone.

    Attributes:
        model, graph, weights, groups: the model, what it is, and its weights, layer path -> arrays.
        units: what is decided, in the network's order.
        low: least keep ratio of any unit.
        of: what units are made of, see Plan.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, or a weight is no finite number.
        UnsupportedModel: the model cannot be read.
    """

    units: tuple[Unit, ...]
    low: float
    of: str

    def __init__(self, model: Any, frozen: Sequence[str]):
        self.model = model
        self.graph, self.weights = keras_reader.read(model)
        _check_frozen(frozen, self.graph)
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
        """The different lengths in the network that follow the widths: none where weights become zeros."""

    def mask(self, unit: Unit, keep: float) -> np.ndarray:
        """What of a unit stays.

        Args:
            unit: one of `units`.
            keep: keep ratio in (0, 1]; rounded to the nearest of the unit's widths.

        Returns:
            bool array: (channels,) of a group, (weights,) of a kernel.
        """
        if not 0 < keep <= 1:
            raise ValueError(f"The keep ratio of {unit.name!r} is {keep!r}; a number in (0, 1] is expected.")
        width = min(unit.widths, key=lambda w: (abs(w - keep * unit.size), -w))  # of two equally near, the wider
        return self._mask(self.units.index(unit), width)

    def plan(self, widths: Sequence[int]) -> Plan:
        """The plan that keeps `widths[i]` of unit i, the most important ones."""
        pairs = enumerate(zip(self.units, widths, strict=True))
        return Plan({unit.name: self._mask(index, int(width)) for index, (unit, width) in pairs}, of=self.of)

    def widths(self, plan: Plan) -> tuple[int, ...]:
        """How much of each unit a plan keeps."""
        return tuple(int(plan[unit.name].sum()) for unit in self.units)

    def thresholds(self) -> tuple[Callable[[Callable, float], tuple[int, ...]], ...]:
        """Plans that a search should begin with: each (cost, what a plan may cost) -> widths."""
        return ()

    @abstractmethod
    def sliced(self, plan: Plan, weights: Mapping | None = None) -> dict[str, tuple[np.ndarray, ...]]:
        """The weights of the pruned network, layer path -> arrays, out of those (the model's own where None)."""

    @abstractmethod
    def apply(self, plan: Plan, sliced: Mapping | None = None) -> Any:
        """A new, pruned model, with these weights of its own where given, else those that stay of the model's."""

    @abstractmethod
    def _ranked(self, index: int) -> np.ndarray:
        """The positions in a mask of unit `index`, the most important first; as many as the unit's size."""

    @abstractmethod
    def _length(self, index: int) -> int:
        """Of a mask of unit `index`."""

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


def _check_finite(weights: Mapping[str, tuple[np.ndarray, ...]]) -> None:
    for layer, arrays in weights.items():
        if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
            raise ValueError(f"The weights of layer {layer!r} hold NaN or infinity; load or train the model anew.")


def _check_frozen(frozen, graph) -> None:
    if not isinstance(frozen, (list, tuple, set, frozenset)):
        raise TypeError(f"frozen is {frozen!r}; a list of layer names is expected, for instance ['conv1'].")
    known = {node.layer for node in graph.nodes}
    for name in frozen:
        if name not in known:
            near = [path for path in sorted(known) if path.split("/")[-1] == name]
            hint = f"did you mean {near[0]!r}?" if near else "see amc_tf.analyze(model) for the names."
            raise ValueError(f"frozen names the layer {name!r}, which the model does not have; {hint}")
