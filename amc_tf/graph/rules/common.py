"""What the rules of several kinds share: how a node is frozen, and where its channels lie.

A rule gets the Tracer, the Node and the labels of its inputs, and returns the labels of its output.
"""

from amc_tf.graph.dependency import Axis, Labels, Tracer
from amc_tf.graph.network import Node

# Functions that treat every element alone. Softmax is none of them: it looks across the channels.
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


def unknown(tracer: Tracer, node: Node, *inputs: Labels, why: str = "") -> None:
    """Freezes all that a layer reads."""
    name = node.kind.split(":")[-1]
    sort = "operation" if node.kind.startswith("op:") else "class"
    reason = f"{node.layer!r} reads it, and {why or f'the {sort} {name} is not understood'}"
    for labels in inputs:
        tracer.freeze_all(labels, reason)
    tracer.unknown[node.layer] = why or f"the {sort} {name} is not understood"


def mixes(node: Node) -> str:
    return f"{node.layer!r} mixes these channels as if they were positions"


def channel_axis(node: Node, x: Labels) -> int:
    return 0 if node.settings.get("data_format") == "channels_first" else len(x) - 1


def with_axis(shape: tuple[int, ...], axis: int, atoms: Axis) -> Labels:
    return tuple(atoms if index == axis else None for index in range(len(shape)))


def check_activation(tracer: Tracer, node: Node, made: Axis) -> None:
    function = node.settings.get("activation", "linear")
    if isinstance(function, dict):  # a function or layer in its serialized form
        function = function["config"] if isinstance(function.get("config"), str) else function.get("class_name", "?")
        function = {"ReLU": "relu", "LeakyReLU": "leaky_relu"}.get(function, function)
    name = str(function or "linear").split(">")[-1]
    if name not in ELEMENTWISE:
        tracer.freeze(made, f"the activation {name!r} of {node.layer!r} may look across channels")
