"""Known networks: all of them are understood, prune, agree with their masked selves and cost what is counted."""

import importlib

import numpy as np
import pytest

from tests.cost.counted import macs_by_calls
from tools import network_table
from tools.network_table import NETWORKS

# Groups that may shrink, out of all: nearly everywhere all but the logits.
GROUPS = {
    "MobileNet": (14, 15),
    "MobileNetV2": (25, 26),
    "MobileNetV3Small": (27, 28),
    "EfficientNetB0": (40, 41),
    "ResNet50": (37, 38),
    "ResNet50V2": (37, 38),
    "DenseNet121": (120, 121),
    "InceptionV3": (94, 95),
    "Xception": (28, 29),
    "NASNetMobile": (128, 129),
    "VGG16": (15, 16),
    "ConvNeXtTiny": (18, 24),  # its LayerNormalizations hold the trunk
    "plain20_fashion_mnist": (19, 20),
    "resnet20_cifar10": (14, 15),
    "resnet56_cifar10": (32, 33),
}
# Networks take turns with the two Kerases to save time; tools/network_table.py runs each with both.
CASES = [(("keras", "tf_keras")[number % 2], name) for number, name in enumerate(NETWORKS)]


@pytest.mark.parametrize(("keras_name", "name"), CASES, ids=[f"{name}-{keras_name}" for keras_name, name in CASES])
def test_pruned_equals_masked_and_counted_equals_built(keras_name: str, name: str) -> None:
    network = NETWORKS[name]
    keras = importlib.import_module(keras_name)
    with network_table.float64(keras):
        model = network_table.randomized(network.build(keras, network.small))
    weights = model.get_weights()
    found = network_table.shares(model)
    assert not found.unknown and (found.prunable, found.groups) == GROUPS[name]
    result = network_table.agreement(model)
    assert found.macs == macs_by_calls(model, [result.inputs[:1]])
    assert result.difference <= 1e-9 and result.variation > 0.1
    assert (result.macs, result.params) == (result.built_macs, result.built_params)
    assert result.macs == macs_by_calls(result.model, [result.inputs[:1]])
    assert result.params < 0.8 * model.count_params()  # something was pruned
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
