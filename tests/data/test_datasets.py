"""The data sets: shapes, preprocessing, the documented splits, and what is said when they are not there."""

import gzip
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from models import MissingData, datasets, fashion_mnist_sample, sources

needs_data = pytest.mark.skipif(not os.environ.get("AMC_DATA_DIR"), reason="AMC_DATA_DIR is not set")


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """Neither AMC_DATA_DIR nor Debian's package, and downloads that fail as Keras's do without a network."""
    import keras

    def failing():
        raise Exception("URL fetch failure: no network")

    monkeypatch.delenv("AMC_DATA_DIR", raising=False)
    monkeypatch.setattr(datasets, "DEBIAN", tmp_path)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", failing)
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", failing)


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def write_fashion(folder, train=20, test=10):
    """Writes the four files of Fashion-MNIST with a few random images and returns the training images."""
    rng = np.random.default_rng(0)
    for prefix, count in (("t10k", test), ("train", train)):
        pixels = rng.integers(0, 256, (count, 28, 28))
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", pixels)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return pixels


def write_jpegs(path, images, labels):
    """Writes images as the documented file of concatenated JPEGs."""
    files = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "jpeg", quality=95)
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offsets = np.cumsum([0] + [len(file) for file in files])
    np.savez(path, jpeg=np.concatenate(files), offsets=offsets, labels=labels)


class TestFashionMnist:
    def test_shipped_images(self):
        data = datasets.load("fashion_mnist", full=False)
        for part, each in (("train", 300), ("test", 200)):
            x, y = getattr(data, part)
            assert x.shape == (10 * each, 28, 28, 1) and x.dtype == np.float32
            assert y.shape == (10 * each,) and y.dtype == np.int64
            assert np.bincount(y).tolist() == [each] * 10
            assert abs(x.mean()) < 0.05 and abs(x.std() - 1) < 0.05

    def test_shipped_files_are_small(self):
        for path in datasets.SHIPPED.iterdir():
            assert path.stat().st_size < 1_500_000, path.name

    def test_without_the_full_set_the_shipped_one_is_taken(self, no_data):
        data = datasets.load("fashion_mnist")
        assert len(data.parts["train"]) == 3000
        assert data.origin == str(datasets.SHIPPED)

    @pytest.mark.parametrize("folder", ["", "fashion-mnist"])
    def test_full_set_from_the_data_folder(self, no_data, monkeypatch, tmp_path, folder):
        (tmp_path / "data" / folder).mkdir(parents=True)
        pixels = write_fashion(tmp_path / "data" / folder)
        monkeypatch.setenv("AMC_DATA_DIR", str(tmp_path / "data"))
        data = datasets.load("fashion_mnist")
        x, y = data.train
        assert data.origin == str(tmp_path / "data" / folder)
        assert y.tolist() == [*range(10), *range(10)]
        np.testing.assert_allclose(x[..., 0] * 0.3530 + 0.2860, pixels / 255, atol=1e-6)
        assert len(datasets.load("fashion_mnist", full=False).parts["train"]) == 3000

    def test_full_set_from_debian(self, no_data, tmp_path):
        write_fashion(tmp_path, train=20, test=10)
        data = datasets.load("fashion_mnist")
        assert (len(data.parts["train"]), len(data.parts["test"])) == (20, 10)

    def test_one_missing_file_is_no_full_set(self, no_data, tmp_path):
        write_fashion(tmp_path)
        (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
        assert len(datasets.load("fashion_mnist").parts["train"]) == 3000

    def test_damaged_file(self, no_data, tmp_path):
        write_fashion(tmp_path)
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"<html>"))
        with pytest.raises(ValueError, match="train-images.*expected an IDX file"):
            datasets.load("fashion_mnist")

    def test_full_set_missing(self, no_data):
        with pytest.raises(MissingData, match="AMC_DATA_DIR.*dataset-fashion-mnist.*download.*no network"):
            datasets.load("fashion_mnist", full=True)

    def test_sample_is_balanced_and_repeatable(self):
        labels = np.random.default_rng(1).integers(0, 10, 1000)
        chosen, again = (fashion_mnist_sample.draw(labels, 20, np.random.default_rng(0)) for _ in range(2))
        assert chosen.tolist() == again.tolist() and len(set(chosen)) == 200
        assert np.bincount(labels[chosen]).tolist() == [20] * 10
        assert (np.diff(labels[chosen]) < 0).sum() > 20  # shuffled, not class after class

    def test_sample_script_makes_the_shipped_files_again(self, tmp_path):
        if not datasets._fashion_paths():
            pytest.skip("the full Fashion-MNIST is not on this machine")
        fashion_mnist_sample.main(["--out", str(tmp_path)])
        for part in ("train", "test"):
            with np.load(tmp_path / f"{part}.npz") as made, np.load(datasets.SHIPPED / f"{part}.npz") as shipped:
                assert np.array_equal(made["images"], shipped["images"])
                assert np.array_equal(made["labels"], shipped["labels"])


class TestCifar10:
    @needs_data
    def test_halves_are_the_documented_ones(self):
        data = datasets.load("cifar10")
        (reward_x, reward_y), (_, reporting_y) = data.halves()
        order = np.random.default_rng(0).permutation(10000)
        assert np.array_equal(reward_y, data.parts["test"].labels[order[:5000]])
        assert np.array_equal(reporting_y, data.parts["test"].labels[order[5000:]])
        assert reward_x.shape == (5000, 32, 32, 3) and reward_x.dtype == np.float32
        assert np.array_equal(reward_x[:3], data.parts["test"].decode(order[:3]))
        assert len(data.parts["train"]) == 50000

    def test_from_jpeg_files(self, monkeypatch, tmp_path):
        greys = np.array([0, 100, 255], np.uint8)
        images = np.broadcast_to(greys[:, None, None, None], (3, 32, 32, 3)).copy()
        for part in ("train", "test"):
            write_jpegs(tmp_path / f"cifar10_{part}.npz", images, np.arange(3, dtype=np.uint8))
        monkeypatch.setenv("AMC_DATA_DIR", str(tmp_path))
        x, y = datasets.load("cifar10").train
        assert y.dtype == np.int64 and y.tolist() == [0, 1, 2]
        wanted = (greys[:, None] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(x[:, 5, 7], wanted, atol=0.02)  # a grey level of JPEG rounding

    def test_from_keras(self, no_data, monkeypatch):
        import keras

        pixels, labels = np.full((4, 32, 32, 3), 255, np.uint8), np.array([[3], [1], [2], [0]], np.uint8)
        monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: ((pixels, labels), (pixels[:2], labels[:2])))
        data = datasets.load("cifar10")
        assert data.origin == "keras.datasets"
        assert data.train[1].tolist() == [3, 1, 2, 0] and len(data.test[1]) == 2
        np.testing.assert_allclose(data.train[0][0, 0, 0, 0], (1 - 0.485) / 0.229, rtol=1e-5)

    def test_missing(self, no_data):
        with pytest.raises(MissingData, match="AMC_DATA_DIR.*cifar10_train.npz.*download.*no network"):
            datasets.load("cifar10")


class TestImagenetSample:
    def test_even_to_calibrate_odd_to_score(self, monkeypatch, tmp_path):
        images = np.stack([np.full((224, 224, 3), 40 * i, np.uint8) for i in range(5)])
        write_jpegs(tmp_path / "imagenet_sample.npz", images, np.arange(5))
        monkeypatch.setenv("AMC_DATA_DIR", str(tmp_path))
        data = datasets.load("imagenet_sample")
        (train_x, train_y), (test_x, test_y) = data.train, data.test
        assert train_y.tolist() == [0, 2, 4] and test_y.tolist() == [1, 3]
        np.testing.assert_allclose(train_x[:, 0, 0, 0], np.array([0, 80, 160]) / 127.5 - 1, atol=0.01)
        np.testing.assert_allclose(test_x[:, 0, 0, 0], np.array([40, 120]) / 127.5 - 1, atol=0.01)
        assert test_x.dtype == np.float32

    @needs_data
    def test_the_real_one(self):
        data = datasets.load("imagenet_sample")
        assert data.parts["train"].labels.tolist() == list(range(0, 1000, 2))
        x, y = data.sample("test", 3)
        assert x.shape == (3, 224, 224, 3) and -1 <= x.min() < -0.5 and 0.5 < x.max() <= 1
        assert (y % 2 == 1).all()

    def test_missing(self, no_data):
        with pytest.raises(MissingData, match="AMC_DATA_DIR.*imagenet_sample.npz.*no download"):
            datasets.load("imagenet_sample")


class TestAnyDataset:
    def test_sample_is_a_prefix_of_one_shuffle(self):
        data = datasets.load("fashion_mnist", full=False)
        x, y = data.sample("test", 50)
        more_x, more_y = data.sample("test", 80)
        assert np.array_equal(x, more_x[:50]) and np.array_equal(y, more_y[:50])
        assert not np.array_equal(y, data.sample("test", 50, seed=1)[1])
        assert not np.array_equal(y, data.test[1][:50])
        assert len(data.sample("test", 10**6)[1]) == 2000

    def test_halves_share_no_image(self):
        data = datasets.load("fashion_mnist", full=False)
        (reward_x, _), (reporting_x, _) = data.halves()
        assert reward_x.shape == reporting_x.shape == (1000, 28, 28, 1)
        assert len({image.tobytes() for half in (reward_x, reporting_x) for image in half}) > 1990

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="'mnist'.*cifar10, fashion_mnist, imagenet_sample"):
            datasets.load("mnist")

    def test_data_folder_that_is_none(self, monkeypatch, tmp_path):
        monkeypatch.setenv("AMC_DATA_DIR", str(tmp_path / "typo"))
        with pytest.raises(MissingData, match="typo.*is no folder"):
            sources.find("cifar10_test.npz")

    def test_import_brings_in_no_framework(self):
        code = (
            "import sys, models, models.datasets; print(sorted({'keras', 'tensorflow', 'tf_keras'} & set(sys.modules)))"
        )
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert out.stdout.strip() == "[]"
