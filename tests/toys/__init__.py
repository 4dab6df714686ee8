"""Tiny models, one for every kind of layer and every way of joining layers that amc_tf should follow or freeze.

Each is a function `toy(keras) -> model` with random weights and random BatchNorm statistics, registered in TOYS with
the names of the groups that must be prunable in it. Their outputs are logits, so that errors show.
"""

from tests.toys import (  # noqa: F401  importing them registers their toys
    activations,
    convolutions,
    dense,
    ends,
    merges,
    nesting,
    normalization,
    oddities,
    operations,
    positions,
    shapes,
)
from tests.toys.registry import (
    BOTH,
    TOYS,
    Toy,
    cases,
    flat,
    one_keras_each,
    outputs,
    random_inputs,
    randomized,
    structured,
)

__all__ = [
    "BOTH", "EVERY_RULE", "TOYS", "Toy", "cases", "flat", "in_turns", "one_keras_each", "outputs", "random_inputs",
    "randomized", "structured",
]  # fmt: skip

# Between them they ask every rule of amc_tf.graph, and every way in which models are nested and layers shared.
EVERY_RULE = """
    activations activation_layers conv2d conv2d_transpose depthwise separable2d grouped_in_a_row residual
    squeeze_excite concatenate channels_first channel_padding preprocessing softmax_in_the_middle joint_norms
    layer_scale repeat_vector dropouts dense_after_flatten
    ops ops_padding functions slices
    nested_twice functional_in_sequential shared_layer several_outputs dict_inputs recurrent mixed_precision
""".split()


def in_turns() -> list[tuple[str, str]]:
    """Each toy of EVERY_RULE with one of its Kerases, to save time."""
    turns = []
    for number, name in enumerate(EVERY_RULE):
        kerases = TOYS[name].kerases
        turns.append((kerases[number % len(kerases)], name))
    return turns
