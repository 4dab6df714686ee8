"""Which channels are joined: known networks by name, and the reasons of frozen groups."""

import numpy as np
import pytest

from amc_tf.graph.groups import channel_groups
from tests import toys
from tests.graph.cases import case, read


def slots_of(group) -> set[tuple[str, str, str]]:
    """(layer, number of the weight, role) of every slot."""
    return {(slot.layer, f"{slot.weight}.{slot.axis}", slot.role) for slot in group.slots}


def test_residual_block(keras_module) -> None:
    """The stem, the block's last convolution, its BatchNorm and all readers; the inner width is free."""
    groups = case(keras_module.__name__, "residual").groups
    assert [(group.name, group.channels) for group in groups.groups] == [("stem", 6), ("block", 8), ("head", 5)]
    stem = slots_of(groups["stem"])
    assert stem >= {
        ("stem", "0.3", "out"),
        ("stem", "1.0", "own"),
        ("block", "0.2", "in"),
        ("back", "0.3", "out"),
        ("back", "1.0", "own"),
        ("head", "0.0", "in"),
    }
    assert len({layer for layer, _, _ in stem} - {"stem", "block", "back", "head"}) == 1  # its BatchNormalization
    assert ("block", "0.3", "out") in slots_of(groups["block"]) and ("back", "0.2", "in") in slots_of(groups["block"])


def test_resnet_stage_is_one_group(keras_module) -> None:
    """All blocks of a stage share one width; every block's inner width is its own."""
    model = _resnet(keras_module)
    groups = read(keras_module, model).groups
    names = {group.name: group for group in groups.prunable}
    assert sorted(names) == ["a1", "b1", "stem", "wide"]
    assert {layer for layer, _, role in slots_of(names["stem"]) if role == "out"} == {"stem", "a2"}
    assert {layer for layer, _, role in slots_of(names["wide"]) if role == "out"} == {"wide", "b2"}


def _resnet(keras):
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(image)
    y = layers.Conv2D(8, 3, padding="same", name="a1")(x)
    x = layers.Add()([layers.Conv2D(8, 3, padding="same", name="a2")(y), x])
    y = layers.Conv2D(12, 3, 2, padding="same", name="b1")(layers.ReLU()(x))
    short = layers.Conv2D(12, 1, 2, name="wide")(x)
    x = layers.Add()([short, layers.Conv2D(12, 3, padding="same", name="b2")(y)])
    return keras.Model(image, layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(x)))


def test_squeeze_and_excite(keras_module) -> None:
    """The gate goes with what it gates; the squeezed width is free."""
    groups = case(keras_module.__name__, "squeeze_excite").groups
    assert {layer for layer, _, role in slots_of(groups["conv1"]) if role == "out"} == {"conv1", "excite1"}
    assert {layer for layer, _, role in slots_of(groups["conv2"]) if role == "out"} == {"conv2", "excite2"}
    assert groups["squeeze1"].channels == 4 and slots_of(groups["squeeze1"]) >= {("excite1", "0.2", "in")}


def test_dense_block(keras_module) -> None:
    """Concatenated tensors keep their own groups; a layer that reads them has a slot per group."""
    groups = case(keras_module.__name__, "dense_block").groups
    where = {
        group.name: slot.positions.ravel().tolist()
        for group in groups.groups
        for slot in group.slots
        if slot.layer == "transition" and slot.role == "in"
    }
    assert where == {"stem": [0, 1, 2, 3, 4, 5], "grow1": [6, 7, 8, 9], "grow2": [10, 11, 12, 13]}


def test_concatenation_keeps_the_positions_of_the_input(keras_module) -> None:
    """Positions 5 to 7 belong to the image and to no group."""
    groups = case(keras_module.__name__, "concatenate").groups
    taken = {
        group.name: slot.positions.ravel().tolist()
        for group in groups.groups
        for slot in group.slots
        if slot.layer == "after" and slot.role == "in"
    }
    assert taken["a"] == list(range(10)) and taken["b"] == [16, 17, 18, 19, 20, 21]
    assert 10 not in sum(taken.values(), [])


def test_grouped_convolution_joins_its_groups(keras_module) -> None:
    groups = case(keras_module.__name__, "grouped").groups
    conv, grouped = groups["conv"], groups["grouped"]
    assert conv.channels == 2 and grouped.channels == 3  # of 8 and 12, four groups
    slot = next(s for s in conv.slots if s.layer == "conv" and s.role == "out")
    assert slot.positions.tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_grouped_convolutions_of_different_group_counts_join(keras_module) -> None:
    groups = case(keras_module.__name__, "grouped_in_a_row").groups
    assert [(g.name, g.channels) for g in groups.prunable] == [("conv", 8), ("grouped2", 4), ("grouped4", 2)]


def test_flatten_gives_every_channel_one_position_per_pixel(keras_module) -> None:
    conv = case(keras_module.__name__, "dense_after_flatten").groups["conv"]
    slot = next(s for s in conv.slots if s.layer == "dense")
    assert slot.positions.tolist() == [[c + 4 * pixel for pixel in range(9)] for c in range(4)]


def test_the_inputs_of_a_shared_layer_are_joined(keras_module) -> None:
    groups = case(keras_module.__name__, "shared_on_two_branches").groups
    assert {layer for layer, _, role in slots_of(groups["left"]) if role == "out"} == {"left", "right"}


def test_groups_stand_in_the_order_of_the_network(keras_module) -> None:
    groups = case(keras_module.__name__, "conv2d").groups
    assert [group.name for group in groups.groups] == ["conv1", "conv2", "conv3", "head"]
    assert [group.start for group in groups.groups] == [0, 8, 14, 21] and groups.channels == 26


# -------------------------------------------------------------------------------------------------------- frozen


@pytest.mark.parametrize("keras_name, toy", toys.cases())
def test_every_frozen_group_has_a_reason_that_names_a_layer(keras_name: str, toy: toys.Toy) -> None:
    groups = case(keras_name, toy.name).groups
    layers = {node.layer for node in groups.graph.nodes}
    for group in groups.groups:
        if group.frozen not in (None, "it is an output of the model", "it is a single channel"):
            assert any(repr(layer) in group.frozen for layer in layers), group.frozen


@pytest.mark.parametrize("keras_name, toy", toys.cases())
def test_slots_are_positions_in_the_weights(keras_name: str, toy: toys.Toy) -> None:
    """No position belongs to two groups or lies outside, and a slot has one row per channel."""
    this = case(keras_name, toy.name)
    taken: set[tuple] = set()
    for group in this.groups.groups:
        for slot in group.slots:
            length = this.weights[slot.layer][slot.weight].shape[slot.axis]
            positions = slot.positions.ravel().tolist()
            assert len(slot.positions) == group.channels and min(positions) >= 0 and max(positions) < length
            slot_positions = {(slot.layer, slot.weight, slot.axis, position) for position in positions}
            assert len(slot_positions) == len(positions) and not slot_positions & taken
            taken |= slot_positions


REASONS = {
    "joint_norms": {"conv1": "'layer_norm' (LayerNormalization)", "conv2": "'group_norm' (GroupNormalization)"},
    "unit_norm": {"conv1": "'unit_norm' (UnitNormalization)"},
    "softmax_in_the_middle": {
        "conv1": "the activation 'softmax' of 'conv1'",
        "conv2": "'soft' (softmax) looks across",
        "dense": "the activation 'softmax' of 'again'",
    },
    "custom_activation": {"conv1": "the activation 'double' of 'conv1'", "conv2": "'double' of 'double'"},
    "rescaling_by_channel": {"conv1": "'per_channel' has its own number", "conv2": "'given'"},
    "spatial_attention": {"gate": "'multiply"},
    "add_with_input": {"held": "'add"},
    "torn_apart": {"conv": "'torn' tears these channels apart"},
    "permuted_channels_as_rows": {"conv": "'after' mixes these channels as if they were positions"},
    "slices": {"b": "takes channels by their number"},
    "constants": {"conv1": "combines it with a constant of 3 channels"},
    "shared_with_input": {"held": "the shared layer 'shared' also sees channels that cannot go"},
    "several_outputs": {"middle": "it is an output of the model", "head": "it is an output of the model"},
    "custom_layer": {"conv2": "'twice' reads it, and the class Twice is not understood"},
    "custom_convolution": {"conv2": "'reversed' reads it, and the class Reversed is not understood"},
    "lambda_layer": {"conv2": "'reverse' reads it, and the class Lambda is not understood"},
    "recurrent": {"held": "'both_ways' reads it, and the class Bidirectional is not understood"},
    "attention": {"held": "'attention' reads it, and the class MultiHeadAttention is not understood"},
    "einsum_dense": {"held": "'einsum' reads it, and the class EinsumDense is not understood"},
    "dot": {"a": "'dot' reads it, and the class Dot is not understood"},
}


@pytest.mark.parametrize("name", REASONS)
def test_reasons(keras_module, name: str) -> None:
    groups = case(keras_module.__name__, name).groups
    for group, reason in REASONS[name].items():
        assert reason in (groups[group].frozen or "it is not frozen")


def test_unknown_layers_are_listed(keras_module) -> None:
    groups = case(keras_module.__name__, "custom_layer").groups
    assert groups.unknown == {"twice": "the class Twice is not understood"}


def test_the_caller_may_freeze_layers(keras_module) -> None:
    graph = case(keras_module.__name__, "conv2d").graph
    groups = channel_groups(graph, frozen=["conv2"])
    assert [group.name for group in groups.prunable] == ["conv1", "conv3"]
    assert groups["conv2"].frozen == "the caller froze 'conv2'"


def test_a_reason_applies_to_all_joined_channels(keras_module) -> None:
    groups = channel_groups(case(keras_module.__name__, "residual").graph, frozen=["back"])
    assert groups["stem"].frozen == "the caller froze 'back'" and groups["block"].frozen is None


def test_finding_a_group_by_name(keras_module) -> None:
    groups = case(keras_module.__name__, "conv2d").groups
    assert groups["conv2"].channels == 6 and "conv2: 6 channels" in str(groups["conv2"])
    with pytest.raises(KeyError, match="nowhere"):
        groups["nowhere"]


def test_axes_carry_the_channel_ids_of_all_groups(keras_module) -> None:
    groups = case(keras_module.__name__, "concatenate").groups
    channel_ids = groups.axes["after", 0, 2]
    image = channel_ids == -1
    assert image.sum() == 6 and np.flatnonzero(image).tolist() == list(range(10, 16))
