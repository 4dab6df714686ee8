"""The networks of the examples, tests and benchmarks: `load` returns a trained one, `build` an untrained one.

Nothing here imports amc_tf, and amc_tf imports nothing from here: to amc_tf these are models like any other.

    import keras                                      # or: import tf_keras as keras
    import models
    from models import datasets

    model = models.load("plain20_fashion_mnist", keras)
    data = datasets.load("fashion_mnist", full=False)
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models import mobilenet_v1, weights
from models.sources import MissingData, find

__all__ = ["ARCHITECTURES", "TRAINED", "MissingData", "build", "load"]

ARCHITECTURES = (
    "mobilenet_v1",
    "mobilenet_v1_sparse",
    "mobilenet_v2",
    "plain20",
    "resnet20",
    "resnet50",
    "resnet56",
    "vgg16",
)

TRAINED = {  # name: (architecture, options of its builder, data set it was trained on)
    "plain20_fashion_mnist": ("plain20", {"input_shape": (28, 28, 1)}, "fashion_mnist"),
    "plain20_cifar10": ("plain20", {}, "cifar10"),
    "resnet20_cifar10": ("resnet20", {}, "cifar10"),
    "resnet56_cifar10": ("resnet56", {}, "cifar10"),
    "mobilenet_v1_imagenet": ("mobilenet_v1", {}, "imagenet_sample"),
}

SHIPPED = Path(__file__).parent / "fashion_mnist"


def build(name: str, /, keras: Any, **options) -> Any:
    """Builds an untrained network.

    Args:
        name: one of `ARCHITECTURES`.
        keras: the module to build it with, `keras` (Keras 3) or `tf_keras`.
        **options: passed to the `build` function in the network's file: `input_shape` (height, width, channels),
            `classes`, for the MobileNets also `alpha`, for plain20, resnet20 and resnet56 also `name`.

    Returns:
        A functional model of plain layers, image batch (n, height, width, channels) -> probabilities (n, classes).

    Raises:
        ValueError: there is no such network.
        TypeError: `keras` is not a Keras module.
    """
    if name not in ARCHITECTURES:
        raise ValueError(_unknown(name, ARCHITECTURES, also=TRAINED, call="models.load"))
    _check_keras(keras)
    return _builder(name)(keras, **options)


def load(name: str, keras: Any) -> Any:
    """Builds a network and gives it its trained weights.

    Args:
        name: one of `TRAINED`.
        keras: the module to build it with, `keras` (Keras 3) or `tf_keras`.

    Returns:
        A functional model of plain layers; its input is an image as `models.datasets.load` preprocesses it.

    Raises:
        ValueError: there is no such trained network.
        TypeError: `keras` is not a Keras module.
        MissingData: its weights are neither in AMC_DATA_DIR nor available otherwise.
    """
    if name not in TRAINED:
        raise ValueError(_unknown(name, TRAINED, also=ARCHITECTURES, call="models.build"))
    _check_keras(keras)
    if name == "mobilenet_v1_imagenet":
        return mobilenet_v1.load(keras)
    architecture, options, _ = TRAINED[name]
    path = find(f"{name}.npz", beside=SHIPPED)
    if path is None:
        raise MissingData(
            f"The weights of {name} were not found: set AMC_DATA_DIR to a folder that holds {name}.npz, or train "
            f"them with `python -m models.train --network {name} --out DIR/{name}.npz` and set AMC_DATA_DIR to DIR."
        )
    model = build(architecture, keras, name=name, **options)
    weights.assign(model, weights.read(path), origin=str(path))
    return model


def _builder(name: str) -> Callable:
    if name.startswith("resnet") and name != "resnet50":
        depth = int(name.removeprefix("resnet"))
        resnet_cifar = importlib.import_module("models.resnet_cifar")
        return lambda keras, **options: resnet_cifar.build(keras, depth=depth, **options)
    return importlib.import_module(f"models.{name}").build


def _check_keras(keras: Any) -> None:
    if not hasattr(keras, "Model") or not hasattr(keras, "layers"):
        raise TypeError(f"keras is {keras!r}, expected the module `keras` (Keras 3) or `tf_keras`.")


def _unknown(name: object, known: Any, also: Any, call: str) -> str:
    hint = f"; {call} has it" if name in also else ""
    return f"There is no network {name!r} here, expected one of {', '.join(sorted(known))}{hint}."
