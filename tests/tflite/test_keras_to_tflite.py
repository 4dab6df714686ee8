"""Converted files hold only what the plain runtime knows, fold BatchNorm, and name their inputs and outputs."""

import errno
import logging
import os
import tempfile
from collections import Counter

import numpy as np
import pytest

from amc_tf.errors import ConversionError, RunDirError
from amc_tf.graph import keras_builder
from amc_tf.system.files import write
from amc_tf.tflite.conversion.keras_to_tflite import check, convert
from amc_tf.tflite.flatbuffer import pack, unpack
from amc_tf.tflite.operators import operators, read
from tests.toys import randomized


def classifier(keras):
    """Convolutions with BatchNorm behind them, nested, under a new head."""
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, use_bias=False)(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.ReLU()(layers.BatchNormalization(scale=False)(x))
    backbone = keras.Model(image, x, name="backbone")
    head = [layers.GlobalAveragePooling2D(), layers.Dense(6), layers.BatchNormalization(), layers.Dense(4)]
    return randomized(keras.Sequential([keras.Input((8, 8, 3)), backbone, *head, layers.Softmax()]))


def batchnorm_first(keras):
    """Scales that no converter can fold: beside another reader of the convolution, behind an activation, by row."""
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(image)
    y = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(y)
    y = layers.Conv2D(8, 3, padding="same")(layers.BatchNormalization()(y))
    return randomized(keras.Model(image, [x, layers.BatchNormalization(axis=1)(y)]))


def tangent(keras):
    """Its activation has no kernel in TFLite, but one in the Flex delegate."""
    import tensorflow as tf

    return randomized(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation=tf.math.tan)]))


@pytest.fixture(scope="module")
def classifier_file(keras_module) -> bytes:
    return convert(classifier(keras_module))


def test_batchnorm_is_folded_and_the_batch_is_one(classifier_file):
    assert operators(classifier_file) == Counter(CONV_2D=1, DEPTHWISE_CONV_2D=1, MEAN=1, FULLY_CONNECTED=2, SOFTMAX=1)
    (network,) = read(classifier_file)
    assert [network.values[number].signature for number in network.inputs] == [(1, 8, 8, 3)]


def test_a_scale_that_cannot_be_folded_is_no_fault(keras_module):
    assert operators(convert(batchnorm_first(keras_module)))["MUL"] == 3


def test_a_mobilenet_has_nothing_but_its_layers():
    import tf_keras

    model = tf_keras.applications.MobileNet((64, 64, 3), alpha=0.25, weights=None, classes=10)
    assert operators(convert(randomized(model))) == Counter(
        CONV_2D=15, DEPTHWISE_CONV_2D=13, MEAN=1, RESHAPE=1, SOFTMAX=1
    )


def test_conversion_is_silent_and_changes_neither_model_nor_folder(keras_module, capfd, caplog, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    levels = [logging.getLogger(name).level for name in (None, "absl", "tensorflow")]
    model = classifier(keras_module)
    config, weights = model.get_config(), model.get_weights()
    capfd.readouterr()
    convert(model)
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])
    assert [logging.getLogger(name).level for name in (None, "absl", "tensorflow")] == levels
    assert list(tmp_path.iterdir()) == []
    assert model.get_config() == config
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_an_operator_without_a_kernel_is_refused_in_one_sentence(keras_module):
    with pytest.raises(ConversionError, match=r"^The model 'sequential\w*' .*\(no kernel for tf.Tan\)") as caught:
        convert(tangent(keras_module))
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None  # its text is pages of the converter's own stack


def test_a_model_that_cannot_be_traced_is_refused_in_one_sentence(keras_module):
    class OnlyEight(keras_module.layers.Layer):
        def call(self, x):
            if x.shape[0] not in (None, 8):
                raise ValueError(f"eight are wanted, not {x.shape[0]}\nand a second line")
            return x

    model = keras_module.Sequential([keras_module.Input((4,)), OnlyEight()])
    with pytest.raises(ConversionError, match=r"a batch of shapes \[\(1, 4\)\]") as caught:
        convert(model)
    assert "\n" not in str(caught.value)


def test_what_a_model_holds_beside_its_layers_is_no_part_of_the_file(keras_module):
    """Dicts on a model become TensorFlow's _DictWrapper, which ways by a SavedModel were reported to fail on."""
    model = classifier(keras_module)
    plain = convert(model)
    model.notes = {"labels": {"cat": 0, "dog": 1}, "versions": [1, 2]}
    model.layers[-1].notes = {"temperature": 2.0}
    assert convert(model) == plain


def test_without_a_converter_it_is_one_sentence(keras_module, monkeypatch):
    import tensorflow as tf

    monkeypatch.delattr(tf.lite, "TFLiteConverter")
    with pytest.raises(ConversionError, match=r"has no tf\.lite\.TFLiteConverter.*install TensorFlow 2\.19 to 2\.21"):
        convert(classifier(keras_module))


def test_flex_operators_are_refused(keras_module):
    import tensorflow as tf

    model = tangent(keras_module)
    function = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec((1, 4)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    with pytest.raises(ConversionError, match="FlexTan needs the Flex delegate"):
        check(converter.convert())


def test_variables_that_were_not_frozen_are_refused():
    import keras
    import tensorflow as tf

    model = classifier(keras)
    function = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec((1, 8, 8, 3)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    with pytest.raises(ConversionError, match="VAR_HANDLE belongs to a variable that was not frozen, 1[0-9] times"):
        check(converter.convert())


def test_an_open_batch_is_refused(keras_module):
    import tensorflow as tf

    model = classifier(keras_module)
    function = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec((None, 8, 8, 3)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    with pytest.raises(ConversionError, match=r"open shape \(-1, 8, 8, 3\)"):
        check(converter.convert())


def test_an_unfolded_batchnorm_is_refused(keras_module, tmp_path):
    layers = keras_module.layers
    chain = [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten()]
    tflite = convert(randomized(keras_module.Sequential([keras_module.Input((8, 8, 3)), *chain])))
    file = unpack(tflite)
    file.subgraphs[0].operators[0].builtinOptions.fusedActivationFunction = 0  # now nothing stands between the two
    path = write(pack(file), tmp_path / "unfolded.tflite")
    with pytest.raises(ConversionError, match="MUL by channel behind CONV_2D is an unfolded BatchNormalization"):
        check(path)


def test_inputs_and_outputs_have_the_names_of_the_model(keras_module):
    layers = keras_module.layers
    one, two = keras_module.Input((4,), name="one"), keras_module.Input((4,), name="two")
    sum_of_both = layers.Dense(3, name="twice")(layers.Subtract()([one, two]))
    model = keras_module.Model([two, one], [sum_of_both, layers.Dense(2, name="once")(one), sum_of_both])
    (signature,) = unpack(convert(randomized(model))).signatureDefs
    assert [entry.name for entry in signature.inputs] == [b"two", b"one"]
    assert [entry.name for entry in signature.outputs] == [b"twice", b"once", b"twice_1"]


def test_the_name_of_a_nameless_input_does_not_depend_on_what_was_built_before():
    import keras

    for model in (classifier(keras), keras_builder.rebuild(classifier(keras))):
        (signature,) = unpack(convert(model)).signatureDefs
        assert [entry.name for entry in signature.inputs] == [b"input_0"]


def test_packing_keeps_the_file_and_aligns_its_weights(classifier_file):
    again = pack(unpack(classifier_file))
    assert operators(again) == operators(classifier_file)
    start = np.frombuffer(again, np.uint8).__array_interface__["data"][0]
    before, after = unpack(classifier_file).buffers, unpack(again).buffers
    held = [k for k, buffer in enumerate(before) if buffer.data is not None]
    assert held == [k for k, buffer in enumerate(after) if buffer.data is not None]
    for k in held:
        np.testing.assert_array_equal(before[k].data, after[k].data)
        if after[k].data.size >= 16:
            assert (after[k].data.__array_interface__["data"][0] - start) % 16 == 0


@pytest.mark.parametrize("given", [b"PK\x03\x04 a zip file", "missing.tflite"])
def test_what_is_no_tflite_is_refused(given):
    with pytest.raises(ConversionError, match=r"is no \.tflite|cannot be read"):
        operators(given)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write(b"old", tmp_path / "model.tflite")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunDirError, match=r"model\.tflite' \(No space left on device\)"):
        write(b"new", path)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("model.tflite", b"old")]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RunDirError, match=r"nowhere/model\.tflite"):
        write(b"new", tmp_path / "nowhere" / "model.tflite")
