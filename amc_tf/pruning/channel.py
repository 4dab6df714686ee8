"""Channel pruning (coarse-grained): a unit is a channel group, and its mask is over channels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from amc_tf.checks import is_whole
from amc_tf.errors import UnsupportedModel
from amc_tf.graph import rewrite
from amc_tf.graph.groups import ChannelGroups, Group
from amc_tf.graph.network import KerasModel, WeightArrays
from amc_tf.pruning.importance import NAMED, Importance, scores
from amc_tf.pruning.lengths import Lengths, varying_lengths
from amc_tf.pruning.plan import CHANNELS, Plan
from amc_tf.pruning.pruner import Pruner, is_ratio
from amc_tf.pruning.unit import Unit, layer_features


class ChannelPruner(Pruner):
    """Channel pruning of one model.

    Args:
        model: Keras model (functional or Sequential); it is not changed.
        round_to: widths are multiples of this; phones run such widths fastest.
        min_keep: smallest keep ratio of a unit (the paper removes at most 0.8 of a layer).
        importance: name or function, see `pruning.importance`.
        frozen: paths of layers whose channels all stay.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.
        UnsupportedModel: the model cannot be read, or no group can be pruned.
    """

    of = CHANNELS

    def __init__(
        self,
        model: KerasModel,
        *,
        round_to: int = 8,
        min_keep: float = 0.2,
        importance: str | Importance = "magnitude_in",
        frozen: Sequence[str] = (),
    ):
        _check_arguments(round_to, min_keep, importance)
        super().__init__(model, frozen)
        self.low = min_keep
        self._importance = importance if callable(importance) else NAMED[importance]
        pairs = ((group, _unit(self.groups, group, round_to, min_keep)) for group in self.groups.prunable)
        prunable = [(group, unit) for group, unit in pairs if len(unit.widths) > 1]
        if not prunable:
            raise UnsupportedModel(_nothing_to_prune(self.groups, round_to, min_keep))
        self.units: tuple[Unit, ...] = tuple(unit for _, unit in prunable)
        self._unit_groups: tuple[Group, ...] = tuple(group for group, _ in prunable)

    @property
    def lengths(self) -> Lengths:
        return varying_lengths(self.groups, self.units)

    def sliced(self, plan: Plan, weights: WeightArrays | None = None) -> dict[str, tuple[np.ndarray, ...]]:
        """The weights with only the kept channels, see Pruner.sliced."""
        return rewrite.sliced(self.groups, plan.kept(self.groups), dict(weights or self.weights))

    def apply(self, plan: Plan, sliced: WeightArrays | None = None) -> KerasModel:
        """A new, smaller model, see Pruner.apply."""
        weights = self.sliced(plan) if sliced is None else dict(sliced)
        return rewrite.rewrite(self.model, self.groups, plan.kept(self.groups), weights)

    def _ranked(self, index: int) -> np.ndarray:
        group = self._unit_groups[index]
        # Stable: equal scores have the same order on every machine.
        return np.argsort(-scores(self._importance, group, self.weights), kind="stable")

    def _length(self, index: int) -> int:
        return self._unit_groups[index].channels


def _unit(groups: ChannelGroups, group: Group, round_to: int, min_keep: float) -> Unit:
    nodes = {node.layer: node for node in groups.graph.nodes}
    layer = group.name if group.name in nodes else group.name.rpartition(":")[0]  # "conv:2" is created by "conv"
    node = nodes[layer]
    # A grouped convolution has several copies of each channel of the group: its width is a multiple of their number.
    copies = next((slot.positions.shape[1] for slot in group.slots if slot.layer == layer and slot.role == "out"), 1)
    step = round_to // math.gcd(round_to, copies)
    least = max(1, math.ceil(min_keep * group.channels - 1e-9))
    widths = [w for w in range(step, group.channels, step) if w >= least] + [group.channels]
    return Unit(
        name=group.name, size=group.channels, widths=tuple(widths), filters=group.channels * copies,
        **layer_features(node, groups.graph),
    )  # fmt: skip


def _check_arguments(round_to: Any, min_keep: Any, importance: Any) -> None:
    if not is_whole(round_to) or round_to < 1:
        raise ValueError(f"round_to is {round_to!r}; a whole number of channels, 1 or more, is expected (8 is usual).")
    if not is_ratio(min_keep):
        raise ValueError(f"min_keep is {min_keep!r}; the least keep ratio of a unit is expected, in (0, 1].")
    if not callable(importance) and (not isinstance(importance, str) or importance not in NAMED):
        raise ValueError(f"importance is {importance!r}; expected one of {', '.join(NAMED)} or a function.")


def _nothing_to_prune(groups: ChannelGroups, round_to: int, min_keep: float) -> str:
    """The message of an UnsupportedModel, with up to three reasons."""
    reasons = [f"{layer!r}: {why}" for layer, why in groups.unknown.items()]  # may be the only layer of the network
    reasons = (reasons + [f"{group.name!r}: {group.frozen}" for group in groups.groups if group.frozen])[:3]
    if groups.prunable:
        widest = max(group.channels for group in groups.prunable)
        return (
            f"No channel group of the model can shrink with round_to={round_to} and min_keep={min_keep}: the widest "
            f"that may has {widest} channels; give a smaller round_to, or use a wider network."
        )
    why = "; ".join(reasons) or "it has no convolution or Dense layer besides its output"
    return f"The model has no channel group that may shrink ({why}); channel pruning cannot make it smaller."
