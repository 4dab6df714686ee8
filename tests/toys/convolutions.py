"""Convolutions of every sort."""

from tests.toys.registry import ended, image_input, toy


@toy("conv1 conv2 conv3")
def conv2d(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(8, 3, activation="relu", name="conv1")(image)
    x = layers.Conv2D(6, (1, 3), strides=2, padding="same", use_bias=False, name="conv2")(x)
    x = layers.Conv2D(7, 3, dilation_rate=2, padding="same", activation="tanh", name="conv3")(x)
    return ended(keras, image, x, "conv2d")


@toy("conv1 conv2")
def conv1d(keras):
    layers = keras.layers
    signal = keras.Input((16, 3))
    x = layers.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="relu", name="conv1")(signal)
    x = layers.Conv1D(6, 3, strides=2, name="conv2")(x)
    return ended(keras, signal, x, "conv1d")


@toy("conv1 conv2")
def conv3d(keras):
    layers = keras.layers
    video = keras.Input((5, 6, 4, 2))
    x = layers.Conv3D(6, 3, padding="same", activation="relu", name="conv1")(video)
    x = layers.BatchNormalization()(x)
    x = layers.Conv3D(4, (1, 2, 2), strides=(2, 1, 1), name="conv2")(x)
    return ended(keras, video, x, "conv3d")


@toy("conv grouped after")
def grouped(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(8, 1, name="conv")(image)
    x = layers.Conv2D(12, 3, groups=4, activation="relu", name="grouped")(x)
    x = layers.Conv2D(6, 1, name="after")(x)
    return ended(keras, image, x, "grouped")


@toy("conv grouped2 grouped4")
def grouped_in_a_row(keras):
    """Groups of unlike number meet: what one ties the other ties further."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(16, 1, name="conv")(image)
    x = layers.Conv2D(16, 3, groups=2, name="grouped2")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(8, 3, groups=4, name="grouped4")(x)
    return ended(keras, image, x, "grouped_in_a_row")


@toy("grouped after")
def grouped_on_input(keras):
    layers = keras.layers
    image = image_input(keras, 4)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(image)
    x = layers.Conv2D(6, 3, groups=2, name="after")(x)
    return ended(keras, image, x, "grouped_on_input")


@toy("conv after")
def grouped_by_channel(keras):
    """groups == channels: a depthwise convolution by another name."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.Conv2D(6, 3, groups=6, name="alone")(x)
    x = layers.Conv2D(12, 3, groups=6, activation="relu", name="doubling")(x)
    x = layers.Conv2D(5, 1, name="after")(x)
    return ended(keras, image, x, "grouped_by_channel")


@toy("after")
def grouped_by_channel_on_input(keras):
    layers = keras.layers
    image = image_input(keras, 3)
    x = layers.Conv2D(6, 3, groups=3, name="alone")(image)
    x = layers.Conv2D(5, 1, name="after")(x)
    return ended(keras, image, x, "grouped_by_channel_on_input")


@toy("conv1 conv2")
def grouped1d(keras):
    layers = keras.layers
    signal = keras.Input((12, 4))
    x = layers.Conv1D(8, 3, groups=2, name="conv1")(signal)
    x = layers.Conv1D(8, 3, groups=4, name="conv2")(x)
    return ended(keras, signal, x, "grouped1d")


@toy("conv up1 up2")
def conv2d_transpose(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, strides=2, name="conv")(image)
    x = layers.Conv2DTranspose(8, 3, strides=2, output_padding=1, activation="relu", name="up1")(x)
    x = layers.Conv2DTranspose(4, 2, padding="same", use_bias=False, name="up2")(x)
    return ended(keras, image, x, "conv2d_transpose")


@toy("conv up")
def conv1d_transpose(keras):
    layers = keras.layers
    signal = keras.Input((8, 3))
    x = layers.Conv1D(6, 3, name="conv")(signal)
    x = layers.Conv1DTranspose(8, 3, strides=2, name="up")(x)
    return ended(keras, signal, x, "conv1d_transpose")


@toy("conv up")
def conv3d_transpose(keras):
    layers = keras.layers
    video = keras.Input((3, 4, 4, 2))
    x = layers.Conv3D(4, 2, name="conv")(video)
    x = layers.Conv3DTranspose(5, 2, strides=2, name="up")(x)
    return ended(keras, video, x, "conv3d_transpose")


@toy("conv after")
def depthwise(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=3, activation="relu", name="tripling")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(5, 1, name="after")(x)
    return ended(keras, image, x, "depthwise")


@toy("after")
def depthwise_on_input(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2)(image)
    x = layers.Conv2D(5, 1, name="after")(x)
    return ended(keras, image, x, "depthwise_on_input")


@toy("conv after")
def depthwise1d(keras):
    layers = keras.layers
    signal = keras.Input((12, 3))
    x = layers.Conv1D(6, 1, name="conv")(signal)
    x = layers.DepthwiseConv1D(3, depth_multiplier=2)(x)
    x = layers.Conv1D(5, 1, name="after")(x)
    return ended(keras, signal, x, "depthwise1d")


@toy("separable1 separable2 separable3")
def separable2d(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.SeparableConv2D(6, 3, name="separable1")(image)
    x = layers.SeparableConv2D(7, 3, depth_multiplier=2, activation="relu", use_bias=False, name="separable2")(x)
    x = layers.SeparableConv2D(5, 3, padding="same", dilation_rate=2, name="separable3")(x)
    return ended(keras, image, x, "separable2d")


@toy("conv separable")
def separable1d(keras):
    layers = keras.layers
    signal = keras.Input((12, 3))
    x = layers.Conv1D(6, 1, name="conv")(signal)
    x = layers.SeparableConv1D(5, 3, depth_multiplier=2, name="separable")(x)
    return ended(keras, signal, x, "separable1d")


@toy("conv1 conv2")
def channels_first(keras):
    """Channels before rows, as far as TensorFlow's CPU kernels go along."""
    layers = keras.layers
    image = keras.Input((3, 8, 8))
    x = layers.Permute((2, 3, 1))(image)
    x = layers.Conv2D(6, 3, name="conv1")(x)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.ZeroPadding2D(1, data_format="channels_first")(x)
    x = layers.GlobalMaxPooling2D(data_format="channels_first", keepdims=True)(x)
    x = layers.Permute((2, 3, 1))(x)
    x = layers.Conv2D(5, 1, name="conv2")(x)
    return ended(keras, image, x, "channels_first")
