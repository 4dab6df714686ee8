"""Activations, by name, as layers and as functions."""

from tests.toys.registry import ended, image_input, toy

EVERYWHERE = "linear relu elu selu gelu sigmoid hard_sigmoid swish tanh softplus softsign exponential".split()
KERAS_3 = (
    "mish relu6 leaky_relu silu hard_silu hard_swish log_sigmoid celu hard_tanh tanh_shrink hard_shrink soft_shrink"
).split()


def _activations(keras, names: list[str], title: str):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(4, 3, strides=2, name="conv")(image)
    for name in names:
        x = layers.Conv2D(4, 1, activation=name, name=name)(x)
        x = layers.BatchNormalization(name=name + "_norm")(x)
        x = layers.Activation(name, name=name + "_again")(x)
    return ended(keras, image, x, title)


@toy("conv " + " ".join(EVERYWHERE))
def activations(keras):
    return _activations(keras, EVERYWHERE, "activations")


@toy("conv " + " ".join(KERAS_3), only="keras")
def activations_of_keras_3(keras):
    return _activations(keras, KERAS_3, "activations_of_keras_3")


@toy("conv1 conv2 conv3 conv4 conv5 conv6")
def activation_layers(keras):
    layers = keras.layers
    image = image_input(keras)
    kinds = [
        layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.1),
        layers.LeakyReLU(),
        layers.ELU(),
        layers.PReLU(shared_axes=[1, 2]),
        layers.PReLU(),
        layers.PReLU(shared_axes=[1, 2, 3]),
    ]
    x = image
    for number, layer in enumerate(kinds, start=1):
        x = layers.Conv2D(5, 1, name=f"conv{number}")(x)
        x = layer(x)
    return ended(keras, image, x, "activation_layers")


@toy("conv1 conv2 conv3")
def activation_objects(keras):
    """Functions and layers given as activations instead of names."""
    import tensorflow as tf

    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, activation=keras.activations.relu, name="conv1")(image)
    x = layers.Conv2D(5, 3, activation=layers.LeakyReLU(), name="conv2")(x)
    x = layers.Conv2D(5, 3, activation=keras.activations.swish, name="conv3")(x)
    x = layers.Activation(tf.nn.relu if keras.__name__ == "tf_keras" else keras.activations.gelu)(x)
    return ended(keras, image, x, "activation_objects")


@toy("conv3")
def softmax_in_the_middle(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, activation="softmax", name="conv1")(image)
    x = layers.Conv2D(6, 1, name="conv2")(x)
    x = layers.Softmax(name="soft")(x)
    x = layers.Conv2D(5, 1, name="conv3")(x)
    x = layers.Softmax(axis=1, name="over_rows")(x)
    x = layers.Dense(4, name="dense")(x)
    x = layers.Activation("softmax", name="again")(x)
    return ended(keras, image, x, "softmax_in_the_middle")


def double(x):
    """An activation that amc_tf does not know."""
    return x * 2.0


@toy("conv3", custom=True)
def custom_activation(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, activation=double, name="conv1")(image)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = layers.Activation(double, name="double")(x)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    return ended(keras, image, x, "custom_activation")
