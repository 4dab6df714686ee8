"""Plain-20: the 20-layer network without shortcuts of the CIFAR experiments in the ResNet paper (arXiv 1512.03385,
section 4.2), one of the networks that AMC prunes. Three stages of 16, 32 and 64 channels; the second and the third
begin with a stride of 2."""

from typing import Any


def build(keras: Any, input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10, name: str = "plain20") -> Any:
    """Builds it untrained: images (n, height, width, channels) -> probabilities (n, classes)."""
    layers = keras.layers
    x = images = keras.Input(input_shape)
    widths = [16] * 7 + [32] * 6 + [64] * 6  # 19 convolutions; the dense layer is the 20th
    for number, width in enumerate(widths, start=1):
        stride = 2 if number in (8, 14) else 1
        x = layers.Conv2D(
            width, 3, stride, "same", use_bias=False, kernel_initializer="he_normal", name=f"conv{number}"
        )(x)
        x = layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"bn{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    probabilities = layers.Dense(classes, activation="softmax", name="linear")(x)
    return keras.Model(images, probabilities, name=name)
