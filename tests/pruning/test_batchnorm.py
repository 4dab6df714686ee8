"""Recalibrated BatchNorm statistics against statistics computed by hand, and nothing else disturbed."""

import numpy as np

from amc_tf.graph import keras_graph
from amc_tf.pruning.batchnorm import Network
from tests import small


def test_statistics_are_those_of_all_images_together(keras_module):
    model = small.network(keras_module)
    network = Network(model, batch_size=16)
    brightness = np.linspace(0.1, 3, 40, dtype=np.float32)  # so that the batches differ; the last one is short
    x = small.images(40) * brightness[:, None, None, None]
    network.recalibrate([x])
    stem = keras_module.Model(model.inputs, model.get_layer("stem").output)(x)
    first = next(path for path in network.weights if "batch_norm" in path)
    mean, variance = network.weights[first][2:]
    np.testing.assert_allclose(mean, np.mean(stem, axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, np.var(stem, axis=(0, 1, 2)), rtol=2e-3, atol=1e-5)


def test_predictions_use_the_statistics_and_are_the_models_own_before(keras_module):
    model = small.network(keras_module)
    x = small.images(20)
    network = Network(model, batch_size=8)
    np.testing.assert_allclose(network.predict([x])[0], np.asarray(model(x)), atol=1e-6)
    network.recalibrate([5 * x])
    assert np.abs(network.predict([x])[0] - np.asarray(model(x))).max() > 1e-2
    again = keras_graph.rebuild(model, weights=network.weights)
    np.testing.assert_allclose(network.predict([x])[0], np.asarray(again(x)), atol=1e-6)


def test_later_layers_see_the_new_statistics_of_earlier_ones(keras_module):
    """Behind a recalibrated BatchNorm the scale of the input is gone, so no later layer may notice it."""
    model = small.network(keras_module)
    x = small.images(64)
    outputs = []
    for scale in (1, 3):
        network = Network(model, batch_size=64)
        network.recalibrate([scale * x])
        outputs.append(network.predict([scale * x])[0])
    np.testing.assert_allclose(*outputs, atol=5e-3)


def test_dropout_stays_off_and_frozen_layers_are_measured_too(keras_module):
    layers = keras_module.layers
    model = keras_module.Sequential(
        [keras_module.Input((12, 12, 3)), layers.Conv2D(8, 3), layers.Dropout(0.9), layers.BatchNormalization()]
    )
    model.trainable = False
    x = small.images(32)
    network = Network(model, batch_size=32)
    network.recalibrate([x])
    mean = network.weights[model.layers[-1].name][2]
    expected = np.mean(model.layers[0](x), axis=(0, 1, 2))
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)


def test_a_shared_layer_gets_the_statistics_of_all_its_calls(keras_module):
    norm, a, b = keras_module.layers.BatchNormalization(), keras_module.Input((3,)), keras_module.Input((3,))
    model = keras_module.Model([a, b], keras_module.layers.Add()([norm(a), norm(b)]))
    rng = np.random.default_rng(0)
    x = [rng.normal(center, 1, (64, 3)).astype(np.float32) for center in (0, 10)]
    network = Network(model, batch_size=32)
    network.recalibrate(x)
    mean, variance = network.weights[norm.name][2:]
    both = np.concatenate(x)
    np.testing.assert_allclose(mean, both.mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(variance, both.var(axis=0), rtol=2e-2)


def test_subclasses_and_dicts_of_inputs_are_understood(keras_module):
    class Norm(keras_module.layers.BatchNormalization):
        pass

    a, b = keras_module.Input((3,), name="one"), keras_module.Input((3,), name="two")
    sums = keras_module.layers.Concatenate()([Norm(name="norm")(a), b])
    model = keras_module.Model({"second": b, "first": a}, sums)
    x = [np.full((8, 3), 7, np.float32), np.zeros((8, 3), np.float32)]
    network = Network(model)
    network.recalibrate(x)
    np.testing.assert_allclose(network.weights["norm"][2], 7, rtol=1e-5)


def test_the_given_model_keeps_its_statistics(keras_module):
    model = small.network(keras_module)
    before = [w.copy() for w in model.get_weights()]
    Network(model).recalibrate([small.images(8)])
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert all(layer.trainable for layer in model.layers)


def test_several_inputs_are_kept_apart(keras_module):
    layers = keras_module.layers
    a, b = keras_module.Input((4,), name="a"), keras_module.Input((6,), name="b")
    joined = layers.Concatenate()([layers.Dense(3)(a), layers.BatchNormalization()(layers.Dense(5)(b))])
    model = keras_module.Model([a, b], layers.Dense(2)(joined))
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(9, 6)).astype(np.float32)]
    np.testing.assert_allclose(Network(model, 4).predict(x)[0], np.asarray(model(x)), atol=1e-6)
