"""The identity of a network changes with everything that changes its outputs or its training, and with nothing else."""

import importlib
import os

import numpy as np
import pytest

from amc_tf.errors import UnsupportedModel
from amc_tf.graph import keras_builder, keras_reader
from amc_tf.graph.identity import difference, digest, meaning
from tests.toys import TOYS

# Between them they have every setting of every layer in the toys; CI asks all toys.
MANY_SETTINGS = """
    activation_layers softmax_in_the_middle conv1d_transpose conv2d_transpose conv3d_transpose depthwise1d separable1d
    separable2d dense_after_flatten merges concatenate dot joint_norms unit_norm batchnorm_renorm layer_scale
    rescaling_by_channel custom_layer custom_convolution lambda_layer recurrent attention einsum_dense
    embedding_with_mask time_distributed regularized lora spectral_normalization signs ops ops_padding
    ops_over_channels ops_resize ops_with_several_outputs functions functions_padding functions_not_known
    functions_resize functions_with_several_outputs pooling positions1d positions3d padding_and_cropping dropouts
    augmentation channel_shuffle repeat_vector
""".split()
WITHOUT_EFFECT = ("name", "build_config", "registered_name", "module", "batch_input_shape")


def network(keras, activation="relu", epsilon=1e-3, padding="same", scale=1.0, name="relu"):
    x = image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding=padding, name="conv")(x)
    x = keras.layers.BatchNormalization(epsilon=epsilon, name="bn")(x)
    x = keras.layers.Activation(activation, name=name)(x)
    x = keras.layers.Rescaling(scale, name="rescaling")(x)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x), name="net")
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1, w.shape) for w in model.get_weights()])
    return model


def twice(x):
    return x * 2


def thrice(x):
    return x * 3


thrice.__name__ = thrice.__qualname__ = "twice"


def test_networks_that_compute_something_else_have_other_digests(keras_module):
    keras = keras_module
    others = [
        network(keras), network(keras, "tanh"), network(keras, "linear"), network(keras, epsilon=1e-2),
        network(keras, padding="valid"), network(keras, scale=0.5), network(keras, twice), network(keras, thrice),
        network(keras, name="other"),
    ]  # fmt: skip
    changed = network(keras)
    changed.set_weights([w * 1.001 for w in changed.get_weights()])
    digests = [digest(model) for model in (*others, changed)]
    assert len(set(digests)) == len(digests)
    assert digest(network(keras)) == digests[0] and digest(network(keras, twice)) == digests[6]


def test_a_network_that_was_saved_rebuilt_or_compiled_is_the_same(keras_module, tmp_path):
    model = network(keras_module)
    model.save(tmp_path / "net.keras")
    loaded = keras_module.models.load_model(tmp_path / "net.keras")
    assert digest(loaded) == digest(model) == digest(keras_builder.rebuild(model))
    model.compile("adam", "mse")
    assert digest(model) == digest(loaded)


@pytest.mark.parametrize("keras", ["keras", "tf_keras"])
def test_every_setting_of_every_layer_counts(keras):
    """Every setting of every layer of every toy: another value gives another meaning."""
    module = importlib.import_module(keras)
    seen, unseen = set(), []
    for toy in TOYS.values() if os.environ.get("CI") else map(TOYS.get, MANY_SETTINGS):
        if keras not in toy.kerases or toy.name == "mobilenet_under_a_head":  # large, and of layers that others have
            continue
        model = toy.function(module)  # whatever its weights are
        nodes = keras_reader.read(model)[0].nodes
        for node, operation in zip(nodes, keras_reader.operations(model), strict=True):
            before = None
            for name, value in node.settings.items():
                other = changed(value)
                if (node.kind, name) in seen or other is None:
                    continue
                seen.add((node.kind, name))
                before = before or meaning(operation, node.settings, module)
                same = before == meaning(operation, {**node.settings, name: other}, module)
                lives = (node.kind, name) == ("Lambda", "function")  # the live function counts, not what is stored
                if same != (lives or name in WITHOUT_EFFECT or name.endswith("_initializer")):
                    unseen.append((node.kind, name, value))
    assert len(seen) > 540 and not unseen


def changed(value):
    """Another value of the same kind; None where nothing is known of the kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float, np.number)):
        return value + 1
    if isinstance(value, str):
        return value + "_other"
    if isinstance(value, np.ndarray) and value.size:
        return value + 1
    if isinstance(value, (list, tuple)) and value:
        first = changed(value[0])
        return None if first is None else type(value)([first, *value[1:]])
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        if value["class_name"] == "DTypePolicy":
            return {**value, "config": {"name": "float16"}}
        return {**value, "class_name": value["class_name"] + "Other"}
    return None


def test_keys_that_another_release_adds_do_not_count(keras_module):
    """A new argument at its default, a dtype as a policy or a name, a tuple as a list: one and the same layer."""
    layer = keras_module.layers.Conv2D(4, 3, name="conv")
    settings = layer.get_config()
    before = meaning(layer, settings, keras_module)
    policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}
    for added in (
        {"quantization_config": None}, {"dtype": policy}, {"dtype": "float32"}, {"kernel_size": [3, 3]},
        {"build_config": {"input_shape": (None, 8, 8, 3)}}, {"shared_object_id": 7}, {"groups": 1},
    ):  # fmt: skip
        assert meaning(layer, {**settings, **added}, keras_module) == before, added
    without = {name: value for name, value in settings.items() if name not in ("groups", "dilation_rate")}
    assert meaning(layer, without, keras_module) == before


def test_the_code_of_a_callers_layer_counts(keras_module):
    keras = keras_module

    def made(factor):
        class Scale(keras.layers.Layer):
            def __init__(self, by=2, **settings):
                super().__init__(**settings)
                self.by = by

            def call(self, x):
                return x * self.by * factor

            def get_config(self):
                return super().get_config() | {"by": self.by}

        return Scale

    def model(cls, **settings):
        image = keras.Input((4,), name="image")
        return keras.Model(image, cls(name="scale", **settings)(image), name="net")

    one, other = made(1), made(3)
    digests = [digest(model(one)), digest(model(one, by=3)), digest(model(other))]
    assert len(set(digests)) == 3
    assert digest(model(made(1))) == digests[0]


def test_a_layer_without_a_fingerprint_is_refused_by_name(keras_module):
    import threading

    lock = threading.Lock()
    image = keras_module.Input((4,))
    layer = keras_module.layers.Lambda(lambda x: x if lock else -x, output_shape=(4,), name="locked")
    with pytest.raises(UnsupportedModel, match="layer 'locked' cannot be identified.*_thread.lock at.*lock"):
        digest(keras_module.Model(image, layer(image)))


def test_a_constant_of_an_operation_counts():
    import keras

    def model(value):
        image = keras.Input((3,), name="image")
        return keras.Model(image, keras.ops.add(image, np.full(3, value, np.float32)), name="net")

    first = digest(model(1))
    assert first != digest(model(2))


def test_difference_names_the_layer_that_computes_something_else(keras_module):
    keras = keras_module
    assert difference(network(keras), network(keras, "tanh")) == "relu"
    assert difference(network(keras), network(keras, epsilon=1e-2)) == "bn"
    other = network(keras)
    other.set_weights([w + 1 for w in other.get_weights()])
    other.get_layer("conv").trainable = False
    assert difference(network(keras), other) is None
