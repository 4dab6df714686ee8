"""Networks that do not put one image into one class, the whole way: several inputs, outputs, boxes, pixels, numbers."""

import importlib

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import amc_tf
from tests.search.fakes import FakeAgent
from tests.toys import randomized

pytestmark = pytest.mark.usefixtures("shapes_once")

SIDE, EXAMPLES = 16, 48


def block(layers, x, width: int, strides: int = 1):
    """Convolution, BatchNorm, ReLU."""
    x = layers.Conv2D(width, 3, strides=strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def convolution(layers, x, width: int, strides: int = 1):
    """The same without BatchNorm, whose statistics take as many conversions again."""
    return layers.Conv2D(width, 3, strides=strides, padding="same", activation="relu")(x)


def price(keras):
    """An image and some facts of a house -> its price: two inputs in a dict, one number."""
    layers = keras.layers
    image, facts = keras.Input((SIDE, SIDE, 3), name="photo"), keras.Input((5,), name="facts")
    seen = layers.Flatten()(layers.MaxPooling2D(4)(block(layers, block(layers, image, 8), 16, 2)))
    known = layers.Dense(16, activation="relu")(facts)
    x = layers.Dense(24, activation="relu")(layers.Concatenate()([seen, known]))
    return keras.Model({"photo": image, "facts": facts}, layers.Dense(1, name="price")(x))


def pixels(keras):
    """An image -> a class for each pixel, as a U-Net: skip connections, one way up learned and one not."""
    layers = keras.layers
    image = keras.Input((SIDE, SIDE, 3))
    high = convolution(layers, image, 8)
    middle = convolution(layers, layers.MaxPooling2D()(high), 16)
    low = convolution(layers, layers.MaxPooling2D()(middle), 24)
    up = layers.Conv2DTranspose(16, 2, strides=2, padding="same")(low)
    x = convolution(layers, layers.Concatenate()([up, middle]), 16)
    x = convolution(layers, layers.Concatenate()([layers.UpSampling2D()(x), high]), 8)
    return keras.Model(image, layers.Conv2D(3, 1, activation="softmax", name="pixel")(x))


def boxes(keras):
    """An image -> boxes and their classes, of 2 anchors a place of two maps, as a single-shot detector."""
    layers = keras.layers
    image = keras.Input((SIDE, SIDE, 3))
    near = convolution(layers, convolution(layers, image, 8, 2), 16, 2)
    maps = [near, convolution(layers, near, 24, 2)]
    places, kinds = [], []
    for features in maps:
        places.append(layers.Reshape((-1, 4))(layers.Conv2D(2 * 4, 3, padding="same")(features)))
        kinds.append(layers.Reshape((-1, 3))(layers.Conv2D(2 * 3, 3, padding="same")(features)))
    box = layers.Concatenate(axis=1, name="box")(places)
    kind = layers.Softmax(name="kind")(layers.Concatenate(axis=1)(kinds))
    return keras.Model(image, [box, kind])


def facing(keras):
    """Two images through one shared trunk -> whether they show the same, and a class of each: three outputs."""
    layers = keras.layers
    first, second = keras.Input((SIDE, SIDE, 3)), keras.Input((SIDE, SIDE, 3))
    image = keras.Input((SIDE, SIDE, 3))
    pooled = layers.GlobalAveragePooling2D()(block(layers, block(layers, image, 8, 2), 16, 2))
    trunk = keras.Model(image, layers.Dense(16, activation="relu")(pooled), name="trunk")
    one, other = trunk(first), trunk(second)
    same = layers.Dense(1, activation="sigmoid", name="same")(layers.Subtract()([one, other]))
    kind = layers.Dense(4, activation="softmax", name="kind")
    return keras.Model([first, second], [same, kind(one), kind(other)])


def closeness(labels, predictions):
    """A metric for numbers: 1 where all are right."""
    return 1 / (1 + np.abs(labels - predictions).mean() / labels.std())


def detection(labels, predictions):
    """A metric for two outputs; labels (examples, anchors, 5) hold a box and its class."""
    box, kind = predictions
    return closeness(labels[..., :4], box) * (kind.argmax(-1) == labels[..., 4]).mean()


def same(labels, predictions):
    """A metric for three outputs, of which it looks at two."""
    return ((predictions[0] > 0.5) == labels[:, :1]).mean() * (predictions[2].argmax(-1) == labels[:, 1]).mean()


# Network, its Keras, metric, what its own outputs are as labels, and the names that they have in the file.
TASKS = {
    "price": (price, "keras", closeness, lambda outputs: outputs[0], ["price"]),
    "pixels": (pixels, "tf_keras", None, lambda outputs: outputs[0].argmax(-1), ["pixel"]),
    "boxes": (boxes, "keras", detection, lambda outputs: _joined(outputs[0], outputs[1]), ["box", "kind"]),
    "facing": (
        facing, "tf_keras", same, lambda outputs: _joined(outputs[0] > 0.5, outputs[2]), ["same", "kind", "kind_1"]
    ),
}  # fmt: skip


def _joined(numbers: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Labels of two outputs as one array, which is what a metric is given."""
    return np.concatenate([numbers, kinds.argmax(-1)[..., None]], axis=-1)


def _inputs(model) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(EXAMPLES, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]


def _outputs(model, x) -> list[np.ndarray]:
    found = model(x, training=False)
    return [np.asarray(out) for out in (found if isinstance(found, (list, tuple)) else [found])]


class Actor(FakeAgent):
    """In the agent's place, whose process takes longer to start than all the rest: it knows nothing of tasks."""

    def __init__(self, **settings):
        super().__init__()

    def __enter__(self) -> "Actor":
        return self

    def __exit__(self, *_) -> None:
        pass


@pytest.mark.parametrize("name", TASKS)
def test_it_is_compressed_and_its_file_says_what_the_model_says(name, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("amc_tf.pipeline.searching"), "DdpgAgent", Actor)
    build, keras, metric, labels, names = TASKS[name]
    model = randomized(build(importlib.import_module(keras)))
    inputs = _inputs(model)
    given = inputs if len(inputs) > 1 else inputs[0]
    if isinstance(model.input, dict):
        given = dict(zip(sorted(model.input), inputs, strict=True))
    result = amc_tf.compress(
        model, target="macs", budget=0.6, train_data=(given, labels(_outputs(model, given))), metric=metric,
        episodes=3, round_to=2, calibration_size=16, reward_size=32,
        run_dir=tmp_path / "run", verbose=False, report=False,
    )  # fmt: skip
    assert all(trial.state == "complete" for trial in result.trials)
    assert result.compressed.macs <= 0.6 * result.base.macs
    assert result.base.accuracy == pytest.approx(1, abs=1e-3) and 0 < result.compressed.accuracy <= 1
    assert result.scored_by == ("accuracy" if metric is None else "metric")

    expected = _outputs(result.model, given)
    assert [out.shape[1:] for out in expected] == [out.shape[1:] for out in _outputs(model, given)]
    runner = Interpreter(str(result.tflite)).get_signature_runner()
    by_name = dict(zip(sorted(runner.get_input_details()), inputs, strict=True))
    for row in range(3):
        found = runner(**{name: x[row : row + 1] for name, x in by_name.items()})
        assert set(found) == set(names)
        for name, wanted in zip(names, expected, strict=True):
            assert np.abs(found[name] - wanted[row : row + 1]).max() < 1e-4
