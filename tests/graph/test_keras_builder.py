"""Building Keras models again: the same network from fresh layers, with other weights, or refused with a reason."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from amc_tf.errors import UnsupportedModel
from amc_tf.graph import keras_builder, keras_reader
from tests import toys
from tests.graph.cases import case, difference, read


def test_rebuilt_model_is_the_same_network(keras_module) -> None:
    names = "residual dict_inputs nested_twice sequential lambda_with_arguments recurrent preprocessing"
    for name in names.split():
        this = case(keras_module.__name__, name)
        again = keras_builder.rebuild(this.model)
        assert difference(toys.outputs(again, this.inputs), toys.outputs(this.model, this.inputs)) <= 1e-6, name
        assert not {id(v) for v in again.weights} & {id(v) for v in this.model.weights}


def test_operations_made_with_arrays_can_be_rebuilt() -> None:
    """Keras cannot save these, so copy.copy cannot copy them either."""
    import keras

    image = keras.Input((8, 8, 3))
    x = keras.ops.pad(keras.layers.Conv2D(6, 3, name="conv")(image), np.array([[0, 0], [1, 1], [2, 0], [0, 0]]))
    this = read(keras, toys.randomized(keras.Model(image, keras.layers.Conv2D(5, 3)(x))))
    again = keras_builder.rebuild(this.model)
    assert difference(toys.outputs(again, this.inputs), toys.outputs(this.model, this.inputs)) <= 1e-6


def test_rebuilding_with_other_weights(keras_module) -> None:
    this = case(keras_module.__name__, "dense")
    kernel, bias = this.weights["head"]
    again = keras_builder.rebuild(this.model, weights={"head": (kernel * 0, bias)})
    assert np.allclose(toys.outputs(again, this.inputs)[0], bias)


def test_a_custom_layer_without_its_arguments_is_refused_by_name(keras_module) -> None:
    class Scale(keras_module.layers.Layer):
        def __init__(self, factor):
            super().__init__(name="scale")
            self.factor = factor

        def call(self, x):
            return x * self.factor

        def get_config(self):
            return {"name": self.name}

    image = keras_module.Input((4,))
    model = keras_module.Model(image, Scale(2.0)(keras_module.layers.Dense(3)(image)))
    keras_reader.read(model)  # reading needs no arguments: the layer is frozen
    with pytest.raises(UnsupportedModel, match=r"layer 'scale' \(class Scale\).*get_config\(\)"):
        keras_builder.rebuild(model)


def codebook(keras, tracked: bool, nested: bool = False):
    """A network with a layer that moves its input to the nearest of some vectors, which it makes at random."""

    class Codebook(keras.layers.Layer):
        def build(self, input_shape) -> None:
            drawn = tf.random.normal((4, input_shape[-1]))
            if tracked:
                self.vectors = self.add_weight(shape=drawn.shape, name="vectors", trainable=False)
                self.vectors.assign(drawn)
            elif nested:
                self.parts = {"vectors": [tf.Variable(drawn)]}
            else:
                self.vectors = tf.Variable(drawn)
            super().build(input_shape)

        def call(self, x):
            vectors = self.parts["vectors"][0] if nested else self.vectors
            distances = tf.reduce_sum((x[:, None] - vectors) ** 2, axis=-1)
            return tf.gather(tf.convert_to_tensor(vectors), tf.argmin(distances, axis=-1))

    inputs = keras.Input((5,))
    x = Codebook(name="codebook")(keras.layers.Dense(8, name="dense")(inputs))
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


@pytest.mark.parametrize("nested", [False, True])
def test_a_variable_that_keras_would_not_copy_is_refused_by_name(nested: bool) -> None:
    """Copies had fresh random values, and said nothing of it."""
    where = "parts['vectors'][0]" if nested else "vectors"
    message = re.escape(f"'codebook' (class Codebook) holds the variable {where!r} beside its weights")
    with pytest.raises(UnsupportedModel, match=message):
        keras_builder.rebuild(codebook(keras, tracked=False, nested=nested))


@pytest.mark.parametrize(("module", "tracked"), [(keras, True), (tf_keras, True), (tf_keras, False)])
def test_a_variable_that_is_a_weight_is_taken_over(module, tracked: bool) -> None:
    """In tf_keras all variables are."""
    this = read(module, codebook(module, tracked))
    again = keras_builder.rebuild(this.model)
    assert difference(toys.outputs(again, this.inputs), toys.outputs(this.model, this.inputs)) == 0
