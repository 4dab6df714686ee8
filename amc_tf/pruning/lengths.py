"""Lengths of tensor axes at given widths. Every length in a network is an affine function of the widths."""

from collections.abc import Iterable, Sequence

import numpy as np

from amc_tf.graph.groups import ChannelGroups
from amc_tf.pruning.unit import Unit


class Lengths:
    """The lengths of some axes as affine functions of the widths.

    Args:
        groups: the channel groups of the network.
        units: the units whose widths vary. All other groups keep all channels.
        axes: int arrays (positions,) of channel ids; FIXED (-1) marks a position that is never pruned.

    Attributes:
        full: int array (units,), channels of each unit.
        fixed: int array (axes,), number of positions of each axis that always stay.
        copies: int array (axes, units), how often an axis holds each channel of a unit.
    """

    def __init__(self, groups: ChannelGroups, units: Sequence[Unit], axes: Iterable[np.ndarray]):
        self.full = np.array([unit.size for unit in units], dtype=np.int64)
        owner = np.full(groups.channels + 1, -1)  # channel id -> unit; FIXED (-1) reads the last entry
        for index, unit in enumerate(units):
            group = groups[unit.name]
            owner[group.start : group.start + group.channels] = index
        owners = [owner[channel_ids] for channel_ids in axes]
        self.fixed = np.array([np.count_nonzero(on_axis == -1) for on_axis in owners], dtype=np.int64)
        counts = [np.bincount(on_axis[on_axis >= 0], minlength=len(units)) for on_axis in owners]
        self.copies = np.array(counts, dtype=np.int64).reshape(len(owners), len(units)) // self.full

    @classmethod
    def from_arrays(cls, full: np.ndarray, fixed: np.ndarray, copies: np.ndarray) -> "Lengths":
        """Lengths with these attributes."""
        lengths = cls.__new__(cls)
        lengths.full, lengths.fixed, lengths.copies = full, fixed, copies
        return lengths

    def __call__(self, widths: Sequence[int] | np.ndarray) -> np.ndarray:
        """The lengths if unit i keeps `widths[i]` channels: int array (units,) -> (axes,)."""
        return self.fixed + self.copies @ np.asarray(widths, dtype=np.int64)


def varying_lengths(groups: ChannelGroups, units: Sequence[Unit]) -> Lengths:
    """All lengths in the network that depend on the widths, without duplicates."""
    axes = [
        *groups.axes.values(),
        *(size.channel_ids for size in groups.sizes),
        *(axis for term in groups.terms for axis in term.axes),
        *groups.activations,
    ]
    lengths = Lengths(groups, units, axes)
    rows = np.unique(np.column_stack([lengths.fixed, lengths.copies]), axis=0)
    rows = rows[rows[:, 1:].any(axis=1)]
    return Lengths.from_arrays(lengths.full, rows[:, 0], rows[:, 1:])
