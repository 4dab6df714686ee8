"""im2col rows times the flattened kernel equal the outputs of the Keras layer; whole numbers avoid rounding."""

import functools

import keras
import numpy as np
import pytest
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_tf.graph import keras_reader
from amc_tf.pruning.im2col import Im2col, im2col_of

ALL = 10**6


def single(module, shape: tuple[int, ...], build):
    """A model of one layer with small whole numbers as its weights, and such inputs."""
    given_input = module.Input(shape)
    model = module.Model(given_input, build(module.layers)(given_input))
    rng = np.random.default_rng(0)
    model.set_weights([rng.integers(-4, 5, w.shape).astype("float32") for w in model.get_weights()])
    return model, rng.integers(-9, 10, (3, *shape)).astype("float32")


def model_im2col(model) -> Im2col | None:
    (node,) = keras_reader.read(model)[0].nodes
    return im2col_of(node)


def ordered(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T[::-1])]


def check(module, shape: tuple[int, ...], build) -> None:
    """The layer's outputs of each example are its im2col rows times the kernel, in any order."""
    model, inputs = single(module, shape, build)
    kernel, *bias = model.get_weights()
    outputs = np.asarray(model(inputs))
    for example, expected in zip(inputs, outputs, strict=True):
        rows = model_im2col(model).sample(example[None], ALL, np.random.default_rng(1))
        computed = rows @ kernel.reshape(-1, kernel.shape[-1]) + sum(bias, np.float32(0))
        assert np.array_equal(ordered(computed), ordered(expected.reshape(-1, kernel.shape[-1])))


@st.composite
def convolutions(draw) -> tuple:
    rank = draw(st.integers(1, 3))
    each = lambda most: draw(st.tuples(*[st.integers(1, most)] * rank))  # noqa: E731
    padding = draw(st.sampled_from(["valid", "same", "causal"] if rank == 1 else ["valid", "same"]))
    kernel, dilation = each(4), each(3)
    spans = [(side - 1) * step + 1 for side, step in zip(kernel, dilation, strict=True)]
    sides = [draw(st.integers(span if padding == "valid" else 1, span + 4)) for span in spans]
    # Strides have cases of their own: TensorFlow 2.19 puts out zeros for a Conv2D, kernel and strides (1, 2), on 2 x 3.
    settings = {"dilation_rate": dilation, "padding": padding, "use_bias": draw(st.booleans())}
    return (*sides, draw(st.integers(1, 3))), kernel, settings


@pytest.mark.parametrize("module", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_any_convolution(module) -> None:
    @settings(max_examples=25)
    @given(convolutions())
    def holds(convolution) -> None:
        shape, kernel, arguments = convolution
        check(module, shape, lambda layers: getattr(layers, f"Conv{len(kernel)}D")(2, kernel, **arguments))

    holds()


@pytest.mark.parametrize(
    "shape, name, arguments",
    [
        ((9, 2), "Conv1D", dict(kernel_size=3, padding="causal", strides=2)),
        ((9, 2), "Conv1D", dict(kernel_size=2, padding="causal", dilation_rate=3)),
        ((7, 8, 3), "Conv2D", dict(kernel_size=3, padding="same", strides=2)),
        ((7, 8, 3), "Conv2D", dict(kernel_size=(2, 5), padding="same", strides=(3, 2))),
        ((9, 8, 3), "Conv2D", dict(kernel_size=(3, 2), padding="same", dilation_rate=(2, 3))),
        ((9, 8, 3), "Conv2D", dict(kernel_size=(3, 2), padding="valid", strides=(2, 3))),
        ((8, 7, 3), "Conv2D", dict(kernel_size=1, padding="same", strides=3)),  # pixels that no row contains
        ((2, 2, 3), "Conv2D", dict(kernel_size=5, padding="same")),  # kernels wider than the image
        ((5, 6, 4, 2), "Conv3D", dict(kernel_size=(2, 3, 1), padding="same", strides=2)),
    ],
)
def test_unusual_convolutions(keras_module, shape, name: str, arguments: dict) -> None:
    check(keras_module, shape, lambda layers: getattr(layers, name)(2, **arguments))


@pytest.mark.parametrize("shape", [(7,), (5, 4), (4, 3, 5), (2, 3, 2, 3)])
def test_dense_at_every_position_of_its_input(keras_module, shape) -> None:
    check(keras_module, shape, lambda layers: layers.Dense(3))


@functools.cache
def numbered_images() -> tuple[Im2col, np.ndarray]:
    """The im2col of a 2x2 kernel, and images in which no number appears twice."""
    return Im2col((2, 2), (1, 1), (1, 1), "valid"), np.arange(4 * 6 * 5, dtype=np.float32).reshape(4, 6, 5, 1)


def test_positions_of_a_sample_are_distinct_and_differ_between_examples() -> None:
    im2col, images = numbered_images()
    rows = im2col.sample(images, 7, np.random.default_rng(0))
    assert rows.shape == (4 * 7, 4)
    corners = rows[:, 0].reshape(4, 7)
    assert len(np.unique(corners)) == 28
    assert np.array_equal(corners // 30, np.repeat(np.arange(4)[:, None], 7, axis=1))  # seven of each example
    assert len({tuple(sorted(positions)) for positions in corners % 30}) == 4
    assert np.array_equal(rows, corners.reshape(-1, 1) + [0, 1, 5, 6])  # each row is a 2x2 patch of an image


def test_every_position_is_sampled_equally_often() -> None:
    im2col, images = numbered_images()
    rng = np.random.default_rng(0)
    corners = np.concatenate([im2col.sample(images, 5, rng)[:, 0] % 30 for _ in range(200)])
    positions, counts = np.unique(corners, return_counts=True)
    assert len(positions) == 20  # 5 x 4 positions
    assert counts.min() > 150 and counts.max() < 250  # 200 expected, standard deviation 12


def test_the_generator_alone_decides_the_positions() -> None:
    im2col, images = numbered_images()
    one, same, other = (im2col.sample(images, 7, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_half_precision_is_sampled_as_it_is() -> None:
    im2col, images = numbered_images()
    rows = im2col.sample(images.astype(np.float16), 3, np.random.default_rng(0))
    assert rows.dtype == np.float16
    assert np.array_equal(rows, im2col.sample(images, 3, np.random.default_rng(0)))


@pytest.mark.parametrize(
    "shape, build",
    [
        ((8, 8, 4), lambda layers: layers.Conv2D(4, 3, groups=2)),
        ((4, 8, 8), lambda layers: layers.Conv2D(4, 3, data_format="channels_first")),
        ((8, 8, 4), lambda layers: layers.Conv2DTranspose(4, 3)),
        ((8, 8, 4), lambda layers: layers.DepthwiseConv2D(3)),
        ((8, 8, 4), lambda layers: layers.SeparableConv2D(4, 3)),
        ((8, 4), lambda layers: layers.EinsumDense("abc,cd->abd", (None, 4))),
        ((8, 8, 4), lambda layers: layers.BatchNormalization()),
        ((8, 4), lambda layers: layers.GRU(4)),
        ((8, 8, 4), lambda layers: layers.ReLU()),
    ],
)
def test_other_layers_have_no_im2col(keras_module, shape, build) -> None:
    given_input = keras_module.Input(shape)
    (node,) = keras_reader.read(keras_module.Model(given_input, build(keras_module.layers)(given_input)))[0].nodes
    assert im2col_of(node) is None


def test_a_layer_with_weights_beside_its_kernel_has_no_im2col() -> None:
    given_input = keras.Input((8, 8, 4))
    layer = keras.layers.Conv2D(4, 3)
    model = keras.Model(given_input, layer(given_input))
    assert model_im2col(model) is not None
    layer.enable_lora(2)
    assert model_im2col(model) is None
