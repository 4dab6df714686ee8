"""Networks that differ in one thing from one that XNNPACK runs with sparse kernels: what is said, and what is safe."""

import re

import pytest

import models
from amc_tf.errors import ConversionError
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.sparse import unsupported_operators as module
from amc_tf.tflite.sparse.unsupported_operators import enough_zeros, find_unsupported, safe, unsupported_processor
from tests.toys import randomized


def network(layers, keras, *, first=None, middle=None, end=None, channels=3):
    """A network that fits, with other layers in place of its first convolution, its middle or its end."""
    image = x = keras.Input((12, 12, channels))
    for layer in first or [layers.ZeroPadding2D(1), layers.Conv2D(8, 3, strides=2, name="conv1")]:
        x = layer(x)
    x = layers.ReLU(6.0)(x)
    x = layers.Conv2D(16, 1, activation="relu", name="expand")(layers.DepthwiseConv2D(3, padding="same")(x))
    x = x if middle is None else middle(x)
    x = layers.Conv2D(16, 1, name="last")(x)
    x = layers.Dense(4, name="head")(layers.GlobalAveragePooling2D(name="pool")(x)) if end is None else end(x)
    return randomized(keras.Model(image, x))


def squeeze_and_excitation(layers, x):
    scale = layers.Conv2D(16, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Multiply()([x, scale])


FITTING = {
    "plain": lambda layers: {},
    "padded depthwise": lambda layers: {
        "middle": lambda x: layers.DepthwiseConv2D(5, strides=2)(layers.ZeroPadding2D(2)(x))
    },
    "residual": lambda layers: {"middle": lambda x: layers.Add()([x, layers.Conv2D(16, 1)(x)])},
    "squeeze-and-excitation": lambda layers: {"middle": lambda x: squeeze_and_excitation(layers, x)},
    "rescaled images": lambda layers: {
        "first": [layers.Rescaling(0.1), layers.ZeroPadding2D(1), layers.Conv2D(8, 3, strides=2)]
    },
    "no head": lambda layers: {"end": lambda x: layers.GlobalAveragePooling2D()(x)},
}

HARMLESS = {  # the first convolution does not fit, so that XNNPACK starts nothing
    "same": (lambda layers: {"first": [layers.Conv2D(8, 3, strides=2, padding="same", name="conv1")]},
             r"conv1: the first convolution must be 3x3 .* it has padding 'same'\.$"),
    "uneven padding": (
        lambda layers: {"first": [layers.ZeroPadding2D(((1, 0), (1, 0))),
                                  layers.Conv2D(8, 3, strides=2, name="conv1")]},
        r"conv1: .* it has padding \[\[1, 0\], \[1, 0\]\]"),
    "no padding": (lambda layers: {"first": [layers.Conv2D(8, 3, strides=2, name="conv1")]}, "conv1: .* no padding"),
    "stride": (lambda layers: {"first": [layers.ZeroPadding2D(1), layers.Conv2D(8, 3, name="conv1")]},
               "conv1: .* it has stride 1x1"),
    "7x7": (lambda layers: {"first": [layers.ZeroPadding2D(3), layers.Conv2D(8, 7, strides=2, name="conv1")]},
            "conv1: .* it is 7x7"),
    "grey images": (lambda layers: {"channels": 1}, "conv1: .* it reads 1 channels"),
}  # fmt: skip

HARMFUL = {  # sparse-encoded, these gave wrong outputs or could not be loaded
    "3x3": (lambda layers: {"middle": layers.Conv2D(16, 3, padding="same", name="inner")},
            "inner: a convolution behind the first must be 1x1, it is 3x3"),
    "1x1 with stride": (lambda layers: {"middle": layers.Conv2D(16, 1, strides=2, name="inner")},
                        "inner: a 1x1 convolution must have stride 1, it has 2x2"),
    "groups": (lambda layers: {"middle": layers.Conv2D(16, 1, groups=4, name="inner")}, "inner: .* not have groups"),
    "depthwise same": (lambda layers: {"middle": layers.DepthwiseConv2D(3, strides=2, padding="same", name="inner")},
                       "inner: a depthwise convolution needs 1 rows .* it has padding 'same'"),
    "depthwise valid": (lambda layers: {"middle": layers.DepthwiseConv2D(3, name="inner")}, "inner: .* no padding"),
    "depthwise 7x7": (lambda layers: {"middle": layers.DepthwiseConv2D(7, padding="same", name="inner")},
                      "inner: a depthwise convolution must be 3x3 or 5x5, it is 7x7"),
    "depthwise dilated": (lambda layers: {"middle": layers.DepthwiseConv2D(3, padding="same", dilation_rate=2,
                                                                           name="inner")}, "inner: .* dilated"),
    "multiplier": (lambda layers: {"middle": layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2,
                                                                    name="inner")}, "inner: .* depth_multiplier 1"),
    "max pooling": (lambda layers: {"middle": layers.MaxPooling2D(2, name="inner")},
                    "inner: MAX_POOL_2D cannot stand between sparse kernels"),
    "constant": (lambda layers: {"middle": layers.BatchNormalization(name="inner")},
                 "inner: MUL must take both inputs from the layers before it"),
    "odd height": (
        lambda layers: {"middle": lambda x: layers.DepthwiseConv2D(3, strides=2, name="inner")(layers.ZeroPadding2D(1)(
            layers.Resizing(9, 9)(x)))}, "inner: .* for a height of 9 in any case"),
    "padded 1x1": (lambda layers: {"middle": layers.ZeroPadding2D(1, name="inner")},
                   "inner: zeros may be padded for a depthwise convolution alone"),
    "convolution behind the mean": (
        lambda layers: {"end": lambda x: layers.Flatten()(layers.Conv2D(4, 1)(layers.GlobalAveragePooling2D(
            keepdims=True)(x)))}, "The network must end in GlobalAveragePooling2D without keepdims"),
    "flattened mean": (
        lambda layers: {"end": lambda x: layers.Dense(4)(layers.Flatten()(layers.GlobalAveragePooling2D(
            keepdims=True, name="pool")(x)))}, "pool: the mean at the end must not have keepdims"),
    "two dense layers": (
        lambda layers: {"end": lambda x: layers.Dense(4)(layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))},
        "there must be no second dense layer directly behind the first"),
    "second output": (
        lambda layers: {"end": lambda x: [layers.Dense(4)(layers.GlobalAveragePooling2D()(x)), x]},
        "an output of the network must lie behind the mean"),
    "no mean": (lambda layers: {"end": lambda x: layers.Dense(4)(layers.Flatten()(x))},
                "The network must end in GlobalAveragePooling2D"),
}  # fmt: skip


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


def made(case, keras):
    model = network(keras.layers, keras, **case(keras.layers))
    return convert(model), [layer.name for layer in model.layers]


@pytest.mark.parametrize("case", FITTING.values(), ids=FITTING)
def test_nothing_is_in_the_way(case, keras):
    tflite, names = made(case, keras)
    assert find_unsupported(tflite, names) == ()
    assert safe(tflite)


@pytest.mark.parametrize(("case", "said"), HARMLESS.values(), ids=HARMLESS)
def test_a_network_that_does_not_begin_so_only_gains_nothing(case, said, keras):
    tflite, names = made(case, keras)
    (sentence,) = find_unsupported(tflite, names)
    assert re.search(said, sentence), sentence
    assert safe(tflite)


@pytest.mark.parametrize(("case", "said"), HARMFUL.values(), ids=HARMFUL)
def test_a_network_that_is_interrupted_is_not_safe(case, said, keras):
    tflite, names = made(case, keras)
    found = find_unsupported(tflite, names)
    assert any(re.search(said, sentence) for sentence in found), found
    assert not safe(tflite)


def test_without_names_the_layer_is_still_found():
    import tf_keras

    case = {"middle": tf_keras.layers.Conv2D(16, 3, use_bias=False, name="inner")}
    tflite = convert(network(tf_keras.layers, tf_keras, **case))
    assert find_unsupported(tflite) == ("inner: a convolution behind the first must be 1x1, it is 3x3.",)
    assert find_unsupported(tflite, ["inner", "model/inner", "in"]) == find_unsupported(tflite, ["model/inner"])


def test_the_network_made_for_it_fits(keras):
    tflite = convert(models.build("mobilenet_v1_sparse", keras, input_shape=(64, 64, 3), alpha=0.25, classes=4))
    assert find_unsupported(tflite) == ()


def test_a_network_without_convolutions(keras):
    tflite = convert(randomized(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])))
    assert find_unsupported(tflite) == (
        "The network has no convolution, and XNNPACK's sparse kernels are for those of 1x1.",
    )
    assert safe(tflite)


def test_two_thirds_of_all_weights_and_more_must_be_zero():
    assert not enough_zeros([])
    assert not enough_zeros([(300, 100)])
    assert enough_zeros([(300, 99)])
    assert enough_zeros([(300, 300), (3000, 700)])


def test_a_processor_with_avx(monkeypatch):
    monkeypatch.setattr(module.platform, "machine", lambda: "aarch64")
    assert unsupported_processor() is None
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(module.Path, "read_text", lambda _: "flags : sse4_2 avx fma avx2")
    assert "x86 processors with AVX" in unsupported_processor()
    monkeypatch.setattr(module.Path, "read_text", lambda _: "flags : sse4_2 popcnt")
    assert unsupported_processor() is None


def test_a_file_that_is_none():
    with pytest.raises(ConversionError, match=r"is no \.tflite"):
        find_unsupported(b"nothing")
