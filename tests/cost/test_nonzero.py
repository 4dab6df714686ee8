"""Params and bytes of networks with zeros by formula, against those of models and files that were really made."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_tf.cost import nonzero
from amc_tf.graph import keras_reader
from amc_tf.pruning import kernels as kernels_of
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.sparse.encoding import encoded
from tests.graph.cases import case
from tests.toys import randomized

SHARED_BY_ALL = 140  # bytes
PADDING = 32  # a kernel


def thinned(pruning: MagnitudePruner, keep: float) -> list[int]:
    """About that share of each unit, within its widths."""
    return [min(unit.widths, key=lambda width, unit=unit: abs(width - keep * unit.size)) for unit in pruning.units]


def zeros_in_kernels(pruning: MagnitudePruner, model) -> int:
    _, weights = keras_reader.read(model)
    kernels = (weights[layer][index] for layer, index in kernels_of.kernels(pruning.graph).items())
    return sum(kernel.size - np.count_nonzero(kernel) for kernel in kernels)


# ------------------------------------------------------------------------------------------------------------ params


COUNTED = ["conv2d", "conv3d_transpose", "depthwise", "grouped", "nested_twice", "separable1d", "shared_layer"]


@pytest.mark.parametrize("name", COUNTED)
def test_counted_equals_built(keras_module, name: str) -> None:
    model = case(keras_module.__name__, name).model
    pruning = MagnitudePruner(model)
    params, widths = nonzero.params(pruning), thinned(pruning, 0.3)
    pruned = pruning.apply(pruning.plan(widths))
    assert params(widths) == pruned.count_params() - zeros_in_kernels(pruning, pruned)
    assert params(widths) < params(pruning.full) == model.count_params()


def test_zeros_of_the_built_model_are_not_counted(keras_module) -> None:
    """Nor those that were there, be the kernel a unit or frozen; zeros elsewhere are."""
    layers = keras_module.layers
    image = keras_module.Input((8, 8, 3))
    x = layers.SeparableConv2D(6, 3, name="first")(layers.Conv2D(5, 3, name="frozen")(image))
    x = layers.Dense(3, name="empty")(layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x)))
    model = randomized(keras_module.Model(image, layers.Dense(4, name="head")(x)))
    for name, index, share in (("frozen", 0, 0.5), ("first", 0, 0.3), ("first", 1, 0.3), ("empty", 0, 1.0)):
        weights = model.get_layer(name).get_weights()
        weights[index].reshape(-1)[: int(share * weights[index].size)] = 0
        model.get_layer(name).set_weights(weights)
    pruning = MagnitudePruner(model, frozen=["frozen"])
    assert [unit.name for unit in pruning.units] == ["first", "head"]
    params, widths = nonzero.params(pruning), [12, 5]
    pruned = pruning.apply(pruning.plan(widths))
    assert params(widths) == pruned.count_params() - zeros_in_kernels(pruning, pruned)
    assert params.unit == "params" and params(widths) < params(pruning.full) < model.count_params()


# ------------------------------------------------------------------------------------------------------------- bytes


def conv2d(layers, x):
    return layers.Conv2D(40, 1, name="b")(layers.Conv2D(32, 3, activation="relu", name="a")(x))


def dense(layers, x):
    return layers.Dense(40, name="b")(layers.Dense(90, activation="relu", name="a")(x))


def wide_dense(layers, x):
    """More inputs than a byte tells apart."""
    return layers.Dense(60, name="b")(layers.Dense(300, activation="relu", name="a")(x))


def transposed(layers, x):
    return layers.Conv2DTranspose(30, 3, strides=2, name="b")(layers.Conv2DTranspose(20, 3, name="a")(x))


def transposed1d(layers, x):
    return layers.Conv1DTranspose(30, 3, name="b")(layers.Conv1DTranspose(40, 3, strides=2, name="a")(x))


def separable(layers, x):
    return layers.SeparableConv2D(60, 3, name="b")(layers.SeparableConv2D(50, 3, depth_multiplier=4, name="a")(x))


def grouped(layers, x):
    return layers.Conv2D(64, 3, groups=2, name="b")(layers.Conv2D(32, 3, name="a")(x))


def by_channel(layers, x):
    return layers.Conv2D(128, 3, groups=64, name="b")(layers.Conv2D(64, 3, name="a")(x))


def conv1d(layers, x):
    return layers.Conv1D(50, 3, dilation_rate=2, name="b")(layers.Conv1D(40, 5, padding="same", name="a")(x))


def conv3d(layers, x):
    return layers.Dense(40, name="b")(layers.Conv3D(20, 3, name="a")(x))


def grey(layers, x):
    return layers.Conv2D(40, 3, name="b")(layers.Conv2D(64, 5, name="a")(x))


def normed(layers, x):
    x = layers.BatchNormalization()(layers.Conv2D(40, 3, use_bias=False, name="a")(x))
    return layers.BatchNormalization()(layers.Conv2D(40, 1, use_bias=False, name="b")(layers.ReLU()(x)))


KINDS = [
    (conv2d, (8, 8, 3)),
    (dense, (60,)),
    (wide_dense, (40,)),
    (transposed, (6, 6, 8)),
    (transposed1d, (12, 8)),
    (separable, (8, 8, 8)),
    (grouped, (8, 8, 8)),
    (by_channel, (8, 8, 8)),
    (conv1d, (16, 8)),
    (conv3d, (5, 5, 5, 8)),
    (grey, (8, 8, 1)),
    (normed, (8, 8, 8)),
]


@pytest.mark.parametrize("build, shape", KINDS, ids=[build.__name__ for build, _ in KINDS])
def test_predicted_bytes_are_those_of_the_file(of_kind, build, shape) -> None:
    pruning, base = of_kind(build, shape)
    size, widths = nonzero.size(pruning, base), thinned(pruning, 0.25)
    built = len(encoded(convert(pruning.apply(pruning.plan(widths)))))
    assert abs(size(widths) - built) <= SHARED_BY_ALL + PADDING * (1 + len(pruning.units))
    assert size.unit == "bytes" and size(pruning.full) == base > size(widths) + 500


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.79, 0.81])  # at 0.8 and an index of a byte the encodings are as large
def test_at_any_keep_ratio(of_kind, keep: float) -> None:
    pruning, base = of_kind(dense, (60,))
    widths = thinned(pruning, keep)
    built = len(encoded(convert(pruning.apply(pruning.plan(widths)))))
    assert abs(nonzero.size(pruning, base)(widths) - built) <= SHARED_BY_ALL + PADDING * 3


def test_zeros_that_were_there_make_the_file_smaller_too() -> None:
    """Also in a layer that is frozen, and in one that has nothing left to go."""
    import keras

    image = keras.Input((64,))
    x = image
    for number in range(3):
        x = keras.layers.Dense(64, activation="relu", name=f"dense{number}")(x)
    model = randomized(keras.Model(image, x))
    for name, share in (("dense0", 0.75), ("dense1", 0.5), ("dense2", 0.9998)):
        kernel, bias = model.get_layer(name).get_weights()
        kernel.reshape(-1)[: int(share * kernel.size)] = 0
        model.get_layer(name).set_weights([kernel, bias])
    pruning, file = MagnitudePruner(model, frozen=["dense0"]), convert(model)
    assert [unit.name for unit in pruning.units] == ["dense1"]
    size = nonzero.size(pruning, len(file))
    for widths in (pruning.full, (600,)):
        built = len(encoded(convert(pruning.apply(pruning.plan(widths)))))
        assert abs(size(widths) - built) <= SHARED_BY_ALL + PADDING * 3 and built < 0.5 * len(file)


@settings(max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize("name", ["separable2d", "conv3d", "dense_after_flatten"])
def test_costs_never_fall_as_widths_grow(name: str, data) -> None:
    pruning = MagnitudePruner(case("keras", name).model, min_keep=0.1)
    low = [data.draw(st.sampled_from(unit.widths)) for unit in pruning.units]
    wider = [[w for w in u.widths if w >= v] for u, v in zip(pruning.units, low, strict=True)]
    high = [data.draw(st.sampled_from(widths)) for widths in wider]
    for cost in (nonzero.params(pruning), nonzero.size(pruning, 10**5)):
        assert 0 < cost(low) <= cost(high) <= cost(cost.full)


@pytest.fixture(scope="module")
def of_kind():
    """(what builds the network, shape of its input) -> its pruning and the bytes of its file; each made once."""
    import keras

    made = {}

    def get(build, shape):
        if build not in made:
            image = keras.Input(shape)
            model = randomized(keras.Model(image, build(keras.layers, image)))
            made[build] = MagnitudePruner(model, min_keep=0.1), len(convert(model))
        return made[build]

    return get
