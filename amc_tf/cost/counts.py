"""MACs, params and bytes of a network at any widths: exact, and without building the network.

MACs are the multiplications of convolutions and matrix products. BatchNorm is not counted (the converter folds it), nor
are activations, additions and pooling. Layers without a rule are counted in the file, where their loops and products
stand as operators. Params are all weights as Keras counts them, BatchNorm statistics included.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from amc_tf.graph.channel_ids import FIXED
from amc_tf.graph.groups import ChannelGroups
from amc_tf.graph.network import Node
from amc_tf.pruning.lengths import Lengths
from amc_tf.pruning.unit import Unit
from amc_tf.tflite import operator_costs

BYTES = 4  # of one float32


class Counts:
    """A Cost that is a sum of products of axis lengths.

    Args:
        groups: Channel groups of the network.
        units: Units whose widths vary; every other group stays whole.
        products: (coefficient, axes) pairs. An axis is an int array of channel ids, FIXED (-1) for a position that is
            never pruned.
        unit: Word for what is counted: "MACs", "params", "bytes".
        offset: Constant that is added to the sum.
    """

    def __init__(
        self,
        groups: ChannelGroups,
        units: Sequence[Unit],
        products: Iterable[tuple[int, Sequence[np.ndarray]]],
        unit: str,
        offset: float = 0.0,
    ):
        self.unit = unit
        self.offset = offset
        products = list(products)
        depth = max((len(axes) for _, axes in products), default=0)
        self._coefficients = np.array([c for c, _ in products], dtype=np.int64)
        one = np.array([FIXED])  # an axis of length 1, which pads all products to the same number of axes
        padded = [axes[level] if level < len(axes) else one for level in range(depth) for _, axes in products]
        self._lengths = Lengths(groups, units, padded)
        self._shape = (depth, len(products))
        self.full = self._lengths.full

    def __call__(self, widths: Sequence[int] | np.ndarray) -> float:
        """The cost, in `unit`, if unit i keeps `widths[i]` channels."""
        lengths = self._lengths(widths).reshape(self._shape)
        return float(np.dot(self._coefficients, lengths.prod(axis=0)) + self.offset)


def macs(groups: ChannelGroups, units: Sequence[Unit], tflite: bytes | None = None) -> Counts:
    """Multiplications of one inference at batch 1.

    Args:
        groups, units: See Counts.
        tflite: The whole network's file, to count what layers without a rule multiply; their widths never change.
            Without it they count for nothing.
    """
    counts = Counts(groups, units, [(term.coefficient, term.axes) for term in groups.terms], "MACs")
    if tflite is not None and groups.unknown:
        counts.offset = operator_costs.macs(tflite) - counts(counts.full)
    return counts


def params(groups: ChannelGroups, units: Sequence[Unit]) -> Counts:
    """Number of weights, as of `model.count_params()`."""
    products = [
        (1, _axes(groups, layer, index, weight.shape))
        for layer, weights in groups.graph.weights.items()
        for index, weight in enumerate(weights)
    ]
    return Counts(groups, units, products, "params")


def size(groups: ChannelGroups, units: Sequence[Unit], base_bytes: int) -> Counts:
    """Bytes of the float32 .tflite.

    Each removed element of a constant saves four bytes; the rest of the file (operators, names) stays. So the cost of
    the whole network is the size of its file. A BatchNorm after a convolution is folded and leaves only a bias.

    Args:
        groups, units: See Counts.
        base_bytes: Size of the .tflite of the whole network.
    """
    folded = _folded(groups)
    products = []
    for layer, weights in groups.graph.weights.items():
        for index, weight in enumerate(weights):
            if weight.name in ("moving_mean", "moving_variance", "count") or layer in folded:
                continue
            products.append((BYTES, _axes(groups, layer, index, weight.shape)))
    for layer, axes in folded.values():
        if layer not in {path for path, ws in groups.graph.weights.items() if any(w.name == "bias" for w in ws)}:
            products.append((BYTES, axes))
    counts = Counts(groups, units, products, "bytes")
    counts.offset = base_bytes - counts(counts.full)
    return counts


def _axes(groups: ChannelGroups, layer: str, index: int, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Channel ids along each axis of a weight."""
    return [groups.axes.get((layer, index, axis), np.full(length, -1)) for axis, length in enumerate(shape)]


def _folded(groups: ChannelGroups) -> dict[str, tuple[str, list[np.ndarray]]]:
    """BatchNorm layer -> (layer that it is folded into, axes of the bias that it leaves)."""
    consumers: dict[int, int] = {}  # tensor -> number of nodes that read it
    producer: dict[int, Node] = {}
    for node in groups.graph.nodes:
        for tensor in node.inputs:
            consumers[tensor] = consumers.get(tensor, 0) + 1
        for tensor in node.outputs:
            producer[tensor] = node
    folded = {}
    for node in groups.graph.nodes:
        before = producer.get(node.inputs[0]) if node.inputs else None
        if node.kind != "BatchNormalization" or before is None or consumers[node.inputs[0]] > 1:
            continue
        has_kernel = any("kernel" in weight.name for weight in before.weights)
        if has_kernel and before.settings.get("activation", "linear") == "linear":
            folded[node.layer] = (before.layer, _axes(groups, node.layer, 0, node.weights[0].shape))
    return folded
