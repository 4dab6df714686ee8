"""Weights of the CIFAR-sized networks as .npz files, the same for both Kerases.

A layer `layer1_0_conv1` has the arrays `layer1.0.conv1.*`: `weight` (convolutions HWIO, dense layers (in, out)) and
`bias`. In a BatchNormalization, `weight` is gamma and `bias` is beta; it also has `running_mean` and `running_var`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# A Keras variable's own name -> the word in the file.
WORDS = {
    "kernel": "weight",
    "gamma": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads a weights file: array name -> array."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def write(model: Any, path: Path) -> None:
    """Writes the weights of a model to a weights file."""
    arrays = {}
    for layer in model.layers:
        if layer.weights:
            arrays.update(zip(_names(layer), layer.get_weights(), strict=True))
    np.savez_compressed(path, **arrays)


def assign(model: Any, arrays: Mapping[str, np.ndarray], origin: str) -> None:
    """Sets the weights of a model.

    Args:
        model: to change.
        arrays: array name -> array.
        origin: of the arrays, for the error message.

    Raises:
        ValueError: names or shapes of the arrays differ from those of the model.
    """
    expected = {layer: _names(layer) for layer in model.layers if layer.weights}
    names = {name for of_layer in expected.values() for name in of_layer}
    if names != set(arrays):
        odd = sorted(names ^ set(arrays))
        raise ValueError(f"{origin} does not fit {model.name}: {len(odd)} arrays are missing or too many: {odd[:4]}.")
    for layer, of_layer in expected.items():
        for name, weight in zip(of_layer, layer.weights, strict=True):
            if tuple(weight.shape) != arrays[name].shape:
                raise ValueError(
                    f"{origin} does not fit {model.name}: {name} is {arrays[name].shape}, expected "
                    f"{tuple(weight.shape)}."
                )
        layer.set_weights([arrays[name] for name in of_layer])


def _names(layer: Any) -> list[str]:
    prefix = layer.name.replace("_", ".")
    # tf_keras calls a variable "conv1/kernel:0", Keras 3 "kernel".
    return [f"{prefix}.{WORDS[weight.name.split('/')[-1].split(':')[0]]}" for weight in layer.weights]
