"""Known networks: all of them are understood, prune, agree with their masked selves and cost what is counted."""

import importlib

import numpy as np
import pytest

from tests.cost.counted import macs_by_calls
from tools import network_table
from tools.network_table import NETWORKS

# The slowest ones with one Keras each; tools/network_table.py runs both.
SLOW = {"NASNetMobile": "keras", "DenseNet121": "tf_keras", "ConvNeXtTiny": "keras", "EfficientNetB0": "tf_keras"}
CASES = [(k, n) for n in NETWORKS for k in ("keras", "tf_keras") if n not in SLOW or SLOW[n] == k]

# Groups that may shrink, out of all.
GROUPS = {
    "MobileNet": (14, 15),
}


@pytest.mark.parametrize("keras_name, name", CASES, ids=lambda value: value)
def test_pruned_equals_masked_and_counted_equals_built(keras_name: str, name: str) -> None:
    network = NETWORKS[name]
    model = network_table.randomized(network.build(importlib.import_module(keras_name), network.small))
    weights = model.get_weights()
    result = network_table.agreement(model)
    assert result.difference <= 1e-5
    assert (result.macs, result.params) == (result.built_macs, result.built_params)
    assert result.macs == macs_by_calls(result.model, [result.inputs[:1]])
    assert result.params < 0.8 * model.count_params()  # something was pruned
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_everything_is_understood(name: str) -> None:
    network = NETWORKS[name]
    found = network_table.shares(network.build(importlib.import_module(SLOW.get(name, "tf_keras")), network.small))
    assert not found.unknown
    assert (found.prunable, found.groups) == GROUPS[name]
