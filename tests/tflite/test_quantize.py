"""Quantised files say what the Keras model says, compute in whole numbers alone, and are refused where they cannot."""

import importlib
from functools import cache

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import TensorType

from amc_tf.errors import ConversionError
from amc_tf.tflite.conversion import bias_correction
from amc_tf.tflite.conversion.keras_to_tflite import convert, input_names
from amc_tf.tflite.conversion.quantize import FORMATS, quantized, rough
from amc_tf.tflite.flatbuffer import unpack
from amc_tf.tflite.operators import names, operators
from amc_tf.tflite.runtime.scorer import Scorer, outputs
from tests import small
from tests.toys import randomized


@cache
def model():
    """It has something to say: its classes are about equally frequent on `small.images`."""
    return small.settled(small.network(importlib.import_module("keras")))


@cache
def file(form: str, integer_io: bool = False) -> bytes:
    return quantized(model(), form, [small.images(64)], integer_io)


@pytest.fixture(scope="module")
def scorer():
    with Scorer(1) as scorer:
        yield scorer


def said(scorer: Scorer, tflite: bytes, *arrays: np.ndarray) -> list[np.ndarray]:
    with scorer.share(arrays) as shared:
        return outputs(scorer.run(tflite, shared))


def types(tflite: bytes) -> list[int]:
    """Of inputs, then outputs."""
    graph = unpack(tflite).subgraphs[0]
    return [graph.tensors[tensor].type for tensor in (*graph.inputs, *graph.outputs)]


@pytest.mark.parametrize("form", ["int8", "fp16", "dynamic"])
def test_a_quantised_file_says_what_the_model_says(scorer, form):
    x = small.images(200, seed=1)
    expected = np.asarray(model()(x, training=False))
    (found,) = said(scorer, file(form), x)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999
    assert (found.argmax(-1) == expected.argmax(-1)).mean() > 0.97
    assert len(np.unique(expected.argmax(-1))) > 1


def test_a_quantised_file_of_tf_keras_says_what_the_model_says(scorer):
    tf_keras = importlib.import_module("tf_keras")
    net, x = small.settled(small.network(tf_keras)), small.images(100, seed=1)
    (found,) = said(scorer, quantized(net, "int8", [small.images(64)]), x)
    assert np.corrcoef(found.ravel(), np.asarray(net(x)).ravel())[0, 1] > 0.999


def test_an_int8_file_computes_in_whole_numbers_between_its_ends():
    whole = unpack(file("int8"))
    graph = whole.subgraphs[0]
    floats = [
        name
        for name, operator in zip(names(whole), graph.operators, strict=True)
        if any(graph.tensors[t].type == TensorType.FLOAT32 for t in (*operator.inputs, *operator.outputs) if t >= 0)
    ]
    assert floats == ["QUANTIZE", "DEQUANTIZE"]
    assert types(file("int8")) == [TensorType.FLOAT32] * 2
    kernels = [t for t in graph.tensors if t.type == TensorType.INT8 and whole.buffers[t.buffer].data is not None]
    channels = [len(t.quantization.scale) for t in kernels if len(t.shape) == 4]
    assert channels == [t.shape[0] for t in kernels if len(t.shape) == 4]


def test_the_weights_take_a_quarter_or_half_of_the_bytes():
    layers = importlib.import_module("keras").layers
    net = importlib.import_module("keras").Sequential([layers.Input((64,)), layers.Dense(512), layers.Dense(64)])
    base, x = len(convert(net)), np.random.default_rng(0).normal(size=(8, 64))
    shares = {form: len(quantized(net, form, [x])) / base for form in ("int8", "fp16", "dynamic")}
    assert shares == pytest.approx({"int8": 0.25, "fp16": 0.5, "dynamic": 0.25}, rel=0.15)


def test_whole_numbers_at_the_ends_are_scored_as_floats_are(scorer):
    x = small.images(64, seed=1)
    assert types(file("int8", integer_io=True)) == [TensorType.INT8] * 2
    assert not {"QUANTIZE", "DEQUANTIZE"} & operators(file("int8", integer_io=True)).keys()
    (whole,), (ends,) = said(scorer, file("int8", integer_io=True), x), said(scorer, file("int8"), x)
    np.testing.assert_array_equal(whole, ends)
    assert whole.dtype == np.float32


@pytest.mark.parametrize("integer_io", [False, True])
def test_every_input_has_its_own_examples(scorer, integer_io):
    """Of the same shape, one a thousand times the other, given in an order that is not that of their names."""
    keras = importlib.import_module("keras")
    layers = keras.layers
    large, little = keras.Input((4,), name="b"), keras.Input((4,), name="a")
    index = keras.Input((3,), dtype="int32", name="c")
    ends = [layers.Dense(3, name="z")(large), layers.Dense(2, name="y")(little)]
    ends.append(layers.Dense(2, name="x")(layers.Flatten()(layers.Embedding(10, 4)(index))))
    net = randomized(keras.Model([large, little, index], ends))
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(64, 4)) * 100, rng.normal(size=(64, 4)) * 0.1, rng.integers(0, 10, (64, 3))]
    tflite = quantized(net, "int8", x, integer_io)
    signature = unpack(tflite).signatureDefs[0]
    assert [entry.name.decode() for entry in signature.inputs] == input_names(net) == ["b", "a", "c"]
    outside = TensorType.INT8 if integer_io else TensorType.FLOAT32
    assert sorted(types(tflite)) == sorted([outside, outside, TensorType.INT32, outside, outside, outside])
    given = [array.astype(tensor.dtype) for array, tensor in zip(x, net.inputs, strict=True)]
    expected = [np.asarray(value) for value in net(given)]
    for found, wanted in zip(said(scorer, tflite, *given), expected, strict=True):
        assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


LAYERS = {
    "strided": lambda layers: layers.Conv2D(5, 3, strides=2, padding="same"),
    "grouped": lambda layers: layers.Conv2D(4, (3, 2), dilation_rate=2, groups=2),
    "depthwise": lambda layers: layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding="same"),
    "dense": lambda layers: layers.Dense(3),
}


@pytest.mark.parametrize("sort", LAYERS)
def test_a_corrected_bias_is_less_by_what_the_rounding_errors_make_of_the_examples(sort):
    """The oracle: Keras's own layer, with the errors for weights."""
    keras = importlib.import_module("keras")
    layer, x = LAYERS[sort](keras.layers), np.random.default_rng(0).uniform(0, 4, (64, 8, 7, 4)).astype(np.float32)
    net = one(keras, layer, shape=(8, 7, 4))
    plain, flat = rough("int8", [x])(net), convert(net)
    kernel, before = constants(plain)
    _, after = constants(bias_correction.corrected(plain, flat, [x]))
    exact, bias = layer.get_weights()
    back = {"dense": (1, 0), "depthwise": (1, 2, 3, 0)}.get(sort, (1, 2, 3, 0))
    layer.set_weights([kernel.transpose(back).reshape(exact.shape) - exact, np.zeros_like(bias)])
    added = np.asarray(net(x)).reshape(-1, len(bias)).mean(axis=0)
    np.testing.assert_allclose(before - after, added, atol=1e-4)  # half a step of the bias
    assert np.abs(added).max() > 2e-3


def constants(tflite: bytes) -> list[np.ndarray]:
    """What kernel and bias of the one layer stand for."""
    whole = unpack(tflite)
    graph = whole.subgraphs[0]
    (operator,) = [op for op in graph.operators if len(op.inputs) == 3]
    found = []
    for tensor in (graph.tensors[number] for number in operator.inputs[1:]):
        dtype = np.int8 if tensor.type == TensorType.INT8 else np.int32
        values = np.frombuffer(bytes(whole.buffers[tensor.buffer].data), dtype).reshape(tensor.shape)
        along = [1] * values.ndim
        along[tensor.quantization.quantizedDimension] = -1
        found.append(values * tensor.quantization.scale.reshape(along))
    return found


def test_biases_stay_where_the_layers_are_not_the_same(caplog):
    other = convert(one(importlib.import_module("keras"), importlib.import_module("keras").layers.Dense(3)))
    assert bias_correction.corrected(file("int8"), other, [small.images(2)]) == file("int8")
    assert "other layers than the float file" in caplog.text


def test_a_rough_file_has_the_operators_of_the_finished_one():
    x = [small.images(64)]
    assert operators(rough("int8", x)(model())) == operators(file("int8"))
    assert operators(rough("dynamic")(model())) == operators(file("dynamic"))
    assert operators(rough("fp16")(model())) == operators(convert(model()))


def one(keras, *layers, shape=(6, 4)):
    return randomized(keras.Sequential([keras.Input(shape), *layers]))


def test_what_cannot_be_quantised_is_refused_in_one_sentence(keras_module):
    import tensorflow as tf

    layers, x = keras_module.layers, [np.ones((8, 6, 4))]
    elu = one(keras_module, layers.ELU(name="alone"), layers.Dense(3))
    refused = {
        r"no kernel of whole numbers for ELU \(.*alone.*\)": elu,
        "has a layer that loops": one(keras_module, layers.LSTM(3)),  # the converter would end the process
        "no kernel for tf.Tan": one(keras_module, layers.Dense(3, activation=tf.math.tan)),
    }
    for sentence, net in refused.items():
        with pytest.raises(ConversionError, match=sentence) as caught:
            quantized(net, "int8", x)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["int8", "fp16", "dynamic"])
def test_nan_and_what_is_too_large_among_the_weights_is_refused(form):
    keras = importlib.import_module("keras")
    net = one(keras, keras.layers.Dense(64, use_bias=False), shape=(64,))
    (kernel,) = net.get_weights()
    kernel[0, 0] = 1e30 if form == "fp16" else np.nan
    net.set_weights([kernel])
    with pytest.raises(ConversionError, match="its weight '.*kernel.*' holds NaN, infinity or a number above"):
        quantized(net, form, [np.ones((8, 64))])


def test_infinity_between_the_layers_is_refused():
    keras = importlib.import_module("keras")
    net = one(keras, *(keras.layers.Dense(8, use_bias=False) for _ in range(3)), shape=(8,))
    net.set_weights([np.full((8, 8), 1e30)] * 3)
    with pytest.raises(ConversionError, match="in the network NaN or infinite"):
        quantized(net, "int8", [np.ones((8, 8))])


@pytest.mark.parametrize(
    ("error", "sentence", "examples"),
    [
        (ValueError, "2 arrays, but .* 1 inputs", [small.images(8)] * 2),
        (ValueError, "takes batches of shapes", [small.images(8)[:, :6]]),
        (ConversionError, "There are 7 examples", [small.images(7)]),
        (ConversionError, "hold NaN or infinity", [np.full((8, 12, 12, 3), np.nan)]),
    ],
    ids=["count", "shape", "few", "nan"],
)
def test_examples_that_nothing_can_be_quantised_by_are_refused(error, sentence, examples):
    with pytest.raises(error, match=sentence):
        quantized(model(), "int8", examples)


def test_unequal_numbers_of_examples_are_refused():
    keras = importlib.import_module("keras")
    ends = [keras.Input((4,)), keras.Input((4,))]
    net = keras.Model(ends, keras.layers.Add()(ends))
    with pytest.raises(ValueError, match="the same number of examples"):
        quantized(net, "int8", [np.ones((8, 4)), np.ones((9, 4))])


@pytest.mark.parametrize(("form", "integer_io"), [("float", False), ("int4", False), ("fp16", True)])
def test_forms_that_are_none_are_refused(form, integer_io):
    for made in (lambda: quantized(model(), form, [], integer_io), lambda: rough(form, [], integer_io)):
        with pytest.raises(ValueError, match="expected one of|leave it out"):
            made()


def test_every_form_has_a_file_name():
    assert list(FORMATS) == ["float", "int8", "fp16", "dynamic"]
    assert len(set(FORMATS.values())) == 4
