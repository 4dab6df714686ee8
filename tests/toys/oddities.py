"""What is not followed, and unusual but legal ways to write a model."""

from tests.toys.nesting import encoder
from tests.toys.registry import ended, image_input, toy


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

    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = Twice(3.0, name="twice")(x)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    return ended(keras, image, x, "custom_layer")


@toy("conv1 conv3", custom=True)
def custom_convolution(keras):
    """A child of Conv2D that does something else is no Conv2D."""
    layers = keras.layers

    class Reversed(layers.Conv2D):
        def call(self, x):
            return super().call(x[:, ::-1])

    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = Reversed(5, 3, name="reversed")(x)
    x = layers.Conv2D(6, 1, name="conv3")(x)
    return ended(keras, image, x, "custom_convolution")


@toy("conv1 conv3", custom=True)
def lambda_layer(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    x = layers.Lambda(lambda t: t[..., ::-1], output_shape=(4, 4, 6), name="reverse")(x)
    x = layers.Conv2D(6, 3, name="conv3")(x)
    return ended(keras, image, x, "lambda_layer")


@toy("conv", custom=True)
def lambda_with_arguments(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(6, name="held")(x)
    x = layers.Lambda(lambda t, by: t * by, arguments={"by": 3.0}, name="scale")(x)
    return ended(keras, image, x, "lambda_with_arguments")


@toy("conv dense", tolerance=2e-2)
def mixed_precision(keras):
    layers = keras.layers
    image = image_input(keras)
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
    return ended(keras, sequence, x, "recurrent")


@toy("dense")
def attention(keras):
    layers = keras.layers
    sequence = keras.Input((6, 4))
    x = layers.Dense(6, name="dense")(sequence)
    x = layers.Dense(8, name="held")(x)
    y = layers.MultiHeadAttention(2, 4, name="attention")(x, value=x, key=x)
    x = layers.Add()([x, y])
    x = layers.LayerNormalization()(x)
    return ended(keras, sequence, x, "attention")


@toy("dense")
def attention_with_keywords(keras):
    """A layer whose tensors come by keyword only."""
    layers = keras.layers
    sequence = keras.Input((6, 4))
    x = layers.Dense(6, name="dense")(sequence)
    q = layers.Dense(8, name="held1")(x)
    v = layers.Dense(8, name="held2")(x)
    x = layers.MultiHeadAttention(2, 4, name="attention")(query=q, value=v)
    return ended(keras, sequence, x, "attention_with_keywords")


@toy("dense after")
def einsum_dense(keras):
    layers = keras.layers
    sequence = keras.Input((6, 4))
    x = layers.Dense(6, name="dense")(sequence)
    x = layers.Dense(6, name="held")(x)
    x = layers.EinsumDense("abc,cd->abd", output_shape=(None, 5), name="einsum")(x)
    x = layers.Dense(5, name="after")(x)
    return ended(keras, sequence, x, "einsum_dense")


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
    return ended(keras, sequence, x, "time_distributed")


@toy("conv1 conv2")
def not_trainable(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, trainable=False, name="conv1")(image)
    norm = layers.BatchNormalization(name="norm")
    norm.trainable = False
    x = norm(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    return ended(keras, image, x, "not_trainable")


@toy("encoder/conv1 encoder/conv2")
def partly_trainable_nested(keras):
    """Frozen as a whole, and its last layer thawed again."""
    image = image_input(keras)
    held = encoder(keras)
    held.trainable = False
    held.get_layer("conv2").trainable = True
    return ended(keras, image, held(image), "partly_trainable_nested")


@toy("encoder/conv1 encoder/conv2 conv")
def not_trainable_nested(keras):
    image = image_input(keras)
    held = encoder(keras)
    held.trainable = False
    x = held(image, training=False)
    x = keras.layers.Conv2D(6, 3, name="conv")(x)
    return ended(keras, image, x, "not_trainable_nested")


@toy("block/a block/b", only="tf_keras")
def slash_in_names(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="block/a")(image)
    x = layers.BatchNormalization(name="block/a/norm")(x)
    x = layers.Conv2D(6, 3, name="block/b")(x)
    return ended(keras, image, x, "slash_in_names")


@toy("left/conv1 left/conv2 right/conv1 right/conv2")
def same_names_in_two_models(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Concatenate()([encoder(keras, name="left")(image), encoder(keras, name="right")(image)])
    return ended(keras, image, x, "same_names_in_two_models")


@toy("conv1 conv2")
def training_argument(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.BatchNormalization()(x, training=False)
    x = layers.Dropout(0.5)(x, training=False)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    return ended(keras, image, x, "training_argument")


@toy("conv dense")
def regularized(keras):
    layers = keras.layers
    image = image_input(keras)
    held = {"kernel_regularizer": keras.regularizers.L2(0.01), "kernel_constraint": keras.constraints.MaxNorm(2)}
    x = layers.Conv2D(6, 3, **held, name="conv")(image)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(6, kernel_initializer=keras.initializers.HeNormal(seed=1), name="dense")(x)
    return ended(keras, image, x, "regularized")


@toy("conv held after", only="keras")
def lora(keras):
    """A Dense layer with more weights than a plain one."""
    layers = keras.layers
    features = keras.Input((4,))
    x = layers.Dense(6, name="conv")(features)
    odd = layers.Dense(6, name="odd")
    x = layers.Dense(6, name="held")(x)
    x = layers.Dense(6, name="after")(odd(layers.Dense(6, name="frozen")(x)))
    odd.enable_lora(2)
    return ended(keras, features, x, "lora")


@toy("conv1 conv3", only="keras")
def spectral_normalization(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv1")(image)
    x = layers.Conv2D(6, 1, name="conv2")(x)
    x = layers.SpectralNormalization(layers.Conv2D(5, 3), name="spectral")(x)
    x = layers.Conv2D(6, 1, name="conv3")(x)
    return ended(keras, image, x, "spectral_normalization")


@toy("conv")
def added_to_itself(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(6, 3, name="conv")(image)
    x = layers.Multiply()([layers.Add()([x, x]), x])
    return ended(keras, image, x, "added_to_itself")


@toy("dense after", only="keras")
def mask_by_hand(keras):
    """A second tensor among the arguments of a layer that has one as a rule."""
    layers = keras.layers
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(7, 4, name="embedding")(tokens)
    x = layers.Dense(6, name="dense")(x)
    x = layers.Dense(6, name="held")(x)
    x = layers.GlobalAveragePooling1D(name="masked_pool")(x, keras.ops.not_equal(tokens, 0))
    x = layers.Dense(6, name="after")(x)
    return keras.Model(tokens, layers.Dense(5, name="head")(x), name="mask_by_hand")
