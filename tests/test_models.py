"""The base networks: shapes, the same outputs in both Kerases, their accuracies, plain saving and converting."""

import ast
import functools
import importlib
import os
import re
from pathlib import Path

import numpy as np
import pytest

import models
from models import MissingData, datasets, resnet_cifar, train, weights

needs_data = pytest.mark.skipif(not os.environ.get("AMC_DATA_DIR"), reason="AMC_DATA_DIR is not set")
PARAMS = {  # of the papers' networks at their own input size, BatchNormalization's four vectors counted
    "mobilenet_v1": 4_253_864,
    "mobilenet_v1_sparse": 4_253_864,
    "mobilenet_v2": 3_538_984,
    "plain20": 271_098,
    "resnet20": 271_098,
    "resnet50": 25_636_712,
    "resnet56": 857_082,
    "vgg16": 138_357_544,
}


@pytest.fixture(params=["keras", "tf_keras"])
def keras(request):
    return importlib.import_module(request.param)


@functools.lru_cache(maxsize=6)
def built(name, keras):
    """A network of 32x32 images, for tests that change nothing of it."""
    return models.build(name, keras, input_shape=(32, 32, 3), classes=10)


def both(build):
    """Builds a network with each Keras and gives both the same random weights and BatchNormalization statistics."""
    first, second = build(importlib.import_module("keras")), build(importlib.import_module("tf_keras"))
    rng = np.random.default_rng(0)
    # By layer name: tf_keras lists a model's weights in another order.
    for layer in first.layers:
        values = [_random(rng, tuple(weight.shape)) for weight in layer.weights]
        if values:
            layer.set_weights(values)
            second.get_layer(layer.name).set_weights(values)
    return first, second


def _random(rng, shape):
    if len(shape) < 2:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    noise = rng.standard_normal(shape, np.float32)
    noise *= 1 / np.sqrt(np.prod(shape[:-1]))
    return noise


def outputs(model, x):
    """What `predict` returns; for a few images, since it traces no graph."""
    return np.asarray(model(x, training=False))


def accuracy(model, data):
    x, y = data
    is_small = x.shape[1] <= 32  # larger images take far longer without a graph
    probabilities = outputs(model, x) if is_small else model.predict(x, batch_size=100, verbose=0)
    return np.mean(probabilities.argmax(-1) == y)


class TestBuild:
    # resnet56 has more of the blocks of resnet20.
    @pytest.mark.parametrize("name", [name for name in models.ARCHITECTURES if name != "resnet56"])
    def test_both_kerases_compute_the_same(self, name):
        first, second = both(lambda keras: models.build(name, keras, input_shape=(32, 32, 3), classes=10))
        x = np.random.default_rng(1).standard_normal((2, 32, 32, 3)).astype(np.float32)
        one, other = outputs(first, x), outputs(second, x)
        assert one.shape == (2, 10)
        np.testing.assert_allclose(one.sum(-1), 1, atol=1e-5)
        np.testing.assert_allclose(one, other, atol=1e-4)

    @pytest.mark.parametrize("name", models.ARCHITECTURES)
    def test_is_the_papers_network(self, name):
        """Of Keras 3 alone: that of tf_keras takes the same weights, as the test above shows."""
        assert models.build(name, importlib.import_module("keras")).count_params() == PARAMS[name]

    @pytest.mark.parametrize("name", ["plain20", "resnet20"])
    def test_layers_are_plain_and_the_file_loads_again(self, name, keras, tmp_path):
        model = built(name, keras)
        assert all(getattr(keras.layers, type(layer).__name__, None) is type(layer) for layer in model.layers)
        assert not any(isinstance(layer, keras.layers.Lambda) for layer in model.layers)
        model.save(tmp_path / "model.keras")
        x = np.random.default_rng(1).standard_normal((2, 32, 32, 3)).astype(np.float32)
        again = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(outputs(again, x), outputs(model, x), atol=1e-6)

    def test_shortcut_is_option_a(self, keras):
        images = keras.Input((8, 8, 16))
        model = keras.Model(images, resnet_cifar._block(keras, images, 32, 2, "b_"))
        model.get_layer("b_bn2").set_weights([np.zeros(32), np.zeros(32), np.zeros(32), np.ones(32)])  # gamma 0
        x = np.random.default_rng(0).random((1, 8, 8, 16)).astype(np.float32)
        out = outputs(model, x)
        assert np.array_equal(out[..., 8:24], x[:, ::2, ::2])
        assert not out[..., :8].any() and not out[..., 24:].any()

    def test_strided_convolution_pads_both_sides(self, keras):
        images = keras.Input((8, 8, 1))
        model = keras.Model(images, resnet_cifar._convolution(keras, images, 1, 2, "b_", "1"))
        model.get_layer("b_conv1").set_weights([np.ones((3, 3, 1, 1))])
        out = outputs(model, np.ones((1, 8, 8, 1), np.float32))[0, :, :, 0]
        np.testing.assert_allclose(out[0, 0], 4, rtol=1e-4)  # the corner sees one row and one column of padding
        np.testing.assert_allclose(out[-1, -1], 9, rtol=1e-4)  # "same" would put the padding here

    def test_no_such_depth(self, keras):
        with pytest.raises(ValueError, match="depth is 21, expected 6n"):
            resnet_cifar.build(keras, depth=21)

    def test_converts_to_builtin_tflite_operators(self, keras, tmp_path):
        from ai_edge_litert.interpreter import Interpreter

        model = resnet_cifar.build(keras, depth=8)  # of the same operators as a deeper one
        path = tmp_path / "model.tflite"
        path.write_bytes(converted(model))
        interpreter = Interpreter(str(path))
        names = {operator["op_name"] for operator in interpreter._get_ops_details()} - {"DELEGATE"}
        assert names == {"ADD", "CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D", "MEAN", "PAD", "SOFTMAX"}
        interpreter.allocate_tensors()
        x = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_allclose(got, outputs(model, x), atol=1e-5)


def converted(model):
    import tensorflow as tf

    function = tf.function(lambda x: model(x, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:])))
    # Without the model as second argument: with a Keras 3 model there, its variables stay variables.
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()


@pytest.fixture(
    scope="module",
    params=[
        ("resnet20_cifar10", "cifar10", 150, 0.85),
        ("resnet56_cifar10", "cifar10", 150, 0.87),
        ("mobilenet_v1_imagenet", "imagenet_sample", 100, 0.89),  # of 224x224, so fewer
    ],
    ids=lambda of: of[0],
)
def trained(request):
    """A trained network: its name, what Keras 3 makes of it, images, their labels and the least accuracy."""
    name, dataset, images, least = request.param
    model = models.load(name, importlib.import_module("keras"))
    return name, model, *datasets.load(dataset).sample("test", images), least


class TestLoad:
    def test_the_shipped_network(self, keras):
        model = models.load("plain20_fashion_mnist", keras)
        assert model.name == "plain20_fashion_mnist" and model.input_shape == (None, 28, 28, 1)
        assert accuracy(model, datasets.load("fashion_mnist", full=False).sample("test", 150)) > 0.90

    def test_the_shipped_network_is_the_same_in_both(self):
        x, _ = datasets.load("fashion_mnist", full=False).sample("test", 50)
        one, other = (
            outputs(models.load("plain20_fashion_mnist", importlib.import_module(name)), x)
            for name in ("keras", "tf_keras")
        )
        np.testing.assert_allclose(one, other, atol=1e-4)

    @needs_data
    def test_accuracy(self, trained):
        _, model, x, y, least = trained
        assert accuracy(model, (x, y)) >= least

    @needs_data
    def test_trained_networks_are_the_same_in_both(self, trained):
        name, model, x, *_ = trained
        other = models.load(name, importlib.import_module("tf_keras"))
        np.testing.assert_allclose(outputs(model, x[:10]), outputs(other, x[:10]), atol=1e-4)

    def test_unknown_names(self, keras):
        with pytest.raises(ValueError, match="no network 'resnet18'.*resnet56_cifar10"):
            models.load("resnet18", keras)
        with pytest.raises(ValueError, match="no network 'resnet18'.*vgg16"):
            models.build("resnet18", keras)
        with pytest.raises(ValueError, match="models.build has it"):
            models.load("vgg16", keras)

    @pytest.mark.parametrize(
        "call", [lambda: models.build("plain20", "keras"), lambda: models.load("plain20_cifar10", 3)]
    )
    def test_not_a_keras(self, call):
        with pytest.raises(TypeError, match="expected the module `keras`"):
            call()

    @pytest.mark.parametrize("name", ["plain20_cifar10", "resnet20_cifar10", "resnet56_cifar10"])
    def test_missing_weights(self, keras, monkeypatch, tmp_path, name):
        for folder in ("", str(tmp_path)):
            monkeypatch.setenv("AMC_DATA_DIR", folder)
            with pytest.raises(MissingData, match=f"set AMC_DATA_DIR.*{name}.npz.*models.train --network {name}"):
                models.load(name, keras)

    def test_missing_imagenet_weights(self, keras, monkeypatch):
        def failing(**_):
            raise Exception("URL fetch failure: no network")

        monkeypatch.delenv("AMC_DATA_DIR", raising=False)
        monkeypatch.setattr(keras.applications, "MobileNet", failing)
        with pytest.raises(MissingData, match=r"AMC_DATA_DIR.*weights\.h5.*keras\.applications.*no network"):
            models.load("mobilenet_v1_imagenet", keras)


class TestWeights:
    def test_file_comes_back(self, keras, tmp_path):
        model, other = (resnet_cifar.build(keras, depth=8) for _ in range(2))
        weights.write(model, tmp_path / "w.npz")
        arrays = weights.read(tmp_path / "w.npz")
        assert arrays["layer2.0.conv1.weight"].shape == (3, 3, 16, 32) and arrays["linear.weight"].shape == (64, 10)
        weights.assign(other, arrays, "w.npz")
        for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
            assert np.array_equal(one, two)

    def test_of_another_network(self, keras, tmp_path):
        weights.write(built("resnet20", keras), tmp_path / "w.npz")
        arrays = weights.read(tmp_path / "w.npz")
        with pytest.raises(ValueError, match=r"w\.npz does not fit plain20: .* missing or too many"):
            weights.assign(built("plain20", keras), arrays, "w.npz")
        with pytest.raises(ValueError, match=r"linear\.weight is \(64, 10\), expected \(64, 7\)"):
            weights.assign(models.build("resnet20", keras, classes=7), arrays, "w.npz")


class TestTrain:
    def test_augmentation_only_flips_and_shifts(self):
        x = np.random.default_rng(0).random((40, 6, 6, 1)).astype(np.float32)
        seen = set()
        for before, after in zip(x, train.augmented(x, np.random.default_rng(1), 1), strict=True):
            padded = np.pad(before, ((1, 1), (1, 1), (0, 0)), mode="edge")
            ways = {
                (r, c, f): padded[r : r + 6, c : c + 6][:, ::f] for r in range(3) for c in range(3) for f in (1, -1)
            }
            seen.update(way for way, image in ways.items() if np.array_equal(image, after))
            assert any(np.array_equal(image, after) for image in ways.values())
        assert len(seen) > 12  # of 18

    def test_each_round_has_every_image_once(self):
        x = np.arange(12, dtype=np.float32).reshape(12, 1, 1, 1)
        stream = train.batches(x, np.arange(12), 4, 0, seed=0)
        rounds = [np.concatenate([next(stream)[1] for _ in range(3)]).tolist() for _ in range(2)]
        assert sorted(rounds[0]) == sorted(rounds[1]) == list(range(12))
        assert rounds[0] != rounds[1] != list(range(12))

    def test_command_line_learns_and_writes_what_load_reads(self, monkeypatch, tmp_path, capsys):
        import keras

        shipped = datasets.load("fashion_mnist", full=False)
        few = datasets.Dataset("fashion_mnist", "", {
            part: datasets.Part(shipped.parts[part].labels[:count], shipped.parts[part].decode)
            for part, count in (("train", 320), ("test", 100))
        })  # fmt: skip
        monkeypatch.setattr(datasets, "load", lambda name, full: few)
        _, options, dataset = models.TRAINED["plain20_fashion_mnist"]  # a small network under its name
        monkeypatch.setitem(models.TRAINED, "plain20_fashion_mnist", ("resnet8", options, dataset))
        monkeypatch.setattr(models, "ARCHITECTURES", (*models.ARCHITECTURES, "resnet8"))
        out = tmp_path / "plain20_fashion_mnist.npz"
        train.main(["--network", "plain20_fashion_mnist", "--epochs", "3", "--batch", "16", "--rate", "0.05",
                    "--out", str(out)])  # fmt: skip
        printed = re.search(r"test accuracy (0\.\d+) on 100 images", capsys.readouterr().out)
        assert float(printed[1]) > 0.3  # chance is 0.1
        monkeypatch.setenv("AMC_DATA_DIR", str(tmp_path))
        x, y = few.test
        model = models.load("plain20_fashion_mnist", keras)
        assert abs(accuracy(model, (x, y)) - float(printed[1])) < 1e-3

    def test_out_is_checked_before_training(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(train, "train", None)  # a TypeError where it is reached
        with pytest.raises(SystemExit):
            train.main(["--network", "plain20_fashion_mnist", "--out", str(tmp_path / "no" / "w.npz")])
        assert "whose folder does not exist" in capsys.readouterr().err


def test_models_need_nothing_of_the_library():
    for path in Path(models.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] == "amc_tf" for name in names), path.name
