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
from tests.toys.registry import BOTH, TOYS, Toy, cases, flat, outputs, random_inputs, randomized, structured

__all__ = ["BOTH", "TOYS", "Toy", "cases", "flat", "outputs", "random_inputs", "randomized", "structured"]
