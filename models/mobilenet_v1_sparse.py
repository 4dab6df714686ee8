"""MobileNetV1 (arXiv 1704.04861) in the form that XNNPACK can run with its sparse kernels; untrained.

It differs from the one of `keras.applications` in two ways. Where the stride is 2, a row or column of zeros is padded
on every side, not on two sides only. And it ends in a plain dense layer, not in a 1x1 convolution over one pixel.
"""

from typing import Any

_BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]


def build(
    keras: Any,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
    alpha: float = 1.0,
) -> Any:
    """Builds it untrained: images (n, height, width, 3) in [-1, 1] -> probabilities (n, classes)."""
    layers = keras.layers
    images = keras.Input(input_shape)
    x = layers.ZeroPadding2D(1, name="conv1_pad")(images)
    x = layers.Conv2D(int(32 * alpha), 3, strides=2, use_bias=False, name="conv1")(x)
    x = _activated(layers, x, "conv1")
    for number, (channels, stride) in enumerate(_BLOCKS, start=1):
        depthwise, pointwise = f"conv_dw_{number}", f"conv_pw_{number}"
        x = layers.ZeroPadding2D(1, name=f"{depthwise}_pad")(x) if stride == 2 else x
        padding = "valid" if stride == 2 else "same"
        x = layers.DepthwiseConv2D(3, strides=stride, padding=padding, use_bias=False, name=depthwise)(x)
        x = _activated(layers, x, depthwise)
        x = layers.Conv2D(int(channels * alpha), 1, use_bias=False, name=pointwise)(x)
        x = _activated(layers, x, pointwise)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(images, layers.Dense(classes, activation="softmax", name="predictions")(x))


def _activated(layers: Any, x: Any, name: str) -> Any:
    return layers.ReLU(6.0, name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))
