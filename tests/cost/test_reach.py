"""What pruning can reach of the MACs, layer by layer."""

from types import ModuleType

import keras
import numpy as np
import pytest

import amc_tf
from amc_tf import analyze
from amc_tf.cost.reach import reach
from amc_tf.graph import keras_reader
from amc_tf.graph.groups import channel_groups
from amc_tf.report.reach_notes import little_reach, reach_notes
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.operator_costs import operator_costs
from tests import toys
from tests.cost.counted import macs_by_graph
from tests.cost.test_counts import WITHOUT_RULE


def reached(model, frozen=()):
    groups = channel_groups(keras_reader.read(model)[0], frozen)
    return reach(groups, operator_costs(convert(model)))


def words(keras_module: ModuleType):
    """A text network most of which no rule understands."""
    layers = keras_module.layers
    inputs = keras_module.Input((6, 4))
    x = layers.Conv1D(8, 3, padding="same", name="conv")(inputs)
    x = layers.Dense(6, name="dense")(layers.GRU(16, name="gru")(x))
    return keras_module.Model(inputs, layers.Dense(3, name="head")(x), name="words")


def test_shares_are_of_all_macs_and_the_largest_comes_first(keras_module: ModuleType) -> None:
    found = reached(words(keras_module))
    conv, gru, dense, head = 6 * 3 * 4 * 8, 6 * 3 * 16 * (8 + 16), 16 * 6, 6 * 3
    total = conv + gru + dense + head
    assert found.share == (dense + head) / total and found.exact
    assert [(line.layer, line.share) for line in found.out] == [("gru", gru / total), ("conv", conv / total)]
    assert found.out[0].reason == "the class GRU is not understood"
    assert found.out[1].reason == "'gru' reads it, and the class GRU is not understood"


@pytest.mark.parametrize("name", WITHOUT_RULE)
def test_all_shares_make_one(name: str) -> None:
    found = reached(toys.TOYS[name].build(keras))
    assert found.share + sum(line.share for line in found.out) == pytest.approx(1)
    assert all(line.layer for line in found.out)


def test_frozen_layers_are_told_with_their_reason() -> None:
    model = toys.TOYS["conv2d"].build(keras)
    found = reached(model, frozen=["conv1", "conv2"])
    assert [line.layer for line in found.out] == ["conv1", "conv2"]
    assert found.out[0].reason == "the caller froze 'conv1'"


def test_a_network_without_obstacles_has_nothing_to_say() -> None:
    found = reached(toys.TOYS["residual"].build(keras))
    assert found.share == 1 and reach_notes(found) == little_reach(found) == [] == reach_notes(None)


def test_the_sentences(keras_module: ModuleType) -> None:
    found = reached(words(keras_module))
    assert reach_notes(found) == little_reach(found)
    first, second, third = reach_notes(found)
    assert first == "Pruning can reach 1.5% of the MACs. Out of reach are:"
    assert second.endswith("gru: the class GRU is not understood") and "conv" in third


def test_analyze_counts_all_of_them(keras_module: ModuleType) -> None:
    model = words(keras_module)
    found = analyze(model, round_to=1)
    assert found.macs == 6 * 3 * 4 * 8 + 6 * 3 * 16 * (8 + 16) + 16 * 6 + 6 * 3
    assert found.reach.share < 0.1 and found.unmade is None
    assert found.as_dict()["reach"]["out"][0]["layer"] == "gru"
    assert found.budgets()["macs"][0] > 0.9  # nearly all of it stays


@pytest.mark.usefixtures("agent_at_once", "shapes_once")
def test_a_budget_is_a_share_of_all_macs_and_users_are_told_what_is_out_of_reach(tmp_path, capsys) -> None:
    model = words(keras)
    x = np.random.default_rng(0).random((48, 6, 4), np.float32)
    result = amc_tf.compress(
        model, target="macs", budget=0.995, train_data=(x, np.zeros(48, int)), episodes=2, round_to=1,
        calibration_size=16, reward_size=16, run_dir=tmp_path, seed=0,
    )  # fmt: skip
    assert result.base.macs == macs_by_graph(model)
    assert result.compressed.macs == macs_by_graph(result.model) <= 0.995 * result.base.macs
    assert result.reach.out[0].layer == "gru"
    assert "Pruning can reach 1.5% of the MACs." in capsys.readouterr().err
    assert "gru: the class GRU is not understood" in (tmp_path / "report.html").read_text()
