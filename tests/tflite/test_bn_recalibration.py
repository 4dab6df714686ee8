"""BatchNorm statistics of a pruned network == those that the Keras model itself notes in training mode.

So they are measured; what a network gets is that relative to what is measured of the whole one.
"""

import keras as keras_3
import numpy as np
import pytest
import tf_keras

from amc_tf.graph import keras_builder, keras_reader
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.tflite.runtime.scorer import Scorer
from amc_tf.tflite.slicing.bn_recalibration import Statistics, to_tflite
from amc_tf.tflite.slicing.candidate import Candidates, Converted
from tests import small, toys
from tests.kept import keep_shapes

_EXAMPLES = 48


@pytest.fixture(scope="module", autouse=True)
def shapes_of_equal_networks_once(kept_folder):
    """They are most of the time here, and test_shapes.py and test_candidate.py are about them."""
    with pytest.MonkeyPatch.context() as patch:
        keep_shapes(patch, kept_folder)
        yield


@pytest.fixture(scope="module")
def scorer():
    with Scorer(workers=1) as scorer:
        yield scorer


def of_training(model, inputs, batch: int, steps: int) -> dict[str, tuple[np.ndarray, ...]]:
    """The oracle: the weights of a Keras model after `steps` batches in training mode, their statistics merged.

    A momentum of 0 makes a layer keep the statistics of the last batch. The model must have no dropout, which training
    mode would turn on.
    """
    copy = keras_builder.rebuild(model)
    layers = {path: layer for path, layer in keras_reader.layers(copy).items() if hasattr(layer, "moving_variance")}
    for layer in layers.values():
        layer.momentum, layer.trainable = 0.0, True
    seen = {path: [] for path in layers}
    for step in range(steps):
        part = [array[step * batch : (step + 1) * batch] for array in inputs]
        copy(toys.structured(copy, part), training=True)
        for path, layer in layers.items():
            seen[path].append((np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)))
    merged = {}
    for path, measured in seen.items():
        means, variances = (np.array(arrays, np.float64) for arrays in zip(*measured, strict=True))
        mean = means.mean(axis=0)
        merged[path] = mean, (variances + means**2).mean(axis=0) - mean**2
    return merged


def measured(model, inputs, scorer, make=None, widths=None, **arguments):
    """(pruning, plan, statistics, sliced weights, new weights) of the narrowest network, or of `widths`.

    The given model stays as it is.
    """
    before, calls = state(model)
    pruning = ChannelPruner(model, **({"round_to": 1} | arguments))
    statistics = Statistics(pruning, inputs, scorer, **({} if make is None else {"make": make}))
    plan = pruning.plan(widths or [unit.widths[0] for unit in pruning.units])
    sliced = pruning.sliced(plan)
    found = replaced(pruning, sliced, statistics.measured(plan, sliced))
    assert_unchanged(model, before, calls)
    return pruning, plan, statistics, sliced, found


def state(model) -> tuple[list, list]:
    """All that measuring might change in a model: weights and what layers are and do."""
    layers = keras_reader.layers(model).values()
    return [weight.copy() for weight in model.get_weights()], [(layer.call, layer.trainable) for layer in layers]


def assert_unchanged(model, weights: list, calls: list) -> None:
    now, calls_now = state(model)
    assert all(np.array_equal(a, b) for a, b in zip(weights, now, strict=True)) and calls == calls_now


def replaced(pruning, weights, statistics) -> dict[str, tuple[np.ndarray, ...]]:
    """The weights with these statistics in them."""
    found = dict(weights)
    for path, (mean, variance) in statistics.items():
        new = {"moving_mean": mean.astype(np.float32), "moving_variance": variance.astype(np.float32)}
        pairs = zip(pruning.graph.weights[path], weights[path], strict=True)
        found[path] = tuple(new.get(weight.name, array) for weight, array in pairs)
    return found


def compare(model, inputs, scorer, make=None, widths=None, **arguments) -> None:
    """Measures a pruned network and compares it with the oracle, and with what must not have changed."""
    pruning, plan, statistics, sliced, found = measured(model, inputs, scorer, make, widths, **arguments)
    smaller = pruning.apply(plan, sliced)
    expected = of_training(smaller, inputs, statistics.batch, len(inputs[0]) // statistics.batch)
    assert expected
    changed = 0
    for layer, described in pruning.graph.weights.items():
        for weight, array, old in zip(described, found[layer], sliced[layer], strict=True):
            if weight.name in ("moving_mean", "moving_variance"):
                wanted = expected[layer][weight.name == "moving_variance"]
                assert array.dtype == old.dtype
                np.testing.assert_allclose(array, wanted, rtol=2e-3, atol=1e-4)
                changed += not np.allclose(array, old, rtol=0.05)
            else:
                np.testing.assert_array_equal(array, old)
    assert changed >= len(expected)  # or the comparison would say nothing


def test_the_means_and_variances_of_all_batches_are_merged(keras_module, scorer):
    brightness = np.linspace(0.1, 3, _EXAMPLES, dtype=np.float32)  # so that the batches differ
    x = small.images(_EXAMPLES) * brightness[:, None, None, None]
    model = small.network(keras_module)
    statistics = measured(model, [x], scorer, round_to=4)[2]
    assert _EXAMPLES // statistics.batch > 1
    compare(model, [x], scorer, round_to=4)


def unlike(model):
    """The model with statistics that its data would not give it."""
    graph, weights = keras_reader.read(model)
    for path, described in graph.weights.items():
        scale = {"moving_mean": -2, "moving_variance": 3}
        pairs = zip(described, weights[path], strict=True)
        weights[path] = tuple(array * scale.get(weight.name, 1) for weight, array in pairs)
    return keras_builder.rebuild(model, weights=weights)


def test_the_whole_network_is_measured_as_the_model_is(scorer):
    model = small.network(keras_3)
    x = small.images(_EXAMPLES)
    (_, _, _, _, found) = measured(model, [x], scorer, widths=(16, 32), round_to=4)
    stem = np.asarray(keras_3.Model(model.inputs[0], model.get_layer("stem").output)(x))
    first = next(path for path in found if "norm" in path)
    np.testing.assert_allclose(found[first][2], np.mean(stem, axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[first][3], np.var(stem, axis=(0, 1, 2)), rtol=1e-2, atol=1e-4)


def test_the_whole_network_keeps_its_own_statistics(keras_module, scorer):
    pruning = ChannelPruner(unlike(small.network(keras_module)), round_to=4)
    plan = pruning.plan(pruning.full)
    found = Statistics(pruning, [small.images(_EXAMPLES)], scorer)(plan, pruning.sliced(plan))
    for path, arrays in pruning.weights.items():
        for new, old in zip(found[path], arrays, strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-5)


def test_a_channel_that_lost_nothing_keeps_its_own_statistics(keras_module, scorer):
    """Here the second of two convolutions shrinks: what is before it reads what it did."""
    model = unlike(small.network(keras_module))
    pruning = ChannelPruner(model, round_to=4)
    plan = pruning.plan((pruning.units[0].size, *(unit.widths[0] for unit in pruning.units[1:])))
    sliced = pruning.sliced(plan)
    found = Statistics(pruning, [small.images(_EXAMPLES)], scorer)(plan, sliced)
    first, *later = [path for path in found if "norm" in path]
    np.testing.assert_allclose(found[first][2], sliced[first][2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[first][3], sliced[first][3], rtol=1e-4, atol=1e-5)
    assert any(not np.allclose(found[path][3], sliced[path][3], rtol=0.05) for path in later)


def test_later_layers_see_the_new_statistics_of_earlier_ones(scorer):
    """Behind a BatchNorm that is measured anew the scale of the input is gone, so no later layer may notice it."""
    model = small.network(keras_3)
    x = small.images(_EXAMPLES)
    one, three = (measured(model, [scale * x], scorer, round_to=4)[-1] for scale in (1, 3))
    _, *later = [path for path in one if "norm" in path]
    assert len(later) == 2
    for path in later:
        np.testing.assert_allclose(one[path][2], three[path][2], rtol=2e-2, atol=5e-3)
        np.testing.assert_allclose(one[path][3], three[path][3], rtol=2e-2, atol=5e-3)


def test_dropout_stays_off_and_frozen_layers_are_measured_too(keras_module, scorer):
    layers = keras_module.layers

    def network(*dropout):
        model = keras_module.Sequential(
            [
                keras_module.Input((12, 12, 3)),
                layers.Conv2D(8, 3, name="conv"),
                *dropout,
                layers.BatchNormalization(name="norm"),
                layers.ReLU(),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3, name="head"),
            ]
        )
        return toys.randomized(model)

    model, plain = network(layers.Dropout(0.9)), network()
    model.trainable = False
    x = small.images(_EXAMPLES)
    found, expected = (measured(m, [x], scorer)[-1]["norm"] for m in (model, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    compare(plain, [x], scorer)


def two_calls(keras):
    """One convolution and one BatchNormalization for two images."""
    layers = keras.layers
    a, b = keras.Input((6, 6, 3), name="a"), keras.Input((6, 6, 3), name="b")
    conv, norm, after = layers.Conv2D(8, 3, name="conv"), layers.BatchNormalization(name="norm"), layers.ReLU()
    pooled = [layers.GlobalAveragePooling2D()(after(norm(conv(image)))) for image in (a, b)]
    return toys.randomized(keras.Model([a, b], layers.Dense(3, name="head")(layers.Add()(pooled))))


def test_a_shared_layer_gets_the_statistics_of_all_its_calls(keras_module, scorer):
    model = two_calls(keras_module)
    rng = np.random.default_rng(0)
    x = [rng.normal(centre, 1, (_EXAMPLES, 6, 6, 3)).astype(np.float32) for centre in (0, 10)]
    pruning, plan, _, sliced, found = measured(model, x, scorer)
    kernel, bias = sliced["conv"]
    conv = pruning.apply(plan, sliced).get_layer("conv")
    both = np.concatenate([np.asarray(conv(array)) for array in x])
    np.testing.assert_allclose(found["norm"][2], both.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found["norm"][3], both.var(axis=(0, 1, 2)), rtol=1e-2)


def test_subclasses_and_dicts_of_inputs_are_understood(keras_module, scorer):
    class Norm(keras_module.layers.BatchNormalization):
        pass

    layers = keras_module.layers
    a, b = keras_module.Input((3,), name="one"), keras_module.Input((3,), name="two")
    normed = layers.ReLU()(Norm(name="norm")(layers.Dense(6, name="dense")(a)))  # frozen: it might do anything
    normed = layers.Dense(6, activation="relu", name="shrinks")(normed)
    sums = layers.Dense(2, name="head")(layers.Concatenate()([normed, b]))
    model = toys.randomized(keras_module.Model({"second": b, "first": a}, sums))
    x = [np.full((_EXAMPLES, 3), 7, np.float32), np.zeros((_EXAMPLES, 3), np.float32)]
    *_, sliced, found = measured(model, x, scorer)
    kernel, bias = sliced["dense"]
    np.testing.assert_allclose(found["norm"][2], 7 * kernel.sum(axis=0) + bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["norm"][3], 0, atol=1e-5)


def test_several_inputs_are_kept_apart(scorer):
    layers = keras_3.layers
    a, b = keras_3.Input((4,), name="z"), keras_3.Input((6,), name="a")
    left = layers.ReLU()(layers.BatchNormalization(name="left")(layers.Dense(6)(a)))
    right = layers.ReLU()(layers.BatchNormalization(name="right")(layers.Dense(5)(b)))
    model = toys.randomized(keras_3.Model([a, b], layers.Dense(2)(layers.Concatenate()([left, right]))))
    rng = np.random.default_rng(0)
    x = [rng.normal(1, 2, size=(_EXAMPLES, side)).astype(np.float32) for side in (4, 6)]
    compare(model, x, scorer)


def test_layers_without_gamma_and_without_beta(scorer):
    model = toys.TOYS["batchnorm"].build(keras_3)
    compare(model, [3 * noise()], scorer)


def test_channels_in_front(scorer):
    """With Dense and Permute, since TensorFlow runs no convolution of channels_first on a CPU."""
    layers = keras_3.layers
    image = keras_3.Input((5, 6))
    x = layers.Permute((2, 1))(layers.Dense(8, name="dense")(image))  # (8, 5)
    x = layers.ReLU()(layers.BatchNormalization(axis=1, name="norm")(x))
    x = layers.GlobalAveragePooling1D()(layers.Permute((2, 1))(x))
    model = toys.randomized(keras_3.Model(image, layers.Dense(3, name="head")(x)))
    x = np.random.default_rng(0).normal(1, 2, size=(_EXAMPLES, 5, 6)).astype(np.float32)
    compare(model, [x], scorer)


@pytest.mark.parametrize("make", [Candidates, Converted])
def test_rows_are_normalized_too(scorer, make):
    """BatchNormalization over another axis than that of the channels; by the file rewritten, or converted each time."""
    compare(toys.TOYS["batchnorm_on_rows"].build(keras_3), [3 * noise()], scorer, make=make)


def test_nested_layers_go_by_their_paths(scorer):
    compare(toys.TOYS["same_names_in_two_models"].build(tf_keras), [3 * noise()], scorer)


def test_the_given_model_stays_as_it_is(keras_module):
    """When it is converted itself; for all else see `measured`."""
    model = small.network(keras_module)
    before = state(model)
    to_tflite(model, {path for path in keras_reader.layers(model) if "norm" in path}, 2)
    assert_unchanged(model, *before)
    assert all(layer.trainable for layer in model.layers)


def test_new_weights_are_measured_and_not_those_of_the_model(scorer):
    model = small.network(keras_3)
    pruning, plan, statistics, sliced, found = measured(model, [small.images(_EXAMPLES)], scorer, round_to=4)
    other = replaced(pruning, sliced, statistics.measured(plan, sliced | {"stem": (2 * sliced["stem"][0],)}))
    first = next(path for path in found if "norm" in path)
    np.testing.assert_allclose(other[first][2], 2 * found[first][2], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(other[first][3], 4 * found[first][3], rtol=1e-3, atol=1e-4)


def test_a_network_without_batchnorm_keeps_its_weights(scorer):
    model = toys.TOYS["conv2d"].build(keras_3)
    *_, sliced, found = measured(model, [noise()], scorer)
    assert found == sliced


def test_a_batchnorm_that_computes_otherwise_keeps_its_statistics_and_is_named(keras_module, scorer):
    class WithReLU(keras_module.layers.BatchNormalization):
        def call(self, inputs, **arguments):
            return keras_module.activations.relu(super().call(inputs, **arguments))

    layers = keras_module.layers
    chain = [layers.Conv2D(8, 3), WithReLU(name="own"), layers.Conv2D(8, 3), layers.BatchNormalization(name="usual")]
    model = keras_module.Sequential([keras_module.Input((8, 8, 3)), *chain, layers.Flatten(), layers.Dense(3)])
    pruning = ChannelPruner(model, round_to=1)
    with pytest.warns(UserWarning, match=r"\['own'\] compute in a way of their own"):
        statistics = Statistics(pruning, [noise()], scorer, Converted)
    plan = pruning.plan([unit.widths[0] for unit in pruning.units])
    sliced = pruning.sliced(plan)
    found = statistics(plan, sliced)
    assert np.array_equal(found["own"][2], sliced["own"][2])
    assert statistics.measured(plan, sliced).keys() == {"usual"}


@pytest.fixture(scope="module")
def called_twice():
    return ChannelPruner(two_calls(keras_3), round_to=1)


@pytest.mark.parametrize("examples", [1, 2, 17, 40, 130, 512])
def test_no_example_is_left_over(scorer, called_twice, examples, monkeypatch):
    """A whole number of batches, as large as the layer with the fewest positions wants them."""
    small_images = [np.zeros((examples, 6, 6, 3), np.float32)] * 2
    make = Converted  # which converts nothing yet
    if examples > 1:  # the files of one example are the unusual ones, and are run
        monkeypatch.setattr(Statistics, "measured", lambda *_: {})
    batch = Statistics(called_twice, small_images, scorer, make).batch
    assert 1 <= batch <= min(examples, 128) and examples - examples // batch * batch < examples // batch
    assert examples < 128 or batch * 4 * 4 >= 384  # positions in the smallest layer


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0.3, 1, size=(_EXAMPLES, 8, 8, 3)).astype(np.float32)
