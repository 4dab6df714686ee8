"""Tiny models, one for every kind of layer and every way of joining layers that amc_tf should follow or freeze.

Each is a function `toy(keras) -> model` with random weights and random BatchNorm statistics, registered in TOYS with
the names of the groups that must be prunable in it. Their outputs are logits, so that errors show.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Toy:
    """A tiny model.

    Attributes:
        name: of the toy and of the model that it builds.
        shrinks: names of exactly those groups that may shrink.
        kerases: names of the Keras modules that can build it.
        custom: whether it needs classes or functions that Keras does not ship, so that another process cannot load it.
        tolerance: largest difference between pruned and masked outputs that is still rounding.
    """

    name: str
    function: Callable[[Any], Any]
    shrinks: tuple[str, ...]
    kerases: tuple[str, ...]
    custom: bool
    tolerance: float

    def build(self, keras) -> Any:
        """The model, with random weights."""
        return randomized(self.function(keras))


TOYS: dict[str, Toy] = {}
BOTH = ("keras", "tf_keras")


def toy(shrinks: str = "", only: str | None = None, custom: bool = False, tolerance: float = 1e-5):
    """Registers a builder; `shrinks` names the prunable groups, `only` the one Keras that has what it needs."""

    def register(function):
        name = function.__name__
        TOYS[name] = Toy(name, function, tuple(shrinks.split()), (only,) if only else BOTH, custom, tolerance)
        return function

    return register


def cases() -> list:
    """(Keras name, toy) pairs for pytest.mark.parametrize: each Keras where CI is set, elsewhere the two in turns."""
    import pytest

    if not os.environ.get("CI"):
        return one_keras_each()
    return [pytest.param(name, toy, id=f"{toy.name}-{name}") for toy in TOYS.values() for name in toy.kerases]


def one_keras_each() -> list:
    """The same with the two Kerases in turns, for tests of code that is the same for both."""
    import pytest

    turns = [(toy.kerases[number % len(toy.kerases)], toy) for number, toy in enumerate(TOYS.values())]
    return [pytest.param(name, toy, id=f"{toy.name}-{name}") for name, toy in turns]


def randomized(model, seed: int = 0):
    """Gives every weight and every BatchNorm statistic a random value of a size that keeps signals near 1."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if hasattr(layer, "layers"):
            continue  # its layers come themselves
        values = [_random(rng, v.name.split("/")[-1].split(":")[0], np.asarray(v)) for v in layer.weights]
        if values:
            layer.set_weights(values)
        if type(layer).__name__ == "Normalization":
            layer.finalize_state()
    return model


def _random(rng, name: str, value: np.ndarray) -> np.ndarray:
    if value.dtype.kind not in "f" or name == "count":
        return value
    if "variance" in name:
        drawn = rng.uniform(0.5, 1.5, value.shape)
    elif name in ("gamma", "scale"):
        drawn = rng.uniform(0.6, 1.4, value.shape) * rng.choice([-1, 1], value.shape)
    elif value.ndim < 2 or name in ("bias", "alpha"):
        drawn = rng.normal(0, 0.3, value.shape)
    else:
        fan_in = np.prod(value.shape[:-2], initial=1) * (value.shape[-2] if "depthwise" not in name else 1)
        drawn = rng.normal(0, (1.5 / fan_in) ** 0.5, value.shape)
    return drawn.astype(value.dtype)


def random_inputs(model, batch: int = 2, seed: int = 1) -> list[np.ndarray]:
    """One array (batch, ...) an input of the model, in the order of `model.inputs`."""
    rng = np.random.default_rng(seed)
    arrays = []
    for tensor in model.inputs:
        shape = (batch, *tuple(tensor.shape)[1:])
        integers = "int" in str(tensor.dtype)
        arrays.append(rng.integers(0, 7, shape) if integers else rng.normal(size=shape).astype("float32"))
    return arrays


def structured(model, inputs: list[np.ndarray]) -> Any:
    """The inputs in the structure that the model was built with: an array, a list or a dict."""
    structure = getattr(model, "_inputs_struct" if hasattr(model, "_inputs_struct") else "_nested_inputs", None)
    if isinstance(structure, dict):
        return dict(zip((tensor._keras_history[0].name for tensor in model.inputs), inputs, strict=True))
    return inputs[0] if len(inputs) == 1 and not isinstance(structure, list) else inputs


def outputs(model, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What the model returns in inference mode, as a flat list of arrays."""
    return [np.asarray(array, dtype=np.float32) for array in flat(model(structured(model, inputs), training=False))]


def flat(structure) -> list:
    """The leaves of nested lists, tuples and dicts."""
    if isinstance(structure, dict):
        return [leaf for key in sorted(structure) for leaf in flat(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [leaf for item in structure for leaf in flat(item)]
    return [structure]


def image_input(keras, channels: int = 3):
    return keras.Input((8, 8, channels), name="image")


def ended(keras, inputs, x, name: str):
    """Pools what is left to logits."""
    rank = len(x.shape) - 2
    if rank:
        x = getattr(keras.layers, f"GlobalAveragePooling{rank}D")(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(x), name=name)
