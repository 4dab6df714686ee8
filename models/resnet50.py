"""ResNet-50 (arXiv 1512.03385), of `keras.applications`; untrained."""

from typing import Any


def build(
    keras: Any,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
) -> Any:
    """Builds it untrained: images (n, height, width, 3) -> probabilities (n, classes)."""
    return keras.applications.ResNet50(input_shape=input_shape, weights=None, classes=classes)
