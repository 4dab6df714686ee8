"""The score of a candidate is that of the network that pruning really builds."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from amc_tf.cost import counts
from amc_tf.data import Split
from amc_tf.pruning.channel import ChannelPruning
from amc_tf.search.evaluate import Evaluator
from tests import small


def evaluator(keras, model=None, **changes):
    model = model or small.network(keras)
    pruning = ChannelPruning(model, round_to=2)
    x, y = small.labelled(model, 80)
    parts = {"calibration": Split((x[:32],), None), "reward": Split((x[32:],), y[32:])} | changes
    return Evaluator(pruning, counts.macs(pruning.groups, pruning.units), **parts)


def test_the_score_is_that_of_the_rebuilt_network(keras_module):
    ev = evaluator(keras_module)
    seen = set()
    for widths in [(16, 8), (8, 32), (6, 12), (4, 8)]:
        plan = ev.pruning.plan(widths)
        rebuilt = ev.pruning.apply(plan, ev.pruning.sliced(plan, ev.weights(plan)))
        predictions = np.asarray(rebuilt(ev._reward.inputs[0])).argmax(-1)
        outcome = ev(widths)
        assert outcome.accuracy == pytest.approx((predictions == ev._reward.labels).mean())
        assert outcome.cost < outcome.base_cost
        seen.add(outcome.accuracy)
    assert len(seen) > 1  # or the comparison would say nothing


def test_the_unpruned_network_is_scored_as_it_came(keras_module):
    ev = evaluator(keras_module)
    assert ev((16, 32)).accuracy == ev.base_accuracy == 1.0


def test_scores_do_not_depend_on_what_was_scored_before(keras_module):
    first, second = evaluator(keras_module), evaluator(keras_module)
    second((4, 8))
    assert first((8, 16)) == second((8, 16))


def test_a_plan_is_scored_once(keras_module, monkeypatch):
    ev = evaluator(keras_module)
    outcome = ev((8, 16))
    monkeypatch.setattr(ev._network, "predict", None)
    assert ev((8, 16)) is outcome


def test_two_threads_score_what_one_does(keras_module, monkeypatch):
    one, two = evaluator(keras_module), evaluator(keras_module)
    recalibrate = two._network.recalibrate

    def slowly(inputs):
        recalibrate(inputs)
        time.sleep(0.1)  # time for the other thread to change the weights

    monkeypatch.setattr(two._network, "recalibrate", slowly)
    plans = [(4, 8), (16, 8), (6, 12)]
    expected = [one(widths) for widths in plans]
    assert len({outcome.accuracy for outcome in expected}) > 1
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(two, plans, [None, -0.5, -0.1])) == expected


def test_without_labels_agreement_with_the_original_is_scored(keras_module):
    x = small.images(80)
    ev = evaluator(keras_module, reward=Split((x,), None))
    assert ev.base_accuracy == 1.0 and ev((4, 8)).accuracy < 1
