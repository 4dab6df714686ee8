"""How long axes are at given widths: every length in a network is affine in the widths of its units."""

from collections.abc import Iterable, Sequence

import numpy as np

from amc_tf.graph.groups import ChannelGroups
from amc_tf.pruning.unit import Unit


class Lengths:
    """The lengths of some axes as functions of the widths.

    Args:
        groups: the channel groups of the network.
        units: the units whose widths vary; every other group stays whole.
        axes: int arrays of channel numbers, FIXED (-1) where a position never goes.

    Attributes:
        full: channels of each unit, (units,).
        fixed: positions of each axis that always stay, (axes,).
        copies: how often each axis holds each channel of each unit, (axes, units).
    """

    def __init__(self, groups: ChannelGroups, units: Sequence[Unit], axes: Iterable[np.ndarray]):
        self.full = np.array([unit.size for unit in units], dtype=np.int64)
        owner = np.full(groups.channels + 1, -1)  # channel -> unit; the last entry answers for FIXED
        for index, unit in enumerate(units):
            group = groups[unit.name]
            owner[group.start : group.start + group.channels] = index
        owners = [owner[atoms] for atoms in axes]
        self.fixed = np.array([np.count_nonzero(of_axis == -1) for of_axis in owners], dtype=np.int64)
        held = [np.bincount(of_axis[of_axis >= 0], minlength=len(units)) for of_axis in owners]
        self.copies = np.array(held, dtype=np.int64).reshape(len(owners), len(units)) // self.full

    @classmethod
    def of(cls, full: np.ndarray, fixed: np.ndarray, copies: np.ndarray) -> "Lengths":
        """From its attributes."""
        lengths = cls.__new__(cls)
        lengths.full, lengths.fixed, lengths.copies = full, fixed, copies
        return lengths

    def __call__(self, widths) -> np.ndarray:
        """The lengths when unit i keeps `widths[i]` channels: int array (units,) -> (axes,)."""
        return self.fixed + self.copies @ np.asarray(widths, dtype=np.int64)


def varying(groups: ChannelGroups, units: Sequence[Unit]) -> Lengths:
    """Every different length in the network that varies, each once."""
    axes = [
        *groups.axes.values(),
        *(size.channel_ids for size in groups.sizes),
        *(axis for term in groups.terms for axis in term.axes),
        *groups.activations,
    ]
    lengths = Lengths(groups, units, axes)
    rows = np.unique(np.column_stack([lengths.fixed, lengths.copies]), axis=0)
    rows = rows[rows[:, 1:].any(axis=1)]
    return Lengths.of(lengths.full, rows[:, 0], rows[:, 1:])
