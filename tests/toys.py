"""Tiny models, one for every kind of layer and every way of joining layers that amc_tf should follow or freeze.

Each is a function `toy(keras) -> model` with random weights and random BatchNorm statistics, registered in TOYS with
the names of the groups that must be prunable in it. Their outputs are logits, so that errors show.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Toy:
    """A tiny model.

    Attributes:
        name: of the toy and of the model that it builds.
        shrinks: names of exactly those groups that may shrink.
        kerases: names of the Keras modules that can build it.
        custom: whether it needs classes or functions that Keras does not ship, so that another process cannot load it.
        tolerance: largest difference between pruned and masked outputs that is still rounding.
    """

    name: str
    function: Callable[[Any], Any]
    shrinks: tuple[str, ...]
    kerases: tuple[str, ...]
    custom: bool
    tolerance: float

    def build(self, keras) -> Any:
        """The model, with random weights."""
        return randomized(self.function(keras))


TOYS: dict[str, Toy] = {}
BOTH = ("keras", "tf_keras")


def toy(shrinks: str = "", only: str | None = None, custom: bool = False, tolerance: float = 1e-5):
    """Registers a builder; `shrinks` names the prunable groups, `only` the one Keras that has what it needs."""

    def register(function):
        name = function.__name__
        TOYS[name] = Toy(name, function, tuple(shrinks.split()), (only,) if only else BOTH, custom, tolerance)
        return function

    return register


def cases(**wanted) -> list:
    """(Keras name, toy) pairs for pytest.mark.parametrize; `wanted` filters by attributes of the toy."""
    import pytest

    chosen = [toy for toy in TOYS.values() if all(getattr(toy, key) == value for key, value in wanted.items())]
    return [pytest.param(name, toy, id=f"{toy.name}-{name}") for toy in chosen for name in toy.kerases]


def randomized(model, seed: int = 0):
    """Gives every weight and every BatchNorm statistic a random value of a size that keeps signals near 1."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if hasattr(layer, "layers"):
            continue  # its layers come themselves
        values = [_random(rng, v.name.split("/")[-1].split(":")[0], np.asarray(v)) for v in layer.weights]
        if values:
            layer.set_weights(values)
        if type(layer).__name__ == "Normalization":
            layer.finalize_state()
    return model


def _random(rng, name: str, value: np.ndarray) -> np.ndarray:
    if value.dtype.kind not in "f" or name == "count":
        return value
    if "variance" in name:
        drawn = rng.uniform(0.5, 1.5, value.shape)
    elif name in ("gamma", "scale"):
        drawn = rng.uniform(0.6, 1.4, value.shape) * rng.choice([-1, 1], value.shape)
    elif value.ndim < 2 or name in ("bias", "alpha"):
        drawn = rng.normal(0, 0.3, value.shape)
    else:
        fan_in = np.prod(value.shape[:-2], initial=1) * (value.shape[-2] if "depthwise" not in name else 1)
        drawn = rng.normal(0, (1.5 / fan_in) ** 0.5, value.shape)
    return drawn.astype(value.dtype)


def random_inputs(model, batch: int = 2, seed: int = 1) -> list[np.ndarray]:
    """One array (batch, ...) an input of the model, in the order of `model.inputs`."""
    rng = np.random.default_rng(seed)
    arrays = []
    for tensor in model.inputs:
        shape = (batch, *tuple(tensor.shape)[1:])
        integers = "int" in str(tensor.dtype)
        arrays.append(rng.integers(0, 7, shape) if integers else rng.normal(size=shape).astype("float32"))
    return arrays


def outputs(model, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What the model returns in inference mode, as a flat list of arrays."""
    given = inputs[0] if len(inputs) == 1 else inputs
    structure = getattr(model, "_inputs_struct" if hasattr(model, "_inputs_struct") else "_nested_inputs", None)
    if isinstance(structure, dict):
        given = dict(zip((tensor._keras_history[0].name for tensor in model.inputs), inputs, strict=True))
    return [np.asarray(array, dtype=np.float32) for array in flat(model(given, training=False))]


def flat(structure) -> list:
    """The leaves of nested lists, tuples and dicts."""
    if isinstance(structure, dict):
        return [leaf for key in sorted(structure) for leaf in flat(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [leaf for item in structure for leaf in flat(item)]
    return [structure]


def _image(keras, channels: int = 3):
    return keras.Input((8, 8, channels), name="image")


def _end(keras, inputs, x, name: str):
    """Pools what is left to logits."""
    rank = len(x.shape) - 2
    if rank:
        x = getattr(keras.layers, f"GlobalAveragePooling{rank}D")(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="head")(x), name=name)


# ------------------------------------------------------------------------------------------------------ convolutions


@toy("conv1 conv2 conv3")
def conv2d(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(8, 3, activation="relu", name="conv1")(image)
    x = layers.Conv2D(6, (1, 3), strides=2, padding="same", use_bias=False, name="conv2")(x)
    x = layers.Conv2D(7, 3, dilation_rate=2, padding="same", activation="tanh", name="conv3")(x)
    return _end(keras, image, x, "conv2d")


@toy("conv1 conv2")
def conv1d(keras):
    layers = keras.layers
    signal = keras.Input((16, 3))
    x = layers.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="relu", name="conv1")(signal)
    x = layers.Conv1D(6, 3, strides=2, name="conv2")(x)
    return _end(keras, signal, x, "conv1d")


@toy("conv1 conv2")
def conv3d(keras):
    layers = keras.layers
    video = keras.Input((5, 6, 4, 2))
    x = layers.Conv3D(6, 3, padding="same", activation="relu", name="conv1")(video)
    x = layers.BatchNormalization()(x)
    x = layers.Conv3D(4, (1, 2, 2), strides=(2, 1, 1), name="conv2")(x)
    return _end(keras, video, x, "conv3d")


@toy("conv grouped after")
def grouped(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(8, 1, name="conv")(image)
    x = layers.Conv2D(12, 3, groups=4, activation="relu", name="grouped")(x)
    x = layers.Conv2D(6, 1, name="after")(x)
    return _end(keras, image, x, "grouped")


@toy("conv grouped2 grouped4")
def grouped_in_a_row(keras):
    """Groups of unlike number meet: what one ties the other ties further."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(16, 1, name="conv")(image)
    x = layers.Conv2D(16, 3, groups=2, name="grouped2")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(8, 3, groups=4, name="grouped4")(x)
    return _end(keras, image, x, "grouped_in_a_row")


@toy("grouped after")
def grouped_on_input(keras):
    layers = keras.layers
    image = _image(keras, 4)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(image)
    x = layers.Conv2D(6, 3, groups=2, name="after")(x)
    return _end(keras, image, x, "grouped_on_input")


@toy("conv after")
def grouped_by_channel(keras):
    """groups == channels: a depthwise convolution by another name."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.Conv2D(6, 3, groups=6, name="alone")(x)
    x = layers.Conv2D(12, 3, groups=6, activation="relu", name="doubling")(x)
    x = layers.Conv2D(5, 1, name="after")(x)
    return _end(keras, image, x, "grouped_by_channel")


@toy("after")
def grouped_by_channel_on_input(keras):
    layers = keras.layers
    image = _image(keras, 3)
    x = layers.Conv2D(6, 3, groups=3, name="alone")(image)
    x = layers.Conv2D(5, 1, name="after")(x)
    return _end(keras, image, x, "grouped_by_channel_on_input")


@toy("conv1 conv2")
def grouped1d(keras):
    layers = keras.layers
    signal = keras.Input((12, 4))
    x = layers.Conv1D(8, 3, groups=2, name="conv1")(signal)
    x = layers.Conv1D(8, 3, groups=4, name="conv2")(x)
    return _end(keras, signal, x, "grouped1d")


@toy("conv up1 up2")
def conv2d_transpose(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, strides=2, name="conv")(image)
    x = layers.Conv2DTranspose(8, 3, strides=2, output_padding=1, activation="relu", name="up1")(x)
    x = layers.Conv2DTranspose(4, 2, padding="same", use_bias=False, name="up2")(x)
    return _end(keras, image, x, "conv2d_transpose")


@toy("conv up")
def conv1d_transpose(keras):
    layers = keras.layers
    signal = keras.Input((8, 3))
    x = layers.Conv1D(6, 3, name="conv")(signal)
    x = layers.Conv1DTranspose(8, 3, strides=2, name="up")(x)
    return _end(keras, signal, x, "conv1d_transpose")


@toy("conv up")
def conv3d_transpose(keras):
    layers = keras.layers
    video = keras.Input((3, 4, 4, 2))
    x = layers.Conv3D(4, 2, name="conv")(video)
    x = layers.Conv3DTranspose(5, 2, strides=2, name="up")(x)
    return _end(keras, video, x, "conv3d_transpose")


@toy("conv after")
def depthwise(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=3, activation="relu", name="tripling")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(5, 1, name="after")(x)
    return _end(keras, image, x, "depthwise")


@toy("after")
def depthwise_on_input(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2)(image)
    x = layers.Conv2D(5, 1, name="after")(x)
    return _end(keras, image, x, "depthwise_on_input")


@toy("conv after")
def depthwise1d(keras):
    layers = keras.layers
    signal = keras.Input((12, 3))
    x = layers.Conv1D(6, 1, name="conv")(signal)
    x = layers.DepthwiseConv1D(3, depth_multiplier=2)(x)
    x = layers.Conv1D(5, 1, name="after")(x)
    return _end(keras, signal, x, "depthwise1d")


@toy("separable1 separable2 separable3")
def separable2d(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.SeparableConv2D(6, 3, name="separable1")(image)
    x = layers.SeparableConv2D(7, 3, depth_multiplier=2, activation="relu", use_bias=False, name="separable2")(x)
    x = layers.SeparableConv2D(5, 3, padding="same", dilation_rate=2, name="separable3")(x)
    return _end(keras, image, x, "separable2d")


@toy("conv separable")
def separable1d(keras):
    layers = keras.layers
    signal = keras.Input((12, 3))
    x = layers.Conv1D(6, 1, name="conv")(signal)
    x = layers.SeparableConv1D(5, 3, depth_multiplier=2, name="separable")(x)
    return _end(keras, signal, x, "separable1d")


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
    return _end(keras, image, x, "channels_first")


# ------------------------------------------------------------------------------------------------------------- Dense


@toy("dense1 dense2")
def dense(keras):
    layers = keras.layers
    features = keras.Input((7,))
    x = layers.Dense(9, activation="relu", name="dense1")(features)
    x = layers.BatchNormalization()(x)
    x = layers.Dense(6, use_bias=False, name="dense2")(x)
    return _end(keras, features, x, "dense")


@toy("conv dense")
def dense_after_flatten(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(4, 3, strides=2, name="conv")(image)
    x = layers.Flatten()(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dense(6, activation="relu", name="dense")(x)
    return _end(keras, image, x, "dense_after_flatten")


@toy("dense1 dense2")
def dense_on_sequences(keras):
    layers = keras.layers
    sequence = keras.Input((5, 4))
    x = layers.Dense(7, activation="relu", name="dense1")(sequence)
    x = layers.Dense(6, name="dense2")(x)
    x = layers.Flatten()(x)
    return _end(keras, sequence, x, "dense_on_sequences")


@toy("dense conv")
def dense_reshape_conv(keras):
    """As the generators of images begin."""
    layers = keras.layers
    noise = keras.Input((5,))
    x = layers.Dense(4 * 4 * 6, name="dense")(noise)
    x = layers.BatchNormalization()(x)
    x = layers.Reshape((4, 4, 6))(x)
    x = layers.Conv2D(5, 3, name="conv")(x)
    return _end(keras, noise, x, "dense_reshape_conv")


# ----------------------------------------------------------------------------------------------------- normalization


@toy("conv1 conv2")
def batchnorm(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.BatchNormalization()(image)
    x = layers.Conv2D(6, 3, name="conv1")(x)
    x = layers.BatchNormalization(center=False)(x)
    x = layers.ReLU()(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    x = layers.BatchNormalization(center=False, scale=False, axis=3)(x)
    return _end(keras, image, x, "batchnorm")


@toy("conv3")
def joint_norms(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.LayerNormalization(name="layer_norm")(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = layers.GroupNormalization(groups=2, name="group_norm")(x)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    return _end(keras, image, x, "joint_norms")


@toy("conv2")
def unit_norm(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.UnitNormalization(name="unit_norm")(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    return _end(keras, image, x, "unit_norm")


@toy("conv1 conv2")
def preprocessing(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Rescaling(0.5, offset=-1.0)(image)
    x = layers.Rescaling([0.5, 1.5, 2.0], offset=[0.1, 0.2, 0.3])(x)
    x = layers.Normalization(axis=-1)(x)
    x = layers.Conv2D(6, 3, name="conv1")(x)
    x = layers.Rescaling(2.0, offset=0.0)(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    return _end(keras, image, x, "preprocessing")


@toy("conv3")
def rescaling_by_channel(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(3, 3, name="conv1")(image)
    x = layers.Rescaling([0.5, 1.5, 2.0], name="per_channel")(x)
    x = layers.Conv2D(3, 3, name="conv2")(x)
    x = layers.Normalization(axis=-1, mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0], name="given")(x)
    x = layers.Conv2D(5, 3, name="conv3")(x)
    return _end(keras, image, x, "rescaling_by_channel")


@toy("conv2")
def batchnorm_on_rows(keras):
    """BatchNormalization over another axis than that of the channels."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    return _end(keras, image, x, "batchnorm_on_rows")


@toy("conv2", only="tf_keras")
def batchnorm_renorm(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.BatchNormalization(renorm=True)(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    return _end(keras, image, x, "batchnorm_renorm")


# ------------------------------------------------------------------------------------------------------- activations

EVERYWHERE = "linear relu elu selu gelu sigmoid hard_sigmoid swish tanh softplus softsign exponential mish relu6".split()
KERAS_3 = "leaky_relu silu hard_silu hard_swish log_sigmoid celu hard_tanh tanh_shrink hard_shrink soft_shrink".split()


def _activations(keras, names: list[str], title: str):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(4, 3, strides=2, name="conv")(image)
    for name in names:
        x = layers.Conv2D(4, 1, activation=name, name=name)(x)
        x = layers.BatchNormalization(name=name + "_norm")(x)
        x = layers.Activation(name, name=name + "_again")(x)
    return _end(keras, image, x, title)


@toy("conv " + " ".join(n for n in EVERYWHERE if n not in ("mish", "relu6")))
def activations(keras):
    return _activations(keras, [n for n in EVERYWHERE if n not in ("mish", "relu6")], "activations")


@toy("conv mish relu6 " + " ".join(KERAS_3), only="keras")
def activations_of_keras_3(keras):
    return _activations(keras, ["mish", "relu6", *KERAS_3], "activations_of_keras_3")


@toy("conv1 conv2 conv3 conv4 conv5 conv6")
def activation_layers(keras):
    layers = keras.layers
    image = _image(keras)
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
    return _end(keras, image, x, "activation_layers")


@toy("conv1 conv2 conv3")
def activation_objects(keras):
    """Functions and layers given as activations instead of names."""
    import tensorflow as tf

    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, activation=keras.activations.relu, name="conv1")(image)
    x = layers.Conv2D(5, 3, activation=layers.LeakyReLU(), name="conv2")(x)
    x = layers.Conv2D(5, 3, activation=keras.activations.swish, name="conv3")(x)
    x = layers.Activation(tf.nn.relu if keras.__name__ == "tf_keras" else keras.activations.gelu)(x)
    return _end(keras, image, x, "activation_objects")


@toy("conv3")
def softmax_in_the_middle(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, activation="softmax", name="conv1")(image)
    x = layers.Conv2D(6, 1, name="conv2")(x)
    x = layers.Softmax(name="soft")(x)
    x = layers.Conv2D(5, 1, name="conv3")(x)
    x = layers.Softmax(axis=1, name="over_rows")(x)
    x = layers.Dense(4, name="dense")(x)
    x = layers.Activation("softmax", name="again")(x)
    return _end(keras, image, x, "softmax_in_the_middle")


def double(x):
    """An activation that amc_tf does not know."""
    return x * 2.0


@toy("conv3", custom=True)
def custom_activation(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, activation=double, name="conv1")(image)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = layers.Activation(double, name="double")(x)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    return _end(keras, image, x, "custom_activation")


# ------------------------------------------------------------------------------------------------- several inputs


@toy("stem block")
def residual(keras):
    layers = keras.layers
    image = _image(keras)
    x = stem = layers.Conv2D(6, 3, padding="same", name="stem")(image)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(8, 3, padding="same", name="block")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(6, 3, padding="same", name="back")(x)
    x = layers.Add()([x, stem])
    return _end(keras, image, x, "residual")


@toy("conv0 conv1 conv3 conv5 conv7 conv9")
def merges(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 1, name="conv0")(image)
    for number, merge in enumerate(("Subtract", "Multiply", "Average", "Maximum", "Minimum")):
        a = layers.Conv2D(6, 1, name=f"conv{2 * number + 1}")(x)
        b = layers.Conv2D(6, 1, name=f"conv{2 * number + 2}")(x)
        x = getattr(layers, merge)()([a, b])
    return _end(keras, image, x, "merges")


@toy("conv1 squeeze1 conv2 squeeze2")
def squeeze_excite(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(8, 3, name="conv1")(image)
    s = layers.GlobalAveragePooling2D(keepdims=True)(x)
    s = layers.Conv2D(4, 1, activation="relu", name="squeeze1")(s)
    s = layers.Conv2D(8, 1, activation="sigmoid", name="excite1")(s)
    x = layers.Multiply()([x, s])
    x = layers.Conv2D(6, 3, name="conv2")(x)
    s = layers.GlobalMaxPooling2D()(x)
    s = layers.Dense(3, activation="relu", name="squeeze2")(s)
    s = layers.Dense(6, activation="sigmoid", name="excite2")(s)
    s = layers.Reshape((1, 1, 6))(s)
    x = layers.Multiply()([s, x])
    return _end(keras, image, x, "squeeze_excite")


@toy("conv")
def spatial_attention(keras):
    """One channel is spread over several."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    gate = layers.Conv2D(1, 1, activation="sigmoid", name="gate")(x)
    x = layers.Multiply()([gate, x])
    return _end(keras, image, x, "spatial_attention")


@toy("conv dense")
def broadcast_by_rank(keras):
    """Keras's merging layers put missing axes after the batch."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    v = layers.GlobalAveragePooling2D()(x)
    v = layers.Dense(4, name="dense")(v)
    v = layers.Dense(6, name="bias")(v)
    x = layers.Add()([x, v])
    return _end(keras, image, x, "broadcast_by_rank")


@toy("left right after")
def add_with_input(keras):
    """What is added to an input cannot shrink; the rest can."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, padding="same", name="left")(image)
    x = layers.Conv2D(3, 3, padding="same", name="held")(x)
    x = layers.Add()([x, image])
    x = layers.Conv2D(6, 3, name="right")(x)
    x = layers.Conv2D(6, 3, name="after")(x)
    return _end(keras, image, x, "add_with_input")


@toy("conv a b after")
def concatenate(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(4, 1, name="conv")(image)
    a = layers.Conv2D(5, 1, name="a")(x)
    b = layers.Conv2D(3, 1, activation="relu", name="b")(x)
    x = layers.Concatenate()([a, image, b, x])
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.Conv2D(6, 1, name="after")(x)
    return _end(keras, image, x, "concatenate")


@toy("stem grow1 grow2 transition")
def dense_block(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 1, name="stem")(image)
    for number in (1, 2):
        y = layers.BatchNormalization()(x)
        y = layers.ReLU()(y)
        y = layers.Conv2D(4, 3, padding="same", name=f"grow{number}")(y)
        x = layers.Concatenate(axis=3)([x, y])
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(6, 1, name="transition")(x)
    return _end(keras, image, x, "dense_block")


@toy("top bottom after")
def concatenate_rows(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(5, 3, name="top")(image)
    y = layers.Conv2D(4, 3, name="bottom")(image)
    y = layers.Conv2D(5, 1, name="same_as_top")(y)
    x = layers.Concatenate(axis=1)([x, y])
    x = layers.Conv2D(6, 3, name="after")(x)
    return _end(keras, image, x, "concatenate_rows")


@toy("a b")
def concatenate_then_add(keras):
    layers = keras.layers
    image = _image(keras)
    a = layers.Conv2D(4, 1, name="a")(image)
    b = layers.Conv2D(6, 1, name="b")(image)
    x = layers.Concatenate()([a, b])
    y = layers.Conv2D(10, 1, name="both")(image)
    x = layers.Add()([x, y])
    return _end(keras, image, x, "concatenate_then_add")


@toy("conv after")
def concatenate_with_itself(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(4, 1, name="conv")(image)
    x = layers.Concatenate()([x, x])
    x = layers.Conv2D(6, 1, name="after")(x)
    return _end(keras, image, x, "concatenate_with_itself")


@toy("a grouped")
def concatenate_then_grouped(keras):
    layers = keras.layers
    image = _image(keras)
    a = layers.Conv2D(8, 1, name="a")(image)
    b = layers.Conv2D(4, 1, name="b")(image)
    x = layers.Concatenate()([a, b])
    x = layers.Conv2D(6, 3, groups=3, name="grouped")(x)
    return _end(keras, image, x, "concatenate_then_grouped")


@toy("a b dense")
def concatenate_after_flatten(keras):
    layers = keras.layers
    image = _image(keras)
    a = layers.Flatten()(layers.Conv2D(4, 3, strides=3, name="a")(image))
    b = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1, name="b")(image))
    x = layers.Concatenate()([a, b])
    x = layers.Dense(6, name="dense")(x)
    return _end(keras, image, x, "concatenate_after_flatten")


@toy("a b b:2")
def nested_concatenations_added(keras):
    """Two concatenations cut at unlike places meet in an Add: three groups, one of them inside b and c alike."""
    layers = keras.layers
    image = _image(keras)
    parts = [layers.Conv2D(n, 1, name=name)(image) for name, n in (("a", 3), ("b", 5), ("c", 5), ("d", 3))]
    x = layers.Add()([layers.Concatenate()(parts[:2]), layers.Concatenate()(parts[2:])])
    return _end(keras, image, x, "nested_concatenations_added")


@toy("c")
def dot(keras):
    layers = keras.layers
    image = _image(keras)
    a = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1, name="a")(image))
    b = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1, name="b")(image))
    x = layers.Dense(4, name="c")(layers.Dot(axes=1, name="dot")([a, b]))
    return _end(keras, image, x, "dot")


# ------------------------------------------------------------------------------------------------------- positions


@toy("conv1 conv2 conv3 conv4")
def pooling(keras):
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, padding="same", name="conv1")(image)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(5, 1, activation="sigmoid", name="conv2")(x)
    x = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    x = layers.Conv2D(6, 1, name="conv3")(x)
    x = layers.GlobalMaxPooling2D(keepdims=True)(x)
    x = layers.Conv2D(6, 1, name="conv4")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return _end(keras, image, x, "pooling")


@toy("conv1 conv2 conv3 dense")
def positions1d(keras):
    layers = keras.layers
    signal = keras.Input((16, 3))
    x = layers.Conv1D(6, 3, padding="same", name="conv1")(signal)
    x = layers.MaxPooling1D(2)(x)
    x = layers.ZeroPadding1D((1, 2))(x)
    x = layers.Conv1D(5, 1, activation="sigmoid", name="conv2")(x)
    x = layers.AveragePooling1D(2, padding="same")(x)
    x = layers.UpSampling1D(3)(x)
    x = layers.Cropping1D((1, 2))(x)
    x = layers.Conv1D(6, 1, name="conv3")(x)
    x = layers.GlobalMaxPooling1D(keepdims=True)(x)
    x = layers.Dense(6, name="dense")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return _end(keras, signal, x, "positions1d")


@toy("conv1 conv2 dense")
def positions3d(keras):
    layers = keras.layers
    video = keras.Input((4, 4, 4, 2))
    x = layers.Conv3D(4, 1, name="conv1")(video)
    x = layers.MaxPooling3D(2)(x)
    x = layers.UpSampling3D(2)(x)
    x = layers.ZeroPadding3D(((0, 1), (1, 0), (1, 1)))(x)
    x = layers.Conv3D(5, 1, activation="sigmoid", name="conv2")(x)
    x = layers.AveragePooling3D(2)(x)
    x = layers.Cropping3D(((0, 1), (0, 0), (1, 0)))(x)
    x = layers.GlobalMaxPooling3D(keepdims=True)(x)
    x = layers.Dense(6, name="dense")(x)
    return _end(keras, video, x, "positions3d")


@toy("conv1 conv2")
def padding_and_cropping(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.ZeroPadding2D(2)(image)
    x = layers.Conv2D(6, 3, activation="sigmoid", name="conv1")(x)
    x = layers.ZeroPadding2D(((1, 0), (0, 2)))(x)
    x = layers.Cropping2D(((0, 1), (1, 1)))(x)
    x = layers.UpSampling2D((2, 1), interpolation="bilinear")(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    return _end(keras, image, x, "padding_and_cropping")


@toy("conv1 wide widen widen:2 conv3")
def channel_padding(keras):
    """Option A shortcuts of the CIFAR ResNets: `channels_first` on a channels-last tensor pads channels."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(4, 3, activation="relu", name="conv1")(image)
    y = layers.Conv2D(6, 3, padding="same", activation="relu", name="wide")(x)
    y = layers.Conv2D(10, 3, padding="same", name="conv2")(y)
    x = layers.ZeroPadding2D(((0, 0), (3, 3)), data_format="channels_first", name="widen")(x)
    x = layers.Add()([x, y])
    x = layers.Conv2D(6, 1, name="conv3")(x)
    return _end(keras, image, x, "channel_padding")


@toy("conv1 conv1:2 conv2")
def channel_cropping(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(8, 3, activation="relu", name="conv1")(image)
    x = layers.Cropping2D(((0, 0), (2, 1)), data_format="channels_first", name="narrow")(x)
    x = layers.Conv2D(6, 1, name="conv2")(x)
    return _end(keras, image, x, "channel_cropping")


@toy("conv1 conv2 dense")
def dropouts(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.Dropout(0.5)(x)
    x = layers.SpatialDropout2D(0.5)(x)
    x = layers.GaussianNoise(0.5)(x)
    x = layers.GaussianDropout(0.5)(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = layers.ActivityRegularization(l2=0.1)(x)
    x = layers.AlphaDropout(0.5)(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(6, name="dense")(x)
    x = layers.Dropout(0.5, noise_shape=(None, 6), name="noise_shape")(x)
    return _end(keras, image, x, "dropouts")


@toy("conv1 conv2")
def augmentation(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.RandomFlip()(image)
    x = layers.RandomRotation(0.1)(x)
    x = layers.Conv2D(6, 3, name="conv1")(x)
    x = layers.Resizing(4, 4)(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    return _end(keras, image, x, "augmentation")


# ----------------------------------------------------------------------------------------------------------- shapes


@toy("conv dense")
def rows_as_sequence(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    x = layers.Reshape((36, 6))(x)
    x = layers.Dense(5, name="dense")(x)
    x = layers.Reshape((6, 6, -1))(x)
    return _end(keras, image, x, "rows_as_sequence")


@toy("conv after")
def channel_shuffle(keras):
    layers = keras.layers
    image = _image(keras, 6)
    x = layers.Conv2D(12, 1, groups=3, name="conv")(image)
    x = layers.Reshape((8, 8, 3, 4))(x)
    x = layers.Permute((1, 2, 4, 3))(x)
    x = layers.Reshape((8, 8, 12))(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.Conv2D(6, 1, name="after")(x)
    return _end(keras, image, x, "channel_shuffle")


@toy("after")
def torn_apart(keras):
    """A reshape that puts half a row of channels into each position."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.Reshape((8, 12, 4), name="torn")(x)
    x = layers.Conv2D(6, 3, name="after")(x)
    return _end(keras, image, x, "torn_apart")


@toy("conv1 conv2")
def permute(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.ReLU()(x)
    x = layers.Permute((2, 3, 1))(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    return _end(keras, image, x, "permute")


@toy("after")
def permuted_channels_as_rows(keras):
    """The channels become the rows of a convolution, which mixes them."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.Permute((3, 2, 1), name="turn")(x)
    x = layers.Conv2D(5, 3, name="after")(x)
    return _end(keras, image, x, "permuted_channels_as_rows")


@toy("dense conv")
def repeat_vector(keras):
    layers = keras.layers
    features = keras.Input((4,))
    x = layers.Dense(6, name="dense")(features)
    x = layers.RepeatVector(5)(x)
    x = layers.Conv1D(6, 3, name="conv")(x)
    return _end(keras, features, x, "repeat_vector")


@toy("conv1 dense1")
def flattened_in_another_order(keras):
    """Channels before rows when they are flattened."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(4, 3, strides=3, name="conv1")(image)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.Flatten()(x)
    x = layers.Dense(6, name="dense1")(x)
    return _end(keras, image, x, "flattened_in_another_order")


# -------------------------------------------------------------------------------------------------------- operators


@toy("a c")
def signs(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="a")(image)
    y = layers.Conv2D(6, 3, name="b")(image)
    x = x + y
    x = (x * 2.0 - y) / 3.0
    x = 1.0 - x
    x = -x
    x = abs(x) ** 2
    x = layers.Conv2D(6, 3, name="c")(x)
    return _end(keras, image, x, "signs")


@toy("a c")
def slices(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 1, name="a")(image)
    x = x[:, ::2, ::2]
    x = layers.Conv2D(6, 1, name="b")(x)
    x = x[..., 1:4]
    x = layers.Conv2D(6, 1, name="c")(x)
    x = x[:, 0]
    x = x[:, -1, :]
    return _end(keras, image, x, "slices")


@toy("conv2")
def constants(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(3, 1, name="conv1")(image)
    x = x * np.array([0.5, 1.0, 2.0], dtype="float32")
    x = layers.Conv2D(6, 1, name="conv2")(x)
    x = x + np.ones((1, 1, 1), dtype="float32")
    return _end(keras, image, x, "constants")


@toy("a b c d", only="keras")
def ops(keras):
    layers, ops = keras.layers, keras.ops
    image = _image(keras)
    x = ops.relu(layers.Conv2D(6, 3, name="a")(image))
    y = ops.sigmoid(layers.Conv2D(6, 3, name="a2")(image))
    x = ops.add(ops.multiply(x, y), 1.0)
    x = ops.clip(x, -2.0, 2.0)
    s = ops.mean(x, axis=(1, 2), keepdims=True)
    s = layers.Conv2D(4, 1, name="b")(s)
    s = layers.Conv2D(6, 1, name="b2")(s)
    x = ops.subtract(ops.maximum(x, s), ops.square(s))
    x = ops.concatenate([x, layers.Conv2D(5, 3, name="c")(image)], axis=-1)
    x = ops.transpose(ops.transpose(x, (0, 3, 1, 2)), (0, 2, 3, 1))
    x = ops.reshape(x, (-1, 36, 11))
    x = layers.Dense(6, name="d")(x)
    x = ops.max(x, axis=1)
    x = ops.squeeze(ops.expand_dims(x, axis=1), axis=1)
    return _end(keras, image, x, "ops")


@toy("conv after", only="keras")
def ops_padding(keras):
    layers, ops = keras.layers, keras.ops
    image = _image(keras)
    x = layers.Conv2D(6, 3, activation="sigmoid", name="conv")(image)
    x = ops.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0)))
    x = layers.Conv2D(5, 3, name="after")(x)
    return _end(keras, image, x, "ops_padding")


@toy("conv pad pad:2 after", only="keras")
def ops_channel_padding(keras):
    layers, ops = keras.layers, keras.ops
    image = _image(keras)
    x = layers.Conv2D(6, 3, activation="sigmoid", name="conv")(image)
    x = ops.pad(x, ((0, 0), (1, 0), (0, 0), (3, 2)))
    x = layers.Conv2D(5, 3, name="after")(x)
    return _end(keras, image, x, "ops_channel_padding")


@toy("after", only="keras")
def ops_over_channels(keras):
    layers, ops = keras.layers, keras.ops
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = ops.concatenate([x, ops.mean(x, axis=-1, keepdims=True)], axis=-1)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = ops.softmax(x)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    x = ops.roll(x, 1, axis=-1)
    x = layers.Conv2D(5, 1, name="after")(x)
    return _end(keras, image, x, "ops_over_channels")


@toy("a b c d", only="tf_keras")
def functions(keras):
    import tensorflow as tf

    layers = keras.layers
    image = _image(keras)
    x = tf.nn.relu(layers.Conv2D(6, 3, name="a")(image))
    y = tf.math.sigmoid(layers.Conv2D(6, 3, name="a2")(image))
    x = tf.add(tf.multiply(x, y), 1.0)
    x = tf.clip_by_value(x, -2.0, 2.0)
    s = tf.reduce_mean(x, axis=[1, 2], keepdims=True)
    s = layers.Conv2D(4, 1, name="b")(s)
    s = layers.Conv2D(6, 1, name="b2")(s)
    x = tf.subtract(tf.maximum(x, s), tf.square(s))
    x = tf.concat([x, layers.Conv2D(5, 3, name="c")(image)], axis=-1)
    x = tf.transpose(tf.transpose(x, [0, 3, 1, 2]), perm=[0, 2, 3, 1])
    x = tf.reshape(x, [-1, 36, 11])
    x = layers.Dense(6, name="d")(x)
    x = tf.reduce_max(x, 1)
    x = tf.squeeze(tf.expand_dims(x, 1), [1])
    return _end(keras, image, x, "functions")


@toy("conv after", only="tf_keras")
def functions_padding(keras):
    import tensorflow as tf

    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, activation="sigmoid", name="conv")(image)
    x = tf.pad(x, [[0, 0], [1, 1], [2, 0], [0, 0]])
    x = layers.Conv2D(5, 3, name="after")(x)
    return _end(keras, image, x, "functions_padding")


@toy("conv tf.compat.v1.pad tf.compat.v1.pad:2 after", only="tf_keras")
def functions_channel_padding(keras):
    import tensorflow as tf

    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, activation="sigmoid", name="conv")(image)
    x = tf.pad(x, [[0, 0], [0, 0], [1, 0], [3, 2]])
    x = layers.Conv2D(5, 3, name="after")(x)
    return _end(keras, image, x, "functions_channel_padding")


@toy("conv3", only="tf_keras")
def functions_not_known(keras):
    import tensorflow as tf

    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = tf.nn.local_response_normalization(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = tf.roll(x, 1, -1)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    return _end(keras, image, x, "functions_not_known")


# ------------------------------------------------------------------------------------------- shared and nested models


@toy("conv shared")
def shared_layer(keras):
    """A convolution called twice on its own output: its channels are also those that it reads."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.Conv2D(8, 1, name="shared")(x)
    shared = layers.Conv2D(8, 3, padding="same", activation="relu", name="twice")
    x = shared(shared(x))
    return _end(keras, image, x, "shared_layer")


@toy("left shared")
def shared_on_two_branches(keras):
    """Two tensors that one convolution reads have to lose the same channels."""
    layers = keras.layers
    image = _image(keras)
    a = layers.Conv2D(6, 1, name="left")(image)
    b = layers.Conv2D(6, 1, name="right")(image)
    shared = layers.Conv2D(5, 3, name="shared")
    norm = layers.BatchNormalization()
    x = layers.Concatenate()([norm(shared(a)), norm(shared(b))])
    return _end(keras, image, x, "shared_on_two_branches")


@toy("conv shared")
def shared_with_input(keras):
    """Shared between an input and a tensor with channels: what it reads cannot shrink, what it makes can."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.Conv2D(3, 1, name="held")(x)
    shared = layers.Conv2D(5, 1, name="shared")
    x = layers.Add()([shared(image), shared(x)])
    return _end(keras, image, x, "shared_with_input")


@toy("shared")
def shared_with_input_later(keras):
    """The same, with the input read last."""
    layers = keras.layers
    image = _image(keras)
    shared = layers.Conv2D(5, 1, name="shared")
    x = shared(layers.Conv2D(3, 1, name="held")(image))
    x = layers.Subtract()([x, shared(image)])
    return _end(keras, image, x, "shared_with_input_later")


def _encoder(keras, shape=(8, 8, 3), name="encoder"):
    layers = keras.layers
    inputs = keras.Input(shape)
    x = layers.Conv2D(6, 3, padding="same", name="conv1")(inputs)
    x = layers.BatchNormalization(name="norm1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.Conv2D(5, 3, padding="same", name="conv2")(x)
    return keras.Model(inputs, x, name=name)


@toy("encoder/conv1 encoder/conv2")
def shared_nested_model(keras):
    layers = keras.layers
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    encoder = _encoder(keras)
    x = layers.Subtract()([encoder(left), encoder(right)])
    return _end(keras, [left, right], x, "shared_nested_model")


@toy("encoder/conv1 encoder/conv2 conv1")
def functional_in_functional(keras):
    """The layer "conv1" is there twice: inside and outside."""
    image = _image(keras)
    x = _encoder(keras)(image)
    x = keras.layers.Conv2D(6, 3, name="conv1")(x)
    return _end(keras, image, x, "functional_in_functional")


@toy("outer/encoder/conv1 outer/encoder/conv2 outer/conv")
def nested_twice(keras):
    image = _image(keras)
    inner_image = keras.Input((8, 8, 3))
    x = _encoder(keras)(inner_image)
    x = keras.layers.Conv2D(4, 1, name="conv")(x)
    outer = keras.Model(inner_image, x, name="outer")
    return _end(keras, image, outer(image), "nested_twice")


@toy("tower/conv1 tower/conv2")
def sequential_in_functional(keras):
    layers = keras.layers
    image = _image(keras)
    tower = keras.Sequential(
        [layers.Conv2D(6, 3, name="conv1"), layers.ReLU(), layers.Conv2D(5, 3, name="conv2")], name="tower"
    )
    return _end(keras, image, tower(image), "sequential_in_functional")


@toy("encoder/conv1 encoder/conv2 dense")
def functional_in_sequential(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            _encoder(keras),
            layers.GlobalAveragePooling2D(),
            layers.Dense(6, activation="relu", name="dense"),
            layers.Dense(5, name="head"),
        ],
        name="functional_in_sequential",
    )


@toy("conv dense")
def sequential(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(6, activation="relu", name="dense"),
            layers.Dropout(0.5),
            layers.Dense(5, name="head"),
        ],
        name="sequential",
    )


@toy("conv dense")
def sequential_built_later(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(6, activation="relu", name="dense"),
            layers.Dense(5, name="head"),
        ],
        name="sequential_built_later",
    )
    model.build((None, 8, 8, 3))
    return model


@toy("encoder/conv1 encoder/conv2")
def encoder_of_any_size(keras):
    """Built for any size, called at a fixed one."""
    image = _image(keras)
    x = _encoder(keras, (None, None, 3))(image)
    return _end(keras, image, x, "encoder_of_any_size")


@toy("encoder/conv1 encoder/conv2")
def encoder_of_any_size_at_two_sizes(keras):
    layers = keras.layers
    image = _image(keras)
    encoder = _encoder(keras, (None, None, 3))
    whole = layers.GlobalAveragePooling2D()(encoder(image))
    half = layers.GlobalAveragePooling2D()(encoder(layers.AveragePooling2D(2)(image)))
    return _end(keras, image, layers.Average()([whole, half]), "encoder_of_any_size_at_two_sizes")


@toy("trunk/conv trunk/a dense")
def nested_with_several_outputs(keras):
    layers = keras.layers
    image = _image(keras)
    inner = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="conv")(inner)
    a, b = layers.Conv2D(5, 1, name="a")(x), layers.Conv2D(5, 1, name="b")(x)
    trunk = keras.Model(inner, [a, b, x], name="trunk")
    a, b, x = trunk(image)
    a = layers.GlobalAveragePooling2D()(layers.Add()([a, b]))
    x = layers.Dense(6, name="dense")(layers.GlobalAveragePooling2D()(x))
    return _end(keras, image, layers.Concatenate()([a, x]), "nested_with_several_outputs")


@toy("conv1 conv2 mixer/mix")
def nested_with_several_inputs(keras):
    layers = keras.layers
    image = _image(keras)
    a, b = keras.Input((8, 8, 6), name="a"), keras.Input((8, 8, 4), name="b")
    mixed = layers.Conv2D(5, 1, name="mix")(layers.Concatenate()([b, a]))
    mixer = keras.Model([a, b], mixed, name="mixer")
    x = mixer([layers.Conv2D(6, 1, name="conv1")(image), layers.Conv2D(4, 1, name="conv2")(image)])
    return _end(keras, image, x, "nested_with_several_inputs")


@toy()
def mobilenet_under_a_head(keras):
    """The commonest user model. Its groups are asserted elsewhere: they are many."""
    layers = keras.layers
    image = keras.Input((32, 32, 3))
    backbone = keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None)
    x = backbone(image, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(image, layers.Dense(5, name="head")(x), name="mobilenet_under_a_head")


# ------------------------------------------------------------------------------------------- inputs and outputs


@toy("conv dense joint")
def several_inputs(keras):
    layers = keras.layers
    image, features = keras.Input((8, 8, 3), name="z_image"), keras.Input((4,), name="a_features")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="conv")(image))
    y = layers.Dense(5, name="dense")(features)
    x = layers.Dense(6, name="joint")(layers.Concatenate()([x, y]))
    return keras.Model([image, features], layers.Dense(5, name="head")(x), name="several_inputs")


@toy("conv dense joint")
def dict_inputs(keras):
    layers = keras.layers
    given = {"z_image": keras.Input((8, 8, 3), name="z_image"), "a_features": keras.Input((4,), name="a_features")}
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="conv")(given["z_image"]))
    y = layers.Dense(5, name="dense")(given["a_features"])
    x = layers.Dense(6, name="joint")(layers.Concatenate()([x, y]))
    return keras.Model(given, layers.Dense(5, name="head")(x), name="dict_inputs")


@toy("conv")
def several_outputs(keras):
    """One of them is used further on."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    middle = layers.Conv2D(4, 3, name="middle")(x)
    y = layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(middle))
    return keras.Model(image, [middle, y], name="several_outputs")


@toy("conv")
def dict_outputs(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="conv")(image))
    named = {"second": layers.Dense(5, name="second")(x), "first": layers.Dense(4, name="first")(x)}
    return keras.Model(image, named, name="dict_outputs")


@toy("conv")
def input_as_output(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="conv")(image))
    return keras.Model(image, [image, layers.Dense(5, name="head")(x)], name="input_as_output")


@toy()
def no_weights(keras):
    layers = keras.layers
    image = _image(keras)
    return keras.Model(image, layers.GlobalAveragePooling2D()(layers.ReLU()(image)), name="no_weights")


@toy("conv dense")
def unused_branch(keras):
    """An output that was built and then left out of the model."""
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    x = layers.GlobalAveragePooling2D()(x)
    layers.Dense(7, name="left_out")(x)
    x = layers.Dense(5, name="dense")(x)
    return keras.Model(image, layers.Dense(5, name="head")(x), name="unused_branch")


# ------------------------------------------------------------------------------------ what is not followed, and oddities


@toy("conv1 conv3", custom=True)
def custom_layer(keras):
    layers = keras.layers

    class Twice(layers.Layer):
        def __init__(self, factor=2.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, x):
            return x * self.factor

        def get_config(self):
            return super().get_config() | {"factor": self.factor}

    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = Twice(3.0, name="twice")(x)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    return _end(keras, image, x, "custom_layer")


@toy("conv1 conv3", custom=True)
def custom_convolution(keras):
    """A child of Conv2D that does something else is no Conv2D."""
    layers = keras.layers

    class Reversed(layers.Conv2D):
        def call(self, x):
            return super().call(x[:, ::-1])

    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = Reversed(5, 3, name="reversed")(x)
    x = layers.Conv2D(6, 1, name="conv3")(x)
    return _end(keras, image, x, "custom_convolution")


@toy("conv1 conv3", custom=True)
def lambda_layer(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = layers.Lambda(lambda t: t[..., ::-1], output_shape=(4, 4, 6), name="reverse")(x)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    return _end(keras, image, x, "lambda_layer")


@toy("conv", custom=True)
def lambda_with_arguments(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(6, name="held")(x)
    x = layers.Lambda(lambda t, by: t * by, arguments={"by": 3.0}, name="scale")(x)
    return _end(keras, image, x, "lambda_with_arguments")


@toy("conv dense", tolerance=2e-2)
def mixed_precision(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, activation="relu", dtype="mixed_float16", name="conv")(image)
    x = layers.BatchNormalization(dtype="mixed_float16")(x)
    x = layers.GlobalAveragePooling2D(dtype="mixed_float16")(x)
    x = layers.Dense(6, dtype="mixed_float16", name="dense")(x)
    return keras.Model(image, layers.Dense(5, dtype="float32", name="head")(x), name="mixed_precision")


@toy("conv dense")
def recurrent(keras):
    layers = keras.layers
    sequence = keras.Input((6, 4))
    x = layers.Conv1D(6, 3, padding="same", name="conv")(sequence)
    x = layers.Conv1D(6, 3, padding="same", name="held")(x)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both_ways")(x)
    x = layers.GRU(5, name="gru")(x)
    x = layers.Dense(6, name="dense")(x)
    return _end(keras, sequence, x, "recurrent")


@toy("dense")
def attention(keras):
    layers = keras.layers
    sequence = keras.Input((6, 4))
    x = layers.Dense(6, name="dense")(sequence)
    x = layers.Dense(8, name="held")(x)
    y = layers.MultiHeadAttention(2, 4, name="attention")(x, value=x, key=x)
    x = layers.Add()([x, y])
    x = layers.LayerNormalization()(x)
    return _end(keras, sequence, x, "attention")


@toy("dense")
def attention_with_keywords(keras):
    """A layer whose tensors come by keyword only."""
    layers = keras.layers
    sequence = keras.Input((6, 4))
    x = layers.Dense(6, name="dense")(sequence)
    q = layers.Dense(8, name="held1")(x)
    v = layers.Dense(8, name="held2")(x)
    x = layers.MultiHeadAttention(2, 4, name="attention")(query=q, value=v)
    return _end(keras, sequence, x, "attention_with_keywords")


@toy("dense after")
def einsum_dense(keras):
    layers = keras.layers
    sequence = keras.Input((6, 4))
    x = layers.Dense(6, name="dense")(sequence)
    x = layers.Dense(6, name="held")(x)
    x = layers.EinsumDense("abc,cd->abd", output_shape=(None, 5), name="einsum")(x)
    x = layers.Dense(5, name="after")(x)
    return _end(keras, sequence, x, "einsum_dense")


@toy("conv")
def embedding_with_mask(keras):
    """Embedding(mask_zero=True): a mask travels with the tensor."""
    layers = keras.layers
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True, name="embedding")(tokens)
    x = layers.Dense(6, name="conv")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, layers.Dense(5, name="head")(x), name="embedding_with_mask")


@toy("conv")
def time_distributed(keras):
    layers = keras.layers
    sequence = keras.Input((6, 4))
    x = layers.Dense(6, name="conv")(sequence)
    x = layers.Dense(6, name="held")(x)
    x = layers.TimeDistributed(layers.Dense(5), name="each")(x)
    return _end(keras, sequence, x, "time_distributed")


@toy("conv1 conv2")
def not_trainable(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, trainable=False, name="conv1")(image)
    norm = layers.BatchNormalization(name="norm")
    norm.trainable = False
    x = norm(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    return _end(keras, image, x, "not_trainable")


@toy("encoder/conv1 encoder/conv2 conv")
def not_trainable_nested(keras):
    image = _image(keras)
    encoder = _encoder(keras)
    encoder.trainable = False
    x = encoder(image, training=False)
    x = keras.layers.Conv2D(6, 3, name="conv")(x)
    return _end(keras, image, x, "not_trainable_nested")


@toy("block/a block/b", only="tf_keras")
def slash_in_names(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="block/a")(image)
    x = layers.BatchNormalization(name="block/a/norm")(x)
    x = layers.Conv2D(6, 3, name="block/b")(x)
    return _end(keras, image, x, "slash_in_names")


@toy("left/conv1 left/conv2 right/conv1 right/conv2")
def same_names_in_two_models(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Concatenate()([_encoder(keras, name="left")(image), _encoder(keras, name="right")(image)])
    return _end(keras, image, x, "same_names_in_two_models")


@toy("conv1 conv2")
def training_argument(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.BatchNormalization()(x, training=False)
    x = layers.Dropout(0.5)(x, training=False)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    return _end(keras, image, x, "training_argument")


@toy("conv dense")
def regularized(keras):
    layers = keras.layers
    image = _image(keras)
    x = layers.Conv2D(
        6, 3, kernel_regularizer=keras.regularizers.L2(0.01), kernel_constraint=keras.constraints.MaxNorm(2), name="conv"
    )(image)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(6, kernel_initializer=keras.initializers.HeNormal(seed=1), name="dense")(x)
    return _end(keras, image, x, "regularized")
