"""Operators and functions called on symbolic tensors."""

import numpy as np

from tests.toys.registry import ended, image_input, toy


@toy("a c")
def signs(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="a")(image)
    y = layers.Conv2D(6, 3, name="b")(image)
    x = x + y
    x = (x * 2.0 - y) / 3.0
    x = 1.0 - x
    x = -x
    x = abs(x) ** 2
    x = layers.Conv2D(6, 3, name="c")(x)
    return ended(keras, image, x, "signs")


@toy("a c")
def slices(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="a")(image)
    x = x[:, ::2, ::2]
    x = layers.Conv2D(6, 1, name="b")(x)
    x = x[..., 1:4]
    x = layers.Conv2D(6, 1, name="c")(x)
    x = x[:, 0]
    x = x[:, -1, :]
    return ended(keras, image, x, "slices")


@toy("conv2")
def constants(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(3, 1, name="conv1")(image)
    x = x * np.array([0.5, 1.0, 2.0], dtype="float32")
    x = layers.Conv2D(6, 1, name="conv2")(x)
    x = x + np.ones((1, 1, 1), dtype="float32")
    return ended(keras, image, x, "constants")


@toy("a b c d", only="keras")
def ops(keras):
    layers, ops = keras.layers, keras.ops
    image = image_input(keras)
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
    return ended(keras, image, x, "ops")


@toy("conv after last", only="keras")
def ops_padding(keras):
    layers, ops = keras.layers, keras.ops
    image = image_input(keras)
    x = layers.Conv2D(6, 3, activation="sigmoid", name="conv")(image)
    x = ops.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0)))
    x = layers.Conv2D(5, 3, name="after")(x)
    x = ops.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0)), mode="reflect")
    x = layers.Conv2D(5, 3, name="held")(x)
    x = ops.pad(x, ((0, 0), (0, 0), (0, 0), (1, 2)), mode="reflect")
    x = layers.Conv2D(5, 3, name="last")(x)
    return ended(keras, image, x, "ops_padding")


@toy("conv pad pad:2 after", only="keras")
def ops_channel_padding(keras):
    layers, ops = keras.layers, keras.ops
    image = image_input(keras)
    x = layers.Conv2D(6, 3, activation="sigmoid", name="conv")(image)
    x = ops.pad(x, ((0, 0), (1, 0), (0, 0), (3, 2)))
    x = layers.Conv2D(5, 3, name="after")(x)
    return ended(keras, image, x, "ops_channel_padding")


@toy("after", only="keras")
def ops_over_channels(keras):
    layers, ops = keras.layers, keras.ops
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = ops.concatenate([x, ops.mean(x, axis=-1, keepdims=True)], axis=-1)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = ops.softmax(x)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    x = ops.roll(x, 1, axis=-1)
    x = layers.Conv2D(5, 1, name="after")(x)
    return ended(keras, image, x, "ops_over_channels")


@toy("a b c d", only="tf_keras")
def functions(keras):
    import tensorflow as tf

    layers = keras.layers
    image = image_input(keras)
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
    return ended(keras, image, x, "functions")


@toy("conv after last", only="tf_keras")
def functions_padding(keras):
    import tensorflow as tf

    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, activation="sigmoid", name="conv")(image)
    x = tf.pad(x, [[0, 0], [1, 1], [2, 0], [0, 0]])
    x = layers.Conv2D(5, 3, name="after")(x)
    x = tf.pad(x, [[0, 0], [1, 1], [2, 0], [0, 0]], "REFLECT")
    x = layers.Conv2D(5, 3, name="held")(x)
    x = tf.pad(x, [[0, 0], [0, 0], [0, 0], [1, 2]], mode="SYMMETRIC")
    x = layers.Conv2D(5, 3, name="last")(x)
    return ended(keras, image, x, "functions_padding")


@toy("conv tf.compat.v1.pad tf.compat.v1.pad:2 after", only="tf_keras")
def functions_channel_padding(keras):
    import tensorflow as tf

    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, activation="sigmoid", name="conv")(image)
    x = tf.pad(x, [[0, 0], [0, 0], [1, 0], [3, 2]])
    x = layers.Conv2D(5, 3, name="after")(x)
    return ended(keras, image, x, "functions_channel_padding")


@toy("conv3", only="tf_keras")
def functions_not_known(keras):
    import tensorflow as tf

    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = tf.nn.local_response_normalization(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = tf.roll(x, 1, -1)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    return ended(keras, image, x, "functions_not_known")


@toy("conv after", only="keras")
def ops_resize(keras):
    layers, ops = keras.layers, keras.ops
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    x = ops.image.resize(x, (9, 9))
    x = layers.Conv2D(5, 3, name="after")(x)
    return ended(keras, image, x, "ops_resize")


@toy("conv after", only="tf_keras")
def functions_resize(keras):
    import tensorflow as tf

    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    x = tf.image.resize(x, (9, 9))
    x = layers.Conv2D(5, 3, name="after")(x)
    return ended(keras, image, x, "functions_resize")


@toy("after", only="keras")
def ops_over_the_batch(keras):
    layers, ops = keras.layers, keras.ops
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="conv1")(image)
    x = ops.reshape(x, (-1, 6))
    x = layers.Dense(6, name="dense")(x)
    x = ops.reshape(x, (-1, 8, 8, 6))
    x = layers.Conv2D(6, 1, name="conv2")(x)
    x = ops.squeeze(ops.expand_dims(x, axis=0), axis=0)
    x = layers.Conv2D(6, 1, name="conv3")(x)
    x = x - ops.mean(x, axis=0, keepdims=True)
    x = layers.Conv2D(6, 1, name="conv4")(x)
    x = ops.transpose(ops.transpose(x))
    x = layers.Conv2D(6, 1, name="conv5")(x)
    x = ops.concatenate([x, x], axis=0)
    x = ops.mean(ops.reshape(x, (2, -1, 8, 8, 6)), axis=0)
    x = layers.Conv2D(6, 1, name="after")(x)
    return ended(keras, image, x, "ops_over_the_batch")


@toy("after", only="tf_keras")
def functions_over_the_batch(keras):
    import tensorflow as tf

    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="conv1")(image)
    x = tf.reshape(x, [-1, 6])
    x = layers.Dense(6, name="dense")(x)
    x = tf.reshape(x, [-1, 8, 8, 6])
    x = layers.Conv2D(6, 1, name="conv2")(x)
    x = tf.squeeze(tf.expand_dims(x, 0), 0)
    x = layers.Conv2D(6, 1, name="conv3")(x)
    x = x - tf.reduce_mean(x, axis=0, keepdims=True)
    x = layers.Conv2D(6, 1, name="conv4")(x)
    x = tf.transpose(tf.transpose(x))
    x = layers.Conv2D(6, 1, name="conv5")(x)
    x = tf.concat([x, x], axis=0)
    x = tf.reduce_mean(tf.reshape(x, [2, -1, 8, 8, 6]), axis=0)
    x = layers.Conv2D(6, 1, name="after")(x)
    return ended(keras, image, x, "functions_over_the_batch")


@toy("after", only="keras")
def ops_with_several_outputs(keras):
    layers, ops = keras.layers, keras.ops
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    a, b = ops.split(x, 2, axis=-1)
    x = ops.stack([a, b], axis=-1)
    x = ops.reshape(x, (-1, 8, 8, 6))
    x = layers.Conv2D(6, 1, name="after")(x)
    return ended(keras, image, x, "ops_with_several_outputs")


@toy("after", only="tf_keras")
def functions_with_several_outputs(keras):
    import tensorflow as tf

    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 1, name="conv")(image)
    a, b = tf.split(x, 2, axis=-1)
    x = tf.stack([a, b], axis=-1)
    x = tf.reshape(x, [-1, 8, 8, 6])
    x = layers.Conv2D(6, 1, name="after")(x)
    return ended(keras, image, x, "functions_with_several_outputs")
