"""The score of a candidate is that of the network that pruning really builds and converts."""

import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras as keras_3
import numpy as np
import pytest

from amc_tf.cost import counts
from amc_tf.data.splits import Split
from amc_tf.errors import BadPredictions
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.search.rewards import choose
from amc_tf.search.scoring import evaluator as module
from amc_tf.search.scoring.evaluator import Evaluator, Scoring
from amc_tf.tflite.conversion import agreement
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.runtime.scorer import Scorer, outputs
from amc_tf.tflite.slicing.candidate import Candidates, Converted
from tests import small, toys

pytestmark = pytest.mark.usefixtures("shapes_once")

PLANS = [(16, 8), (8, 32), (6, 12), (4, 8)]
REWARD = choose(None, 0.5)  # -Error: what a search with a budget wants


@pytest.fixture(scope="module")
def scorer():
    with Scorer() as scorer:
        yield scorer


@pytest.fixture(scope="module")
def of_keras_3():
    return small.settled(small.network(keras_3))


@pytest.fixture(scope="module")
def plain():
    """For tests that ask nothing of the network."""
    return small.plain(keras_3)


def evaluator(model, scorer, reward_split=None, *, examples=48, **arguments) -> Evaluator:
    pruner = ChannelPruner(model, round_to=2)
    x, y = small.labelled(model, 32 + examples)
    cost = counts.macs(pruner.groups, pruner.units)
    calibration = Split((x[:32],), None)
    split = Split((x[32:],), y[32:]) if reward_split is None else reward_split
    scoring = Scoring(split, **{name: arguments.pop(name) for name in ("metric", "reward") if name in arguments})
    return Evaluator(pruner, cost, convert(model), scorer, calibration, scoring, **arguments)


@pytest.fixture(scope="module")
def shared(of_keras_3, scorer):
    """An evaluator that has scored all of PLANS: (evaluator, widths -> outcome)."""
    ev = evaluator(of_keras_3, scorer, examples=128, reward=REWARD)
    return ev, {widths: ev(widths) for widths in PLANS}


def fresh(ev: Evaluator, monkeypatch) -> Evaluator:
    """The same evaluator as if it had scored nothing yet."""
    monkeypatch.setattr(ev, "_files", type(ev._files)())
    return ev


def test_the_score_is_that_of_the_rebuilt_network(shared, of_keras_3):
    """Candidates of both Kerases are compared in tests/tflite/test_candidate.py: nothing here knows which one it is."""
    ev, outcomes = shared
    assert isinstance(ev.candidates, Candidates)
    x, y = small.labelled(of_keras_3, 160)
    for widths, outcome in outcomes.items():
        plan = ev.pruner.plan(widths)
        rebuilt = ev.pruner.apply(plan, ev.weights(plan))
        predictions = np.asarray(rebuilt(x[32:])).argmax(-1)
        assert outcome.accuracy == (predictions == y[32:]).mean()
        assert outcome.cost < outcome.base_cost and outcome.examples is None
        assert agreement.max_difference(rebuilt, ev.tflite(widths), x[32:40]) <= 1e-5
    assert len({outcome.accuracy for outcome in outcomes.values()}) > 1  # or the comparison would say nothing


def test_the_candidate_is_the_converters_file_of_the_same_weights(shared, scorer):
    ev, _ = shared
    plan = ev.pruner.plan((6, 12))
    converted = convert(ev.pruner.apply(plan, ev.weights(plan)))
    found, expected = (outputs(scorer.run(file, ev.eval_set.dataset))[0] for file in (ev.tflite((6, 12)), converted))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))
    assert ev.eval_set.accuracy(converted) == ev((6, 12)).accuracy


def changed(ev, widths) -> set[tuple[str, int]]:
    """(layer, index) of the arrays of the smaller network that are not just what pruner left of the larger one."""
    plan = ev.pruner.plan(widths)
    old, new = ev.pruner.sliced(plan), ev.weights(plan)
    assert list(new) == list(old)
    assert all(
        a.shape == b.shape and a.dtype == b.dtype for name in old for a, b in zip(old[name], new[name], strict=True)
    )
    return {
        (layer, i) for layer in old for i, array in enumerate(old[layer]) if not np.array_equal(array, new[layer][i])
    }


def statistics_of(ev) -> set[tuple[str, int]]:
    return {(layer, i) for layer in ev.pruner.weights if "norm" in layer for i in (2, 3)}  # mean and variance


WIDE_READERS, TRUNK_READERS = {("back", 0), ("back", 1)}, {("wide", 0), ("wide", 1), ("head", 0), ("head", 1)}


@pytest.mark.parametrize(
    "widths, readers",
    [((16, 8), WIDE_READERS), ((8, 32), TRUNK_READERS), ((6, 12), WIDE_READERS | TRUNK_READERS)],
)
def test_bn_statistics_and_readers_of_pruned_channels_are_recalibrated(shared, widths, readers):
    ev, _ = shared
    # The stem reads the image alone; (8, 32) leaves what "back" reads whole.
    found = changed(ev, widths)
    assert found - statistics_of(ev) == readers and found & statistics_of(ev)


@pytest.fixture(scope="module")
def unreconstructed(of_keras_3, scorer):
    return evaluator(of_keras_3, scorer, examples=128, reconstruct=False)


def test_without_reconstruction_only_bn_statistics_are_recalibrated(unreconstructed):
    for widths in PLANS:
        found = changed(unreconstructed, widths)
        assert found and found <= statistics_of(unreconstructed)


def test_the_unpruned_network_is_scored_as_it_came(shared, of_keras_3):
    ev, _ = shared
    outcome = ev(ev.pruner.full)
    assert outcome.accuracy == outcome.base_accuracy == 1.0 and outcome.cost == outcome.base_cost
    assert ev.tflite(ev.pruner.full) == convert(of_keras_3)
    everything = ev.pruner.plan(ev.pruner.full)
    assert all(
        np.array_equal(a, b) for a, b in zip(ev.weights(everything)["stem"], ev.pruner.weights["stem"], strict=True)
    )


def test_scores_do_not_depend_on_what_was_scored_before(shared, monkeypatch):
    ev, outcomes = shared
    fresh(ev, monkeypatch)
    for widths in reversed(PLANS):
        assert ev(widths) == outcomes[widths]


def test_several_threads_score_what_one_does(shared, monkeypatch):
    ev, outcomes = shared
    assert len({outcome.accuracy for outcome in outcomes.values()}) > 1
    fresh(ev, monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ev, PLANS)) == list(outcomes.values())


def test_an_outcome_does_not_depend_on_what_was_evaluated_before(shared):
    """Or a trial would depend on how fast the one before it was."""
    ev, outcomes = shared
    worst = min(outcomes, key=lambda widths: outcomes[widths].accuracy)
    assert ev(worst) == outcomes[worst] and ev(worst, 0.0).examples is not None and ev(worst) == outcomes[worst]


def test_a_metric_is_entered_by_one_thread_at_a_time(plain, scorer):
    """Those of Keras keep a state."""
    inside = []

    def metric(labels, predictions):
        inside.append(1)
        time.sleep(0.05)
        assert sum(inside) == 1
        inside.pop()
        return 0.5

    ev = evaluator(plain, scorer, metric=metric)
    with ThreadPoolExecutor(2) as pool:
        assert [outcome.accuracy for outcome in pool.map(ev, [(4, 8), (6, 12)])] == [0.5, 0.5]


def test_a_candidate_that_is_measured_next_is_not_made_again(shared, monkeypatch):
    ev, _ = shared
    first = fresh(ev, monkeypatch).tflite((6, 12))
    monkeypatch.setattr(ev, "candidates", None)
    assert ev.tflite((6, 12)) is first


def test_only_the_latest_candidates_are_kept(shared, monkeypatch):
    ev, _ = shared
    fresh(ev, monkeypatch)
    for width in (2, 4, 6, 8, 10, 12):
        ev.tflite((16, 2 * width))
    assert len(ev._files) <= 4


def test_without_labels_agreement_with_the_original_is_scored(of_keras_3, scorer):
    x = small.images(80)
    ev = evaluator(of_keras_3, scorer, Split((x,), None))
    assert ev.eval_set.base_accuracy == 1.0 and ev((4, 8)).accuracy < 1
    says = np.asarray(of_keras_3(x)).argmax(-1)
    assert sorted(ev.eval_set.labels) == sorted(says)
    plan = ev.pruner.plan((4, 8))
    rebuilt = ev.pruner.apply(plan, ev.weights(plan))
    assert ev((4, 8)).accuracy == (np.asarray(rebuilt(x)).argmax(-1) == says).mean()


def test_the_callers_metric_gets_labels_and_outputs_in_the_callers_order(plain, scorer):
    x = small.images(48)
    labels = np.arange(48.0)
    got = []

    def metric(y, predictions):
        got.append((y, predictions))
        return 0.25

    ev = evaluator(plain, scorer, Split((x,), labels), metric=metric, reward=REWARD)
    assert ev.eval_set.base_accuracy == 0.25 and ev((4, 8), beat=0.0).accuracy == 0.25
    assert len(got) == 2 and all(np.array_equal(y, labels) for y, _ in got)
    np.testing.assert_allclose(got[0][1], np.asarray(plain(x)), atol=1e-5)


def test_a_hopeless_candidate_is_scored_on_a_part_only(shared, monkeypatch):
    ev, outcomes = shared
    fresh(ev, monkeypatch)
    worst = min(outcomes, key=lambda widths: outcomes[widths].accuracy)
    assert outcomes[worst].accuracy < 0.9
    stopped = ev(worst, beat=0.0)  # better than all right
    assert stopped.examples == 32  # the first look at 128
    assert stopped.accuracy * 32 == pytest.approx(round(stopped.accuracy * 32))
    assert stopped.cost == outcomes[worst].cost
    whole = ev(worst)  # nothing to beat: not out of the cache
    assert whole == outcomes[worst] and whole.examples is None


def test_the_examples_lie_in_a_random_order_that_is_always_the_same(plain, scorer, monkeypatch):
    """In the caller's, all of one class may come first."""
    for made in ("Candidates", "Statistics"):
        monkeypatch.setattr(module, made, lambda *_: None)
    x, y = small.images(128), np.repeat(np.arange(4), 32)
    one, other = (evaluator(plain, scorer, Split((x,), y)).eval_set for _ in range(2))
    assert one.labels.tolist() == other.labels.tolist() and one.base_accuracy == other.base_accuracy
    assert np.bincount(one.labels[:32], minlength=4).min() > 0
    assert one.base_accuracy == (np.asarray(plain(x)).argmax(-1) == y).mean()


@pytest.mark.parametrize("short", [0.0, 0.01])
def test_one_that_wins_is_scored_to_the_end(shared, monkeypatch, short):
    ev, outcomes = shared
    fresh(ev, monkeypatch)
    for widths, outcome in outcomes.items():
        assert ev(widths, REWARD(outcome) - 1 / 128 - short) == outcome


def test_one_hot_labels_race_as_class_numbers_do(of_keras_3, scorer, shared):
    ev, _ = shared
    x, y = small.labelled(of_keras_3, 160)
    hot = evaluator(of_keras_3, scorer, Split((x[32:],), np.eye(4)[y[32:]]), examples=128, reward=REWARD)
    found = hot((4, 8), 0.0)
    assert found.examples == 32
    assert hot((4, 8)).accuracy == ev((4, 8)).accuracy


@pytest.mark.parametrize(
    "changes",
    [{"metric": lambda labels, predictions: float((predictions.argmax(-1) == labels).mean())}, {"reward": None}],
    ids=["metric", "no reward"],
)
def test_what_is_not_one_right_or_wrong_an_example_does_not_race(plain, scorer, changes):
    ev = evaluator(plain, scorer, examples=128, **({"reward": REWARD} | changes))
    assert ev((4, 8), 0.0).examples is None


def test_labels_of_pixels_do_not_race(scorer):
    layers = keras_3.layers
    image = keras_3.Input((4, 4, 3))
    x = layers.ReLU()(layers.Conv2D(8, 3, padding="same")(image))
    model = toys.randomized(keras_3.Model(image, layers.Conv2D(3, 1, activation="softmax")(x)))
    x = np.random.default_rng(0).normal(size=(160, 4, 4, 3)).astype(np.float32)
    y = np.asarray(model(x)).argmax(-1)
    pruner = ChannelPruner(model, round_to=1)
    cost = counts.macs(pruner.groups, pruner.units)
    scoring = Scoring(Split((x,), y), reward=REWARD)
    ev = Evaluator(pruner, cost, convert(model), scorer, Split((x[:16],), None), scoring)
    outcome = ev((2,), 0.0)
    assert outcome.examples is None and outcome.accuracy < 1
    plan = pruner.plan((2,))
    rebuilt = pruner.apply(plan, ev.weights(plan))
    assert outcome.accuracy == pytest.approx((np.asarray(rebuilt(x)).argmax(-1) == y).mean())


def test_a_network_that_cannot_be_rewritten_is_converted_with_one_warning(scorer):
    model = toys.TOYS["batchnorm_on_rows"].build(keras_3)
    pruner = ChannelPruner(model, round_to=1)
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype(np.float32)
    cost = counts.macs(pruner.groups, pruner.units)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        split = Split((x,), None)
        ev = Evaluator(pruner, cost, convert(model), scorer, split, Scoring(split))
        outcome = ev((2,))
    (warning,) = [w for w in said if "rewritten" in str(w.message)]
    assert "Constant 1 of operator 2 (ADD)" in str(warning.message) and warning.filename == __file__
    assert isinstance(ev.candidates, Converted)
    plan = pruner.plan((2,))
    rebuilt = pruner.apply(plan, ev.weights(plan))
    says = np.asarray(model(x)).argmax(-1)
    assert outcome.accuracy == (np.asarray(rebuilt(x)).argmax(-1) == says).mean() < 1
    assert ev.shapes.model.subgraphs


def test_converted_candidates_score_as_rewritten_ones_do(shared, scorer, of_keras_3, monkeypatch):
    _, outcomes = shared

    def refuse(pruner):
        raise module.ConversionError("Constant 7 is not known")

    monkeypatch.setattr(module, "Candidates", refuse)
    with pytest.warns(UserWarning, match="Constant 7 is not known"):
        ev = evaluator(of_keras_3, scorer, examples=128, reward=REWARD)
    assert ev((6, 12)) == outcomes[6, 12]


def test_a_candidate_that_predicts_nan_is_no_outcome(shared, monkeypatch):
    ev, _ = shared
    fresh(ev, monkeypatch)
    weights = ev.weights

    def broken(plan):
        made = dict(weights(plan))
        return made | {"head": tuple(array * np.nan for array in made["head"])}

    monkeypatch.setattr(ev, "weights", broken)
    for beat in (None, -0.5):
        with pytest.raises(BadPredictions, match="NaN"):
            ev((8, 16), beat)


def test_a_model_that_predicts_nan_is_refused_before_minutes_of_work(of_keras_3, scorer, monkeypatch):
    monkeypatch.setattr(module, "Candidates", None)
    broken = small.network(keras_3)
    broken.get_layer("head").set_weights([w * np.nan for w in broken.get_layer("head").get_weights()])
    pruner = ChannelPruner(of_keras_3, round_to=2)
    split = Split((small.images(16),), None)
    with pytest.raises(ValueError, match="own predictions hold NaN"):
        cost = counts.macs(pruner.groups, pruner.units)
        Evaluator(pruner, cost, convert(broken), scorer, split, Scoring(split))


@pytest.mark.parametrize("labels", [np.full(48, 9), np.zeros((48, 7))], ids=["no class", "no output"])
def test_labels_that_do_not_fit_are_said_before_minutes_of_work(plain, scorer, labels, monkeypatch):
    monkeypatch.setattr(module, "Candidates", None)
    with pytest.raises(ValueError, match="labels"):
        evaluator(plain, scorer, Split((small.images(48),), labels))
