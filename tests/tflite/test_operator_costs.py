"""MACs, params and memory of operators, and the turns of loops, against numbers made by hand."""

from types import ModuleType

import keras
import numpy as np
import pytest
import tensorflow as tf

from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.layer_names import layer_of
from amc_tf.tflite.operator_costs import macs, operator_costs
from tests import toys


def recurrent(keras_module: ModuleType, kind: str, **settings) -> bytes:
    layer = getattr(keras_module.layers, kind)(4, **settings)
    return convert(keras_module.Sequential([keras_module.Input((7, 5)), layer]))


@pytest.mark.parametrize(("kind", "gates"), [("SimpleRNN", 1), ("GRU", 3), ("LSTM", 4)])
def test_a_loop_counts_once_for_each_turn(keras_module: ModuleType, kind: str, gates: int) -> None:
    costs = operator_costs(recurrent(keras_module, kind))
    assert sum(cost.macs for cost in costs) == 7 * gates * 4 * (5 + 4)
    assert all(cost.exact for cost in costs)


def test_an_unrolled_loop_saves_the_product_with_the_state_that_is_zero() -> None:
    assert macs(recurrent(keras, "LSTM", unroll=True)) == macs(recurrent(keras, "LSTM")) - 4 * 4 * 4


def test_a_loop_in_a_loop_counts_for_all_turns() -> None:
    words = keras.layers.TimeDistributed(keras.layers.GRU(4))
    model = keras.Sequential([keras.Input((3, 7, 5)), words])
    assert macs(convert(model)) == 3 * 7 * 3 * 4 * (5 + 4)


def test_turns_that_the_inputs_decide_are_not_exact() -> None:
    """Otherwise one turn is told as if it were all of them."""
    kernel = tf.constant(np.eye(4, dtype="float32") * 2)

    class Doubled(keras.layers.Layer):
        def call(self, x):
            (result,) = tf.while_loop(lambda y: tf.reduce_sum(y) < 100.0, lambda y: (tf.matmul(y, kernel),), (x,))
            return result

    (loop,) = [cost for cost in operator_costs(convert(keras.Sequential([keras.Input((4,)), Doubled()]))) if cost.macs]
    assert (loop.name, loop.macs, loop.exact) == ("WHILE", 4 * 4, False)


def test_memory_is_that_of_all_activations_that_are_alive() -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="first")(image)
    y = keras.layers.Conv2D(4, 3, padding="same", name="second")(x)
    model = keras.Model(image, keras.layers.Flatten()(keras.layers.Add(name="sum")([x, y])))
    costs = operator_costs(convert(model))
    memory = {layer_of(cost.output, ["first", "second", "sum"]): cost.memory for cost in costs}
    pixels = 8 * 8 * 4  # bytes of a float32 channel
    assert memory["first"] == pixels * (3 + 4)
    assert memory["second"] == pixels * (4 + 4)  # the image is needed no longer
    assert memory["sum"] == pixels * (4 + 4 + 4)


def test_params_are_the_numbers_in_the_file_each_once() -> None:
    image = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same")
    model = keras.Model(image, keras.layers.Dense(5)(keras.layers.Flatten()(shared(shared(image)))))
    toys.randomized(model)  # the converter drops biases that are zero
    assert sum(cost.params for cost in operator_costs(convert(model))) == model.count_params()


def test_transposed_grouped_depthwise_and_spatial_convolutions(keras_module: ModuleType) -> None:
    layers = keras_module.layers
    model = keras_module.Sequential(
        [
            keras_module.Input((8, 6, 4)),
            layers.Conv2DTranspose(6, 3, strides=2),
            layers.Conv2D(8, 1, groups=2),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.Conv2D(3, (3, 1), dilation_rate=2),
        ]
    )
    by_hand = 8 * 6 * 4 * 9 * 6 + 17 * 13 * 8 * 3 + 15 * 11 * 16 * 9 + 11 * 11 * 3 * 3 * 16
    assert macs(convert(model)) == by_hand
