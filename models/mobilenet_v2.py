"""MobileNetV2 (arXiv 1801.04381), of `keras.applications`; untrained."""

from typing import Any


def build(
    keras: Any,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    alpha: float = 1.0,
) -> Any:
    """Builds it untrained: images (n, height, width, 3) -> probabilities (n, classes)."""
    return keras.applications.MobileNetV2(input_shape=input_shape, alpha=alpha, weights=None, classes=classes)
