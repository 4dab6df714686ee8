"""Channel groups: the weight axes that must be pruned together, and why some of them may not be."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from amc_tf.graph.channel_ids import FIXED, Size, Term, Tracer, WeightAxis
from amc_tf.graph.network import Graph
from amc_tf.graph.rules.kinds import trace


@dataclass(frozen=True)
class Slot:
    """One axis of one weight that carries channels of a group.

    Attributes:
        layer: path of the layer.
        weight: index into `layer.get_weights()`.
        axis: axis of that weight.
        role: whether the layer reads the channels there ("in"), creates them ("out") or only carries them ("own").
        positions: int array (channels, copies): the positions of each channel on that axis. Usually there is one copy;
            a flattened feature map holds each channel once per pixel.
    """

    layer: str
    weight: int
    axis: int
    role: str
    positions: np.ndarray


@dataclass(frozen=True)
class Group:
    """Channels that are pruned together, with all their slots.

    Attributes:
        name: path of the first layer that creates them; "conv:2" is the second group of that layer.
        start: channel id of the group's first channel. The ids of a group are consecutive.
        channels: number of channels.
        slots: all weight axes that carry the channels.
        frozen: why the group may not be pruned, or None.
    """

    name: str
    start: int
    channels: int
    slots: tuple[Slot, ...]
    frozen: str | None

    def __str__(self) -> str:
        slots = ", ".join(f"{s.layer}[{s.weight}] axis {s.axis}" for s in self.slots)
        return f"{self.name}: {self.channels} channels{f' (frozen: {self.frozen})' if self.frozen else ''}: {slots}"


@dataclass(frozen=True)
class ChannelGroups:
    """All channels of a network, and the weights, settings and MACs that depend on them.

    Channel ids run from 0 through all groups. FIXED (-1) marks a position that is never pruned.

    Attributes:
        graph: the network.
        groups: the groups in the order in which the network creates them.
        axes: (layer, weight index, axis) -> int array (positions,) of channel ids.
        sizes: numbers in layers' settings that must equal the length of an axis.
        terms: MACs of every call.
        unknown: layer -> why no rule understands it. Its channels are frozen and `terms` lacks its MACs.
        activations: axes of the tensors between layers: int arrays (positions,) of channel ids.
    """

    graph: Graph
    groups: tuple[Group, ...]
    axes: dict[WeightAxis, np.ndarray]
    sizes: tuple[Size, ...]
    terms: tuple[Term, ...]
    unknown: dict[str, str]
    activations: tuple[np.ndarray, ...]

    @property
    def prunable(self) -> tuple[Group, ...]:
        """The groups that may be pruned."""
        return tuple(group for group in self.groups if group.frozen is None)

    @property
    def channels(self) -> int:
        """Number of channels of all groups together."""
        return sum(group.channels for group in self.groups)

    def __getitem__(self, name: str) -> Group:
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)


def channel_groups(graph: Graph, frozen: Iterable[str] = ()) -> ChannelGroups:
    """Finds the channels of a network that must be pruned together.

    Args:
        graph: the network.
        frozen: paths of layers whose output channels must all stay.

    Returns:
        The groups. Together they hold every channel that an understood layer creates.
    """
    tracer = Tracer(graph)
    for tensor in graph.inputs:
        tracer.labels[tensor] = (None,) * len(graph.shapes[tensor])
    for node in graph.nodes:
        trace(tracer, node)
        if node.layer in frozen:
            for tensor in node.outputs:
                tracer.freeze_all(tracer.labels[tensor], f"the caller froze {node.layer!r}")
    for tensor in graph.outputs:
        tracer.freeze_outputs(tracer.labels[tensor])
    return _Grouping(tracer).result()


class _Grouping:
    """Renumbers the ids of a Tracer, so that the ids of each group are consecutive."""

    def __init__(self, tracer: Tracer):
        self.tracer = tracer
        self.axes = {key: ids for key, ids in tracer.axes.items() if (ids != FIXED).any()}
        # Sizes and terms separate channels too: all channels of a group lie on the same axes, sizes and terms.
        arrays = [
            *self.axes.values(),
            *(size.channel_ids for size in tracer.sizes),
            *(axis for term in tracer.terms for axis in term.axes),
        ]
        roots = [tracer.find(channel_id) for channel_id in range(len(tracer.parent))]
        self.root_of = np.array([*roots, FIXED], dtype=np.int64)  # FIXED is -1 and so reads the last entry
        self.root_arrays = [self.root_of[array] for array in arrays]

    def result(self) -> ChannelGroups:
        members = self._members()
        lengths = [len(roots) for roots in members]
        starts = np.cumsum([0, *lengths]).tolist()[:-1]
        new_ids = np.full(len(self.tracer.parent) + 1, FIXED, dtype=np.int64)  # root -> new id; the last is for FIXED
        for roots, start in zip(members, starts, strict=True):
            new_ids[roots] = np.arange(start, start + len(roots))
        renumbered = iter([new_ids[array] for array in self.root_arrays])
        axes = {key: next(renumbered) for key in self.axes}
        sizes = tuple(Size(size.layer, size.path, next(renumbered)) for size in self.tracer.sizes)
        terms = tuple(Term(t.layer, t.coefficient, tuple(next(renumbered) for _ in t.axes)) for t in self.tracer.terms)
        labelled = (axis for labels in self.tracer.labels.values() for axis in labels if axis is not None)
        activations = tuple(new_ids[self.root_of[axis]] for axis in labelled)
        groups = self._groups(members, starts, self._slots(axes, starts, lengths))
        unknown = dict(self.tracer.unknown)
        return ChannelGroups(self.tracer.graph, groups, axes, sizes, terms, unknown, activations)

    def _groups(self, members: list[list[int]], starts: list[int], slots: list[list[Slot]]) -> tuple[Group, ...]:
        groups: list[Group] = []
        count: Counter[str] = Counter()
        for roots, start, own_slots in zip(members, starts, slots, strict=True):
            layer = self.tracer.origin[min(roots)]
            count[layer] += 1
            name = layer if count[layer] == 1 else f"{layer}:{count[layer]}"
            reason = next((self.tracer.reasons[root] for root in roots if root in self.tracer.reasons), None)
            if reason is None and len(roots) == 1:
                reason = "it is a single channel"
            groups.append(Group(name, start, len(roots), tuple(own_slots), reason))
        return tuple(groups)

    def _members(self) -> list[list[int]]:
        """Root ids that appear on the same axes equally often, in the order in which the network creates them."""
        found = [np.unique(array[array != FIXED], return_counts=True) for array in self.root_arrays]
        roots = np.concatenate([np.zeros(0, np.int64), *(roots for roots, _ in found)])
        copies = np.concatenate([np.zeros(0, np.int64), *(copies for _, copies in found)])
        arrays = np.repeat(np.arange(len(found)), [len(roots) for roots, _ in found])
        order = np.argsort(roots, kind="stable")
        places = np.stack([arrays, copies], axis=1)[order]  # of each root in turn: which array, and how often there
        each, starts = np.unique(roots[order], return_index=True)
        members: dict[tuple, list[int]] = {}
        for root, own in zip(each.tolist(), np.split(places, starts)[1:], strict=True):
            key = self.tracer.reasons.get(root), self.tracer.origin[root], own.tobytes()
            members.setdefault(key, []).append(root)
        return sorted(members.values(), key=min)

    def _slots(self, axes: dict[WeightAxis, np.ndarray], starts: list[int], lengths: list[int]) -> list[list[Slot]]:
        """The slots of each group; the groups have these first ids and these numbers of channels."""
        slots: list[list[Slot]] = [[] for _ in starts]
        bounds = np.array(starts, dtype=np.int64)
        for key, ids in axes.items():
            owners = np.searchsorted(bounds, ids, side="right") - 1
            for owner in np.unique(owners[ids != FIXED]):
                positions = np.flatnonzero((owners == owner) & (ids != FIXED))
                order = np.argsort(ids[positions], kind="stable")
                slots[owner].append(Slot(*key, self.tracer.roles[key], positions[order].reshape(lengths[owner], -1)))
        return slots
