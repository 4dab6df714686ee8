"""prune() and analyze(), as a caller sees them."""

import json

import numpy as np
import pytest

import amc_tf
from tests import small


def test_one_ratio_for_all_units(keras_module):
    model = small.network(keras_module, width=32)
    pruned, plan = amc_tf.prune(model, 0.5)
    assert set(plan.keep.values()) == {0.5}
    assert [pruned.get_layer(name).filters for name in ("stem", "wide", "back")] == [16, 32, 16]
    x = small.images(4)
    assert np.abs(np.asarray(pruned(x)) - np.asarray(plan.masked(model)(x))).max() <= 1e-5


def test_ratios_by_group_name_leave_the_rest_whole(keras_module):
    model = small.network(keras_module, width=32)
    pruned, plan = amc_tf.prune(model, {"wide": 0.25})
    assert [pruned.get_layer(name).filters for name in ("stem", "wide", "back")] == [32, 16, 32]
    again, same = amc_tf.prune(model, plan)
    assert same == plan and again.get_layer("wide").filters == 16


@pytest.mark.parametrize(
    ("keep", "error", "says"),
    [
        (0, ValueError, "above 0"),
        (1.2, ValueError, "at most 1"),
        ("half", TypeError, "half"),
        ({"nobody": 0.5}, ValueError, "nobody"),
        ({"head": 0.5}, ValueError, "output"),
        ({"back": 0.5}, ValueError, "belong to group 'stem'"),
        (amc_tf.Plan({"wide": np.ones(3, bool)}), ValueError, "3"),
    ],
)
def test_bad_ratios_are_refused(keep, error, says):
    import keras

    with pytest.raises(error, match=says):
        amc_tf.prune(small.network(keras), keep)


def test_analyze_names_groups_reasons_and_reach(keras_module):
    analysis = amc_tf.analyze(small.network(keras_module))
    lines = {line.name: line for line in analysis.units}
    assert set(lines) == {"stem", "wide", "head"}
    assert {"stem", "back"} <= set(lines["stem"].layers)
    assert lines["head"].frozen == "it is an output of the model" and lines["wide"].frozen is None
    least, most = analysis.budgets()["macs"]
    assert 0 < least < most == 1
    with pytest.raises(amc_tf.BudgetError):
        amc_tf.compress(small.network(keras_module), target="macs", budget=least * 0.99, train_data=small.images(9))
    json.dumps(analysis.as_dict())


def test_a_group_too_narrow_for_rounding_says_so(keras_module):
    lines = {line.name: line for line in amc_tf.analyze(small.network(keras_module, width=8)).units}
    assert "multiple of 8" in lines["stem"].frozen
