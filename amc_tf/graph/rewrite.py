"""Builds the smaller network from a model and its kept channels. The given model is never changed."""

from typing import Any

import numpy as np

from amc_tf.graph import keras_builder
from amc_tf.graph.groups import ChannelGroups
from amc_tf.graph.network import KerasModel, WeightArrays


def rewrite(model: KerasModel, groups: ChannelGroups, kept: np.ndarray, weights: WeightArrays) -> KerasModel:
    """Builds the network that has only the kept channels.

    Args:
        model: the Keras model that `groups` was read from.
        groups: its channel groups.
        kept: bool array (groups.channels,), True = stays.
        weights: layer path -> arrays of the new network, see `sliced`.

    Returns:
        A plain model of the same Keras.
    """
    sizes: dict[str, list[tuple[tuple[str | int, ...], int]]] = {}  # layer -> (path in its settings, new value)
    for size in groups.sizes:
        new_length = int(kept_positions(kept, size.channel_ids).sum())
        sizes.setdefault(size.layer, []).append((size.path, new_length))

    def edit(layer: str, settings: dict[str, Any]) -> dict[str, Any]:
        for path, value in sizes.get(layer, ()):
            settings = _replaced(settings, path, value)
        return settings

    return keras_builder.rebuild(model, edit, weights)


def sliced(groups: ChannelGroups, kept: np.ndarray, weights: WeightArrays) -> dict[str, tuple[np.ndarray, ...]]:
    """The weights with only the kept positions of every axis; `kept` as for `rewrite`."""
    new = {path: list(arrays) for path, arrays in weights.items()}
    for (layer, weight, axis), channel_ids in groups.axes.items():
        new[layer][weight] = np.compress(kept_positions(kept, channel_ids), new[layer][weight], axis=axis)
    return {path: tuple(arrays) for path, arrays in new.items()}


def masked(groups: ChannelGroups, kept: np.ndarray, weights: WeightArrays) -> dict[str, tuple[np.ndarray, ...]]:
    """The weights in full shape with zeros at every position of a dropped channel; `kept` as for `rewrite`."""
    new = {path: [array.copy() for array in arrays] for path, arrays in weights.items()}
    for (layer, weight, axis), channel_ids in groups.axes.items():
        dropped = np.flatnonzero(~kept_positions(kept, channel_ids))
        np.moveaxis(new[layer][weight], axis, 0)[dropped] = 0
    return {path: tuple(arrays) for path, arrays in new.items()}


def kept_positions(kept: np.ndarray, channel_ids: np.ndarray) -> np.ndarray:
    """bool array (positions,): which positions of an axis stay. A FIXED position (-1) always stays."""
    return np.append(kept, True)[channel_ids]


def _replaced(settings: Any, path: tuple[str | int, ...], value: int) -> Any:
    """A copy of nested settings with `value` at `path`; tuples stay tuples."""
    if not path:
        return value
    if isinstance(settings, dict):
        return settings | {path[0]: _replaced(settings[path[0]], path[1:], value)}
    items = list(settings)
    items[path[0]] = _replaced(items[path[0]], path[1:], value)
    return type(settings)(items)
