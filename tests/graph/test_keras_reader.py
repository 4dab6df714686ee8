"""Reading Keras models: the Graph that is read, and the models that are refused in one clear sentence."""

import numpy as np
import pytest

from amc_tf.errors import UnsupportedModel
from amc_tf.graph import keras_reader
from tests import toys
from tests.graph.cases import case, difference, read


def test_one_node_per_call(keras_module) -> None:
    graph = case(keras_module.__name__, "shared_layer").graph
    nodes = [node for node in graph.nodes if node.layer == "twice"]
    assert len(nodes) == 2 and nodes[0].outputs == nodes[1].inputs
    assert [layer for layer in graph.weights if layer == "twice"] == ["twice"]


def test_nested_models_are_walked_through(keras_module) -> None:
    graph = case(keras_module.__name__, "nested_twice").graph
    assert [node.layer for node in graph.nodes] == [
        "outer/encoder/conv1",
        "outer/encoder/norm1",
        "outer/encoder/relu1",
        "outer/encoder/conv2",
        "outer/conv",
        "pool",
        "head",
    ]
    known = set(graph.inputs)
    for node in graph.nodes:
        assert set(node.inputs) <= known
        known |= set(node.outputs)
    assert set(graph.outputs) <= known


def test_shared_nested_model_has_one_path(keras_module) -> None:
    graph = case(keras_module.__name__, "shared_nested_model").graph
    assert [node.layer for node in graph.nodes].count("encoder/conv1") == 2
    assert list(graph.weights) == ["encoder/conv1", "encoder/norm1", "encoder/conv2", "head"]


def test_shapes_are_those_that_keras_gives(keras_module) -> None:
    this = case(keras_module.__name__, "conv2d")
    made = {layer.name: tuple(layer.output.shape)[1:] for layer in this.model.layers}
    for node in this.graph.nodes:
        assert this.graph.shapes[node.outputs[0]] == made[node.layer]
    assert [this.graph.shapes[i] for i in this.graph.inputs] == [(8, 8, 3)]


def test_weights_are_named_and_valued_as_in_keras(keras_module) -> None:
    this = case(keras_module.__name__, "batchnorm")
    kernel, bias = this.graph.weights["conv1"]
    assert (kernel.name, kernel.shape, bias.name, bias.shape) == ("kernel", (3, 3, 3, 6), "bias", (6,))
    for path, layer in keras_reader.layers(this.model).items():
        stored = this.weights.get(path, ())
        assert all(np.array_equal(a, b) for a, b in zip(stored, layer.get_weights(), strict=True))


def test_weights_are_copies(keras_module) -> None:
    this = read(keras_module, toys.TOYS["dense"].build(keras_module))
    before = toys.outputs(this.model, this.inputs)
    for arrays in this.weights.values():
        for array in arrays:
            array[...] = 7
    assert difference(toys.outputs(this.model, this.inputs), before) == 0


def test_kinds_differ_from_custom_classes(keras_module) -> None:
    kinds = {node.layer: node.kind for node in case(keras_module.__name__, "custom_convolution").graph.nodes}
    assert kinds["conv1"] == "Conv2D" and kinds["reversed"] == "custom:Reversed"


def test_operator_signs_are_operations(keras_module) -> None:
    kinds = [node.kind for node in case(keras_module.__name__, "signs").graph.nodes]
    assert kinds[2] == "op:add" and "op:multiply" in kinds and not [kind for kind in kinds if "custom" in kind]


def test_constants_are_not_inputs(keras_module) -> None:
    nodes = [node for node in case(keras_module.__name__, "constants").graph.nodes if node.kind.startswith("op:")]
    assert [(len(node.inputs), node.constants) for node in nodes] == [(1, ((3,),)), (1, ((1, 1, 1),))]


def test_encoder_of_any_size_gets_the_size_it_is_called_with(keras_module) -> None:
    graph = case(keras_module.__name__, "encoder_of_any_size").graph
    node = next(node for node in graph.nodes if node.layer == "encoder/conv1")
    assert graph.shapes[node.inputs[0]] == (8, 8, 3)


def test_reading_is_the_same_each_time(keras_module) -> None:
    this = case(keras_module.__name__, "squeeze_excite")
    assert keras_reader.read(this.model)[0] == this.graph


# ----------------------------------------------------------------------------------------------------------- refusing


@pytest.mark.parametrize("thing", [None, 3, "model.keras", np.zeros(3), dict, object()])
def test_what_is_no_model_is_refused(thing) -> None:
    with pytest.raises(TypeError, match="^Expected a keras.Model or tf_keras.Model, but received"):
        keras_reader.read(thing)


def test_an_exported_model_is_refused_with_what_to_load_instead(tmp_path) -> None:
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(TypeError, match="has lost its layers, so load the .keras or .h5 file"):
        keras_reader.read(tf.saved_model.load(str(tmp_path)))


def test_a_single_layer_is_refused(keras_module) -> None:
    with pytest.raises(TypeError, match="Dense"):
        keras_reader.read(keras_module.layers.Dense(3))


def test_subclassed_models_are_refused(keras_module) -> None:
    class Net(keras_module.Model):
        def __init__(self):
            super().__init__(name="net")
            self.dense = keras_module.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    model = Net()
    for _ in range(2):
        with pytest.raises(UnsupportedModel, match="'net' is subclassed .class Net.*functional"):
            keras_reader.read(model)
        model(np.zeros((1, 4), "float32"))  # built or not


def test_a_subclassed_model_inside_is_frozen_or_refused_by_name(keras_module) -> None:
    class Net(keras_module.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras_module.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

    features = keras_module.Input((4,))
    x = keras_module.layers.Dense(6, name="held")(features)
    model = keras_module.Model(features, Net(name="net")(x))
    groups = read(keras_module, model).groups
    assert "'net'" in groups["held"].frozen


def test_a_functional_model_of_a_child_class_is_read(keras_module) -> None:
    class Mine(keras_module.Model):
        """Functional by its constructor, with a training step of its own."""

        def train_step(self, data):
            return super().train_step(data)

    features = keras_module.Input((4,))
    x = keras_module.layers.Dense(6, name="dense")(features)
    model = Mine(features, keras_module.layers.Dense(2, name="head")(x))
    assert [node.layer for node in keras_reader.read(model)[0].nodes] == ["dense", "head"]


def test_unbuilt_sequential_is_refused(keras_module) -> None:
    model = keras_module.Sequential([keras_module.layers.Dense(3)], name="later")
    with pytest.raises(UnsupportedModel, match=r"'later' has not been built.*model.build"):
        keras_reader.read(model)


def test_empty_sequential_is_refused(keras_module) -> None:
    with pytest.raises(UnsupportedModel, match="'nothing'"):
        keras_reader.read(keras_module.Sequential(name="nothing"))


def test_open_sizes_are_refused(keras_module) -> None:
    image = keras_module.Input((None, None, 3), name="image")
    x = keras_module.layers.Conv2D(4, 3)(image)
    model = keras_module.Model(image, keras_module.layers.GlobalAveragePooling2D()(x), name="any")
    with pytest.raises(UnsupportedModel, match=r"input 'image.*' of model 'any' has shape \(None, None, None, 3\)"):
        keras_reader.read(model)


def test_another_backend_is_refused(monkeypatch) -> None:
    """Keras's other backends need packages that are no part of this project, so its own answer is replaced here."""
    import keras

    model = toys.TOYS["dense"].build(keras)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UnsupportedModel, match="Keras runs on the backend 'jax' here.*KERAS_BACKEND"):
        keras_reader.read(model)


def test_two_layers_of_one_path_are_refused() -> None:
    """tf_keras allows "/" in names, with which a layer can look like one of a nested model."""
    import tf_keras

    inner = tf_keras.Input((4,))
    nested = tf_keras.Model(inner, tf_keras.layers.Dense(4, name="dense")(inner), name="inner")
    features = tf_keras.Input((4,))
    model = tf_keras.Model(features, tf_keras.layers.Dense(4, name="inner/dense")(nested(features)))
    with pytest.raises(UnsupportedModel, match="Two layers go by the name 'inner/dense'"):
        keras_reader.read(model)
