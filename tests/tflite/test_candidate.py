"""The oracle: a candidate == what the converter makes of the pruned model, operators, shapes and outputs."""

import time
from types import ModuleType

import keras as keras_3
import numpy as np
import pytest
import tf_keras

import models
from amc_tf.errors import ConversionError
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.tflite.conversion import agreement
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.flatbuffer import unpack
from amc_tf.tflite.operators import read
from amc_tf.tflite.slicing import candidate
from amc_tf.tflite.slicing.candidate import Candidates, Converted
from models import resnet_cifar
from tests import small, toys

# Of the toys those that tie constants in ways of their own, in the Keras whose file is the harder one to read.
TIED = {
    "activation_layers": keras_3,  # PReLU has a weight for each position
    "batchnorm": tf_keras,  # on the input; without gamma, without beta, without both
    "channels_first": keras_3,
    "concatenate_then_grouped": tf_keras,
    "conv1d": tf_keras,
    "conv2d_transpose": keras_3,
    "conv3d": keras_3,
    "dense_after_flatten": tf_keras,
    "dense_block": keras_3,  # BatchNormalizations that stand alone
    "depthwise": tf_keras,
    "depthwise1d": keras_3,
    "dict_outputs": tf_keras,
    "grouped1d": keras_3,
    "joint_norms": tf_keras,
    "padding_and_cropping": keras_3,
    "same_names_in_two_models": tf_keras,
    "separable2d": keras_3,
    "shared_on_two_branches": tf_keras,  # one BatchNormalization called twice
    "spectral_normalization": keras_3,
    "squeeze_excite": tf_keras,
}


def layout(tflite: bytes) -> list:
    """Operators with their activations and the shapes of all that they read and write."""
    return [
        (op.name, op.activation, [graph.values[v].shape for v in (*op.inputs, *op.outputs) if v >= 0])
        for graph in read(tflite)
        for op in graph.operators
    ]


def random_plan(pruning: ChannelPruner, seed: int):
    """Every unit narrower than it was."""
    rng = np.random.default_rng(seed)
    return pruning.plan(tuple(int(rng.choice(unit.widths[:-1])) for unit in pruning.units))


def settled(model, seed: int = 0):
    """Random weights as of a trained network: no zeros or ones that the converter would drop."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        name = variable.name.split("/")[-1].partition(":")[0]
        if name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif name in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def check(pruning: ChannelPruner, candidates: Candidates, plan, sliced, inputs) -> bytes:
    """Compares one candidate with the converter's file and with Keras; hands it back."""
    smaller = pruning.apply(plan, sliced)
    candidate = candidates(plan, sliced)
    assert layout(candidate) == layout(convert(smaller))
    assert agreement.max_difference(smaller, candidate, inputs) <= 1e-4
    return candidate


def check_one(model, inputs, **arguments) -> None:
    pruning = ChannelPruner(model, **arguments)
    plan = random_plan(pruning, 0)
    check(pruning, Candidates(pruning), plan, pruning.sliced(plan), inputs)


def noise(side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, side, side, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def of_small():
    pruning = ChannelPruner(small.network(keras_3), round_to=1, min_keep=0.1)
    return pruning, Candidates(pruning)


@pytest.mark.parametrize("name", TIED)
def test_toys(name: str) -> None:
    model = toys.TOYS[name].build(TIED[name])
    inputs = toys.structured(model, toys.random_inputs(model))
    check_one(model, inputs, round_to=1, min_keep=0.1)


def mobile(keras: ModuleType):
    """The first of MobileNetV2's blocks: with and without expansion, a stride and an addition."""
    whole = models.build("mobilenet_v2", keras, input_shape=(32, 32, 3), classes=10, alpha=0.35)
    pooled = keras.layers.GlobalAveragePooling2D()(whole.get_layer("block_5_add").output)
    return keras.Model(whole.inputs, keras.layers.Dense(10, activation="softmax")(pooled))


def residual(keras: ModuleType):
    return resnet_cifar.build(keras, depth=8)


@pytest.mark.parametrize(("build", "keras"), [(residual, keras_3), (mobile, tf_keras)])
def test_networks(build, keras: ModuleType) -> None:
    check_one(settled(build(keras)), noise(), round_to=1)


def test_a_scaling_of_the_inputs_that_the_converter_takes_into_the_first_convolution() -> None:
    """As in EfficientNet, whose preprocessing is part of the network."""
    layers = keras_3.layers
    model = keras_3.Sequential(
        [
            keras_3.Input((8, 8, 3)),
            layers.Rescaling(1 / 4),
            layers.Conv2D(8, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(8, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    check_one(settled(model), noise(8), round_to=1)


@pytest.mark.parametrize("seed", range(1, 6))
def test_any_plan(of_small, seed: int) -> None:
    pruning, candidates = of_small
    plan = random_plan(pruning, seed)
    check(pruning, candidates, plan, pruning.sliced(plan), small.images(8))


@pytest.mark.parametrize("end", [0, -1])
def test_the_narrowest_and_the_whole_network(of_small, end: int) -> None:
    pruning, candidates = of_small
    plan = pruning.plan([unit.widths[end] for unit in pruning.units])
    check(pruning, candidates, plan, pruning.sliced(plan), small.images(8))


def test_new_weights_reach_the_file(of_small) -> None:
    """Not only those that pruning takes out of the model: reconstruction and recalibration make their own."""
    pruning, candidates = of_small
    plan = random_plan(pruning, 1)
    rng = np.random.default_rng(5)
    old = pruning.sliced(plan)
    new = {layer: tuple(array * rng.uniform(0.5, 2, array.shape) for array in arrays) for layer, arrays in old.items()}
    new = {layer: tuple(array.astype(np.float32) for array in arrays) for layer, arrays in new.items()}
    candidate = check(pruning, candidates, plan, new, small.images(8))
    assert agreement.max_difference(pruning.apply(plan), candidate, small.images(8)) > 1e-2


def test_candidates_do_not_disturb_each_other(of_small) -> None:
    pruning, candidates = of_small
    one, other = random_plan(pruning, 2), random_plan(pruning, 3)
    first = candidates(one, pruning.sliced(one))
    candidates(other, pruning.sliced(other))
    assert candidates(one, pruning.sliced(one)) == first


def signature(tflite: bytes) -> list:
    """(name, shape) of inputs and outputs, in the file's order."""
    file = unpack(tflite)
    (found,) = file.signatureDefs
    tensors = file.subgraphs[0].tensors
    return [
        [(end.name, tensors[end.tensorIndex].shape.tolist()) for end in side] for side in (found.inputs, found.outputs)
    ]


def test_the_signature_is_that_of_the_base(keras_module) -> None:
    layers = keras_module.layers
    far, near = keras_module.Input((6,), name="far"), keras_module.Input((4,), name="near")
    hidden = layers.Concatenate()(
        [layers.Dense(6, activation="relu", name="one")(near), layers.Dense(5, activation="relu", name="two")(far)]
    )
    ends = [layers.Dense(3, name="zebra")(hidden), layers.Dense(2, name="ant")(hidden)]
    model = settled(keras_module.Model([far, near], ends))
    pruning = ChannelPruner(model, round_to=1)
    plan = random_plan(pruning, 0)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(4, count)).astype(np.float32) for count in (6, 4)]
    candidate = check(pruning, Candidates(pruning), plan, pruning.sliced(plan), inputs)
    assert signature(candidate) == signature(convert(model))


def test_an_untrained_network_whose_biases_are_zero() -> None:
    """The converter drops what is zero; a candidate may not, but it computes the same."""
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(8, 3),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    pruning = ChannelPruner(model, round_to=1)
    plan = random_plan(pruning, 0)
    candidate = Candidates(pruning)(plan, pruning.sliced(plan))
    assert agreement.max_difference(pruning.apply(plan), candidate, noise(8)) <= 1e-4


@pytest.mark.parametrize(
    ("name", "constant"),
    [
        ("recurrent", r"Constant 2 of operator \d+ \(FULLY_CONNECTED\) in the .tflite, of shape \(5,\)"),
        ("rescaling_by_channel", r"Constant 2 of operator 1 \(CONV_2D\) in the .tflite, of shape \(3,\)"),
        ("batchnorm_on_rows", r"Constant 1 of operator 2 \(ADD\) in the .tflite, of shape \(1, 6, 1, 6\)"),
    ],
)
def test_what_cannot_be_tied_is_named(name: str, constant: str) -> None:
    pruning = ChannelPruner(toys.TOYS[name].build(keras_3), round_to=1, min_keep=0.1)
    with pytest.raises(ConversionError, match=constant):
        Candidates(pruning)


def test_the_converter_makes_the_same_of_such_a_network() -> None:
    pruning = ChannelPruner(toys.TOYS["batchnorm_on_rows"].build(keras_3), round_to=1, min_keep=0.1)
    plan = random_plan(pruning, 0)
    sliced = {layer: tuple(2 * array for array in arrays) for layer, arrays in pruning.sliced(plan).items()}
    smaller = pruning.apply(plan, sliced)
    file = Converted(pruning)(plan, sliced)
    assert layout(file) == layout(convert(smaller))
    assert agreement.max_difference(smaller, file, noise(8)) <= 1e-4


def test_rewriting_is_much_faster_than_the_converter(of_small) -> None:
    pruning, candidates = of_small
    plan = random_plan(pruning, 5)
    sliced = pruning.sliced(plan)

    def seconds(make) -> float:
        start = time.perf_counter()
        make(plan, sliced)
        return time.perf_counter() - start

    assert min(seconds(candidates) for _ in range(3)) < seconds(Converted(pruning)) / 5


def test_a_file_that_differs_from_the_converters_is_found_before_the_search(monkeypatch):
    """As where a formula was right for two networks by chance."""
    find = candidate.weight_mapping.find

    def one_missing(*arguments):
        found = find(*arguments)
        del found[max(found)]
        return found

    monkeypatch.setattr(candidate.weight_mapping, "find", one_missing)
    with pytest.raises(ConversionError, match="changes with the widths in a way that is not known"):
        Candidates(ChannelPruner(small.network(keras_3), round_to=2))
