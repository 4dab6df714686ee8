"""Prints, as a Markdown page, what amc_tf can prune of well-known networks, and checks the pruned networks.

    python tools/network_table.py [NAME ...] [--keras keras|tf_keras]... > docs/networks.md

Every network has random weights. Groups and shares are those at its native input size. The pruned and the masked
network are compared at a small input size.
"""

import argparse
import contextlib
import importlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from amc_tf.cost import counts
from amc_tf.graph import keras_reader, rewrite
from amc_tf.graph.groups import channel_groups
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.pruning.plan import Plan

HEAD = """# Known networks

Made by `{command}`. Weights are random, in float64: in float32, rounding alone reaches 1e-4 in the deepest network, \
since random networks amplify it. BatchNorm statistics are those of the pruned network, so that signals reach the \
outputs.

| column | meaning |
|---|---|
| groups, prunable | number of channel groups, and of those that can shrink |
| MACs | of the whole network at its native input size |
| in reach | share of the MACs in products with a prunable axis |
| removable | share of the MACs that the narrowest plan removes (`min_keep` 0.2, `round_to` 8) |
| difference | largest absolute difference between the outputs of a randomly pruned network and of the masked network \
(whole, with the same channels dead), divided by the larger of 1 and the largest output |
| counted | whether MACs and params by formula equal those of the pruned network |

"""


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        name: in the table.
        native, small: side of its square input for the shares, and for the comparison.
        build: (keras, side) -> model.
    """

    name: str
    native: int
    small: int
    build: Callable[[Any, int], Any]


@dataclass(frozen=True)
class Shares:
    """What pruning can reach of a network.

    Attributes:
        groups, prunable: numbers of channel groups.
        macs: of the whole network.
        reach: share of MACs in products with a prunable axis.
        removable: share of MACs that the narrowest plan removes.
        frozen: reason, without layer names -> number of groups.
        unknown: layers without a rule.
    """

    groups: int
    prunable: int
    macs: int
    reach: float
    removable: float
    frozen: Counter
    unknown: dict[str, str]


@dataclass(frozen=True)
class Agreement:
    """A randomly pruned network compared with the masked one.

    Attributes:
        difference: of the outputs, divided by the larger of 1 and the largest output.
        variation: largest difference between the outputs for two inputs, divided by the same. If it is small, a small
            `difference` proves little.
        macs, params: by formula.
        built_macs, built_params: read from the pruned model.
        model, inputs: the pruned model and its inputs.
    """

    difference: float
    variation: float
    macs: int
    params: int
    built_macs: int
    built_params: int
    model: Any
    inputs: np.ndarray


def _application(name: str, native: int, small: int) -> Network:
    def build(keras, size):
        function = getattr(keras.applications, name)
        # Logits, because a softmax would hide differences.
        return function(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)

    return Network(name, native, small, build)


def _own(name: str, module: str, size: int, **settings) -> Network:
    def build(keras, _):
        model = importlib.import_module(f"models.{module}").build(keras, **settings)
        model.layers[-1].activation = keras.activations.linear
        return model

    return Network(name, size, size, build)


@contextlib.contextmanager
def float64(keras):
    """Models that are built inside compute in float64, so that rounding neither looks like a fault nor hides one."""
    policies = keras.mixed_precision
    before = policies.global_policy()
    policies.set_global_policy("float64")
    try:
        yield
    finally:
        policies.set_global_policy(before)


NETWORKS = {
    network.name: network
    for network in (
        _application("MobileNet", 224, 32),
        _application("MobileNetV2", 224, 32),
        _application("MobileNetV3Small", 224, 32),
        _application("EfficientNetB0", 224, 32),
        _application("ResNet50", 224, 32),
        _application("ResNet50V2", 224, 32),
        _application("DenseNet121", 224, 32),
        _application("InceptionV3", 299, 75),
        _application("Xception", 299, 71),
        _application("NASNetMobile", 224, 32),
        _application("VGG16", 224, 32),
        _application("ConvNeXtTiny", 224, 32),
        _own("plain20_fashion_mnist", "plain20", 28),
        _own("resnet20_cifar10", "resnet_cifar", 32, depth=20),
        _own("resnet56_cifar10", "resnet_cifar", 32, depth=56),
    )
}


def randomized(model: Any, seed: int = 0) -> Any:
    """Gives every weight but the BatchNorm statistics a random value."""
    rng = np.random.default_rng(seed)
    for layer in keras_reader.layers(model).values():
        values = [_random(rng, *pair) for pair in zip(_names(layer), layer.get_weights(), strict=True)]
        if values:
            layer.set_weights(values)
    return model


def _names(layer) -> list[str]:
    return [re.sub(r":\d+$", "", weight.name).split("/")[-1] for weight in layer.weights]


def _random(rng, name: str, value: np.ndarray) -> np.ndarray:
    if value.ndim > 1:
        fan_in = np.prod(value.shape[:2] if "depthwise" in name else value.shape[:-1])
        return rng.normal(0, (2 / fan_in) ** 0.5, value.shape)
    if name == "gamma":
        return rng.uniform(0.7, 1.3, value.shape)
    return rng.normal(0, 0.1, value.shape) if name in ("bias", "beta") else value


def calibrate(model, inputs: np.ndarray) -> dict[str, tuple[np.ndarray, ...]]:
    """Sets the BatchNorm statistics to those that the inputs give; returns those layers' weights by path.

    Otherwise the signal of a deep network with random weights dies or explodes, and any two networks agree.
    """
    layers = keras_reader.layers(model)
    norms = {path: layer for path, layer in layers.items() if "BatchNormalization" in type(layer).__name__}
    if not norms:
        return {}
    momenta = {path: layer.momentum for path, layer in norms.items()}
    for layer in norms.values():
        layer.momentum = 0.0
    model(inputs, training=True)
    for path, layer in norms.items():
        layer.momentum = momenta[path]
    return {path: tuple(layer.get_weights()) for path, layer in norms.items()}


def shares(model: Any) -> Shares:
    """The shares of a network that pruning can reach."""
    pruner = ChannelPruner(model)
    groups = pruner.groups
    macs = counts.macs(groups, pruner.units)
    prunable = np.zeros(groups.channels + 1, dtype=bool)  # its last entry is for id -1: positions that always stay
    for group in groups.prunable:
        prunable[group.start : group.start + group.channels] = True
    reached = sum(
        term.coefficient * int(np.prod([len(axis) for axis in term.axes]))
        for term in groups.terms
        if any(prunable[axis].any() for axis in term.axes)
    )
    whole, least = macs(macs.full), macs([unit.widths[0] for unit in pruner.units])
    frozen = Counter(re.sub(r"'[^']*'", "…", group.frozen) for group in groups.groups if group.frozen)
    return Shares(
        len(groups.groups), len(groups.prunable), int(whole), reached / whole, 1 - least / whole, frozen, groups.unknown
    )


def agreement(model, seed: int = 0) -> Agreement:
    """Prunes every prunable group to random channels, and compares the result with the masked network."""
    rng = np.random.default_rng(seed)
    graph, weights = keras_reader.read(model)
    groups = channel_groups(graph)
    plan = Plan({group.name: _mask(rng, group.channels) for group in groups.prunable})
    kept = plan.kept(groups)
    inputs = rng.uniform(0, 255, size=(8, *graph.shapes[graph.inputs[0]])).astype("float32")
    before = model.get_weights()
    try:  # a copy of a large network takes longer than all else
        _set(model, rewrite.masked(groups, kept, weights))
        weights |= calibrate(model, inputs)
        expected = np.asarray(model(inputs, training=False))
    finally:
        model.set_weights(before)
    sliced = rewrite.sliced(groups, kept, weights)
    smaller = rewrite.rewrite(model, groups, kept, sliced)
    given = np.asarray(smaller(inputs, training=False))
    macs = sum(
        t.coefficient * int(np.prod([rewrite.kept_positions(kept, ids).sum() for ids in t.axes])) for t in groups.terms
    )
    params = sum(array.size for arrays in sliced.values() for array in arrays)
    built = channel_groups(keras_reader.read(smaller)[0])
    scale = max(1.0, np.abs(expected).max())
    return Agreement(
        float(np.abs(given - expected).max() / scale),
        float(np.ptp(expected, axis=0).max() / scale),
        macs,
        params,
        sum(t.coefficient * int(np.prod([len(axis) for axis in t.axes])) for t in built.terms),
        smaller.count_params(),
        smaller,
        inputs,
    )


def _set(model, weights: dict[str, tuple[np.ndarray, ...]]) -> None:
    for path, layer in keras_reader.layers(model).items():
        if weights.get(path):
            layer.set_weights(weights[path])


def _mask(rng, channels: int) -> np.ndarray:
    mask = rng.random(channels) < rng.uniform(0.3, 1)
    mask[rng.integers(channels)] = True
    return mask


def _row(network: Network, names: list[str]) -> tuple[str, Shares]:
    reach, differences, counted = None, [], True
    for name in names:
        keras = importlib.import_module(name)
        reach = reach or shares(network.build(keras, network.native))
        with float64(keras):
            result = agreement(randomized(network.build(keras, network.small)))
        if result.variation < 0.01:
            raise ValueError(f"{network.name}: the outputs hardly depend on the input; the comparison says nothing.")
        differences.append(f"{result.difference:.1e}")
        counted &= (result.macs, result.params) == (result.built_macs, result.built_params)
        keras.backend.clear_session()
    cells = [
        network.name, f"{network.native}", f"{reach.groups}", f"{reach.prunable}", f"{reach.macs / 1e6:,.0f} M",
        f"{reach.reach:.1%}", f"{reach.removable:.1%}", *differences, "yes" if counted else "NO",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |", reach


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(NETWORKS)}")
    parser.add_argument("--keras", action="append", choices=["keras", "tf_keras"], help="default: both")
    options = parser.parse_args(arguments)
    kerases = options.keras or ["keras", "tf_keras"]
    for name in options.names:
        if name not in NETWORKS:
            parser.error(f"{name!r} is not one of {', '.join(NETWORKS)}")
    titles = ["network", "input", "groups", "prunable", "MACs", "in reach", "removable"]
    titles += [f"difference, {name}" for name in kerases] + ["counted"]
    print(HEAD.format(command=" ".join(["python", "tools/network_table.py", *(arguments or sys.argv[1:])])), end="")
    print("| " + " | ".join(titles) + " |\n|" + "---|" * len(titles))
    reaches = {}
    for name in options.names or NETWORKS:
        row, reaches[name] = _row(NETWORKS[name], kerases)
        print(row, flush=True)
    print("\n## What is frozen, and why\n")
    for name, reach in reaches.items():
        reasons = "; ".join(f"{number} × {reason}" for reason, number in reach.frozen.most_common())
        unknown = f" Not understood: {', '.join(sorted(reach.unknown))}." if reach.unknown else ""
        print(f"- **{name}**: {reasons}.{unknown}")


if __name__ == "__main__":
    main()
