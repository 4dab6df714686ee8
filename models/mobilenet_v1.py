"""MobileNetV1 (arXiv 1704.04861), of `keras.applications`; trained on ImageNet, the main network of AMC."""

from pathlib import Path
from typing import Any

from models.sources import MissingData, find

WEIGHTS = "mobilenet_v1_imagenet.weights.h5"


def build(
    keras: Any,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    alpha: float = 1.0,
) -> Any:
    """Builds it untrained: images (n, height, width, 3) in [-1, 1] -> probabilities (n, classes)."""
    return keras.applications.MobileNet(input_shape=input_shape, alpha=alpha, weights=None, classes=classes)


def load(keras: Any) -> Any:
    """Builds the 1.0/224 network with the original ImageNet weights, from AMC_DATA_DIR, else from Keras's download.

    Raises:
        MissingData: neither was to be had.
    """
    path = find(WEIGHTS)
    if path is not None:
        model = build(keras)
        _assign(model, path)
        return model
    try:
        return keras.applications.MobileNet(weights="imagenet")
    except Exception as error:  # Keras wraps what the network does in a bare Exception
        raise MissingData(
            f"The weights of mobilenet_v1_imagenet were not found: set AMC_DATA_DIR to a folder that holds {WEIGHTS}, "
            f"or allow keras.applications to download them, which failed here: {error}"
        ) from error


def _assign(model: Any, path: Path) -> None:
    # Read by hand because tf_keras and Keras 3 disagree on the folder names inside such a file, not on its arrays:
    # each folder "vars" bears the layer's name and numbers its weights in the order of layer.weights.
    import h5py

    with h5py.File(path) as file:
        folders = [group["vars"] for group in file["layers"].values() if "vars" in group]
        arrays = {folder.attrs["name"]: [folder[str(i)][()] for i in range(len(folder))] for folder in folders}
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(arrays[layer.name])
