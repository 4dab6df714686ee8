"""Distillation: a model learns from a teacher in both Kerases, and the loss equals Keras's own."""

import keras
import numpy as np
import pytest

from amc_tf.training.distillation import Distillation, _distances
from amc_tf.training.finetune import finetune
from tests import small
from tests.training.test_finetune import accuracy, points, tiny

FULL = {"epochs": 6, "batch_size": 32, "verbose": 0, "learning_rate": 0.2}


def linear(keras, loss, units: int = 3):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(units)], name="linear")
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_numbers_of_keras(temperature):
    rng = np.random.default_rng(0)
    target, output = (rng.normal(0, 3, (5, 3)).astype(np.float32) for _ in range(2))
    theirs = keras.distillation.LogitsDistillation(temperature, loss=keras.losses.KLDivergence())
    expected = float(theirs.compute_loss(target, output))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    (of_logits,) = _distances(linear(keras, loss), loss, temperature)
    assert float(of_logits(target, output)) == pytest.approx(expected, rel=1e-5)
    (of_probabilities,) = _distances(tiny(keras), "categorical_crossentropy", temperature)
    probabilities = [np.asarray(keras.ops.softmax(logits)) for logits in (target, output)]
    assert float(of_probabilities(*probabilities)) == pytest.approx(expected, rel=1e-3)
    (of_numbers,) = _distances(linear(keras, "mse"), "mse", temperature)
    assert float(of_numbers(target, output)) == pytest.approx(float(((target - output) ** 2).mean()), rel=1e-5)


def knowing(keras):
    """A network that knows which number is the largest: its hidden units are the first three numbers and their
    negatives.
    """
    model, pairs = tiny(keras), np.concatenate([np.eye(3), -np.eye(3)])
    hidden, head = np.zeros((6, 8)), np.zeros((8, 3))
    hidden[:3, :6], head[:6] = 2 * pairs.T, 2 * pairs
    model.set_weights([hidden, np.zeros(8), head, np.zeros(3)])
    return model


def test_a_teacher_makes_up_for_labels_without_meaning(keras_module):
    x, y = points(256)
    teacher = knowing(keras_module)
    before = [w.copy() for w in teacher.get_weights()]
    noise = np.random.default_rng(5).permutation(y)
    alone = finetune(tiny(keras_module), (x, noise), **FULL)
    taught = finetune(tiny(keras_module), (x, noise), teacher=teacher, distill_weight=1.0, **FULL)
    assert accuracy(taught, x, y) > 0.9 > accuracy(alone, x, y) + 0.2
    assert all(np.array_equal(old, new) for old, new in zip(before, teacher.get_weights(), strict=True))


def test_a_weight_of_zero_is_no_teacher(keras_module, one_eager_training):
    x, y = points()
    quick = FULL | {"epochs": 2}
    alone = finetune(tiny(keras_module), (x, y), **quick)
    unheard = finetune(tiny(keras_module), (x, y), teacher=tiny(keras_module), distill_weight=0.0, **quick)
    for one, other in zip(alone.get_weights(), unheard.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_validation_uses_the_labels_alone(keras_module):
    x, y = points()
    seen = []
    watch = keras_module.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["val_loss"]))
    model = finetune(
        tiny(keras_module), (x, y), teacher=tiny(keras_module), validation_data=(x, y), callbacks=[watch],
        **FULL | {"epochs": 1},
    )  # fmt: skip
    outputs = np.asarray(model(x, training=False))
    assert seen == [pytest.approx(-np.log(outputs[np.arange(len(y)), y]).mean(), rel=1e-3)]


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"temperature": 0}, ValueError, "temperature is 0; a number above 0"),
        ({"temperature": "hot"}, TypeError, "temperature is 'hot'"),
        ({"distill_weight": 1.5}, ValueError, "distill_weight is 1.5; a number from 0 to 1"),
        ({"teacher": 7}, TypeError, "keras.Model"),
    ],
)
def test_bad_teachers_are_refused(changes, error, sentence):
    with pytest.raises(error, match=sentence):
        finetune(tiny(keras), points(), **{"teacher": tiny(keras), "verbose": 0} | changes)


def test_teachers_of_another_form_or_keras_are_refused(keras_module):
    with pytest.raises(ValueError, match="The teacher has inputs of shapes"):
        Distillation(small.network(keras_module)).check(tiny(keras_module))
    with pytest.raises(ValueError, match="both must put out probabilities, or both logits"):
        Distillation(linear(keras_module, "mse")).check(tiny(keras_module))
    other = pytest.importorskip("tf_keras" if keras_module is keras else "keras")
    with pytest.raises(TypeError, match="give the same"):
        Distillation(tiny(other)).check(tiny(keras_module))
