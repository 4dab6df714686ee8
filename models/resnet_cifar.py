"""The ResNets of the CIFAR experiments in the ResNet paper (arXiv 1512.03385, section 4.2) with its parameter-free
option A shortcuts, of plain layers only.

The padding is explicit, one pixel on each side, because "same" pads a strided convolution on the right and bottom
only: weights trained with the one are off by a pixel with the other.
"""

from typing import Any


def build(
    keras: Any,
    depth: int = 56,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    name: str | None = None,
) -> Any:
    """Builds it untrained: images (n, height, width, channels) -> probabilities (n, classes).

    Args:
        keras: the module `keras` (Keras 3) or `tf_keras`.
        depth: layers with weights on the longest path, 6n + 2.
        input_shape: of one image.
        classes: width of the softmax.
        name: of the model; default resnet and the depth.

    Raises:
        ValueError: no such depth.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth is {depth}, expected 6n + 2 with n >= 1: 8, 14, 20, 32, 44, 56, 110.")
    layers = keras.layers
    images = keras.Input(input_shape)
    x = _convolution(keras, images, 16, 1, "", "1")
    x = layers.ReLU(name="relu1")(x)
    for stage, width in enumerate((16, 32, 64), start=1):
        for block in range(blocks):
            x = _block(keras, x, width, 2 if stage > 1 and block == 0 else 1, f"layer{stage}_{block}_")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    probabilities = layers.Dense(classes, activation="softmax", name="linear")(x)
    return keras.Model(images, probabilities, name=name or f"resnet{depth}")


def _block(keras: Any, x: Any, width: int, stride: int, prefix: str) -> Any:
    layers = keras.layers
    shortcut = x
    x = _convolution(keras, x, width, stride, prefix, "1")
    x = layers.ReLU(name=f"{prefix}relu1")(x)
    x = _convolution(keras, x, width, 1, prefix, "2")
    if stride > 1:
        # A pool of one pixel only skips: every second row and column. Maximum, so that the values stay bit for bit.
        shortcut = layers.MaxPooling2D(1, strides=stride, name=f"{prefix}subsample")(shortcut)
        new = width - shortcut.shape[-1]
        # "channels_first" makes the layer pad the last two axes; of a channels-last tensor the very last is channels.
        shortcut = layers.ZeroPadding2D(
            ((0, 0), (new // 2, new - new // 2)), data_format="channels_first", name=f"{prefix}widen"
        )(shortcut)
    x = layers.Add(name=f"{prefix}add")([x, shortcut])
    return layers.ReLU(name=f"{prefix}relu2")(x)


def _convolution(keras: Any, x: Any, width: int, stride: int, prefix: str, number: str) -> Any:
    layers = keras.layers
    x = layers.ZeroPadding2D(1, name=f"{prefix}pad{number}")(x)
    x = layers.Conv2D(
        width, 3, stride, "valid", use_bias=False, kernel_initializer="he_normal", name=f"{prefix}conv{number}"
    )(x)
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"{prefix}bn{number}")(x)
