"""MACs, params and bytes by formula, against those of models that were built."""

import functools
import os
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_tf.cost import counts
from amc_tf.errors import UnsupportedModel
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.tflite import operator_costs
from amc_tf.tflite.conversion.keras_to_tflite import convert
from tests import toys
from tests.cost.counted import macs_by_calls, macs_by_graph, macs_by_profiler
from tests.graph.cases import case, pruned

# Toys with layers that multiply and have no rule.
WITHOUT_RULE = """
    recurrent attention attention_with_keywords einsum_dense time_distributed custom_convolution lora
    spectral_normalization
""".split()

NOT_CONVERTED = {"mixed_precision", "positions3d"}

# On CI of every toy and Keras; elsewhere, since every file is a conversion, of a few.
_ALL = [(name, toy.name) for name, toy in (pair.values for pair in toys.cases())]
PAIRS_WITHOUT_RULE = [pair for pair in _ALL if pair[1] in WITHOUT_RULE]
WITH_RULES = [
    pair for pair in (_ALL if os.environ.get("CI") else toys.in_turns()[::3])
    if pair[1] not in NOT_CONVERTED.union(WITHOUT_RULE)
]  # fmt: skip


@functools.lru_cache(maxsize=8)
def pruning(keras_name: str, toy_name: str) -> ChannelPruner | None:
    try:
        return ChannelPruner(case(keras_name, toy_name).model, round_to=1, min_keep=0.01)
    except UnsupportedModel:
        return None  # nothing in this toy can shrink


def some_widths(units, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return [int(rng.choice(unit.widths)) for unit in units]


# Without the largest toy, a MobileNetV2 as that in tests/graph/test_applications.py.
COUNTED = [pair for pair in toys.one_keras_each() if pair.values[1].name != "mobilenet_under_a_head"]


@pytest.mark.parametrize("keras_name, toy", COUNTED)
def test_counted_equals_built(keras_name: str, toy: toys.Toy) -> None:
    this = pruning(keras_name, toy.name)
    if this is None:
        assert not toy.shrinks
        return
    macs, params = counts.macs(this.groups, this.units), counts.params(this.groups, this.units)
    given = case(keras_name, toy.name)
    inputs, plan = [x[:1] for x in given.inputs], given.random_plan()
    some = [int(plan[unit.name].sum()) for unit in this.units]
    for widths, built in ((macs.full.tolist(), given.model), (some, pruned(keras_name, toy.name))):
        assert params(widths) == built.count_params()
        if toy.name not in WITHOUT_RULE:
            assert macs(widths) == macs_by_calls(built, inputs)


@pytest.mark.parametrize("keras_name, name", PAIRS_WITHOUT_RULE)
def test_layers_without_a_rule_are_counted_in_the_file(keras_name: str, name: str) -> None:
    this = pruning(keras_name, name)
    model = case(keras_name, name).model
    macs = counts.macs(this.groups, this.units, convert(model))
    assert macs(macs.full) == macs_by_graph(model)
    widths = some_widths(this.units, 1)
    assert macs(widths) == macs_by_graph(this.apply(this.plan(widths))) < macs(macs.full)


@pytest.mark.parametrize("keras_name, name", WITH_RULES)
def test_the_file_multiplies_as_often_as_the_layers(keras_name: str, name: str) -> None:
    """By operators of the file and by rules for layers, or, where one has no rule, by TensorFlow's graph."""
    given = case(keras_name, name)
    expected = macs_by_graph(given.model) if given.groups.unknown else counts.macs(given.groups, ())(())
    assert operator_costs.macs(convert(given.model)) == expected


@pytest.mark.parametrize("name", ["residual", "depthwise", "dense_after_flatten", "pooling", "dense_on_sequences"])
def test_tensorflows_profiler_agrees(keras_module, name: str) -> None:
    this = pruning(keras_module.__name__, name)
    widths = some_widths(this.units, 1)
    built = this.apply(this.plan(widths))
    assert counts.macs(this.groups, this.units)(widths) == macs_by_profiler(built)


def test_macs_by_hand(keras_module) -> None:
    this = pruning(keras_module.__name__, "conv2d")
    macs, params = counts.macs(this.groups, this.units), counts.params(this.groups, this.units)
    # Conv 3x3 3 -> 8 to 6x6, conv 1x3 8 -> 6 to 3x3, conv 3x3 6 -> 7 at 3x3, Dense 7 -> 5.
    assert macs([8, 6, 7]) == 36 * 9 * 3 * 8 + 9 * 3 * 8 * 6 + 9 * 9 * 6 * 7 + 7 * 5
    assert params([8, 6, 7]) == (9 * 3 * 8 + 8) + 3 * 8 * 6 + (9 * 6 * 7 + 7) + (7 * 5 + 5)
    assert macs([4, 3, 1]) == 36 * 9 * 3 * 4 + 9 * 3 * 4 * 3 + 9 * 9 * 3 * 1 + 1 * 5
    assert (macs.unit, params.unit) == ("MACs", "params")


def test_shared_layers_cost_macs_twice_and_params_once(keras_module) -> None:
    this = pruning(keras_module.__name__, "shared_layer")
    macs, params = counts.macs(this.groups, this.units), counts.params(this.groups, this.units)
    assert macs([6, 8]) == 64 * (3 * 6 + 6 * 8 + 2 * 9 * 8 * 8) + 8 * 5
    assert params([6, 8]) == 3 * 6 + 6 + 6 * 8 + 8 + 9 * 8 * 8 + 8 + 8 * 5 + 5


@settings(max_examples=20)
@given(data=st.data())
@pytest.mark.parametrize("name", ["concatenate", "squeeze_excite", "grouped_in_a_row", "channel_padding"])
def test_costs_never_fall_as_widths_grow(keras_module, name: str, data) -> None:
    this = pruning(keras_module.__name__, name)
    low = [data.draw(st.sampled_from(unit.widths)) for unit in this.units]
    high = [data.draw(st.sampled_from([w for w in u.widths if w >= v])) for u, v in zip(this.units, low, strict=True)]
    for cost in (counts.macs, counts.params, functools.partial(counts.size, base_bytes=10**6)):
        number = cost(this.groups, this.units)
        assert 0 < number(low) <= number(high) <= number(number.full)


def test_groups_that_are_no_unit_stay_whole(keras_module) -> None:
    """With widths of 4 only, the narrower groups are no units but still count."""
    model = case(keras_module.__name__, "squeeze_excite").model
    this = ChannelPruner(model, round_to=4, min_keep=0.2)
    assert [(unit.name, unit.widths) for unit in this.units] == [("conv1", (4, 8)), ("conv2", (4, 6))]
    built = this.apply(this.plan([4, 4]))
    assert counts.params(this.groups, this.units)([4, 4]) == built.count_params()


# ------------------------------------------------------------------------------------------------------------- bytes

CONVERTED = {  # the Kerases in turns: the prediction is made of the file and of numbers
    "conv2d": "keras",
    "dense": "tf_keras",
    "residual": "keras",
    "depthwise": "tf_keras",
    "separable2d": "keras",
    "squeeze_excite": "tf_keras",
    "dense_block": "keras",
    "batchnorm": "tf_keras",
}


@pytest.mark.parametrize("name", CONVERTED)
def test_predicted_bytes_of_tiny_files(name: str) -> None:
    """Tiny files are all headers and padding, so the prediction is held to a few bytes an operator."""
    this = pruning(CONVERTED[name], name)
    whole = len(convert(case(CONVERTED[name], name).model))
    size = counts.size(this.groups, this.units, whole)
    widths = [unit.widths[len(unit.widths) // 2] for unit in this.units]
    assert size(size.full) == whole and size.unit == "bytes"
    built = len(convert(this.apply(this.plan(widths))))
    operators = sum(2 if "Separable" in node.kind else 1 for node in this.graph.nodes)
    assert abs(size(widths) - built) <= 16 * operators and size(widths) < whole


def test_predicted_bytes_of_mobilenet() -> None:
    import keras

    image = (64, 64, 3)
    model = toys.randomized(keras.applications.MobileNet(input_shape=image, alpha=0.5, weights=None, classes=10))
    this = ChannelPruner(model)
    size = counts.size(this.groups, this.units, len(convert(model)))
    widths = [unit.widths[len(unit.widths) // 2] for unit in this.units]
    assert size(widths) == pytest.approx(len(convert(this.apply(this.plan(widths)))), rel=0.005)


def test_float_counts_do_not_overflow() -> None:
    """ImageNet-sized networks have more MACs than 32 bits hold."""
    import keras

    image = keras.Input((1000, 1000, 64))
    x = keras.layers.Conv2D(4096, 3, padding="same")(image)
    model = keras.Model(image, keras.layers.Conv2D(8, 1)(x))
    this = ChannelPruner(model)
    assert counts.macs(this.groups, this.units)([4096]) == prod([1000, 1000, 9, 64, 4096]) + prod([1000, 1000, 4096, 8])
