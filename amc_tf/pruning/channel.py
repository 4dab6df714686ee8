"""Coarse-grained pruning: a unit is a channel group, a keep ratio becomes a mask over its channels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amc_tf.errors import UnsupportedModel
from amc_tf.graph import keras_graph, rewrite
from amc_tf.graph.groups import ChannelGroups, Group, channel_groups
from amc_tf.pruning.importance import NAMED, Importance, scores
from amc_tf.pruning.plan import Plan


@dataclass(frozen=True)
class Unit:
    """What one action decides, and what the agent is told of it.

    Attributes:
        name: name of the group.
        channels: how many channels it has.
        widths: ascending numbers of channels that may be kept; the last one is all of them.
        filters, inputs: n and c of the layer that makes the channels.
        height, width: size of that layer's input in pixels.
        stride, kernel: of that layer, in pixels.
    """

    name: str
    channels: int
    widths: tuple[int, ...]
    filters: int
    inputs: int
    height: int
    width: int
    stride: int
    kernel: int


class ChannelPruning:
    """Channel pruning of one model.

    Args:
        model: Keras model (functional or Sequential); it is not changed.
        round_to: widths are multiples of this, as the kernels of phones like them.
        min_keep: least keep ratio of a unit (the paper removes at most 0.8 of a layer).
        importance: name or function, see `pruning.importance`.
        frozen: layer paths to leave alone.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range.
        UnsupportedModel: the model cannot be read, or nothing in it can shrink.
    """

    def __init__(
        self,
        model,
        *,
        round_to: int = 8,
        min_keep: float = 0.2,
        importance: str | Importance = "magnitude_in",
        frozen: Sequence[str] = (),
    ):
        _check_arguments(round_to, min_keep, importance)
        self.model = model
        self.graph, self.weights = keras_graph.read(model)
        _check_frozen(frozen, self.graph)
        _check_finite(self.weights)
        self.groups: ChannelGroups = channel_groups(self.graph, frozen)
        self._importance = importance if callable(importance) else NAMED[importance]
        self._ranks: dict[str, np.ndarray] = {}
        made = ((group, _unit(self.groups, group, round_to, min_keep)) for group in self.groups.prunable)
        chosen = [(group, unit) for group, unit in made if len(unit.widths) > 1]
        if not chosen:
            raise UnsupportedModel(_nothing_to_prune(self.groups, round_to, min_keep))
        self.units: tuple[Unit, ...] = tuple(unit for _, unit in chosen)
        self._unit_groups: tuple[Group, ...] = tuple(group for group, _ in chosen)

    @property
    def full(self) -> tuple[int, ...]:
        """The widths of the whole network."""
        return tuple(unit.channels for unit in self.units)

    def mask(self, unit: Unit, keep: float) -> np.ndarray:
        """The most important channels of a unit.

        Args:
            unit: one of `units`.
            keep: keep ratio in (0, 1]; rounded to the nearest of the unit's widths.

        Returns:
            bool array (channels,).
        """
        if not 0 < keep <= 1:
            raise ValueError(f"The keep ratio of {unit.name!r} is {keep!r}; a number in (0, 1] is expected.")
        width = min(unit.widths, key=lambda w: (abs(w - keep * unit.channels), -w))  # of two equally near, the wider
        return self._mask(self.units.index(unit), width)

    def plan(self, widths: Sequence[int]) -> Plan:
        """The plan that keeps `widths[i]` channels of unit i."""
        pairs = enumerate(zip(self.units, widths, strict=True))
        return Plan({unit.name: self._mask(index, int(width)) for index, (unit, width) in pairs})

    def widths(self, plan: Plan) -> tuple[int, ...]:
        """How many channels of each unit a plan keeps."""
        return tuple(int(plan[unit.name].sum()) for unit in self.units)

    def sliced(self, plan: Plan, weights: Mapping | None = None) -> dict[str, tuple[np.ndarray, ...]]:
        """The weights of the smaller network, layer path -> arrays, out of full ones (the model's own where None)."""
        return rewrite.sliced(self.groups, plan.kept(self.groups), dict(weights or self.weights))

    def apply(self, plan: Plan, sliced: Mapping | None = None):
        """A new, smaller model, with these weights of its own where given, else those that stay of the model's."""
        weights = self.sliced(plan) if sliced is None else dict(sliced)
        return rewrite.rewrite(self.model, self.groups, plan.kept(self.groups), weights)

    def _mask(self, index: int, width: int) -> np.ndarray:
        group = self._unit_groups[index]
        if group.name not in self._ranks:
            # Stable, so that equal scores fall the same way on every machine.
            self._ranks[group.name] = np.argsort(-scores(self._importance, group, self.weights), kind="stable")
        mask = np.zeros(group.channels, dtype=bool)
        mask[self._ranks[group.name][:width]] = True
        return mask


def _unit(groups: ChannelGroups, group: Group, round_to: int, min_keep: float) -> Unit:
    nodes = {node.layer: node for node in groups.graph.nodes}
    maker = group.name if group.name in nodes else group.name.rpartition(":")[0]  # "conv:2" is made by "conv"
    node = nodes[maker]
    # A grouped convolution holds each channel of the group several times over: its width is a multiple of that.
    copies = next((slot.positions.shape[1] for slot in group.slots if slot.layer == maker and slot.role == "out"), 1)
    step = round_to // math.gcd(round_to, copies)
    least = max(1, math.ceil(min_keep * group.channels - 1e-9))
    widths = [w for w in range(step, group.channels, step) if w >= least] + [group.channels]
    first_last = node.settings.get("data_format") == "channels_first"
    shape = groups.graph.shapes[node.inputs[0]]
    shape = (*shape[1:], shape[0]) if first_last else shape
    sides = ([1, 1, *shape[:-1]] if len(shape) < 3 else list(shape[:-1]))[-2:]
    return Unit(
        name=group.name,
        channels=group.channels,
        widths=tuple(widths),
        filters=group.channels * copies,
        inputs=shape[-1],
        height=sides[0],
        width=sides[1],
        stride=int(np.max(node.settings.get("strides") or 1)),
        kernel=int(np.max(node.settings.get("kernel_size") or 1)),
    )


def _check_arguments(round_to, min_keep, importance) -> None:
    if isinstance(round_to, bool) or not isinstance(round_to, (int, np.integer)) or round_to < 1:
        raise ValueError(f"round_to is {round_to!r}; a whole number of channels, 1 or more, is expected (8 is usual).")
    number = isinstance(min_keep, (int, float, np.number)) and not isinstance(min_keep, bool)
    if not number or not 0 < min_keep <= 1:
        raise ValueError(f"min_keep is {min_keep!r}; the least keep ratio of a unit is expected, in (0, 1].")
    if not callable(importance) and (not isinstance(importance, str) or importance not in NAMED):
        raise ValueError(f"importance is {importance!r}; expected one of {', '.join(NAMED)} or a function.")


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


def _nothing_to_prune(groups: ChannelGroups, round_to: int, min_keep: float) -> str:
    reasons = [f"{group.name!r}: {group.frozen}" for group in groups.groups if group.frozen][:3]
    narrow = [group for group in groups.prunable]
    if narrow:
        widest = max(group.channels for group in narrow)
        return (
            f"No channel group of the model can shrink with round_to={round_to} and min_keep={min_keep}: the widest "
            f"that may has {widest} channels; give a smaller round_to, or use a wider network."
        )
    why = "; ".join(reasons) or "it has no convolution or Dense layer besides its output"
    return f"The model has no channel group that may shrink ({why}); channel pruning cannot make it smaller."
