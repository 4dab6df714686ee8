"""Inputs and outputs of every structure."""

from tests.toys.registry import image_input, toy


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
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    middle = layers.Conv2D(4, 3, name="middle")(x)
    y = layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(middle))
    return keras.Model(image, [middle, y], name="several_outputs")


@toy("conv")
def dict_outputs(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="conv")(image))
    named = {"second": layers.Dense(5, name="second")(x), "first": layers.Dense(4, name="first")(x)}
    return keras.Model(image, named, name="dict_outputs")


@toy("conv")
def input_as_output(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="conv")(image))
    return keras.Model(image, [image, layers.Dense(5, name="head")(x)], name="input_as_output")


@toy()
def no_weights(keras):
    layers = keras.layers
    image = image_input(keras)
    return keras.Model(image, layers.GlobalAveragePooling2D()(layers.ReLU()(image)), name="no_weights")


@toy("conv dense")
def unused_branch(keras):
    """An output that was built and then left out of the model."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    x = layers.GlobalAveragePooling2D()(x)
    layers.Dense(7, name="left_out")(x)
    x = layers.Dense(5, name="dense")(x)
    return keras.Model(image, layers.Dense(5, name="head")(x), name="unused_branch")


@toy("conv")
def same_output_twice(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="conv")(image))
    y = layers.Dense(5, name="head")(x)
    return keras.Model(image, [y, y], name="same_output_twice")


@toy("conv")
def lists_of_one(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="conv")(image))
    return keras.Model([image], [layers.Dense(5, name="head")(x)], name="lists_of_one")


@toy("conv")
def unused_input(keras):
    layers = keras.layers
    image, other = image_input(keras), keras.Input((4,), name="other")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="conv")(image))
    return keras.Model([image, other], layers.Dense(5, name="head")(x), name="unused_input")


@toy("conv")
def fixed_batch(keras):
    layers = keras.layers
    image = keras.Input((8, 8, 3), batch_size=2)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="conv")(image))
    return keras.Model(image, layers.Dense(5, name="head")(x), name="fixed_batch")
