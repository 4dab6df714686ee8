"""A .tflite is compared with its Keras model input by input and output by output, whatever their order in the file."""

import numpy as np
import pytest

from amc_tf.errors import ConversionError
from amc_tf.system.files import write
from amc_tf.tflite.conversion.agreement import max_difference, verify
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.flatbuffer import pack, unpack
from tests.toys import randomized

EXAMPLES = 40  # more than Keras is given at once


def siblings(keras, structure=list):
    """Inputs alike in shape and outputs alike in shape, so that only their names tell them apart."""
    layers = keras.layers
    right, left = keras.Input((6,), name="right"), keras.Input((6,), name="left")
    x = layers.Subtract()([layers.Dense(5, activation="tanh")(left), right[:, :5]])
    outputs = [layers.Dense(3, name="zebra")(x), layers.Dense(3, name="ape")(x)]
    if structure is dict:
        return randomized(keras.Model({"right": right, "left": left}, dict(zip("zp", outputs, strict=True))))
    return randomized(keras.Model([right, left], outputs))


def softmax(keras):
    layers = keras.layers
    chain = [layers.Dense(5, activation="relu"), layers.Dense(4), layers.Softmax()]
    return randomized(keras.Sequential([keras.Input((6,)), *chain]))


@pytest.fixture
def x() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0).normal
    return {"left": draw(size=(EXAMPLES, 6)), "right": draw(size=(EXAMPLES, 6))}


@pytest.mark.parametrize("structure", [list, dict])
def test_every_input_and_output_finds_its_own(keras_module, x, structure, tmp_path):
    model = siblings(keras_module, structure)
    path = write(convert(model), tmp_path / "model.tflite")
    assert max_difference(model, path, x) < 1e-5
    if structure is list:
        assert max_difference(model, path, [x["right"], x["left"]]) < 1e-5
        assert max_difference(model, path, [x["left"], x["right"]]) < 1e-5  # wrong for the model, but for both alike


def test_a_dict_is_read_by_name(keras_module):
    one, two = keras_module.Input((2,), name="one"), keras_module.Input((3,), name="two")
    model = randomized(keras_module.Model([one, two], keras_module.layers.Concatenate()([one, two])))
    assert verify(model, convert(model), {"two": np.ones((4, 3)), "one": np.zeros((4, 2))}) == 0


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_swapped_names_are_found_out(keras_module, x, side):
    model = siblings(keras_module)
    file = unpack(convert(model))
    first, second = getattr(file.signatureDefs[0], side)
    first.name, second.name = second.name, first.name
    with pytest.raises(ConversionError, match=r"'(zebra|ape)' of the \.tflite differs from the Keras model"):
        verify(model, pack(file), x)


def test_the_order_in_the_file_does_not_matter(keras_module, x):
    model = siblings(keras_module)
    file = unpack(convert(model))
    graph = file.subgraphs[0]
    graph.inputs, graph.outputs = graph.inputs[::-1].copy(), graph.outputs[::-1].copy()
    assert verify(model, pack(file), x) < 1e-5


def test_probabilities_are_held_to_the_tolerance_itself(keras_module, x):
    model = softmax(keras_module)
    tflite = convert(model)
    assert verify(model, tflite, x["left"]) < 1e-5
    bias = model.layers[-2].bias
    bias.assign(np.asarray(bias) + np.array([0.05, 0, 0, 0], np.float32))
    with pytest.raises(ConversionError, match="at most 0.001 is allowed"):
        verify(model, tflite, x["left"])
    assert verify(model, tflite, x["left"], tolerance=0.1) == max_difference(model, tflite, x["left"]) > 1e-3


def test_other_outputs_are_held_to_a_share_of_their_size(keras_module, x):
    model = randomized(keras_module.Sequential([keras_module.Input((6,)), keras_module.layers.Dense(3)]))
    model.layers[-1].kernel.assign(1e4 * np.asarray(model.layers[-1].kernel))
    tflite = convert(model)
    bias = model.layers[-1].bias
    bias.assign(np.asarray(bias) + 1.0)  # of some ten thousand
    assert verify(model, tflite, x["left"]) == pytest.approx(1.0, abs=0.1)
    bias.assign(np.asarray(bias) + 1000.0)
    with pytest.raises(ConversionError, match="differs from the Keras model"):
        verify(model, tflite, x["left"])


def test_nan_is_an_error(keras_module, x):
    model = softmax(keras_module)
    tflite = convert(model)
    x["left"][EXAMPLES - 1, 0] = np.nan
    assert np.isnan(max_difference(model, tflite, x["left"]))
    with pytest.raises(ConversionError, match="holds NaN"):
        verify(model, tflite, x["left"])


def test_the_file_of_another_model_is_refused(keras_module, x):
    with pytest.raises(ConversionError, match=r"signature has inputs \['left', 'right'\]"):
        max_difference(softmax(keras_module), convert(siblings(keras_module)), x["left"])


def test_a_damaged_file_is_refused(keras_module, x):
    model = softmax(keras_module)
    with pytest.raises(ConversionError, match="does not run in ai-edge-litert"):
        max_difference(model, convert(model)[:200], x["left"])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda x: {"left": x["left"]}, r"Expected the inputs \['right', 'left'\]"),
        (lambda x: [x["left"]], "Expected 2 inputs"),
        (lambda x: [x["left"], x["right"][:-1]], "same number of examples"),
        (lambda x: [x["left"][:0], x["right"][:0]], "at least one"),
    ],
)
def test_wrong_inputs_are_named(keras_module, x, wrong, sentence):
    model = siblings(keras_module)
    with pytest.raises(ValueError, match=sentence):
        max_difference(model, b"not looked at", wrong(x))
