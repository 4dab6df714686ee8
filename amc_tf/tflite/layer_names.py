"""Which Keras layer an operator of a .tflite was made of, by the name of its output."""

import re
from collections.abc import Sequence

_PRODUCTS = re.compile(r"/(convolution|Conv2D|depthwise|MatMul|einsum)(_\d+)?\d*$")


def layer_of(output: str, layers: Sequence[str]) -> str | None:
    """The layer that made an operator; None if the name tells none.

    The name holds those of all layers that the converter joined in the operator, with semicolons between them. The one
    that multiplies comes first. Keras 3 counts the calls of a model in the names: "conv" becomes "conv_1".

    Args:
        output: name of the operator's first output.
        layers: paths of all layers of the network.
    """
    pieces = sorted(output.split(";"), key=lambda piece: _PRODUCTS.search(piece) is None)
    for piece in pieces:
        parts = piece.split("/")
        for layer in sorted(layers, key=len, reverse=True):  # the longest name that fits is the layer's
            if _are_in(layer.split("/"), parts):
                return layer
    return None


def _are_in(names: list[str], parts: list[str]) -> bool:
    """Whether all names occur among the parts, in their order."""
    rest = iter(parts)
    return all(any(re.fullmatch(rf"{re.escape(name)}(_\d+)?", part) for part in rest) for name in names)
