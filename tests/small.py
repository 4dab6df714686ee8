"""A small network and images that it was made to classify, for tests of the whole way."""

import numpy as np

from amc_tf.callbacks import Callback

CLASSES, SIDE = 4, 12


def network(keras, width: int = 16, name: str = "small"):
    """Convolutions with a residual addition, 12x12x3 -> 4 probabilities; random weights from a fixed seed.

    Every layer has a name, so that one network is like the other; Keras would number theirs.
    """
    layers = keras.layers
    x = image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name="stem")(x)
    x = trunk = layers.ReLU(name="relu1")(layers.BatchNormalization(name="norm1")(x))
    x = layers.Conv2D(2 * width, 3, padding="same", name="wide")(x)
    x = layers.ReLU(name="relu2")(layers.BatchNormalization(name="norm2")(x))
    x = layers.BatchNormalization(name="norm3")(layers.Conv2D(width, 3, padding="same", name="back")(x))
    x = layers.ReLU(name="relu3")(layers.Add(name="add")([x, trunk]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="head")(x), name=name)
    rng = np.random.default_rng(0)
    model.set_weights([_random(rng, w.shape, v.name) for w, v in zip(model.get_weights(), model.weights, strict=True)])
    return model


def plain(keras, width: int = 16, name: str = "plain"):
    """Two convolutions in a row, 12x12x3 -> 4 probabilities: for tests that ask nothing of the network.

    It has half the layers of the other one, and no BatchNorm, so that its search takes half the conversions.
    """
    layers = keras.layers
    x = image = keras.Input((SIDE, SIDE, 3), name="image")
    x = layers.Conv2D(width, 3, padding="same", activation="relu", name="stem")(x)
    x = layers.Conv2D(2 * width, 3, padding="same", activation="relu", name="wide")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="head")(x), name=name)
    rng = np.random.default_rng(0)
    model.set_weights([_random(rng, w.shape, v.name) for w, v in zip(model.get_weights(), model.weights, strict=True)])
    return model


def images(count: int, seed: int = 0) -> np.ndarray:
    """float32 (count, 12, 12, 3): smooth noise, so that a network has something to tell apart."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 3, 3, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return (coarse + 0.3 * rng.normal(size=coarse.shape)).astype(np.float32)


def labelled(model, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images and what the model says they are: its own accuracy on them is 1."""
    x = images(count, seed)
    return x, np.asarray(model(x, training=False)).argmax(axis=-1)


def settled(model):
    """The same model, its BatchNorm statistics those of images: without them it says the same of all."""
    norms = [layer for layer in model.layers if hasattr(layer, "moving_variance")]
    before = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0  # keeps the statistics of one batch
    model(images(256, seed=5), training=True)
    for layer, momentum in zip(norms, before, strict=True):
        layer.momentum = momentum
    return model


def _random(rng, shape, name):
    if "variance" in name:
        return rng.uniform(0.5, 1.5, shape)
    if "gamma" in name:
        return rng.uniform(0.7, 1.3, shape)
    fan_in = max(1, int(np.prod(shape[:-1])))
    return rng.normal(0, np.sqrt(2 / fan_in) if len(shape) > 1 else 0.3, shape)


def hook(function):
    """A callback, in a list, that calls a function with each trial and the best so far; none for None."""

    class Hook(Callback):
        def on_episode_end(self, episode, logs=None):
            function(self.search.trials[episode], self.search.best)

    return [] if function is None else [Hook()]
