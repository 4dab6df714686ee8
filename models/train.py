"""Trains a base network and writes its weights.

    python -m models.train --network plain20_fashion_mnist --epochs 12 --out plain20_fashion_mnist.npz

Stochastic gradient descent with Nesterov momentum, a cosine learning rate after a short linear rise, and the light
augmentation usual for these data: a random flip and a random shift. The accuracy printed is that on the test images;
nothing is chosen by it.
"""

import argparse
import importlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import models
from models import datasets, weights

NETWORKS = sorted(name for name in models.TRAINED if not name.endswith("_imagenet"))
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4  # as in the ResNet paper (arXiv 1512.03385, section 4.2)


def augmented(x: np.ndarray, rng: np.random.Generator, shift: int) -> np.ndarray:
    """Flips half of the images and shifts each by up to `shift` pixels; what comes in is the value of the corner.

    Args:
        x: images (n, height, width, channels).
        rng: where the chance comes from.
        shift: pixels, both ways and both directions.
    """
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    corners = rng.integers(0, 2 * shift + 1, size=(len(x), 2))
    moved = np.stack([image[r : r + height, c : c + width] for image, (r, c) in zip(padded, corners, strict=True)])
    flip = rng.random(len(x)) < 0.5
    moved[flip] = moved[flip, :, ::-1]
    return moved


def batches(x: np.ndarray, y: np.ndarray, size: int, shift: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields augmented batches without end, shuffled anew each time round; a last incomplete batch is left out."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            yield augmented(x[chosen], rng, shift), y[chosen]


def augmented_data(keras: Any, x: np.ndarray, y: np.ndarray, size: int, shift: int, seed: int) -> Any:
    """The same batches as a data set of Keras, which says how long an epoch is.

    Args:
        keras: the module that the model belongs to.
        x, y, size, shift, seed: see `batches`.
    """
    source = batches(x, y, size, shift, seed)

    class Augmented(getattr(keras.utils, "PyDataset", None) or keras.utils.Sequence):
        def __len__(self):
            return len(x) // size

        def __getitem__(self, _):
            return next(source)

    return Augmented()


def train(
    keras: Any,
    network: str,
    train_data: tuple[np.ndarray, np.ndarray],
    test_data: tuple[np.ndarray, np.ndarray],
    *,
    epochs: int,
    out: Path | None = None,
    batch: int = 128,
    rate: float = 0.1,
    shift: int = 4,
    seed: int = 0,
) -> Any:
    """Builds and trains a network.

    Args:
        keras: the module `keras` (Keras 3) or `tf_keras`.
        network: one of `NETWORKS`.
        train_data: images and labels, preprocessed.
        test_data: likewise; scored after each epoch and printed.
        epochs: times through the training images.
        out: the .npz that gets the weights after each epoch, so that a killed training leaves the last one's.
        batch: images a step.
        rate: highest learning rate.
        shift: of the augmentation, pixels.
        seed: of the order of the images and their augmentation.

    Returns:
        The trained model.
    """
    architecture, options, _ = models.TRAINED[network]
    model = models.build(architecture, keras, name=network, **options)
    written = {"out": out, "validation_data": test_data, "validation_batch_size": 500}
    fit(keras, model, train_data, epochs=epochs, batch=batch, rate=rate, shift=shift, seed=seed, **written)
    return model


def fit(
    keras: Any,
    model: Any,
    train_data: tuple[np.ndarray, np.ndarray],
    *,
    epochs: int,
    batch: int,
    rate: float,
    shift: int,
    seed: int = 0,
    rise: int | None = None,
    out: Path | None = None,
    **options: Any,
) -> None:
    """Trains a network as the module says.

    Args:
        keras: the module that the model belongs to.
        model: is compiled and trained.
        train_data, epochs, batch, rate, shift, seed, out: see `train`.
        rise: steps until the learning rate is at its highest; default: an epoch, or a tenth of all where that is less.
        **options: passed to Keras's fit.
    """
    x, y = train_data
    batch = min(batch, len(x))
    steps = len(x) // batch
    rise = min(steps, epochs * steps // 10) if rise is None else rise
    optimizer = keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

    class Rate(keras.callbacks.Callback):
        # A callback and not a schedule object: the same lines work in every version of both Kerases.
        step = 0

        def on_train_batch_begin(self, _, logs=None):
            part = (self.step + 1) / rise if self.step < rise else None
            turn = math.pi * (self.step - rise) / max(1, epochs * steps - rise)
            self.model.optimizer.learning_rate.assign(rate * (part or (1 + math.cos(turn)) / 2))
            self.step += 1

    class Write(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weights.write(self.model, out)

    model.fit(
        batches(x, y, batch, shift, seed),
        epochs=epochs,
        steps_per_epoch=steps,
        callbacks=[Rate(), Write()] if out else [Rate()],
        shuffle=False,  # the generator does
        verbose=2,
        **options,
    )


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--rate", type=float, default=0.1, help="highest learning rate")
    parser.add_argument("--shift", type=int, default=4, help="of the augmentation, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keras", choices=["keras", "tf_keras"], default="keras")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    chosen = parser.parse_args(arguments)
    if not os.access(chosen.out.resolve().parent, os.W_OK):  # said now and not after the training
        parser.error(f"--out is {chosen.out}, whose folder does not exist or cannot be written; choose another.")

    keras = importlib.import_module(chosen.keras)
    keras.utils.set_random_seed(chosen.seed)
    name = models.TRAINED[chosen.network][2]
    data = datasets.load(name, **({"full": True} if name == "fashion_mnist" else {}))
    test = data.test
    model = train(
        keras,
        chosen.network,
        data.train,
        test,
        epochs=chosen.epochs,
        out=chosen.out,
        batch=chosen.batch,
        rate=chosen.rate,
        shift=chosen.shift,
        seed=chosen.seed,
    )
    accuracy = np.mean(model.predict(test[0], batch_size=500, verbose=0).argmax(-1) == test[1])
    print(f"{chosen.network}: test accuracy {accuracy:.4f} on {len(test[1])} images, weights in {chosen.out}")


if __name__ == "__main__":
    main()
