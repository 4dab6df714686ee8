"""Dense layers."""

from tests.toys.registry import ended, image_input, toy


@toy("dense1 dense2")
def dense(keras):
    layers = keras.layers
    features = keras.Input((7,))
    x = layers.Dense(9, activation="relu", name="dense1")(features)
    x = layers.BatchNormalization()(x)
    x = layers.Dense(6, use_bias=False, name="dense2")(x)
    return ended(keras, features, x, "dense")


@toy("conv dense")
def dense_after_flatten(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(4, 3, strides=2, name="conv")(image)
    x = layers.Flatten()(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dense(6, activation="relu", name="dense")(x)
    return ended(keras, image, x, "dense_after_flatten")


@toy("dense1 dense2")
def dense_on_sequences(keras):
    layers = keras.layers
    sequence = keras.Input((5, 4))
    x = layers.Dense(7, activation="relu", name="dense1")(sequence)
    x = layers.Dense(6, name="dense2")(x)
    x = layers.Flatten()(x)
    return ended(keras, sequence, x, "dense_on_sequences")


@toy("dense conv")
def dense_reshape_conv(keras):
    """As the generators of images begin."""
    layers = keras.layers
    noise = keras.Input((5,))
    x = layers.Dense(4 * 4 * 6, name="dense")(noise)
    x = layers.BatchNormalization()(x)
    x = layers.Reshape((4, 4, 6))(x)
    x = layers.Conv2D(5, 3, name="conv")(x)
    return ended(keras, noise, x, "dense_reshape_conv")
