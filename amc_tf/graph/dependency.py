"""Which channels are the same channel: labels on tensor axes, joined where the network ties them together.

Every channel that a layer makes is an *atom*, a number. An axis of a tensor or weight carries an array of atoms, one a
position, or FIXED where the position can never go. Joining two atoms says that they live or die together.
"""

from dataclasses import dataclass, field

import numpy as np

from amc_tf.graph.network import Graph, Node

FIXED = -1

Axis = np.ndarray | None  # int array (positions,) of atoms; None: nothing on this axis can go
Labels = tuple[Axis, ...]  # one entry an axis of a tensor, without the batch axis


@dataclass(frozen=True)
class Size:
    """A number in a layer's settings that has to follow an axis, such as the `filters` of a convolution."""

    layer: str
    path: tuple[str | int, ...]
    atoms: np.ndarray


@dataclass(frozen=True)
class Term:
    """MACs of one call: `coefficient` times the number of kept positions on each of `axes`."""

    layer: str
    coefficient: int
    axes: tuple[np.ndarray, ...]


@dataclass
class Tracer:
    """Collects, node by node, what each axis carries and which numbers and weights follow it."""

    graph: Graph
    labels: dict[int, Labels] = field(default_factory=dict)  # tensor -> labels
    parent: list[int] = field(default_factory=list)
    origin: list[str] = field(default_factory=list)  # atom -> the layer that makes it
    reasons: dict[int, str] = field(default_factory=dict)  # root atom -> why it may not go
    axes: dict[tuple[str, int, int], np.ndarray] = field(default_factory=dict)  # (layer, weight, axis) -> atoms
    roles: dict[tuple[str, int, int], str] = field(default_factory=dict)  # the same key -> "in", "out" or "own"
    sizes: list[Size] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    made: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)  # layer -> why it is not understood

    # -- atoms

    def fresh(self, layer: str, count: int, tag: str = "") -> np.ndarray:
        """New atoms that `layer` makes; the same ones each time a shared layer is called."""
        if (layer, tag) not in self.made:
            start = len(self.parent)
            self.parent.extend(range(start, start + count))
            self.origin.extend([layer] * count)
            self.made[layer, tag] = np.arange(start, start + count)
        return self.made[layer, tag]

    def find(self, atom: int) -> int:
        """The atom that stands for all those joined with `atom`."""
        root = atom
        while self.parent[root] != root:
            root = self.parent[root]
        while self.parent[atom] != root:
            self.parent[atom], atom = root, self.parent[atom]
        return root

    def join(self, first: Axis, second: Axis, why_fixed: str) -> Axis:
        """Ties two axes of equal length position by position; what meets a fixed position may not go (`why_fixed`)."""
        if first is None or second is None:
            self.freeze(second if first is None else first, why_fixed)
            return first if second is None else second
        self.freeze(first[second == FIXED], why_fixed)
        self.freeze(second[first == FIXED], why_fixed)
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            if a == FIXED or b == FIXED:
                continue
            a, b = sorted((self.find(a), self.find(b)))
            if a != b:
                self.parent[b] = a
                if b in self.reasons:
                    self.reasons.setdefault(a, self.reasons.pop(b))
        return np.where(first == FIXED, second, first)

    def freeze(self, axis: Axis, reason: str) -> None:
        """None of these atoms may go."""
        if axis is None:
            return
        for atom in np.unique(axis):
            if atom != FIXED:
                self.reasons.setdefault(self.find(int(atom)), reason)

    def output(self, labels: Labels) -> None:
        """What the model returns may not go, whatever else holds it."""
        for axis in labels:
            for atom in () if axis is None else np.unique(axis[axis != FIXED]):
                self.reasons[self.find(int(atom))] = "it is an output of the model"

    def freeze_all(self, labels: Labels, reason: str, but: int | None = None) -> Labels:
        """Freezes every axis, except axis `but`; returns the labels with the frozen axes let go."""
        kept = None if but is None else but % len(labels)
        for index, axis in enumerate(labels):
            if index != kept:
                self.freeze(axis, reason)
        return tuple(axis if index == kept else None for index, axis in enumerate(labels))

    # -- what follows an axis

    def weight(self, node: Node, name: str, axis: int, atoms: Axis, role: str = "own") -> None:
        """The named weight of a layer, if it has one, loses the positions of `axis` whose atoms go.

        `role` says whether the layer reads the channels there ("in"), makes them ("out") or only carries them ("own").
        """
        for index, weight in enumerate(node.weights):
            if weight.name == name:
                # An axis on which nothing can go is noted too: another call of a shared layer may see atoms there.
                follows = np.full(weight.shape[axis], FIXED) if atoms is None else atoms
                key = (node.layer, index, axis % len(weight.shape))
                if key in self.axes:
                    why = f"the shared layer {node.layer!r} also sees channels that cannot go"
                    self.axes[key] = self.join(self.axes[key], follows, why)
                else:
                    self.axes[key] = follows
                    self.roles[key] = role

    def size(self, node: Node, path: tuple[str | int, ...], atoms: Axis) -> None:
        """The number at `path` of a layer's settings is the number of kept positions."""
        if atoms is not None:
            self.sizes.append(Size(node.layer, path, atoms))

    def macs(self, node: Node, coefficient: int, *axes: tuple[Axis, int]) -> None:
        """Counts the multiplications of one call; `axes` are (atoms, length) pairs."""
        known = tuple(np.full(length, FIXED) if atoms is None else atoms for atoms, length in axes)
        self.terms.append(Term(node.layer, int(coefficient), known))

    # -- tensors

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of a tensor without its batch axis."""
        return self.graph.shapes[tensor]

    def reshape(self, labels: Labels, old: tuple[int, ...], new: tuple[int, ...], reason: str) -> Labels:
        """Labels after a reshape: followed where each channel stays whole on one axis, frozen (`reason`) elsewhere."""
        carried = [i for i, axis in enumerate(labels) if axis is not None]
        if not carried:
            return (None,) * len(new)
        if len(carried) > 1:
            self.freeze_all(labels, reason)
            return (None,) * len(new)
        position = carried[0]
        column = labels[position].reshape([-1 if i == position else 1 for i in range(len(old))])
        full = np.broadcast_to(column, old).reshape(new)
        for axis in reversed(range(len(new))):
            rows = np.moveaxis(full, axis, -1).reshape(-1, new[axis])
            if (rows == rows[0]).all():
                return tuple(rows[0] if i == axis else None for i in range(len(new)))
        for axis in reversed(range(len(new))):
            rows = np.moveaxis(full, axis, -1).reshape(-1, new[axis])
            pairs = np.unique(np.stack([rows.ravel(), np.tile(np.arange(new[axis]), len(rows))]), axis=1)
            if new[axis] > 1 and len(np.unique(rows)) == pairs.shape[1] and (rows != FIXED).all():
                for row in np.unique(rows, axis=0):  # each channel falls into one position: tie those that share it
                    self.join(rows[0], row, reason)
                return tuple(rows[0] if i == axis else None for i in range(len(new)))
        self.freeze_all(labels, reason)
        return (None,) * len(new)
