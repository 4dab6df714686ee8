"""Known networks: all of them are understood, prune, agree with their masked selves and cost what is counted."""

import importlib
import os
from typing import Any

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
# Dear by their many layers, most of which repeat others. CI alone builds them in full; elsewhere they have fewer
# blocks: the function in keras.applications, its settings, and the groups.
SHALLOWER = {
    "EfficientNetB0": ("efficientnet.EfficientNet",
                       {"width_coefficient": 1.0, "depth_coefficient": 0.4, "default_size": 224}, (28, 29)),
    "DenseNet121": ("densenet.DenseNet", {"blocks": [2, 3, 2, 2]}, (22, 23)),
    "NASNetMobile": ("nasnet.NASNet",
                     {"penultimate_filters": 1056, "num_blocks": 1, "stem_block_filters": 32, "skip_reduction": False},
                     (55, 56)),
    "ConvNeXtTiny": ("convnext.ConvNeXt", {"depths": [1, 1, 2, 1], "projection_dims": [24, 48, 96, 192]}, (5, 11)),
}  # fmt: skip
IN_FULL = bool(os.environ.get("CI"))
# Dear by their many weights, or with more of the blocks of another: their layers are in other networks and in toys.
CI_ALONE = {"ResNet50", "ResNet50V2", "InceptionV3", "Xception", "VGG16", "resnet56_cifar10"}
# Networks take turns with the two Kerases to save time; tools/network_table.py runs each with both.
CASES = [
    (("keras", "tf_keras")[number % 2], name)
    for number, name in enumerate(NETWORKS)
    if IN_FULL or name not in CI_ALONE
]


@pytest.fixture(scope="module", params=CASES, ids=[f"{name}-{keras_name}" for keras_name, name in CASES])
def network(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """A network's name, and its model in float64."""
    keras_name, name = request.param
    keras = importlib.import_module(keras_name)
    with network_table.float64(keras):
        if name in SHALLOWER and not IN_FULL:
            return name, _shallower(keras_name, name)
        return name, NETWORKS[name].build(keras, NETWORKS[name].small)


def _shallower(keras_name: str, name: str) -> Any:
    where, settings, _ = SHALLOWER[name]
    module, function = where.split(".")
    build = getattr(importlib.import_module(f"{keras_name}.src.applications.{module}"), function)
    side = NETWORKS[name].small
    ends = {"input_shape": (side, side, 3), "weights": None, "classes": 10, "classifier_activation": None}
    return build(**settings, **ends)


def test_its_channels_and_macs_are_known(network: tuple[str, Any]) -> None:
    name, model = network
    found = network_table.shares(model)
    groups = SHALLOWER[name][-1] if name in SHALLOWER and not IN_FULL else GROUPS[name]
    assert not found.unknown and (found.prunable, found.groups) == groups
    assert found.macs == macs_by_calls(model, [np.zeros((1, *model.input_shape[1:]), "float32")])


def test_pruned_equals_masked_and_counted_equals_built(network: tuple[str, Any]) -> None:
    name, model = network
    network_table.randomized(model)
    weights = model.get_weights()
    result = network_table.agreement(model)
    assert result.difference <= 1e-9 and result.variation > 0.1
    assert (result.macs, result.params) == (result.built_macs, result.built_params)
    assert result.macs == macs_by_calls(result.model, [result.inputs[:1]])
    assert result.params < 0.8 * model.count_params()  # something was pruned
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
