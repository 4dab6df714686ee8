"""Trains a network and writes its weights.

    python -m models.train --network plain20_fashion_mnist --epochs 12 --out plain20_fashion_mnist.npz

Stochastic gradient descent with Nesterov momentum, a short linear warm-up, then a cosine learning rate. Augmentation is
usual for these data: a random flip and a random shift. The printed accuracy is that on the test images, and it chooses
nothing.
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
    """Flips half of the images and shifts each by up to `shift` pixels; edge pixels fill the gap.

    Args:
        x: images (n, height, width, channels).
        rng: source of the random flips and shifts.
        shift: pixels, along both axes and in both directions.
    """
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    corners = rng.integers(0, 2 * shift + 1, size=(len(x), 2))
    moved = np.stack([image[r : r + height, c : c + width] for image, (r, c) in zip(padded, corners, strict=True)])
    flip = rng.random(len(x)) < 0.5
    moved[flip] = moved[flip, :, ::-1]
    return moved


def batches(x: np.ndarray, y: np.ndarray, size: int, shift: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields augmented batches forever, shuffled anew each epoch; an incomplete last batch is left out."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            yield augmented(x[chosen], rng, shift), y[chosen]


def augmented_data(keras: Any, x: np.ndarray, y: np.ndarray, size: int, shift: int, seed: int) -> Any:
    """`batches` as a Keras data set, which knows the length of an epoch.

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
        test_data: the same; its accuracy is printed after each epoch.
        epochs: passes over the training images.
        out: the .npz that gets the weights after each epoch, so that a killed training keeps those of its last epoch.
        batch: images per step.
        rate: highest learning rate.
        shift: of the augmentation, pixels.
        seed: of the order and the augmentation of the images.

    Returns:
        The trained model.
    """
    architecture, options, _ = models.TRAINED[network]
    model = models.build(architecture, keras, name=network, **options)
    more = {"out": out, "validation_data": test_data, "validation_batch_size": 500}
    fit(keras, model, train_data, epochs=epochs, batch=batch, rate=rate, shift=shift, seed=seed, **more)
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
    warmup: int | None = None,
    out: Path | None = None,
    **options: Any,
) -> None:
    """Trains a network as described above.

    Args:
        keras: the module that the model belongs to.
        model: to compile and train.
        train_data, epochs, batch, rate, shift, seed, out: see `train`.
        warmup: steps until the highest learning rate; default: one epoch, or a tenth of all steps if that is less.
        **options: passed to Keras's fit.
    """
    x, y = train_data
    batch = min(batch, len(x))
    steps = len(x) // batch
    warmup = min(steps, epochs * steps // 10) if warmup is None else warmup
    optimizer = keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

    class Rate(keras.callbacks.Callback):
        # A callback and no schedule object, because this works in every version of both Kerases.
        step = 0

        def on_train_batch_begin(self, _, logs=None):
            share = (self.step + 1) / warmup if self.step < warmup else None
            angle = math.pi * (self.step - warmup) / max(1, epochs * steps - warmup)
            self.model.optimizer.learning_rate.assign(rate * (share or (1 + math.cos(angle)) / 2))
            self.step += 1

    class Write(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weights.write(self.model, out)

    model.fit(
        batches(x, y, batch, shift, seed),
        epochs=epochs,
        steps_per_epoch=steps,
        callbacks=[Rate(), Write()] if out else [Rate()],
        shuffle=False,  # the generator shuffles
        verbose=2,
        **options,
    )


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128, help="images per step")
    parser.add_argument("--rate", type=float, default=0.1, help="highest learning rate")
    parser.add_argument("--shift", type=int, default=4, help="augmentation, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keras", choices=["keras", "tf_keras"], default="keras")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    options = parser.parse_args(arguments)
    if not os.access(options.out.resolve().parent, os.W_OK):  # better now than after the training
        parser.error(f"--out is {options.out}, whose folder does not exist or cannot be written; choose another.")

    keras = importlib.import_module(options.keras)
    keras.utils.set_random_seed(options.seed)
    name = models.TRAINED[options.network][2]
    data = datasets.load(name, **({"full": True} if name == "fashion_mnist" else {}))
    test = data.test
    model = train(
        keras,
        options.network,
        data.train,
        test,
        epochs=options.epochs,
        out=options.out,
        batch=options.batch,
        rate=options.rate,
        shift=options.shift,
        seed=options.seed,
    )
    accuracy = np.mean(model.predict(test[0], batch_size=500, verbose=0).argmax(-1) == test[1])
    print(f"{options.network}: test accuracy {accuracy:.4f} on {len(test[1])} images, weights in {options.out}")


if __name__ == "__main__":
    main()
