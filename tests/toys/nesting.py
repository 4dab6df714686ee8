"""Shared layers and models within models."""

from tests.toys.registry import ended, image_input, toy


@toy("conv shared")
def shared_layer(keras):
    """A convolution called twice on its own output: its channels are also those that it reads."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.Conv2D(8, 1, name="shared")(x)
    shared = layers.Conv2D(8, 3, padding="same", activation="relu", name="twice")
    x = shared(shared(x))
    return ended(keras, image, x, "shared_layer")


@toy("left shared")
def shared_on_two_branches(keras):
    """Two tensors that one convolution reads have to lose the same channels."""
    layers = keras.layers
    image = image_input(keras)
    a = layers.Conv2D(6, 1, name="left")(image)
    b = layers.Conv2D(6, 1, name="right")(image)
    shared = layers.Conv2D(5, 3, name="shared")
    norm = layers.BatchNormalization()
    x = layers.Concatenate()([norm(shared(a)), norm(shared(b))])
    return ended(keras, image, x, "shared_on_two_branches")


@toy("conv shared")
def shared_with_input(keras):
    """Shared between an input and a tensor with channels: what it reads cannot shrink, what it makes can."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    x = layers.Conv2D(3, 1, name="held")(x)
    shared = layers.Conv2D(5, 1, name="shared")
    x = layers.Add()([shared(image), shared(x)])
    return ended(keras, image, x, "shared_with_input")


@toy("shared")
def shared_with_input_later(keras):
    """The same, with the input read last."""
    layers = keras.layers
    image = image_input(keras)
    shared = layers.Conv2D(5, 1, name="shared")
    x = shared(layers.Conv2D(3, 1, name="held")(image))
    x = layers.Subtract()([x, shared(image)])
    return ended(keras, image, x, "shared_with_input_later")


def encoder(keras, shape=(8, 8, 3), name="encoder"):
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
    shared = encoder(keras)
    x = layers.Subtract()([shared(left), shared(right)])
    return ended(keras, [left, right], x, "shared_nested_model")


@toy("encoder/conv1 encoder/conv2 conv1")
def functional_in_functional(keras):
    """The layer "conv1" is there twice: inside and outside."""
    image = image_input(keras)
    x = encoder(keras)(image)
    x = keras.layers.Conv2D(6, 3, name="conv1")(x)
    return ended(keras, image, x, "functional_in_functional")


@toy("outer/encoder/conv1 outer/encoder/conv2 outer/conv")
def nested_twice(keras):
    image = image_input(keras)
    inner_image = keras.Input((8, 8, 3))
    x = encoder(keras)(inner_image)
    x = keras.layers.Conv2D(4, 1, name="conv")(x)
    outer = keras.Model(inner_image, x, name="outer")
    return ended(keras, image, outer(image), "nested_twice")


@toy("tower/conv1 tower/conv2")
def sequential_in_functional(keras):
    layers = keras.layers
    image = image_input(keras)
    tower = keras.Sequential(
        [layers.Conv2D(6, 3, name="conv1"), layers.ReLU(), layers.Conv2D(5, 3, name="conv2")], name="tower"
    )
    return ended(keras, image, tower(image), "sequential_in_functional")


@toy("encoder/conv1 encoder/conv2 dense")
def functional_in_sequential(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            encoder(keras),
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
    image = image_input(keras)
    x = encoder(keras, (None, None, 3))(image)
    return ended(keras, image, x, "encoder_of_any_size")


@toy("encoder/conv1 encoder/conv2")
def encoder_of_any_size_at_two_sizes(keras):
    layers = keras.layers
    image = image_input(keras)
    shared = encoder(keras, (None, None, 3))
    whole = layers.GlobalAveragePooling2D()(shared(image))
    half = layers.GlobalAveragePooling2D()(shared(layers.AveragePooling2D(2)(image)))
    return ended(keras, image, layers.Average()([whole, half]), "encoder_of_any_size_at_two_sizes")


@toy("trunk/conv trunk/a dense")
def nested_with_several_outputs(keras):
    layers = keras.layers
    image = image_input(keras)
    inner = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="conv")(inner)
    a, b = layers.Conv2D(5, 1, name="a")(x), layers.Conv2D(5, 1, name="b")(x)
    trunk = keras.Model(inner, [a, b, x], name="trunk")
    a, b, x = trunk(image)
    a = layers.GlobalAveragePooling2D()(layers.Add()([a, b]))
    x = layers.Dense(6, name="dense")(layers.GlobalAveragePooling2D()(x))
    return ended(keras, image, layers.Concatenate()([a, x]), "nested_with_several_outputs")


@toy("conv1 conv2 mixer/mix")
def nested_with_several_inputs(keras):
    layers = keras.layers
    image = image_input(keras)
    a, b = keras.Input((8, 8, 6), name="a"), keras.Input((8, 8, 4), name="b")
    mixed = layers.Conv2D(5, 1, name="mix")(layers.Concatenate()([b, a]))
    mixer = keras.Model([a, b], mixed, name="mixer")
    x = mixer([layers.Conv2D(6, 1, name="conv1")(image), layers.Conv2D(4, 1, name="conv2")(image)])
    return ended(keras, image, x, "nested_with_several_inputs")


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


@toy("conv inner/after")
def shared_across_models(keras):
    """One layer inside and outside of a nested model."""
    layers = keras.layers
    image = image_input(keras)
    shared = layers.Conv2D(6, 3, padding="same", name="shared")
    inner_image = keras.Input((8, 8, 6))
    inner = keras.Model(inner_image, layers.Conv2D(5, 1, name="after")(shared(inner_image)), name="inner")
    x = shared(layers.Conv2D(6, 1, name="conv")(image))
    return ended(keras, image, inner(x), "shared_across_models")


@toy("conv1 conv2 mixer/mix")
def nested_with_named_inputs(keras):
    """A nested model that takes and returns dicts."""
    layers = keras.layers
    image = image_input(keras)
    given = {"z": keras.Input((8, 8, 6), name="z"), "a": keras.Input((8, 8, 4), name="a")}
    mixed = layers.Conv2D(5, 1, name="mix")(layers.Concatenate()([given["z"], given["a"]]))
    mixer = keras.Model(given, {"y": mixed, "b": given["a"]}, name="mixer")
    found = mixer({"a": layers.Conv2D(4, 1, name="conv2")(image), "z": layers.Conv2D(6, 1, name="conv1")(image)})
    return ended(keras, image, layers.Concatenate()([found["y"], found["b"]]), "nested_with_named_inputs")

