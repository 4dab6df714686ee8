"""Methods of pruning: which targets and arguments each of them has."""

import keras
import numpy as np
import pytest

from amc_tf.options import Options
from amc_tf.pipeline.pruning_methods import PRUNING_METHODS, pruner_of
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.targets import METHODS, TARGETS
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.sparse import encoding
from tests import small


@pytest.fixture(scope="module")
def model():
    return small.network(keras)


def pruner(method: str, model, **options):
    return pruner_of(model, Options(method=method, **options))


def test_every_method_that_has_a_name_is_there() -> None:
    assert tuple(PRUNING_METHODS) == METHODS


@pytest.mark.parametrize("name", ["weights", "", "Channel", None, 3])
def test_no_such_method(model, name) -> None:
    with pytest.raises(ValueError, match="method is .*; expected one of 'channel', 'magnitude'"):
        pruner(name, model)


def test_zeros_count_like_all_others_among_macs() -> None:
    says = "target is 'macs', which method 'magnitude' does not lower.*give target .*'params' or 'size'.*or method"
    with pytest.raises(ValueError, match=says):
        Options(method="magnitude", target="macs")
    assert Options(method="channel", target="macs").method == "channel"


@pytest.mark.parametrize("name", METHODS)
def test_every_target_has_its_cost(model, name: str) -> None:
    """But a latency, which is no sum of what is known."""
    file = convert(model)
    this = pruner(name, model)
    costs = PRUNING_METHODS[name].costs(this, file)
    assert set(costs) == {target.name for target in TARGETS.values() if name in target.methods} - {"latency"}
    least = [unit.widths[0] for unit in this.units]
    for cost in costs.values():
        assert 0 < cost(least) < 0.5 * cost(this.full) and cost.full.tolist() == list(this.full)
    assert costs["params"](this.full) == model.count_params() and costs["size"](this.full) == len(file)


def test_what_ships(model) -> None:
    """A file with many zeros without them; one of narrower layers as the converter made it."""
    this = pruner("magnitude", model)
    file = convert(this.apply(this.plan([unit.widths[0] for unit in this.units])))
    assert PRUNING_METHODS["channel"].shipped(file) == file
    assert PRUNING_METHODS["magnitude"].shipped(file) == encoding.encoded(file)
    assert len(encoding.encoded(file)) < 0.6 * len(file)


def test_channels_have_rounding_and_importance(model) -> None:
    this = pruner("channel", model, round_to=4, importance="magnitude_out", frozen=["wide"])
    assert isinstance(this, ChannelPruner)
    assert [(unit.name, unit.widths) for unit in this.units] == [("stem", (4, 8, 12, 16))]
    assert pruner("channel", model, round_to=4, min_keep=0.5).units[0].widths == (8, 12, 16)
    same = ChannelPruner(model, round_to=4, importance="magnitude_out", frozen=["wide"])
    assert this.plan([8]) == same.plan([8]) != pruner("channel", model, round_to=4, frozen=["wide"]).plan([8])


def test_weights_have_neither(model) -> None:
    with pytest.raises(ValueError, match="round_to is 4, but it is about channels; leave it out for method 'magn"):
        pruner("magnitude", model, round_to=4)
    for importance in ("magnitude_out", np.abs):
        with pytest.raises(ValueError, match="importance is .* is about channels; leave it out for method 'magnitude'"):
            pruner("magnitude", model, importance=importance)
    this = pruner("magnitude", model, frozen=["wide"], min_keep=0.25)
    assert isinstance(this, MagnitudePruner)
    assert [unit.name for unit in this.units] == ["stem", "back", "head"] and this.low == 0.25


def test_the_papers_bounds_by_default(model) -> None:
    assert pruner("channel", model, round_to=1).low == 0.2
    low = {unit.name: unit.widths[0] / unit.size for unit in pruner("magnitude", model).units}
    assert low["wide"] == pytest.approx(0.2, abs=1e-3) and low["head"] == 2 / 64
