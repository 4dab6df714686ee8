"""Toys that are read and pruned once, for all tests that use them."""

import functools
import importlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from amc_tf.graph import keras_reader, rewrite
from amc_tf.graph.groups import ChannelGroups, channel_groups
from amc_tf.graph.network import Graph, WeightArrays
from amc_tf.pruning.plan import Plan
from tests import toys


@dataclass(frozen=True)
class Case:
    """A model, its Graph, weights and groups, and inputs for it."""

    keras: Any
    model: Any
    graph: Graph
    weights: dict[str, tuple[np.ndarray, ...]]
    groups: ChannelGroups
    inputs: list[np.ndarray]

    def prune(self, plan: Plan) -> Any:
        kept = plan.kept(self.groups)
        return rewrite.rewrite(self.model, self.groups, kept, rewrite.sliced(self.groups, kept, self.weights))

    def masked_outputs(self, plan: Plan) -> list[np.ndarray]:
        """What the whole model says with the plan's channels dead, as that of `Plan.masked`.

        The model lends its layers, since a copy is dearer than weights.
        """
        try:
            self._set(rewrite.masked(self.groups, plan.kept(self.groups), self.weights))
            return toys.outputs(self.model, self.inputs)
        finally:
            self._set(self.weights)

    def _set(self, weights: WeightArrays) -> None:
        for path, layer in keras_reader.layers(self.model).items():
            if weights.get(path):
                layer.set_weights(weights[path])
                if type(layer).__name__ == "Normalization":
                    layer.finalize_state()

    def random_plan(self, seed: int = 0) -> Plan:
        """A random number of channels of every prunable group, but not all, at random positions."""
        rng = np.random.default_rng(seed)
        return Plan({g.name: rng.permutation(g.channels) < rng.integers(1, g.channels) for g in self.groups.prunable})

    def half_plan(self, seed: int = 0) -> Plan:
        """Half of the channels of every prunable group, rounded up, at random positions."""
        rng = np.random.default_rng(seed)
        return Plan({g.name: rng.permutation(g.channels) < (g.channels + 1) // 2 for g in self.groups.prunable})


def read(keras, model) -> Case:
    graph, weights = keras_reader.read(model)
    return Case(keras, model, graph, weights, channel_groups(graph), toys.random_inputs(model))


# Tests of one toy follow each other (tests/conftest.py): it is needed no longer when the next ones come. Only those of
# `toys.in_turns` are asked for again, by tests that ask for all of them.
@functools.lru_cache(maxsize=32)
def case(keras_name: str, toy_name: str) -> Case:
    keras = importlib.import_module(keras_name)
    return read(keras, toys.TOYS[toy_name].build(keras))


def pruned(keras_name: str, toy_name: str) -> Any:
    """The toy of `case` with the channels of its random plan alone."""
    return _pruned(keras_name, toy_name)[0]


def pruning_changed_it(keras_name: str, toy_name: str) -> bool:
    """Whether the toy of `case` was another after `pruned` was made of it."""
    return _pruned(keras_name, toy_name)[1]


@functools.lru_cache(maxsize=32)
def _pruned(keras_name: str, toy_name: str) -> tuple[Any, bool]:
    this = case(keras_name, toy_name)
    before, weights = _state(this.model), this.model.get_weights()
    smaller = this.prune(this.random_plan())
    same = all(np.array_equal(a, b) for a, b in zip(this.model.get_weights(), weights, strict=True))
    return smaller, _state(this.model) != before or not same


def _state(model) -> tuple:
    """Everything that pruning could change in a model: settings, calls, and whether layers are built."""
    layers = list(model._flatten_layers())
    operations = [*layers, *(op for layer in layers for op in getattr(layer, "operations", ()))]
    calls = [(len(op._inbound_nodes), len(op._outbound_nodes)) for op in operations]
    return json.dumps(model.get_config(), default=str, sort_keys=True), calls, [layer.built for layer in layers]


def difference(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Largest absolute difference; infinite where the shapes are not the same."""
    if [a.shape for a in first] != [b.shape for b in second]:
        return float("inf")
    return max(float(np.abs(a - b).max(initial=0)) for a, b in zip(first, second, strict=True))
