"""Importance of channels: one score per channel; channels with low scores are dropped first."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from amc_tf.graph.groups import Group, Slot
from amc_tf.graph.network import WeightArrays


class Importance(Protocol):
    """A function that scores the channels of a group; the plug point for an importance."""

    def __call__(self, group: Group, weights: WeightArrays, /) -> np.ndarray:
        """Float array (channels,); `weights` are those of the whole network, layer path -> arrays."""


def magnitude_in(group: Group, weights: WeightArrays) -> np.ndarray:
    """Sum of |W| over all weights that read the channel: the paper's choice (its code prunes input channels)."""
    return _sums(group, weights, "in", np.abs)


def magnitude_out(group: Group, weights: WeightArrays) -> np.ndarray:
    """Sum of |W| over all weights that create the channel."""
    return _sums(group, weights, "out", np.abs)


def magnitude(group: Group, weights: WeightArrays) -> np.ndarray:
    """Root of the sum of W² over all weights that create or read the channel.

    Each weight is first scaled to mean square 1 per channel, so that layers of different size count alike (as in the
    group norm of DepGraph, CVPR 2023).
    """
    scores = np.zeros(group.channels)
    for slot in group.slots:
        if slot.role != "own":
            squares = _per_channel(slot, np.square(weights[slot.layer][slot.weight], dtype=np.float64))
            scores += squares / max(squares.mean(), 1e-30)
    return np.sqrt(scores)


NAMED: dict[str, Importance] = {f.__name__: f for f in (magnitude_in, magnitude_out, magnitude)}


def scores(importance: Importance, group: Group, weights: WeightArrays) -> np.ndarray:
    """The checked scores of a group's channels: float array (channels,).

    Raises:
        ValueError: the importance did not return one finite number per channel.
    """
    values = np.asarray(importance(group, weights), dtype=np.float64)
    if values.shape != (group.channels,) or not np.isfinite(values).all():
        raise ValueError(
            f"The importance {getattr(importance, '__name__', importance)!r} returned shape {values.shape} for group "
            f"{group.name!r}{'' if np.isfinite(values).all() else ' with NaN or infinity'}; "
            f"expected {group.channels} finite numbers, one a channel."
        )
    return values


def _sums(group: Group, weights: WeightArrays, role: str, measure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Sums over the slots of a role; over all slots if the group has none of that role."""
    slots = [slot for slot in group.slots if slot.role == role] or group.slots
    return sum((_per_channel(s, measure(weights[s.layer][s.weight])) for s in slots), np.zeros(group.channels))


def _per_channel(slot: Slot, values: np.ndarray) -> np.ndarray:
    """Sums an array of the slot's shape over all elements of each channel."""
    lanes = np.moveaxis(values, slot.axis, 0).reshape(values.shape[slot.axis], -1).sum(axis=1)
    return lanes[slot.positions].sum(axis=1)
