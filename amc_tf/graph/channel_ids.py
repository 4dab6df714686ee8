"""The dependency graph of channels: which tensor axes and weight axes carry the same channel.

Every channel that a layer creates has a *channel id*, a number. An axis of a tensor or weight has an array of channel
ids, one per position. FIXED marks a position that is never pruned. Joined ids are pruned together or not at all.
"""

from dataclasses import dataclass, field

import numpy as np

from amc_tf.graph.network import Graph, Node

FIXED = -1

Axis = np.ndarray | None  # int array (positions,) of channel ids; None: no position of this axis can be pruned
Labels = tuple[Axis, ...]  # one entry per axis of a tensor, without the batch axis
WeightAxis = tuple[str, int, int]  # (layer path, index of the weight, axis of the weight)


@dataclass(frozen=True)
class Size:
    """A number in a layer's settings that must equal the length of an axis, such as the `filters` of a convolution.

    Attributes:
        layer: path of the layer.
        path: keys and indices that lead to the number in the nested settings.
        channel_ids: int array (positions,) of the axis.
    """

    layer: str
    path: tuple[str | int, ...]
    channel_ids: np.ndarray


@dataclass(frozen=True)
class Term:
    """MACs of one call: `coefficient` times the number of kept positions on each of `axes`.

    Attributes:
        layer: path of the layer.
        coefficient: MACs per combination of positions.
        axes: int arrays (positions,) of channel ids.
    """

    layer: str
    coefficient: int
    axes: tuple[np.ndarray, ...]


@dataclass
class Tracer:
    """Collects, node by node, the channel ids of each axis and the numbers and weights that depend on them.

    Joined ids form a union-find forest in `parent`; the root stands for all ids that are joined with it.

    Attributes:
        graph: the network.
        labels: index of a tensor -> its labels.
        parent: channel id -> next id on the way to the root; a root is its own parent.
        origin: channel id -> the layer that creates it.
        reasons: root id -> why it may not be pruned.
        axes: weight axis -> channel ids.
        roles: weight axis -> "in", "out" or "own", see `weight`.
        sizes: numbers in layers' settings that must equal the length of an axis.
        terms: MACs of every call.
        created: (layer, tag) -> the channel ids that the layer creates.
        unknown: layer -> why no rule understands it.
    """

    graph: Graph
    labels: dict[int, Labels] = field(default_factory=dict)
    parent: list[int] = field(default_factory=list)
    origin: list[str] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    axes: dict[WeightAxis, np.ndarray] = field(default_factory=dict)
    roles: dict[WeightAxis, str] = field(default_factory=dict)
    sizes: list[Size] = field(default_factory=list)
    terms: list[Term] = field(default_factory=list)
    created: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)

    # -- channel ids

    def create(self, layer: str, count: int, tag: str = "") -> np.ndarray:
        """New channel ids. Every call of a shared layer gets the same ones.

        Args:
            layer: path of the layer that creates the channels.
            count: number of channels.
            tag: tells several sets of channels of one layer apart.
        """
        if (layer, tag) not in self.created:
            start = len(self.parent)
            self.parent.extend(range(start, start + count))
            self.origin.extend([layer] * count)
            self.created[layer, tag] = np.arange(start, start + count)
        return self.created[layer, tag]

    def find(self, channel_id: int) -> int:
        """The root of a channel id."""
        root = channel_id
        while self.parent[root] != root:
            root = self.parent[root]
        while self.parent[channel_id] != root:
            self.parent[channel_id], channel_id = root, self.parent[channel_id]
        return root

    def join(self, first: Axis, second: Axis, why_fixed: str) -> Axis:
        """Joins two axes of equal length position by position.

        Args:
            first, second: channel ids of the axes.
            why_fixed: the reason for channels that meet a fixed position and so must stay.

        Returns:
            The channel ids of the joined axis.
        """
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
        """Forbids to prune the channels of an axis. The first reason stays."""
        if axis is None:
            return
        for channel_id in np.unique(axis):
            if channel_id != FIXED:
                self.reasons.setdefault(self.find(int(channel_id)), reason)

    def freeze_outputs(self, labels: Labels) -> None:
        """Forbids to prune an output of the model. This reason replaces any other."""
        for axis in labels:
            for channel_id in () if axis is None else np.unique(axis[axis != FIXED]):
                self.reasons[self.find(int(channel_id))] = "it is an output of the model"

    def freeze_all(self, labels: Labels, reason: str, but: int | None = None) -> Labels:
        """Freezes every axis except axis `but`; returns the labels with None for the frozen axes."""
        kept = None if but is None else but % len(labels)
        for index, axis in enumerate(labels):
            if index != kept:
                self.freeze(axis, reason)
        return tuple(axis if index == kept else None for index, axis in enumerate(labels))

    # -- weights, settings and MACs that depend on an axis

    def weight(self, node: Node, name: str, axis: int, channel_ids: Axis, role: str = "own") -> None:
        """Records that an axis of a layer's weight carries channels. Does nothing if the layer has no such weight.

        Args:
            node: a call of the layer.
            name: of the weight, "kernel" for instance.
            axis: of the weight.
            channel_ids: one per position of the axis.
            role: whether the layer reads the channels there ("in"), creates them ("out") or only carries them ("own").
        """
        for index, weight in enumerate(node.weights):
            if weight.name == name:
                # An axis of fixed positions is recorded too: another call of a shared layer may have channels there.
                ids = np.full(weight.shape[axis], FIXED) if channel_ids is None else channel_ids
                key = (node.layer, index, axis % len(weight.shape))
                if key in self.axes:
                    why = f"the shared layer {node.layer!r} also sees channels that cannot go"
                    self.axes[key] = self.join(self.axes[key], ids, why)
                else:
                    self.axes[key] = ids
                    self.roles[key] = role

    def size(self, node: Node, path: tuple[str | int, ...], channel_ids: Axis) -> None:
        """Records that the number at `path` of a layer's settings is the number of kept positions."""
        if channel_ids is not None:
            self.sizes.append(Size(node.layer, path, channel_ids))

    def macs(self, node: Node, coefficient: int, *axes: tuple[Axis, int]) -> None:
        """Records the MACs of one call; `axes` are (channel ids, length) pairs."""
        arrays = tuple(np.full(length, FIXED) if ids is None else ids for ids, length in axes)
        self.terms.append(Term(node.layer, int(coefficient), arrays))

    # -- tensors

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of a tensor without its batch axis."""
        return self.graph.shapes[tensor]

    def reshape(self, labels: Labels, old: tuple[int, ...], new: tuple[int, ...], reason: str) -> Labels:
        """Labels after a reshape. Channels that do not stay whole on one axis are frozen.

        Args:
            labels: of the input.
            old, new: shapes of input and output, without the batch axis.
            reason: for frozen channels.
        """
        unlabelled: Labels = (None,) * len(new)
        carriers = [i for i, axis in enumerate(labels) if axis is not None]
        if not carriers:
            return unlabelled
        if len(carriers) > 1:
            self.freeze_all(labels, reason)
            return unlabelled
        position = carriers[0]
        column = labels[position].reshape([-1 if i == position else 1 for i in range(len(old))])
        full = np.broadcast_to(column, old).reshape(new)  # the channel id of every element of the output
        for axis in reversed(range(len(new))):
            rows = np.moveaxis(full, axis, -1).reshape(-1, new[axis])
            if (rows == rows[0]).all():
                return tuple(rows[0] if i == axis else None for i in range(len(new)))
        for axis in reversed(range(len(new))):
            rows = np.moveaxis(full, axis, -1).reshape(-1, new[axis])
            pairs = np.unique(np.stack([rows.ravel(), np.tile(np.arange(new[axis]), len(rows))]), axis=1)
            if new[axis] > 1 and len(np.unique(rows)) == pairs.shape[1] and (rows != FIXED).all():
                for row in np.unique(rows, axis=0):  # every channel lies in one position: join those that share it
                    self.join(rows[0], row, reason)
                return tuple(rows[0] if i == axis else None for i in range(len(new)))
        self.freeze_all(labels, reason)
        return unlabelled
