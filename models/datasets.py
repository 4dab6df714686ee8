"""The data sets of the networks, with images preprocessed as for their training.

    data = load("cifar10")
    x, y = data.test                                      # float32 (10000, 32, 32, 3), int64 (10000,)
    reward, reporting = data.halves()                     # of the test images
    x, y = data.sample("train", 2000)                     # shuffled; decodes only these

Images are decoded on request and not kept, because all of CIFAR-10 in float32 takes 0.7 GB.
"""

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.sources import MissingData, find

IMAGENET_MEAN = np.float32([0.485, 0.456, 0.406])  # of pixels / 255, RGB; the CIFAR ResNets were trained with it too
IMAGENET_STD = np.float32([0.229, 0.224, 0.225])
FASHION_MEAN, FASHION_STD = np.float32(0.2860), np.float32(0.3530)  # of pixels / 255 of its 60,000 training images

SHIPPED = Path(__file__).parent / "fashion_mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist

FASHION_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Part:
    """Encoded images with their labels."""

    labels: np.ndarray  # int64 (n,)
    decode: Callable[[np.ndarray], np.ndarray]  # indices -> images, float32 (len(indices), height, width, channels)

    def take(self, indices: np.ndarray) -> Arrays:
        """Returns the images and labels at `indices`, in that order."""
        return self.decode(indices), self.labels[indices]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A data set in two parts.

    Attributes:
        name: as given to `load`.
        origin: folder or download that it came from, for logs.
        parts: "train" and "test".
    """

    name: str
    origin: str
    parts: dict[str, Part]

    @property
    def train(self) -> Arrays:
        """All training images and labels, in the order of the files."""
        return self._all("train")

    @property
    def test(self) -> Arrays:
        """All test images and labels, in the order of the files."""
        return self._all("test")

    def sample(self, part: str, count: int, seed: int = 0) -> Arrays:
        """Returns the first `count` images and labels of a part shuffled with `seed`, or all if there are fewer."""
        return self.parts[part].take(self._shuffled(part, seed)[:count])

    def halves(self) -> tuple[Arrays, Arrays]:
        """Splits the test images, shuffled with seed 0: one half for rewards, the other only for reporting.

        The networks have seen all training images, so rewards on a part of those would flatter every candidate.
        """
        order = self._shuffled("test", 0)
        middle = len(order) // 2
        test = self.parts["test"]
        return test.take(order[:middle]), test.take(order[middle:])

    def _all(self, part: str) -> Arrays:
        return self.parts[part].take(np.arange(len(self.parts[part])))

    def _shuffled(self, part: str, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).permutation(len(self.parts[part]))


def load(name: str, **options) -> Dataset:
    """Finds a data set: in AMC_DATA_DIR, else by Keras's own download where it has one.

    Args:
        name: "fashion_mnist", "cifar10" or "imagenet_sample".
        **options: of the data set's function below; only `fashion_mnist` has one, `full`.

    Raises:
        ValueError: there is no such data set.
        MissingData: it is not on this machine and could not be downloaded; the message says how to get it.
    """
    if name not in LOADERS:
        raise ValueError(f"There is no data set {name!r} here, expected one of {', '.join(sorted(LOADERS))}.")
    return LOADERS[name](**options)


def fashion_mnist(full: bool | None = None) -> Dataset:
    """Fashion-MNIST: 28x28 grey images of clothes in 10 classes.

    Args:
        full: True for all 60,000 + 10,000 images, downloaded if necessary; False for the 3,000 + 2,000 in this
            package; None for all if they are on this machine, else for those in this package.
    """
    if full is not False:
        paths = _fashion_paths()
        if full or paths:
            return _fashion(fashion_mnist_pixels(), str(paths[0].parent) if paths else "keras.datasets")
    parts = {}
    for part in ("train", "test"):
        with np.load(SHIPPED / f"{part}.npz") as file:
            parts[part] = file["images"], file["labels"]
    return _fashion(parts, str(SHIPPED))


def fashion_mnist_pixels() -> dict[str, Arrays]:
    """The full Fashion-MNIST as published: part -> images uint8 (n, 28, 28) and labels uint8 (n,).

    Raises:
        MissingData: it is not on this machine and could not be downloaded.
    """
    paths = _fashion_paths()
    if paths:
        arrays = [_idx(path) for path in paths]
        return {"train": (arrays[0], arrays[1]), "test": (arrays[2], arrays[3])}
    ways = f", or install Debian's package dataset-fashion-mnist, which puts them in {DEBIAN}"
    return _download("fashion_mnist", ", ".join(FASHION_FILES), ways)


def cifar10() -> Dataset:
    """CIFAR-10: 32x32 colour images in 10 classes, 50,000 + 10,000. The files may be sorted by class, so shuffle."""

    def normalised(pixels: np.ndarray) -> np.ndarray:
        return (pixels.astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD

    paths = {part: find(f"cifar10_{part}.npz") for part in ("train", "test")}
    if all(paths.values()):
        parts = {part: _jpegs(path, normalised) for part, path in paths.items()}
        return Dataset("cifar10", str(paths["train"].parent), parts)
    downloaded = _download("cifar10", "cifar10_train.npz, cifar10_test.npz")
    return Dataset("cifar10", "keras.datasets", {part: _pixels(*xy, normalised) for part, xy in downloaded.items()})


def imagenet_sample() -> Dataset:
    """1,000 ImageNet images of 224x224, one per class in class order: even indices to calibrate, odd ones to score.

    They come from AMC_DATA_DIR only: Keras has no download of ImageNet.
    """
    path = find("imagenet_sample.npz")
    if path is None:
        raise MissingData(
            "The data set imagenet_sample was not found: set AMC_DATA_DIR to a folder that holds imagenet_sample.npz. "
            "Keras has no download of ImageNet to fall back on."
        )
    whole = _jpegs(path, lambda pixels: pixels.astype(np.float32) / np.float32(127.5) - 1)

    def every_second(first: int) -> Part:
        return Part(whole.labels[first::2], lambda indices: whole.decode(np.asarray(indices) * 2 + first))

    return Dataset("imagenet_sample", str(path.parent), {"train": every_second(0), "test": every_second(1)})


LOADERS = {"cifar10": cifar10, "fashion_mnist": fashion_mnist, "imagenet_sample": imagenet_sample}


def _fashion(parts: dict[str, Arrays], origin: str) -> Dataset:
    def normalised(pixels: np.ndarray) -> np.ndarray:
        return (pixels[..., None].astype(np.float32) / 255 - FASHION_MEAN) / FASHION_STD

    return Dataset("fashion_mnist", origin, {part: _pixels(*xy, normalised) for part, xy in parts.items()})


def _fashion_paths() -> list[Path]:
    """The four files of the full set, in the order of FASHION_FILES, or an empty list."""
    for folder in ("", "fashion-mnist/"):
        paths = [find(folder + name) for name in FASHION_FILES]
        if all(paths):
            return paths
    paths = [DEBIAN / name for name in FASHION_FILES]
    return paths if all(path.is_file() for path in paths) else []


def _idx(path: Path) -> np.ndarray:
    """Reads a gzipped IDX file of bytes: two zeros, the type 8, the rank, the big-endian dimensions, the bytes."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path} begins with {raw[:3]!r}, expected an IDX file of bytes; get it anew.")
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def _pixels(pixels: np.ndarray, labels: np.ndarray, preprocess: Callable) -> Part:
    return Part(np.asarray(labels).reshape(-1).astype(np.int64), lambda indices: preprocess(pixels[indices]))


def _jpegs(path: Path, preprocess: Callable) -> Part:
    """Opens a file of concatenated JPEGs: image i is jpeg[offsets[i]:offsets[i + 1]]."""
    with np.load(path) as file:
        jpeg, offsets, labels = file["jpeg"], file["offsets"], file["labels"].astype(np.int64)

    def decode(indices: np.ndarray) -> np.ndarray:
        from PIL import Image

        files = (io.BytesIO(jpeg[offsets[i] : offsets[i + 1]]) for i in indices)
        return preprocess(np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]))

    return Part(labels, decode)


def _download(name: str, files: str, ways: str = "") -> dict[str, Arrays]:
    try:
        import keras

        train, test = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare Exception for network errors
        raise MissingData(
            f"The data set {name} was not found: set AMC_DATA_DIR to a folder that holds {files}{ways}, "
            f"or allow keras.datasets to download it, which failed here: {error}"
        ) from error
    return {"train": train, "test": test}
