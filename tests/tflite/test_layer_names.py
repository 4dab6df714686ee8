"""Names of operators tell the layer that they were made of."""

import pytest

from amc_tf.tflite.layer_names import layer_of

LAYERS = ["conv", "conv2", "backbone/conv", "bn", "both_ways"]


@pytest.mark.parametrize(
    ("output", "layer"),
    [
        ("net_1/conv_1/convolution", "conv"),
        ("net_1/conv2_1/convolution", "conv2"),
        ("net/backbone/conv/Conv2D", "backbone/conv"),
        ("net_1/bn_1/add;net_1/conv_1/convolution1", "conv"),  # the one that multiplies comes first
        ("while;sequential/both_ways/PartitionedCall/while", "both_ways"),
        ("net/other/MatMul_1", None),
        ("Identity", None),
    ],
)
def test_the_layer(output: str, layer: str | None) -> None:
    assert layer_of(output, LAYERS) == layer
