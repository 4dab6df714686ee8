"""VGG-16 (arXiv 1409.1556), of `keras.applications`; untrained."""

from typing import Any


def build(
    keras: Any,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
) -> Any:
    """Builds it untrained: images (n, height, width, 3) -> probabilities (n, classes)."""
    return keras.applications.VGG16(input_shape=input_shape, weights=None, classes=classes)
