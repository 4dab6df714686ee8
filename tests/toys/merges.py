"""Layers that join several tensors."""

from tests.toys.registry import ended, image_input, toy


@toy("stem block")
def residual(keras):
    layers = keras.layers
    image = image_input(keras)
    x = stem = layers.Conv2D(6, 3, padding="same", name="stem")(image)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(8, 3, padding="same", name="block")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(6, 3, padding="same", name="back")(x)
    x = layers.Add()([x, stem])
    return ended(keras, image, x, "residual")


@toy("conv0 conv1 conv3 conv5 conv7 conv9")
def merges(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="conv0")(image)
    for number, merge in enumerate(("Subtract", "Multiply", "Average", "Maximum", "Minimum")):
        a = layers.Conv2D(6, 1, name=f"conv{2 * number + 1}")(x)
        b = layers.Conv2D(6, 1, name=f"conv{2 * number + 2}")(x)
        x = getattr(layers, merge)()([a, b])
    return ended(keras, image, x, "merges")


@toy("conv1 squeeze1 conv2 squeeze2")
def squeeze_excite(keras):
    layers = keras.layers
    image = image_input(keras)
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
    return ended(keras, image, x, "squeeze_excite")


@toy("conv")
def spatial_attention(keras):
    """One channel is spread over several."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    gate = layers.Conv2D(1, 1, activation="sigmoid", name="gate")(x)
    x = layers.Multiply()([gate, x])
    return ended(keras, image, x, "spatial_attention")


@toy("conv dense")
def broadcast_by_rank(keras):
    """Keras's merging layers put missing axes after the batch."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    v = layers.GlobalAveragePooling2D()(x)
    v = layers.Dense(4, name="dense")(v)
    v = layers.Dense(6, name="bias")(v)
    x = layers.Add()([x, v])
    return ended(keras, image, x, "broadcast_by_rank")


@toy("left right after")
def add_with_input(keras):
    """What is added to an input cannot shrink; the rest can."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, padding="same", name="left")(image)
    x = layers.Conv2D(3, 3, padding="same", name="held")(x)
    x = layers.Add()([x, image])
    x = layers.Conv2D(6, 3, name="right")(x)
    x = layers.Conv2D(6, 3, name="after")(x)
    return ended(keras, image, x, "add_with_input")


@toy("conv a b after")
def concatenate(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(4, 1, name="conv")(image)
    a = layers.Conv2D(5, 1, name="a")(x)
    b = layers.Conv2D(3, 1, activation="relu", name="b")(x)
    x = layers.Concatenate()([a, image, b, x])
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.Conv2D(6, 1, name="after")(x)
    return ended(keras, image, x, "concatenate")


@toy("stem grow1 grow2 transition")
def dense_block(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="stem")(image)
    for number in (1, 2):
        y = layers.BatchNormalization()(x)
        y = layers.ReLU()(y)
        y = layers.Conv2D(4, 3, padding="same", name=f"grow{number}")(y)
        x = layers.Concatenate(axis=3)([x, y])
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(6, 1, name="transition")(x)
    return ended(keras, image, x, "dense_block")


@toy("top bottom after")
def concatenate_rows(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(5, 3, name="top")(image)
    y = layers.Conv2D(4, 3, name="bottom")(image)
    y = layers.Conv2D(5, 1, name="same_as_top")(y)
    x = layers.Concatenate(axis=1)([x, y])
    x = layers.Conv2D(6, 3, name="after")(x)
    return ended(keras, image, x, "concatenate_rows")


@toy("a b")
def concatenate_then_add(keras):
    layers = keras.layers
    image = image_input(keras)
    a = layers.Conv2D(4, 1, name="a")(image)
    b = layers.Conv2D(6, 1, name="b")(image)
    x = layers.Concatenate()([a, b])
    y = layers.Conv2D(10, 1, name="both")(image)
    x = layers.Add()([x, y])
    return ended(keras, image, x, "concatenate_then_add")


@toy("conv after")
def concatenate_with_itself(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(4, 1, name="conv")(image)
    x = layers.Concatenate()([x, x])
    x = layers.Conv2D(6, 1, name="after")(x)
    return ended(keras, image, x, "concatenate_with_itself")


@toy("a grouped")
def concatenate_then_grouped(keras):
    layers = keras.layers
    image = image_input(keras)
    a = layers.Conv2D(8, 1, name="a")(image)
    b = layers.Conv2D(4, 1, name="b")(image)
    x = layers.Concatenate()([a, b])
    x = layers.Conv2D(6, 3, groups=3, name="grouped")(x)
    return ended(keras, image, x, "concatenate_then_grouped")


@toy("a b dense")
def concatenate_after_flatten(keras):
    layers = keras.layers
    image = image_input(keras)
    a = layers.Flatten()(layers.Conv2D(4, 3, strides=3, name="a")(image))
    b = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1, name="b")(image))
    x = layers.Concatenate()([a, b])
    x = layers.Dense(6, name="dense")(x)
    return ended(keras, image, x, "concatenate_after_flatten")


@toy("a b b:2")
def nested_concatenations_added(keras):
    """Two concatenations cut at unlike places meet in an Add: three groups, one of them inside b and c alike."""
    layers = keras.layers
    image = image_input(keras)
    parts = [layers.Conv2D(n, 1, name=name)(image) for name, n in (("a", 3), ("b", 5), ("c", 5), ("d", 3))]
    x = layers.Add()([layers.Concatenate()(parts[:2]), layers.Concatenate()(parts[2:])])
    return ended(keras, image, x, "nested_concatenations_added")


@toy("c")
def dot(keras):
    layers = keras.layers
    image = image_input(keras)
    a = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1, name="a")(image))
    b = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 1, name="b")(image))
    x = layers.Dense(4, name="c")(layers.Dot(axes=1, name="dot")([a, b]))
    return ended(keras, image, x, "dot")
