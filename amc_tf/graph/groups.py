"""ChannelGroups: which weight axes must shrink together, which may not and why."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from amc_tf.graph.dependency import FIXED, Size, Term, Tracer
from amc_tf.graph.network import Graph
from amc_tf.graph.rules.kinds import trace


@dataclass(frozen=True)
class Slot:
    """A place in a weight that belongs to a group.

    Attributes:
        layer: path of the layer.
        weight: index into `layer.get_weights()`.
        axis: axis of that weight.
        role: whether the layer reads the channels there ("in"), makes them ("out") or only carries them ("own").
        positions: int array (channels, copies): where each channel of the group lies on that axis. One copy is the
            rule; a flattened feature map holds a channel once a pixel.
    """

    layer: str
    weight: int
    axis: int
    role: str
    positions: np.ndarray


@dataclass(frozen=True)
class Group:
    """Channels that live or die together, with every place they have in the weights.

    Attributes:
        name: path of the first layer that makes them; "conv:2" is the second group of that layer.
        start: number of the group's first channel among all channels of all groups.
        channels: how many there are.
        slots: every place in the weights.
        frozen: why the group may not shrink, or None.
    """

    name: str
    start: int
    channels: int
    slots: tuple[Slot, ...]
    frozen: str | None

    def __str__(self) -> str:
        places = ", ".join(f"{s.layer}[{s.weight}] axis {s.axis}" for s in self.slots)
        return f"{self.name}: {self.channels} channels{f' (frozen: {self.frozen})' if self.frozen else ''}: {places}"


@dataclass(frozen=True)
class ChannelGroups:
    """All channels of a network and everything that follows them.

    A channel is numbered through all groups; FIXED (-1) stands for a position that never goes.

    Attributes:
        graph: the network.
        groups: the groups in the order in which the network makes them.
        axes: (layer, weight index, axis) -> int array (positions,) of channel numbers.
        sizes: numbers in layers' settings that follow a channel axis.
        terms: multiplications of every call.
        unknown: layer -> why it is not understood (its channels are frozen, its MACs not counted).
        activations: what lies on the axes of the tensors between layers, as int arrays (positions,) of channel numbers.
    """

    graph: Graph
    groups: tuple[Group, ...]
    axes: dict[tuple[str, int, int], np.ndarray]
    sizes: tuple[Size, ...]
    terms: tuple[Term, ...]
    unknown: dict[str, str]
    activations: tuple[np.ndarray, ...]

    @property
    def prunable(self) -> tuple[Group, ...]:
        """The groups that may shrink."""
        return tuple(group for group in self.groups if group.frozen is None)

    @property
    def channels(self) -> int:
        """How many channels all groups have together."""
        return sum(group.channels for group in self.groups)

    def __getitem__(self, name: str) -> Group:
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)


def channel_groups(graph: Graph, frozen: Iterable[str] = ()) -> ChannelGroups:
    """Finds the channels of a network that must go together.

    Args:
        graph: the network.
        frozen: layer paths whose channels the caller wants left alone.

    Returns:
        The groups; together they hold every channel that any understood layer makes.
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
        tracer.output(tracer.labels[tensor])
    return _Grouping(tracer).result()


class _Grouping:
    """Numbers the traced atoms anew, so that each group is a range."""

    def __init__(self, tracer: Tracer):
        self.tracer = tracer
        self.axes = {key: atoms for key, atoms in tracer.axes.items() if (atoms != FIXED).any()}
        # Besides the weights, sizes and terms tell atoms apart: channels of one group take the same part everywhere.
        self.arrays = [
            *self.axes.values(),
            *(size.atoms for size in tracer.sizes),
            *(axis for term in tracer.terms for axis in term.axes),
        ]
        roots = np.array([tracer.find(atom) for atom in range(len(tracer.parent))] + [FIXED], dtype=np.int64)
        self.all_roots = roots  # FIXED is -1 and so picks the last entry
        self.roots = [roots[array] for array in self.arrays]

    def result(self) -> ChannelGroups:
        members = self._members()
        number = np.full(len(self.tracer.parent) + 1, FIXED, dtype=np.int64)
        start, starts = 0, []
        for atoms in members:
            number[atoms] = np.arange(start, start + len(atoms))
            starts.append(start)
            start += len(atoms)
        renumbered = iter([number[array] for array in self.roots])
        axes = {key: next(renumbered) for key in self.axes}
        sizes = tuple(Size(size.layer, size.path, next(renumbered)) for size in self.tracer.sizes)
        terms = tuple(Term(t.layer, t.coefficient, tuple(next(renumbered) for _ in t.axes)) for t in self.tracer.terms)
        labelled = (axis for labels in self.tracer.labels.values() for axis in labels if axis is not None)
        activations = tuple(number[self.all_roots[axis]] for axis in labelled)
        slots = self._slots(axes, starts, [len(atoms) for atoms in members])
        groups, used = [], {}
        for atoms, first, places in zip(members, starts, slots, strict=True):
            maker = self.tracer.origin[min(atoms)]
            used[maker] = used.get(maker, 0) + 1
            name = maker if used[maker] == 1 else f"{maker}:{used[maker]}"
            reason = next((self.tracer.reasons[a] for a in atoms if a in self.tracer.reasons), None)
            if reason is None and len(atoms) == 1:
                reason = "it is a single channel"
            groups.append(Group(name, first, len(atoms), tuple(places), reason))
        unknown = dict(self.tracer.unknown)
        return ChannelGroups(self.tracer.graph, tuple(groups), axes, sizes, terms, unknown, activations)

    def _members(self) -> list[list[int]]:
        """Root atoms that appear on the same axes equally often, in the order in which the network makes them."""
        signature: dict[int, list] = {}
        for index, array in enumerate(self.roots):
            for atom, copies in zip(*np.unique(array, return_counts=True), strict=True):
                if atom != FIXED:
                    signature.setdefault(int(atom), []).append((index, int(copies)))
        members: dict[tuple, list[int]] = {}
        for atom in sorted(signature):
            reason = self.tracer.reasons.get(atom)
            members.setdefault((reason, self.tracer.origin[atom], *signature[atom]), []).append(atom)
        return sorted(members.values(), key=min)

    def _slots(self, axes, starts, lengths) -> list[list[Slot]]:
        slots: list[list[Slot]] = [[] for _ in starts]
        bounds = np.array(starts, dtype=np.int64)
        for key, array in axes.items():
            owners = np.searchsorted(bounds, array, side="right") - 1
            for owner in np.unique(owners[array != FIXED]):
                positions = np.flatnonzero((owners == owner) & (array != FIXED))
                order = np.argsort(array[positions], kind="stable")
                slots[owner].append(Slot(*key, self.tracer.roles[key], positions[order].reshape(lengths[owner], -1)))
        return slots
