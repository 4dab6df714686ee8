"""ChannelPruner: units, widths, and the channels that stay at a keep ratio."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_tf.errors import UnsupportedModel
from amc_tf.graph.groups import channel_groups
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.pruning.plan import Plan
from tests.graph.cases import case, difference
from tests.toys import outputs


def chain(keras, *widths: int):
    """Convolutions of these widths in a row, then logits."""
    layers = keras.layers
    image = keras.Input((12, 10, 3))
    x = image
    for number, width in enumerate(widths, start=1):
        x = layers.Conv2D(width, 3, strides=min(number, 2), padding="same", name=f"conv{number}")(x)
    return keras.Model(image, layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(x)), name="chain")


def widths(keras, *channels: int, **settings) -> list[tuple[int, ...]]:
    return [unit.widths for unit in ChannelPruner(chain(keras, *channels), **settings).units]


def test_widths_are_multiples_of_round_to_and_the_whole(keras_module) -> None:
    assert widths(keras_module, 32, 20) == [(8, 16, 24, 32), (8, 16, 20)]
    assert widths(keras_module, 32, round_to=16, min_keep=0.1) == [(16, 32)]
    assert widths(keras_module, 6, round_to=1, min_keep=0.01) == [(1, 2, 3, 4, 5, 6)]


def test_min_keep_is_a_lower_bound(keras_module) -> None:
    assert widths(keras_module, 40, min_keep=0.5) == [(24, 32, 40)]
    assert widths(keras_module, 10, round_to=1, min_keep=0.3) == [(3, 4, 5, 6, 7, 8, 9, 10)]
    assert widths(keras_module, 10, round_to=1, min_keep=0.31)[0][0] == 4


def test_groups_too_narrow_for_rounding_are_no_units(keras_module) -> None:
    pruner = ChannelPruner(chain(keras_module, 8, 32))
    assert [unit.name for unit in pruner.units] == ["conv2"]


@given(channels=st.integers(2, 70), round_to=st.integers(1, 16), min_keep=st.floats(0.01, 1))
def test_widths_of_any_group(channels: int, round_to: int, min_keep: float) -> None:
    import keras

    try:
        (found,) = widths(keras, channels, round_to=round_to, min_keep=min_keep)
    except UnsupportedModel as error:
        assert f"round_to={round_to}" in str(error)  # then no width lies between
        assert not [w for w in range(round_to, channels, round_to) if w >= min_keep * channels]
        return
    assert found[-1] == channels and list(found) == sorted(set(found))
    assert all(w >= min_keep * channels - 1e-6 and w % round_to == 0 and w > 0 for w in found[:-1])


def test_a_grouped_convolution_rounds_all_of_its_groups_together(keras_module) -> None:
    layers = keras_module.layers
    image = keras_module.Input((8, 8, 8))
    x = layers.Conv2D(64, 3, groups=4, name="grouped")(image)
    x = layers.Conv2D(6, 1, name="after")(x)
    (unit,) = ChannelPruner(keras_module.Model(image, x)).units
    # 16 channels in each of 4 groups; steps of 2 keep the filters a multiple of 8.
    assert (unit.size, unit.filters, unit.widths) == (16, 64, (4, 6, 8, 10, 12, 14, 16))


def test_units_have_the_features_of_the_layer_that_creates_the_channels(keras_module) -> None:
    first, second = ChannelPruner(chain(keras_module, 16, 24)).units
    assert (first.name, first.size, first.filters, first.inputs) == ("conv1", 16, 16, 3)
    assert (first.height, first.width, first.stride, first.kernel) == (12, 10, 1, 3)
    assert (second.filters, second.inputs, second.height, second.width, second.stride) == (24, 16, 12, 10, 2)


def test_units_of_dense_and_one_dimensional_layers(keras_module) -> None:
    (unit,) = ChannelPruner(case(keras_module.__name__, "conv1d").model, round_to=6).units
    assert (unit.name, unit.height, unit.width, unit.kernel) == ("conv1", 1, 16, 3)
    first, _ = ChannelPruner(case(keras_module.__name__, "dense").model, round_to=1).units
    assert (first.inputs, first.height, first.width, first.stride, first.kernel) == (7, 1, 1, 1, 1)


def test_layer_names_with_colons() -> None:
    """Keras 3 allows them, and the name of the second group of a layer has one too."""
    import keras

    features = keras.Input((4,))
    x = keras.layers.Dense(16, name="block:1")(features)
    model = keras.Model(features, keras.layers.Dense(3, name="head")(x))
    assert [(unit.name, unit.inputs) for unit in ChannelPruner(model).units] == [("block:1", 4)]


# ------------------------------------------------------------------------------------------------------------- masks


def test_the_most_important_channels_stay(keras_module) -> None:
    ranked = {"conv1": np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.0])}

    def mine(group, weights):
        return ranked.get(group.name, np.ones(group.channels))

    pruner = ChannelPruner(chain(keras_module, 6, 4), round_to=1, importance=mine)
    first, second = pruner.units
    assert np.flatnonzero(pruner.mask(first, 0.5)).tolist() == [0, 2, 4]
    assert np.flatnonzero(pruner.mask(second, 0.5)).tolist() == [0, 1]  # equal scores: the first ones
    plan = pruner.plan([2, 4])
    assert np.flatnonzero(plan["conv1"]).tolist() == [2, 4] and plan["conv2"].all()


def test_of_equal_scores_the_first_stay(keras_module) -> None:
    """On every machine: the sort is a stable one."""
    pruner = ChannelPruner(chain(keras_module, 96), importance=lambda group, weights: np.arange(96) % 2)
    (unit,) = pruner.units
    assert np.flatnonzero(pruner.mask(unit, 0.25)).tolist() == list(range(1, 49, 2))


def test_wider_masks_hold_narrower_ones(keras_module) -> None:
    pruner = ChannelPruner(chain(keras_module, 12), round_to=1)
    (unit,) = pruner.units
    masks = [pruner.mask(unit, width / 12) for width in unit.widths]
    assert [mask.sum() for mask in masks] == list(unit.widths)
    assert all((wide | narrow == wide).all() for narrow, wide in zip(masks, masks[1:], strict=False))


@pytest.mark.parametrize(("keep", "width"), [(1.0, 32), (0.5, 16), (0.01, 8), (0.6, 16), (0.65, 24), (0.9, 32)])
def test_keep_ratios_round_to_the_nearest_width(keras_module, keep: float, width: int) -> None:
    pruner = ChannelPruner(chain(keras_module, 32))
    assert pruner.mask(pruner.units[0], keep).sum() == width


def test_the_same_model_gives_the_same_masks(keras_module) -> None:
    model = chain(keras_module, 12, 10)
    first, second = (ChannelPruner(model, round_to=1).plan([5, 3]) for _ in range(2))
    assert first == second


def test_importances_choose_differently(keras_module) -> None:
    model = chain(keras_module, 16, 16)
    plans = {name: ChannelPruner(model, importance=name).plan([8, 8]) for name in ("magnitude_in", "magnitude_out")}
    assert plans["magnitude_in"] != plans["magnitude_out"]


# ------------------------------------------------------------------------------------------------------------ applying


def test_applied_plans_agree_with_masked_ones(keras_module) -> None:
    this = case(keras_module.__name__, "residual")
    pruner = ChannelPruner(this.model, round_to=2)
    plan = pruner.plan([unit.widths[0] for unit in pruner.units])
    smaller = pruner.apply(plan)
    assert smaller.get_layer("block").get_weights()[0].shape[-1] == pruner.units[1].widths[0]
    assert difference(outputs(smaller, this.inputs), outputs(plan.masked(this.model), this.inputs)) <= 1e-5


def test_other_weights_may_be_applied(keras_module) -> None:
    this = case(keras_module.__name__, "dense")
    pruner = ChannelPruner(this.model, round_to=1)
    kernel, bias = this.weights["head"]
    plan = pruner.plan([3, 3])
    smaller = pruner.apply(plan, pruner.sliced(plan) | {"head": (kernel[:3] * 0, bias)})
    assert np.allclose(outputs(smaller, this.inputs)[0], bias)


def test_frozen_layers_are_left_alone(keras_module) -> None:
    pruner = ChannelPruner(chain(keras_module, 16, 16, 16), frozen=["conv2"])
    assert [unit.name for unit in pruner.units] == ["conv1", "conv3"]
    smaller = pruner.apply(pruner.plan([8, 8]))
    assert [smaller.get_layer(f"conv{number}").filters for number in (1, 2, 3)] == [8, 16, 8]


def test_a_plan_made_with_frozen_layers_fits_the_model_without(keras_module) -> None:
    model = chain(keras_module, 16, 16)
    plan = ChannelPruner(model, frozen=["conv2"]).plan([8])
    assert isinstance(plan, Plan) and plan.kept(channel_groups(ChannelPruner(model).graph)).sum() == 8 + 16 + 5


# ------------------------------------------------------------------------------------------------------------ refusing


@pytest.mark.parametrize("round_to", [0, -8, 2.5, "8", True, None])
def test_bad_round_to(round_to) -> None:
    import keras

    with pytest.raises((TypeError, ValueError), match="round_to is"):
        ChannelPruner(chain(keras, 16), round_to=round_to)


@pytest.mark.parametrize("min_keep", [0, -0.5, 1.01, "half", float("nan"), None])
def test_bad_min_keep(min_keep) -> None:
    import keras

    with pytest.raises((TypeError, ValueError), match="min_keep is"):
        ChannelPruner(chain(keras, 16), min_keep=min_keep)


@pytest.mark.parametrize("importance", ["l1", None, 3])
def test_bad_importance(importance) -> None:
    import keras

    with pytest.raises((TypeError, ValueError), match="importance is.*magnitude_in"):
        ChannelPruner(chain(keras, 16), importance=importance)


def test_an_unknown_frozen_layer_gets_a_suggestion(keras_module) -> None:
    model = case(keras_module.__name__, "functional_in_functional").model
    with pytest.raises(ValueError, match="'conv2'.*did you mean 'encoder/conv2'"):
        ChannelPruner(model, round_to=1, frozen=["conv2"])
    with pytest.raises(ValueError, match="'nowhere'.*does not have"):
        ChannelPruner(model, round_to=1, frozen=["nowhere"])


def test_a_model_in_which_nothing_can_shrink_says_why(keras_module) -> None:
    model = case(keras_module.__name__, "several_outputs").model
    with pytest.raises(UnsupportedModel, match="round_to=8.*widest.*6 channels"):
        ChannelPruner(model)
    with pytest.raises(UnsupportedModel, match="no convolution or Dense layer besides its output"):
        ChannelPruner(case(keras_module.__name__, "no_weights").model)
    layers, image = keras_module.layers, keras_module.Input((4, 4, 3))
    hidden = keras_module.Model(image, layers.Dense(2)(layers.Lambda(lambda x: x * 2, name="hidden")(image)))
    with pytest.raises(UnsupportedModel, match="'hidden': .*Lambda.* not understood; .*it is an output"):
        ChannelPruner(hidden)
    with pytest.raises(UnsupportedModel, match="'conv1'.*the caller froze"):
        ChannelPruner(chain(keras_module, 16), frozen=["conv1"])
