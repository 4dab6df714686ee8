"""The named importances against numbers computed by hand."""

import numpy as np
import pytest

from amc_tf.graph.groups import Group, Slot
from amc_tf.pruning.importance import NAMED, magnitude, magnitude_in, magnitude_out, scores
from tests.graph.cases import case

# Two channels: created by a kernel (1, 2), carried by a bias, read twice over by a flattened Dense kernel (4, 1).
WEIGHTS = {
    "maker": (np.array([[1.0, -3.0]]), np.array([10.0, 20.0])),
    "reader": (np.array([[1.0], [-2.0], [4.0], [-8.0]]),),
}
GROUP = Group(
    name="maker",
    start=0,
    channels=2,
    slots=(
        Slot("maker", 0, 1, "out", np.array([[0], [1]])),
        Slot("maker", 1, 0, "own", np.array([[0], [1]])),
        Slot("reader", 0, 0, "in", np.array([[0, 2], [1, 3]])),
    ),
    frozen=None,
)


def test_magnitude_in_sums_the_weights_that_read_the_channel() -> None:
    assert magnitude_in(GROUP, WEIGHTS).tolist() == [1 + 4, 2 + 8]


def test_magnitude_out_sums_the_weights_that_create_the_channel() -> None:
    assert magnitude_out(GROUP, WEIGHTS).tolist() == [1, 3]


def test_magnitude_normalises_each_weight() -> None:
    """Each weight array is first scaled to mean square 1 per channel; biases do not count."""
    created, read = np.array([1, 9]) / 5, np.array([1 + 16, 4 + 64]) / 42.5
    assert magnitude(GROUP, WEIGHTS) == pytest.approx(np.sqrt(created + read))
    grown = WEIGHTS | {"reader": (1000 * WEIGHTS["reader"][0],)}
    assert magnitude(GROUP, grown) == pytest.approx(magnitude(GROUP, WEIGHTS))


def test_weights_of_zero_score_zero() -> None:
    dead = {layer: tuple(0 * array for array in arrays) for layer, arrays in WEIGHTS.items()}
    for importance in NAMED.values():
        assert importance(GROUP, dead).tolist() == [0, 0]


def test_a_convolution_sums_over_its_window_and_the_other_channels(keras_module) -> None:
    this = case(keras_module.__name__, "conv2d")
    kernel = this.weights["conv1"][0]  # (3, 3, 3, 8)
    group = this.groups["conv1"]
    assert magnitude_out(group, this.weights) == pytest.approx(np.abs(kernel).sum(axis=(0, 1, 2)), rel=1e-5)
    reader = this.weights["conv2"][0]  # (1, 3, 8, 6)
    assert magnitude_in(group, this.weights) == pytest.approx(np.abs(reader).sum(axis=(0, 1, 3)), rel=1e-5)


def test_all_layers_that_create_a_group_count(keras_module) -> None:
    this = case(keras_module.__name__, "residual")
    stem, back = this.weights["stem"][0], this.weights["back"][0]
    expected = np.abs(stem).sum(axis=(0, 1, 2)) + np.abs(back).sum(axis=(0, 1, 2))
    assert magnitude_out(this.groups["stem"], this.weights) == pytest.approx(expected, rel=1e-5)


def test_every_named_importance_works_on_every_group() -> None:
    for toy in ("concatenate", "grouped_in_a_row", "channel_padding", "shared_layer", "dense_after_flatten"):
        this = case("keras", toy)
        for group in this.groups.prunable:
            for importance in NAMED.values():
                values = scores(importance, group, this.weights)
                assert values.shape == (group.channels,) and (values >= 0).all()


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ([1.0], r"returned shape \(1,\) for group 'maker'"),
        ([[1.0, 2.0]], r"shape \(1, 2\)"),
        (3.0, r"shape \(\)"),
        ([1.0, np.nan], "with NaN or infinity"),
        ([1.0, np.inf], "with NaN or infinity"),
    ],
)
def test_scores_that_cannot_rank_are_refused(returned, says: str) -> None:
    def mine(group, weights):
        return returned

    with pytest.raises(ValueError, match=f"importance 'mine'.*{says}.*expected 2 finite numbers"):
        scores(mine, GROUP, WEIGHTS)
