"""The whole way: a model in, a .tflite out, and nothing lost on the way."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tf_keras
from ai_edge_litert.interpreter import Interpreter

import amc_tf
from amc_tf.graph.identity import digest
from amc_tf.search.agent.ddpg_client import DdpgAgent
from amc_tf.search.journal import Journal
from tests import small
from tests.search.fakes import AgentAtOnce

pytestmark = pytest.mark.usefixtures("shapes_once")

ROOT = Path(__file__).parents[2]


def run(model, run_dir, **changes):
    arguments = {
        "target": "macs", "budget": 0.6, "episodes": 4, "calibration_size": 32, "reward_size": 64, "round_to": 2,
        "run_dir": run_dir, "verbose": False, "report": False,
    }  # fmt: skip
    if "train_data" not in changes:
        changes["train_data"] = small.labelled(model, 96)
    return amc_tf.compress(model, **(arguments | changes))


@pytest.fixture
def no_agent(monkeypatch):
    """For tests in which its process would only take time; what its agents were given."""
    given = []

    class Told(AgentAtOnce):
        def __init__(self, **arguments):
            super().__init__()
            given.append(arguments)

    monkeypatch.setattr(sys.modules["amc_tf.pipeline.searching"], "DdpgAgent", Told)
    return given


@pytest.fixture(scope="module")
def one_agent(tmp_path_factory):
    """What makes the real agent for two equal searches: one process, as new when it has loaded what it began with."""
    newborns = {}
    with contextlib.ExitStack() as stack:

        def make(**settings):
            if str(settings) not in newborns:
                agent = stack.enter_context(DdpgAgent(**settings))
                newborns[str(settings)] = agent, tmp_path_factory.mktemp("newborn") / "agent.npz"
                agent.save(newborns[str(settings)][1])
            agent, newborn = newborns[str(settings)]
            agent.load(newborn)
            return contextlib.nullcontext(agent)

        yield make


@pytest.fixture(scope="module")
def whole(tmp_path_factory, one_agent):
    """One finished search of Keras 3 with the real agent: (model, its weights and structure before, Result)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["amc_tf.pipeline.searching"], "DdpgAgent", one_agent)
        return finished(small.network(keras), tmp_path_factory)


@pytest.fixture(scope="module")
def done(keras_module, tmp_path_factory, request):
    """One finished search of each Keras; the agent is the same for both, so that one of them does without."""
    if keras_module is keras:
        return request.getfixturevalue("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["amc_tf.pipeline.searching"], "DdpgAgent", AgentAtOnce)
        return finished(small.settled(small.network(keras_module)), tmp_path_factory)


def finished(model, tmp_path_factory):
    before = [w.copy() for w in model.get_weights()], json.dumps(model.get_config(), default=str)
    folder = tmp_path_factory.mktemp("run") / "new"
    result = run(model, folder, episodes=6, validation_data=small.labelled(model, 40, seed=9))
    return model, before, result


def test_everything_that_ships_is_in_the_run_directory(done):
    _, _, result = done
    names = {path.name for path in result.run_dir.iterdir()}
    assert {"journal.jsonl", "plan.json", "model.keras", "model.tflite", "result.json"} <= names
    assert not [name for name in names if ".part" in name]
    assert amc_tf.Plan.load(result.run_dir / "plan.json") == result.plan
    stored = json.loads((result.run_dir / "result.json").read_text())
    assert {name: stored.pop(name) for name in ("format", "network")} == {"format": 2, "network": digest(result.model)}
    assert stored == json.loads(json.dumps(result.summary()))


def test_the_tflite_says_what_the_model_says(done):
    _, _, result = done
    x = small.images(5, seed=3)
    interpreter = Interpreter(str(result.tflite))
    runner = interpreter.get_signature_runner()
    (name,) = runner.get_input_details()
    rows = [next(iter(runner(**{name: x[i : i + 1]}).values())) for i in range(5)]
    assert np.abs(np.concatenate(rows) - np.asarray(result.model(x))).max() < 1e-5


def test_the_accuracy_is_that_of_the_model_handed_back(done):
    model, _, result = done
    x, y = small.labelled(model, 40, seed=9)
    assert result.base.accuracy == 1.0
    assert result.compressed.accuracy == pytest.approx((np.asarray(result.model(x)).argmax(-1) == y).mean())
    assert result.scored_on == "validation_data"


def test_the_counts_are_those_of_the_model_and_the_file(done):
    _, _, result = done
    assert result.compressed.params == result.model.count_params()
    assert result.compressed.size_bytes == result.tflite.stat().st_size
    again = amc_tf.analyze(result.model)
    assert (again.macs, again.params) == (result.compressed.macs, result.compressed.params)


def test_every_episode_ends_within_the_budget(done):
    _, _, result = done
    episodes = [trial for trial in result.trials if trial.kind in ("agent", "refined")]
    assert len(episodes) == 6
    assert all(trial.outcome.cost <= result.limit for trial in episodes)
    assert result.compressed.macs <= 0.6 * result.base.macs


def test_trial_0_is_the_network_itself_and_trial_1_the_uniform_plan(done):
    _, _, result = done
    first, second = result.trials[:2]
    assert (first.kind, first.outcome.accuracy, set(first.keep_ratios.values())) == ("base", 1.0, {1.0})
    assert second.kind == "uniform" and second.outcome.cost <= result.limit


def test_the_given_model_is_left_as_it_was(done):
    model, (weights, structure), _ = done
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert json.dumps(model.get_config(), default=str) == structure


def test_the_result_is_a_plain_model_that_trains_and_loads(done, keras_module):
    model, _, result = done
    assert type(result.model) is type(model)
    loaded = keras_module.models.load_model(result.run_dir / "model.keras", compile=False)
    x, y = small.labelled(model, 16)
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(result.model(x)))
    loaded.compile("sgd", "sparse_categorical_crossentropy")
    history = loaded.fit(x, y, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_the_same_call_again_does_no_trial_twice(done):
    model, _, result = done
    journal = (result.run_dir / "journal.jsonl").read_bytes()
    again = run(model, result.run_dir, episodes=6, validation_data=small.labelled(model, 40, seed=9))
    assert (result.run_dir / "journal.jsonl").read_bytes() == journal
    assert again.plan == result.plan


def test_same_seed_same_plan_other_seed_other_trials(tmp_path, no_agent):
    """The agent's own process does the same again in the test of the killed search."""
    model = small.plain(keras)
    first, same, other = (run(model, tmp_path / f"{i}", seed=seed, episodes=2) for i, seed in enumerate((0, 0, 1)))
    ratios = [trial.keep_ratios for trial in first.trials]
    assert [trial.keep_ratios for trial in same.trials] == ratios and same.plan == first.plan
    assert [trial.keep_ratios for trial in other.trials] != ratios
    assert [given["seed"] for given in no_agent] == [0, 0, 1]


@pytest.mark.parametrize(
    ("changes", "word"), [({"budget": 0.7}, "budget"), ({"seed": 5}, "seed"), ({"round_to": 4}, "round_to")]
)
def test_a_run_directory_of_other_arguments_is_refused(done, changes, word):
    model, _, result = done
    with pytest.raises(amc_tf.RunDirError, match=word):
        run(model, result.run_dir, **changes)


def test_a_run_directory_of_another_model_is_refused(done, keras_module):
    _, _, result = done
    other = small.network(keras_module)
    other.set_weights([w + 0.01 for w in other.get_weights()])
    with pytest.raises(amc_tf.RunDirError, match="model"):
        run(other, result.run_dir, train_data=small.labelled(done[0], 96))


@pytest.mark.usefixtures("no_agent")
def test_without_a_budget_the_reward_weighs_accuracy_against_cost(tmp_path):
    import math

    result = run(small.plain(keras), tmp_path / "run", budget=None, target="params")
    trial = result.trials[-1]
    assert trial.reward == pytest.approx(-(1 - trial.outcome.accuracy) * math.log(trial.outcome.cost))
    assert result.limit is None
    assert 0.8 * result.compressed.params <= result.uniform.params <= result.compressed.params


@pytest.mark.usefixtures("no_agent")
def test_a_size_budget_holds_for_the_file(tmp_path):
    result = run(small.plain(tf_keras, width=32), tmp_path / "run", target="size", budget=0.5)
    assert result.tflite.stat().st_size <= 0.5 * (result.run_dir / "base.tflite").stat().st_size


@pytest.mark.usefixtures("no_agent")
def test_the_callers_own_metric_and_reward_are_used(tmp_path):
    result = run(
        small.network(keras), tmp_path / "run", metric=lambda labels, outputs: 0.25,
        reward=lambda outcome: outcome.accuracy - 7,
    )  # fmt: skip
    assert [trial.reward for trial in result.trials] == [-6.75] * 6


@pytest.mark.usefixtures("no_agent")
def test_without_data_it_says_so_and_scores_agreement(tmp_path):
    with pytest.warns(UserWarning, match="No data"):
        result = run(small.plain(keras), tmp_path / "run", train_data=None)
    assert result.base.accuracy == 1.0
    assert (result.scored_by, result.scored_on) == ("agreement", "generated noise")


@pytest.mark.usefixtures("no_agent")
def test_data_sets_of_tensorflow_are_read(tmp_path):
    import tensorflow as tf

    model = small.plain(tf_keras)
    data = tf.data.Dataset.from_tensor_slices(small.labelled(model, 96)).batch(10)
    assert run(model, tmp_path / "run", train_data=data).base.accuracy == 1.0


def nan_images():
    x = small.images(96)
    x[5, 0, 0, 0] = np.nan
    return x, np.zeros(96, int)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"budget": 0.01}, amc_tf.BudgetError, "up to"),
        ({"budget": 1.5e20}, amc_tf.BudgetError, "nothing would be pruned"),
        ({"budget": "3 parsec"}, ValueError, "parsec"),
        ({"target": "speed"}, ValueError, "speed"),
        ({"device": "toaster"}, ValueError, "toaster"),
        ({"device": 7}, TypeError, "device is 7"),
        ({"method": "magic"}, ValueError, "magic"),
        ({"episodes": 0}, ValueError, "episodes"),
        ({"round_to": 64}, amc_tf.UnsupportedModel, "round_to"),
        ({"frozen": ["nowhere"]}, ValueError, "nowhere"),
        ({"frozen": "wide"}, TypeError, "list"),
        ({"importance": "luck"}, ValueError, "luck"),
        ({"importance": ["luck"]}, ValueError, "luck"),
        ({"min_keep": True}, ValueError, "min_keep"),
        ({"metric": "accuracy"}, TypeError, "accuracy"),
        ({"callbacks": 3}, TypeError, "callbacks holds 3"),
        ({"reward": "joy"}, ValueError, "joy"),
        ({"train_data": nan_images()}, ValueError, "NaN"),
        ({"train_data": (np.zeros((0, 12, 12, 3)), np.zeros(0))}, ValueError, "empty"),
        ({"train_data": (small.images(96), np.full(96, 9))}, ValueError, "labels"),
        ({"train_data": (small.images(96), np.zeros((96, 7)))}, ValueError, "labels"),
        ({"train_data": (small.images(96), np.zeros(95))}, ValueError, "95"),
        ({"train_data": (small.images(96)[:, :8], np.zeros(96))}, ValueError, "shape"),
        ({"train_data": 7}, TypeError, "int"),
        ({"validation_data": (small.images(9), np.full(9, 4))}, ValueError, "labels"),
        ({"train_data": None, "reward_data": (small.images(9), np.zeros(9))}, ValueError, "train_data"),
        ({"metric": lambda labels, outputs: "good"}, ValueError, "metric"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(changes, error, says, tmp_path):
    with pytest.raises(error, match=says) as raised:
        run(small.plain(keras), tmp_path / "run", **changes)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")
    assert not (tmp_path / "run").exists()


def test_weights_of_nan_are_refused_by_the_layers_name(tmp_path):
    model = small.plain(keras)
    data = small.labelled(model, 96)
    model.get_layer("wide").set_weights([w * np.nan for w in model.get_layer("wide").get_weights()])
    with pytest.raises(ValueError, match="'wide' hold NaN"):
        run(model, tmp_path / "run", train_data=data)


def test_a_model_that_predicts_nan_is_refused(tmp_path):
    model = small.plain(keras)
    data = small.labelled(model, 96)
    model.get_layer("wide").set_weights([w * 1e38 for w in model.get_layer("wide").get_weights()])
    with pytest.raises(ValueError, match="predictions hold NaN"):
        run(model, tmp_path / "run", train_data=data)


@pytest.mark.usefixtures("no_agent")
def test_numbers_of_numpy_are_numbers_and_another_lambda_is_another_reward(tmp_path):
    numbers = {"round_to": np.int64(2), "seed": np.int64(3), "episodes": np.int32(1), "budget": np.float64(0.6)}
    model = small.plain(keras)
    first = run(model, tmp_path / "run", reward=lambda outcome: outcome.accuracy, **numbers)
    assert first.budget == 0.6
    same = run(model, tmp_path / "run", reward=lambda outcome: outcome.accuracy, **numbers | {"budget": " .6 "})
    assert (same.plan, same.budget) == (first.plan, 0.6)
    with pytest.raises(amc_tf.RunDirError, match="reward"):
        run(model, tmp_path / "run", reward=lambda outcome: outcome.accuracy - 1, **numbers)


@pytest.mark.usefixtures("no_agent")
def test_a_model_built_from_a_dict_goes_all_the_way(tmp_path):
    layers = tf_keras.layers
    image, extra = tf_keras.Input((6, 6, 2), name="a"), tf_keras.Input((4,), name="b")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3)(image))
    model = tf_keras.Model({"pixels": image, "facts": extra}, layers.Dense(3)(layers.Concatenate()([x, extra])))
    rng = np.random.default_rng(0)
    data = {"pixels": rng.normal(size=(60, 6, 6, 2)), "facts": rng.normal(size=(60, 4))}
    result = run(model, tmp_path / "run", train_data=data, episodes=1)
    assert result.scored_by == "agreement" and result.difference < 1e-5


def test_an_unwritable_run_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(amc_tf.RunDirError, match="file"):
        run(small.plain(keras), tmp_path / "file" / "run")


@pytest.mark.parametrize("model", [7, "model.keras", None])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(TypeError, match="keras.Model"):
        amc_tf.compress(model, target="macs")


SEARCHES = """
    import tensorflow as tf
    before = tf.keras.Model, tf.keras.__version__
    import keras
    import amc_tf
    from amc_tf.pipeline import searching
    from tests import small
    from tests.search.fakes import AgentAtOnce
    import os, sys, time

    def search(model, run_dir, episodes, hook):
        return amc_tf.compress(model, target="macs", budget=0.6, train_data=small.labelled(model, 96), round_to=2,
                               episodes=episodes, calibration_size=32, reward_size=64, run_dir=run_dir,
                               callbacks=small.hook(hook), verbose=False, report=False)

    def slowly(trial, best):
        time.sleep(0.3)

    def with_the_agent(trial, best):
        assert (tf.keras.Model, tf.keras.__version__) == before and before[0] is keras.Model
        assert "TF_USE_LEGACY_KERAS" not in os.environ and "tf_agents" not in sys.modules
        print("FINE", trial.kind, flush=True)
        time.sleep(0.3)

    agent, searching.DdpgAgent = searching.DdpgAgent, AgentAtOnce
    print("DONE", search(small.plain(keras), "stopped", 400, slowly).interrupted)
    searching.DdpgAgent = agent
    search(small.network(keras), "killed", 6, with_the_agent)
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """(folder, output) of a process with two searches in it: Ctrl-C ends the first one, and a kill the second.

    Only the second one has the real agent, whose process takes seconds to start.
    """
    folder = tmp_path_factory.mktemp("ended")
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SEARCHES)], cwd=folder, stdout=output, stderr=output,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            wait_for_trials(folder / "stopped", process, 4)
            process.send_signal(signal.SIGINT)
            wait_for_trials(folder / "killed", process, 4)
        finally:
            process.kill()
            process.wait()
    return folder, (folder / "output").read_text()


def wait_for_trials(run_dir: Path, process, count: int) -> None:
    deadline = time.monotonic() + 240
    journal = run_dir / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < count + 1:
        assert process.poll() is None, (run_dir.parent / "output").read_text()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_ends_with_the_best_so_far(ended):
    folder, output = ended
    assert "DONE True" in output, output[-2000:]
    assert (folder / "stopped" / "model.tflite").exists()


def test_any_import_order_and_tf_keras_stays_what_it_was(ended):
    _, output = ended
    assert "FINE agent" in output, output[-2000:]


def test_a_killed_search_goes_on_as_if_nothing_had_happened(ended, whole, one_agent, monkeypatch):
    monkeypatch.setattr(sys.modules["amc_tf.pipeline.searching"], "DdpgAgent", one_agent)
    model, _, never_killed = whole
    folder, _ = ended
    done_before = trials_in(folder / "killed")
    assert 4 <= len(done_before) < 8
    rest = run(model, folder / "killed", episodes=6)
    assert not rest.interrupted and len(rest.trials) == 8
    trials = trials_in(folder / "killed")
    assert trials[: len(done_before)] == done_before
    strip = [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in trials]
    others = [json.loads(line) for line in trials_in(never_killed.run_dir)]
    assert strip == [{k: v for k, v in trial.items() if k != "seconds"} for trial in others]


def trials_in(run_dir: Path) -> list[bytes]:
    """The whole lines of a journal, without its header."""
    lines = (run_dir / "journal.jsonl").read_bytes().splitlines(keepends=True)
    return [line for line in lines if line.endswith(b"\n")][1:]


def test_two_searches_cannot_share_a_run_directory(done):
    model, _, result = done
    header = json.loads((result.run_dir / "journal.jsonl").read_text().splitlines()[0])
    with Journal(result.run_dir, header), pytest.raises(amc_tf.RunDirError, match="use"):
        run(model, result.run_dir, validation_data=small.labelled(model, 40, seed=9))


@pytest.fixture(scope="module")
def network():
    return small.plain(keras)


def test_the_uniform_network_is_made_and_scored_as_the_winner_is(done):
    model, _, result = done
    uniform = next(trial for trial in result.trials if trial.kind == "uniform")
    assert result.uniform.macs == uniform.outcome.cost == result.summary()["uniform"]["macs"]
    if result.plan.digest == uniform.plan:
        assert result.uniform == result.compressed
    else:
        assert result.uniform.params != result.compressed.params


@pytest.mark.usefixtures("no_agent")
def test_the_sensitivity_of_one_search_serves_another(network, tmp_path):
    first = run(network, tmp_path / "first", episodes=20, round_to=8)
    kinds = [trial.kind for trial in first.trials]
    assert kinds.count("sensitivity") == 4 and kinds.count("greedy") == 1
    assert first.compressed.macs <= 0.6 * first.base.macs
    table = first.run_dir / "sensitivity.json"
    second = run(network, tmp_path / "second", budget=0.5, episodes=2, round_to=8, sensitivity=table)
    assert [trial.kind for trial in second.trials] == ["base", "uniform", "greedy", "agent"]
    assert (second.run_dir / "sensitivity.json").read_bytes() == table.read_bytes()
    other = tmp_path / "other.json"
    other.write_text(table.read_text().replace('"base": 1.0', '"base": 0.7'))
    with pytest.raises(ValueError, match=r"accuracy 0.7, this one has 1.0"):
        run(network, tmp_path / "third", round_to=8, sensitivity=other)
    other.write_text("[]")
    with pytest.raises(amc_tf.RunDirError, match="no sensitivity table"):
        run(network, tmp_path / "third", round_to=8, sensitivity=other)


def test_the_papers_search_is_the_agents_alone_and_another_search(network, tmp_path, no_agent):
    paper = run(network, tmp_path / "run", paper=True, episodes=2)
    assert [given["paper"] for given in no_agent] == [True]
    assert [trial.kind for trial in paper.trials] == ["base", "uniform", "agent", "agent"]
    assert paper.uniform.accuracy == paper.trials[1].outcome.accuracy  # both on the reward data
    with pytest.raises(amc_tf.RunDirError, match="paper"):
        run(network, tmp_path / "run")


@pytest.mark.usefixtures("no_agent")
def test_without_reconstruction_kernels_stay_as_they_are(network, tmp_path):
    def kernels(result, name):
        full = network.get_layer(name).get_weights()[0]
        kept = {float(value) for value in np.ravel(full)}
        return np.mean([float(value) in kept for value in np.ravel(result.model.get_layer(name).get_weights()[0])])

    plain = run(network, tmp_path / "plain", reconstruct=False, episodes=1)
    mended = run(network, tmp_path / "mended", episodes=1)
    assert kernels(plain, "wide") == 1 and kernels(mended, "wide") < 0.1


@pytest.mark.parametrize("name", ["reconstruct", "paper"])
def test_switches_are_true_or_false(network, tmp_path, name):
    with pytest.raises(TypeError, match=f"{name} is 'yes'"):
        run(network, tmp_path / "run", **{name: "yes"})
