"""BatchNormalization, and what freezes instead."""

import importlib

from tests.toys.registry import ended, image_input, toy


@toy("conv1 conv2")
def batchnorm(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.BatchNormalization()(image)
    x = layers.Conv2D(6, 3, name="conv1")(x)
    x = layers.BatchNormalization(center=False)(x)
    x = layers.ReLU()(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    x = layers.BatchNormalization(center=False, scale=False, axis=3)(x)
    return ended(keras, image, x, "batchnorm")


@toy("conv3")
def joint_norms(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.LayerNormalization(name="layer_norm")(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = layers.GroupNormalization(groups=2, name="group_norm")(x)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    return ended(keras, image, x, "joint_norms")


@toy("conv2")
def unit_norm(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.UnitNormalization(name="unit_norm")(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    return ended(keras, image, x, "unit_norm")


@toy("conv1 conv2")
def preprocessing(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Rescaling(0.5, offset=-1.0)(image)
    x = layers.Rescaling([0.5, 1.5, 2.0], offset=[0.1, 0.2, 0.3])(x)
    x = layers.Normalization(axis=-1)(x)
    x = layers.Conv2D(6, 3, name="conv1")(x)
    x = layers.Rescaling(2.0, offset=0.0)(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    return ended(keras, image, x, "preprocessing")


@toy("conv1 conv2", custom=True)
def layer_scale(keras):
    """ConvNeXt's own layer, which Keras does not register for saving."""
    scale = importlib.import_module(f"{keras.__name__}.src.applications.convnext").LayerScale
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = scale(0.5, 6)(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    return ended(keras, image, x, "layer_scale")


@toy("conv3")
def rescaling_by_channel(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(3, 3, name="conv1")(image)
    x = layers.Rescaling([0.5, 1.5, 2.0], name="per_channel")(x)
    x = layers.Conv2D(3, 3, name="conv2")(x)
    x = layers.Normalization(axis=-1, mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0], name="given")(x)
    x = layers.Conv2D(5, 3, name="conv3")(x)
    return ended(keras, image, x, "rescaling_by_channel")


@toy("conv2")
def batchnorm_on_rows(keras):
    """BatchNormalization over another axis than that of the channels."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    return ended(keras, image, x, "batchnorm_on_rows")


@toy("conv2", only="tf_keras")
def batchnorm_renorm(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.BatchNormalization(renorm=True)(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    return ended(keras, image, x, "batchnorm_renorm")
