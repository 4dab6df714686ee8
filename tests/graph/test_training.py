"""Pruned models learn: by every rule for layers, in every way of joining models, their loss falls."""

import importlib

import numpy as np
import pytest

from amc_tf.graph.rules import kinds
from tests import toys
from tests.graph.cases import case

STEPS = 10  # at most


def test_the_toys_that_are_trained_ask_every_rule() -> None:
    asked = {node.kind for keras_and_name in toys.in_turns() for node in case(*keras_and_name).graph.nodes}
    assert set(kinds.RULES.values()) <= {kinds.RULES.get(kind) for kind in asked}


@pytest.mark.parametrize("keras_name, name", toys.in_turns())
def test_a_pruned_model_learns_what_the_whole_one_says(keras_name: str, name: str) -> None:
    keras, this = importlib.import_module(keras_name), case(keras_name, name)
    model = this.prune(this.half_plan())
    before = [np.asarray(weight).copy() for weight in model.trainable_weights]
    inputs = toys.random_inputs(model, batch=16)
    targets = toys.outputs(this.model, inputs)
    model.compile(keras.optimizers.Adam(0.03), ["mse"] * len(targets), run_eagerly=True)
    given = toys.structured(model, inputs)
    losses = []
    while len(losses) < STEPS and not _is_halved(losses):
        losses.append(np.ravel(model.train_on_batch(given, targets))[0])
    assert _is_halved(losses)  # noise of Dropout alone stays above
    after = zip(model.trainable_weights, before, strict=True)
    assert [weight.name for weight, old in after if np.array_equal(np.asarray(weight), old)] == []


def _is_halved(losses: list[float]) -> bool:
    return len(losses) > 1 and losses[-1] < 0.5 * losses[0]
