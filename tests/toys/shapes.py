"""Reshape, Permute, RepeatVector."""

from tests.toys.registry import ended, image_input, toy


@toy("conv dense")
def rows_as_sequence(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    x = layers.Reshape((36, 6))(x)
    x = layers.Dense(5, name="dense")(x)
    x = layers.Reshape((6, 6, -1))(x)
    return ended(keras, image, x, "rows_as_sequence")


@toy("conv after")
def channel_shuffle(keras):
    layers = keras.layers
    image = image_input(keras, 6)
    x = layers.Conv2D(12, 1, groups=3, name="conv")(image)
    x = layers.Reshape((8, 8, 3, 4))(x)
    x = layers.Permute((1, 2, 4, 3))(x)
    x = layers.Reshape((8, 8, 12))(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.Conv2D(6, 1, name="after")(x)
    return ended(keras, image, x, "channel_shuffle")


@toy("after")
def torn_apart(keras):
    """A reshape that puts half a row of channels into each position."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.Reshape((8, 12, 4), name="torn")(x)
    x = layers.Conv2D(6, 3, name="after")(x)
    return ended(keras, image, x, "torn_apart")


@toy("conv1 conv2")
def permute(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.ReLU()(x)
    x = layers.Permute((2, 3, 1))(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    return ended(keras, image, x, "permute")


@toy("after")
def permuted_channels_as_rows(keras):
    """The channels become the rows of a convolution, which mixes them."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.Permute((3, 2, 1), name="turn")(x)
    x = layers.Conv2D(5, 3, name="after")(x)
    return ended(keras, image, x, "permuted_channels_as_rows")


@toy("dense conv")
def repeat_vector(keras):
    layers = keras.layers
    features = keras.Input((4,))
    x = layers.Dense(6, name="dense")(features)
    x = layers.RepeatVector(5)(x)
    x = layers.Conv1D(6, 3, name="conv")(x)
    return ended(keras, features, x, "repeat_vector")


@toy("conv1 dense1")
def flattened_in_another_order(keras):
    """Channels before rows when they are flattened."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(4, 3, strides=3, name="conv1")(image)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.Flatten()(x)
    x = layers.Dense(6, name="dense1")(x)
    return ended(keras, image, x, "flattened_in_another_order")


@toy("conv dense")
def flattened_from_channels_first(keras):
    """Flatten moves the channels of a channels-first tensor last before it flattens."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(4, 3, strides=3, name="conv")(image)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.Flatten(data_format="channels_first")(x)
    x = layers.Dense(6, name="dense")(x)
    return ended(keras, image, x, "flattened_from_channels_first")


@toy("d after wide")
def channels_on_two_axes(keras):
    """An outer product has channels on both axes: flattened, none can be followed; a layer reads those on the last."""
    layers = keras.layers
    features = keras.Input((4,))
    parts = {name: layers.Dense(width, name=name)(features) for name, width in zip("abcd", (6, 5, 6, 5), strict=True)}
    first = layers.Multiply()([layers.Reshape((6, 1))(parts["a"]), layers.Reshape((1, 5))(parts["b"])])
    second = layers.Multiply()([layers.Reshape((6, 1))(parts["c"]), layers.Reshape((1, 5))(parts["d"])])
    flat = layers.Flatten(name="flat")(first)
    x = layers.GlobalAveragePooling1D()(layers.Dense(6, name="after")(second))
    x = layers.Concatenate()([layers.Dense(5, name="wide")(flat), x])
    return keras.Model(features, layers.Dense(5, name="head")(x), name="channels_on_two_axes")
