"""The oracle: a candidate == what the converter makes of the pruned model, operators, shapes and outputs."""

import importlib

import keras as keras_3
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import models
from amc_tf.errors import ConversionError
from amc_tf.pruning.channel import ChannelPruning
from amc_tf.tflite import agreement
from amc_tf.tflite.candidate import Candidates, Converted
from amc_tf.tflite.convert import convert
from amc_tf.tflite.operators import read
from tests import small, toys

# Of the toys those that tie constants in ways of their own.
TIED = [
    "conv1d", "conv2d_transpose", "conv3d", "depthwise", "depthwise1d", "separable2d", "grouped", "grouped1d",
    "channels_first", "dense_after_flatten", "dense_block", "squeeze_excite", "padding_and_cropping", "several_outputs",
    "activation_layers", "concatenate_then_grouped", "shared_twice",
]  # fmt: skip


def layout(tflite: bytes) -> list:
    """Operators with their activations and the shapes of all that they read and write."""
    return [
        (op.name, op.activation, [graph.values[v].shape for v in (*op.inputs, *op.outputs) if v >= 0])
        for graph in read(tflite)
        for op in graph.operators
    ]


def random_plan(pruning: ChannelPruning, seed: int):
    rng = np.random.default_rng(seed)
    return pruning.plan(tuple(int(rng.choice(unit.widths)) for unit in pruning.units))


def check(model, plans: int, inputs, **arguments) -> None:
    pruning = ChannelPruning(model, **arguments)
    candidates = Candidates(pruning)
    for seed in range(plans):
        plan = random_plan(pruning, seed)
        smaller = pruning.apply(plan)
        candidate = candidates(plan, pruning.sliced(plan))
        assert layout(candidate) == layout(convert(smaller))
        assert agreement.max_difference(smaller, candidate, inputs) <= 1e-4


def settled(model, seed: int = 0):
    """Random weights as of a trained network: no zeros or ones that the converter would drop."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        name = variable.name.split("/")[-1].partition(":")[0]
        if name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif name in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model
