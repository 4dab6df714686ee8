"""Methods of pruning: which targets and arguments each of them has."""

import keras
import numpy as np
import pytest

from amc_tf.pipeline import pruning_methods
from amc_tf.pipeline.pruning_methods import METHODS, chosen, pruning
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.sparse import encoding
from tests import small


@pytest.fixture(scope="module")
def model():
    return small.network(keras)


@pytest.mark.parametrize("name", ["weights", "", "Channel", None, 3])
def test_no_such_method(model, name) -> None:
    for ask in (lambda: chosen(name), lambda: pruning(name, model)):
        with pytest.raises(ValueError, match="method is .*; expected one of 'channel', 'magnitude'"):
            ask()


def test_zeros_count_like_all_others_among_macs() -> None:
    says = "target is 'macs', which method 'magnitude' does not lower.*give target 'params' or 'size'.*or method"
    with pytest.raises(ValueError, match=says):
        chosen("magnitude", "macs")
    assert chosen("channel", "macs").name == "channel"


@pytest.mark.parametrize("name", METHODS)
def test_every_target_has_its_cost(model, name: str) -> None:
    """But a latency, which is no sum of what is known."""
    method, file = chosen(name), convert(model)
    this = pruning(name, model)
    costs = method.costs(this, file)
    assert set(costs) == set(method.targets) - {"latency"}
    least = [unit.widths[0] for unit in this.units]
    for target, cost in costs.items():
        assert chosen(name, target) is method
        assert 0 < cost(least) < 0.5 * cost(this.full) and cost.full.tolist() == list(this.full)
    assert costs["params"](this.full) == model.count_params() and costs["size"](this.full) == len(file)


def test_what_ships(model) -> None:
    """A file with many zeros without them; one of narrower layers as the converter made it."""
    this = pruning("magnitude", model)
    file = convert(this.apply(this.plan([unit.widths[0] for unit in this.units])))
    assert METHODS["channel"].finished(file) == file
    assert METHODS["magnitude"].finished(file) == encoding.encoded(file)
    assert len(encoding.encoded(file)) < 0.6 * len(file)


def test_channels_have_rounding_and_importance(model) -> None:
    this = pruning("channel", model, round_to=4, importance="magnitude_out", frozen=["wide"])
    assert isinstance(this, ChannelPruner)
    assert [(unit.name, unit.widths) for unit in this.units] == [("stem", (4, 8, 12, 16))]
    assert pruning("channel", model, round_to=4, min_keep=0.5).units[0].widths == (8, 12, 16)
    same = ChannelPruner(model, round_to=4, importance="magnitude_out", frozen=["wide"])
    assert this.plan([8]) == same.plan([8]) != pruning("channel", model, round_to=4, frozen=["wide"]).plan([8])


def test_weights_have_neither(model) -> None:
    with pytest.raises(ValueError, match="round_to is 4, but it is about channels; leave it out for method 'magn"):
        pruning("magnitude", model, round_to=4)
    for importance in ("magnitude_out", np.abs):
        with pytest.raises(ValueError, match="importance is .* is about channels; leave it out for method 'magnitude'"):
            pruning("magnitude", model, importance=importance)
    this = pruning("magnitude", model, frozen=["wide"], min_keep=0.25)
    assert isinstance(this, MagnitudePruner)
    assert [unit.name for unit in this.units] == ["stem", "back", "head"] and this.low == 0.25


def test_the_papers_bounds_by_default(model) -> None:
    assert pruning("channel", model, round_to=1).low == 0.2
    low = {unit.name: unit.widths[0] / unit.size for unit in pruning("magnitude", model).units}
    assert low["wide"] == pytest.approx(0.2, abs=1e-3) and low["head"] == 2 / 64


def test_defaults_are_those_of_channels() -> None:
    assert (pruning_methods.IMPORTANCE, pruning_methods.ROUND_TO) == ("magnitude_in", 8)
