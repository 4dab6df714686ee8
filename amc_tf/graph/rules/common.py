"""Helpers that several rules share: unknown layers, the channel axis, activations.

A rule gets the Tracer, the Node and the labels of its inputs. It returns the labels of its output, or None if it froze
everything.
"""

from collections.abc import Callable

from amc_tf.graph.channel_ids import Axis, Labels, Tracer
from amc_tf.graph.network import Node

Rule = Callable[..., Labels | None]  # (tracer, node, *labels of the inputs) -> labels of the output

# Functions of one element at a time. Softmax is not among them: it looks across the channels.
ELEMENTWISE = frozenset(
    "linear relu relu6 leaky_relu elu selu celu gelu silu swish mish sigmoid hard_sigmoid hard_silu hard_swish "
    "tanh hard_tanh tanh_shrink hard_shrink soft_shrink softplus softsign exponential log_sigmoid squareplus "
    "sparse_plus threshold".split()
)
ELEMENTWISE_OPERATIONS = ELEMENTWISE | frozenset(
    "add subtract multiply divide true_divide truediv maximum minimum exp expm1 log log1p sqrt rsqrt abs negative "
    "neg square clip clip_by_value cast identity power pow reciprocal stop_gradient floor ceil round sign erf sin "
    "cos zeros_like ones_like divide_no_nan".split()
)


def unknown(tracer: Tracer, node: Node, *inputs: Labels, why: str = "") -> Labels | None:
    """The rule of layers that no other rule covers: freezes all their inputs and records `why`."""
    sort = "operation" if node.kind.startswith("op:") else "class"
    why = why or f"the {sort} {node.kind.split(':')[-1]} is not understood"
    for labels in inputs:
        tracer.freeze_all(labels, f"{node.layer!r} reads it, and {why}")
    tracer.unknown[node.layer] = why
    return None


def mixing_reason(node: Node) -> str:
    """Why channels on an axis other than the channel axis are frozen."""
    return f"{node.layer!r} mixes these channels as if they were positions"


def channel_axis(node: Node, x: Labels) -> int:
    """The channel axis of a node's input, without counting the batch axis."""
    return 0 if node.settings.get("data_format") == "channels_first" else len(x) - 1


def with_axis(shape: tuple[int, ...], axis: int, channel_ids: Axis) -> Labels:
    """Labels of a tensor that has channels on one axis only."""
    return tuple(channel_ids if index == axis else None for index in range(len(shape)))


def check_activation(tracer: Tracer, node: Node, channel_ids: Axis) -> None:
    """Freezes these channels if the activation of a node is not element-wise."""
    function = node.settings.get("activation", "linear")
    if isinstance(function, dict):  # a function or layer in its serialized form
        function = function["config"] if isinstance(function.get("config"), str) else function.get("class_name", "?")
        function = {"ReLU": "relu", "LeakyReLU": "leaky_relu"}.get(function, function)
    name = str(function or "linear").split(">")[-1]
    if name not in ELEMENTWISE:
        tracer.freeze(channel_ids, f"the activation {name!r} of {node.layer!r} may look across channels")
