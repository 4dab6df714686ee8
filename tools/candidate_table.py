"""Compares candidates with the converter's files: random plans of six networks, made both ways.

python tools/candidate_table.py --plans 20

Prints Markdown, one row per network: the number of plans with the same operators, activations and shapes, the largest
difference of the outputs on a random input, and how much longer the converter takes. ResNet-56 and MobileNetV1 have
their trained weights. The others have random weights and random BatchNorm statistics.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools

NETWORKS = ("mobilenet_v1_imagenet", "mobilenet_v2", "resnet56_cifar10", "resnet50", "EfficientNetB0", "DenseNet121")


@click.command(help=__doc__)
@click.option("--network", "networks", multiple=True, default=NETWORKS, show_default=True)
@click.option("--plans", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(networks, plans, seed) -> None:
    print("| network | same operators, shapes | largest difference | set-up, s | candidate, s | convert(), s |")
    print("|---|---|---|---|---|---|")
    for name in networks:
        print(row(name, plans, seed), flush=True)


def row(name: str, plans: int, seed: int) -> str:
    """The row of one network."""
    from amc_tf.pruning.channel import ChannelPruner
    from amc_tf.tflite.conversion.keras_to_tflite import convert
    from amc_tf.tflite.slicing.candidate import Candidates

    pruner = ChannelPruner(network(name, seed))
    started = time.perf_counter()
    candidates = Candidates(pruner)
    set_up = time.perf_counter() - started
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, *pruner.model.input_shape[1:])).astype(np.float32)
    same, largest = 0, 0.0
    candidate_seconds, convert_seconds = [], []
    for _ in range(plans):
        plan = pruner.plan(tuple(int(rng.choice(unit.widths)) for unit in pruner.units))
        started = time.perf_counter()
        candidate = candidates(plan, pruner.sliced(plan))
        candidate_seconds.append(time.perf_counter() - started)
        pruned = pruner.apply(plan)
        started = time.perf_counter()
        converted = convert(pruned)
        convert_seconds.append(time.perf_counter() - started)
        same += layout(candidate) == layout(converted)
        largest = max(largest, float(np.abs(output(candidate, x) - output(converted, x)).max()))
    ours, theirs = np.median(candidate_seconds), np.median(convert_seconds)
    return (
        f"| {name} | {same} of {plans} | {largest:.1g} | {set_up:.0f} | {ours:.3f} | "
        f"{theirs:.1f} ({theirs / ours:.0f} times) |"
    )


def network(name: str, seed: int) -> Any:
    """A trained network of models/, or one with random weights: none of its variables keeps its initial 0 or 1."""
    import keras

    import models

    if name in models.TRAINED:
        return models.load(name, keras)
    own = name in models.ARCHITECTURES
    model = models.build(name, keras) if own else getattr(keras.applications, name)(weights=None)
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean", "bias"):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def layout(tflite: bytes) -> list[tuple]:
    """The operators, each with its activation and the shapes of its inputs and outputs."""
    from amc_tf.tflite.operators import read

    return [
        (op.name, op.activation, [graph.values[value].shape for value in (*op.inputs, *op.outputs) if value >= 0])
        for graph in read(tflite)
        for op in graph.operators
    ]


def output(tflite: bytes, x: np.ndarray) -> np.ndarray:
    """The output of a .tflite with one input and one output."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=tflite).get_signature_runner()
    (name,) = runner.get_input_details()
    (result,) = runner(**{name: x}).values()
    return result


if __name__ == "__main__":
    main()
