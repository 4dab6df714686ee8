"""Draws the Fashion-MNIST images in models/fashion_mnist: 3,000 training images and 2,000 test images.

    python -m models.fashion_mnist_sample --out models/fashion_mnist

The images are drawn class by class with one seed, equally many per class, then shuffled.
"""

import argparse
from pathlib import Path

import numpy as np

from models import datasets

COUNTS = {"train": 300, "test": 200}  # images of each of the 10 classes
SEED = 0


def draw(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the shuffled indices of `per_class` images of each class."""
    of_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return rng.permutation(np.concatenate([rng.choice(indices, per_class, replace=False) for indices in of_class]))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for train.npz and test.npz")
    out = parser.parse_args(arguments).out

    rng = np.random.default_rng(SEED)
    for part, (pixels, labels) in datasets.fashion_mnist_pixels().items():
        chosen = draw(labels, COUNTS[part], rng)
        np.savez_compressed(out / f"{part}.npz", images=pixels[chosen], labels=labels[chosen])


if __name__ == "__main__":
    main()
