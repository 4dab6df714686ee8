"""A model and its kept channels -> a new, smaller model. The given model is never touched."""

import numpy as np

from amc_tf.graph import keras_builder
from amc_tf.graph.groups import ChannelGroups


def rewrite(model, groups: ChannelGroups, kept: np.ndarray, weights: dict[str, tuple[np.ndarray, ...]]):
    """Builds the network that has only the kept channels.

    Args:
        model: the Keras model that `groups` was read from.
        groups: its channel groups.
        kept: bool array (groups.channels,), True = stays.
        weights: layer path -> arrays of the new network, see `sliced`.

    Returns:
        A plain model of the same Keras.
    """
    sizes: dict[str, list] = {}
    for size in groups.sizes:
        sizes.setdefault(size.layer, []).append((size.path, int(stays(kept, size.atoms).sum())))

    def edit(path: str, settings: dict) -> dict:
        for place, value in sizes.get(path, ()):
            settings = _replaced(settings, place, value)
        return settings

    return keras_builder.rebuild(model, edit, weights)


def sliced(groups: ChannelGroups, kept: np.ndarray, weights: dict) -> dict[str, tuple[np.ndarray, ...]]:
    """The weights with only the kept positions of every axis."""
    new = {path: list(arrays) for path, arrays in weights.items()}
    for (layer, weight, axis), atoms in groups.axes.items():
        new[layer][weight] = np.compress(stays(kept, atoms), new[layer][weight], axis=axis)
    return {path: tuple(arrays) for path, arrays in new.items()}


def masked(groups: ChannelGroups, kept: np.ndarray, weights: dict) -> dict[str, tuple[np.ndarray, ...]]:
    """The weights in full shape with zeros in every place of a dropped channel."""
    new = {path: [array.copy() for array in arrays] for path, arrays in weights.items()}
    for (layer, weight, axis), atoms in groups.axes.items():
        gone = np.flatnonzero(~stays(kept, atoms))
        np.moveaxis(new[layer][weight], axis, 0)[gone] = 0
    return {path: tuple(arrays) for path, arrays in new.items()}


def stays(kept: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """bool array (positions,): which positions of an axis stay; a FIXED position (-1) always does."""
    return np.append(kept, True)[atoms]


def _replaced(settings, place: tuple, value: int):
    """A copy of nested settings with `value` at `place`; tuples stay tuples."""
    if not place:
        return value
    if isinstance(settings, dict):
        return settings | {place[0]: _replaced(settings[place[0]], place[1:], value)}
    items = list(settings)
    items[place[0]] = _replaced(items[place[0]], place[1:], value)
    return type(settings)(items)
