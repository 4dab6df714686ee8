"""One score a channel: the higher, the more the network would miss it.

An importance is a function (group, weights) -> float array (channels,), with `weights` as layer path -> arrays.
"""

from collections.abc import Callable, Mapping

import numpy as np

from amc_tf.graph.groups import Group, Slot

Importance = Callable[[Group, Mapping[str, tuple[np.ndarray, ...]]], np.ndarray]


def magnitude_in(group: Group, weights: Mapping) -> np.ndarray:
    """Sum of |W| over everything that reads the channel: the paper's choice (its code prunes input channels)."""
    return _sums(group, weights, "in", np.abs)


def magnitude_out(group: Group, weights: Mapping) -> np.ndarray:
    """Sum of |W| over everything that makes the channel."""
    return _sums(group, weights, "out", np.abs)


def magnitude(group: Group, weights: Mapping) -> np.ndarray:
    """Root of the sum of squares over all that makes and reads the channel, each weight scaled to mean square 1.

    Scaling lets layers of different size have the same say (the group norm of DepGraph, CVPR 2023, does likewise).
    """
    scores = np.zeros(group.channels)
    for slot in group.slots:
        if slot.role != "own":
            squares = _per_channel(slot, np.square(weights[slot.layer][slot.weight], dtype=np.float64))
            scores += squares / max(squares.mean(), 1e-30)
    return np.sqrt(scores)


NAMED: dict[str, Importance] = {f.__name__: f for f in (magnitude_in, magnitude_out, magnitude)}


def scores(importance: Importance, group: Group, weights: Mapping) -> np.ndarray:
    """The scores of a group's channels, checked.

    Raises:
        ValueError: the importance did not return one finite number a channel.
    """
    values = np.asarray(importance(group, weights), dtype=np.float64)
    if values.shape != (group.channels,) or not np.isfinite(values).all():
        raise ValueError(
            f"The importance {getattr(importance, '__name__', importance)!r} returned shape {values.shape} for group "
            f"{group.name!r}{'' if np.isfinite(values).all() else ' with NaN or infinity'}; "
            f"expected {group.channels} finite numbers, one a channel."
        )
    return values


def _sums(group: Group, weights: Mapping, role: str, measure: Callable) -> np.ndarray:
    slots = [slot for slot in group.slots if slot.role == role] or group.slots
    return sum((_per_channel(s, measure(weights[s.layer][s.weight])) for s in slots), np.zeros(group.channels))


def _per_channel(slot: Slot, values: np.ndarray) -> np.ndarray:
    lanes = np.moveaxis(values, slot.axis, 0).reshape(values.shape[slot.axis], -1).sum(axis=1)
    return lanes[slot.positions].sum(axis=1)
