"""Pooling, padding, cropping, up-sampling, dropout: what leaves channels alone."""

from tests.toys.registry import ended, image_input, toy


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
    return ended(keras, image, x, "pooling")


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
    return ended(keras, signal, x, "positions1d")


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
    return ended(keras, video, x, "positions3d")


@toy("conv1 conv2")
def padding_and_cropping(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.ZeroPadding2D(2)(image)
    x = layers.Conv2D(6, 3, activation="sigmoid", name="conv1")(x)
    x = layers.ZeroPadding2D(((1, 0), (0, 2)))(x)
    x = layers.Cropping2D(((0, 1), (1, 1)))(x)
    x = layers.UpSampling2D((2, 1), interpolation="bilinear")(x)
    x = layers.Conv2D(5, 3, name="conv2")(x)
    return ended(keras, image, x, "padding_and_cropping")


@toy("conv1 wide widen widen:2 conv3")
def channel_padding(keras):
    """Option A shortcuts of the CIFAR ResNets: `channels_first` on a channels-last tensor pads channels."""
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(4, 3, activation="relu", name="conv1")(image)
    y = layers.Conv2D(6, 3, padding="same", activation="relu", name="wide")(x)
    y = layers.Conv2D(10, 3, padding="same", name="conv2")(y)
    x = layers.ZeroPadding2D(((0, 0), (3, 3)), data_format="channels_first", name="widen")(x)
    x = layers.Add()([x, y])
    x = layers.Conv2D(6, 1, name="conv3")(x)
    return ended(keras, image, x, "channel_padding")


@toy("conv1 conv1:2 conv2")
def channel_cropping(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.Conv2D(8, 3, activation="relu", name="conv1")(image)
    x = layers.Cropping2D(((0, 0), (2, 1)), data_format="channels_first", name="narrow")(x)
    x = layers.Conv2D(6, 1, name="conv2")(x)
    return ended(keras, image, x, "channel_cropping")


@toy("conv1 conv2 dense")
def dropouts(keras):
    layers = keras.layers
    image = image_input(keras)
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
    return ended(keras, image, x, "dropouts")


@toy("conv1 conv2")
def augmentation(keras):
    layers = keras.layers
    image = image_input(keras)
    x = layers.RandomFlip()(image)
    x = layers.RandomRotation(0.1)(x)
    x = layers.Conv2D(6, 3, name="conv1")(x)
    x = layers.Resizing(4, 4)(x)
    x = layers.Conv2D(6, 3, name="conv2")(x)
    return ended(keras, image, x, "augmentation")
