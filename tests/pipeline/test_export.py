"""What a compressed network becomes: files in every format, trained with a teacher, returned by a caller's own loop."""

import json
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import amc_tf
from amc_tf import callbacks
from amc_tf.devices.timing import Timing
from amc_tf.options import halves
from amc_tf.pipeline.preview import Preview
from amc_tf.report import page, plots
from amc_tf.tflite.conversion import keras_to_tflite
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.operators import read
from tests import small

pytestmark = pytest.mark.usefixtures("agent_at_once", "shapes_once", "eager_training")
FORMS = ("int8", "fp16", "dynamic")


def run(model, run_dir, **changes):
    arguments = {
        "target": "macs", "budget": 0.6, "episodes": 2, "calibration_size": 32, "reward_size": 64, "round_to": 2,
        "verbose": False, "report": False, "train_data": small.labelled(model, 96),
    }  # fmt: skip
    return amc_tf.compress(model, run_dir=run_dir, **(arguments | changes))


class Watch(callbacks.Callback):
    """Writes down what it is told."""

    def __init__(self):
        self.told = []

    def on_search_begin(self, logs=None):
        self.told.append(("begin", len(self.search.trials)))

    def on_episode_end(self, episode, logs=None):
        self.told.append((episode, logs))

    def on_search_end(self, logs=None):
        self.told.append(("end", logs))


@pytest.fixture
def no_pictures(monkeypatch):
    """Pages without pictures, for tests that ask what else is on them: they take half a second each time."""
    monkeypatch.setattr(plots, "draw_all", lambda record: {})


@pytest.fixture(scope="module")
def network():
    return small.plain(keras)


@pytest.fixture(scope="module")
def watch():
    return Watch()


@pytest.fixture(scope="module")
def result(network, watch, tmp_path_factory, agent_at_once, shapes_once, eager_training):
    epochs = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: watch.told.append(("epoch", epoch)))
    return run(
        network, tmp_path_factory.mktemp("finished"), quantize=FORMS, finetune_epochs=2, finetune_callbacks=[epochs],
        callbacks=[watch], tensorboard=True, report=True, integer_io=True,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- formats


def test_every_format_is_a_file_with_its_own_figures(result):
    summary = json.loads((result.run_dir / "result.json").read_text())
    assert [line["format"] for line in summary["formats"]] == ["float", *FORMS]
    assert summary["tflite"] == "model_int8.tflite" == result.tflite.name
    for line in summary["formats"]:
        assert (result.run_dir / line["file"]).stat().st_size == line["size_bytes"]
        assert 0 <= line["accuracy"] <= 1
    assert summary["formats"][0]["accuracy"] == result.compressed.accuracy
    kinds = [detail["dtype"] for detail in ends_of(result.run_dir / "model_int8.tflite")]
    assert kinds == [np.int8, np.int8]
    assert not {"QUANTIZE", "DEQUANTIZE"} & {o.name for o in read(result.run_dir / "model_int8.tflite")[0].operators}
    assert [detail["dtype"] for detail in ends_of(result.run_dir / "model.tflite")] == [np.float32, np.float32]


def ends_of(path):
    interpreter = Interpreter(str(path))
    return [*interpreter.get_input_details(), *interpreter.get_output_details()]


def test_accuracy_of_a_format_is_what_its_file_says(result, network):
    x, y = small.labelled(network, 96)
    order = np.random.default_rng(0).permutation(96)[32:]
    interpreter = Interpreter(str(result.run_dir / "model_fp16.tflite"))
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    right = 0
    for number in order:
        interpreter.set_tensor(given["index"], x[number : number + 1])
        interpreter.invoke()
        right += interpreter.get_tensor(made["index"]).argmax() == y[number]
    assert result.formats[2].accuracy == pytest.approx(right / len(order))


def test_the_page_shows_them(result):
    text = (result.run_dir / page.PAGE).read_text()
    assert all(f"model_{form}.tflite" in text for form in FORMS)


def test_int8_wants_examples(network, tmp_path):
    with pytest.raises(ValueError, match="asks for int8, whose ranges come from examples"):
        run(network, tmp_path, quantize=("fp16", "int8"), train_data=None)


def test_zeros_in_a_quantised_file_are_worth_no_time(network, tmp_path):
    with pytest.raises(ValueError, match="only float files have sparse kernels"):
        run(network, tmp_path, method="magnitude", target="latency", quantize="int8", round_to=8)


@pytest.mark.parametrize("stages", [0.5, (0.4, 0.6)])
def test_wrong_stages_are_refused_in_a_dry_run(network, tmp_path, stages):
    with pytest.raises(ValueError, match="stages is"):
        run(network, tmp_path, stages=stages, budget=0.6, finetune_epochs=1, dry_run=True)


@pytest.mark.parametrize("wrong", ["int4", ("int8", "int8"), 8])
def test_unknown_formats_are_refused(network, tmp_path, wrong):
    with pytest.raises(ValueError, match="quantize is .* expected None, one of 'int8', 'fp16', 'dynamic'"):
        run(network, tmp_path, quantize=wrong)


class Bytes:
    """A device on which a file takes a microsecond a byte."""

    name, identity = "bytes", {"device": "bytes"}

    def __init__(self):
        self.files: list[bytes] = []

    def benchmark(self, path, *, min_runs, min_seconds):
        self.files.append(path.read_bytes())
        us = float(len(self.files[-1]))
        return Timing(processes=(us,), min_us=us, runs=1, environment={"before": {}, "after": {}})

    def benchmark_many(self, paths, *, min_runs, min_seconds):
        return [self.benchmark(path, min_runs=min_runs, min_seconds=min_seconds) for path in paths]


def test_latency_is_that_of_the_format_that_ships(network, tmp_path, own_cache):
    device = Bytes()
    made = run(network, tmp_path / "run", target="latency", quantize="int8", device=device, budget=0.8)
    assert made.latency["format"] == "int8" and made.tflite.name == "model_int8.tflite"
    assert made.compressed.latency_ms == pytest.approx(made.tflite.stat().st_size / 1e3)
    assert made.compressed.latency_ms <= 0.8 * made.base.latency_ms
    assert made.tflite.read_bytes() in device.files
    assert any(row[0] == "latency (int8)" for row in made.rows())


# ---------------------------------------------------------------------------------------------------------- training


def test_training_learns_from_the_original_and_says_so(result, watch):
    assert result.training["distilled"] and result.training["temperature"] == 3.0
    assert len(result.training["history"]["loss"]) == 2 == len([told for told in watch.told if told[0] == "epoch"])
    assert result.untrained.accuracy != result.compressed.accuracy or result.untrained.size_bytes
    assert result.training == json.loads((result.run_dir / "result.json").read_text())["training"]


def test_a_training_that_is_lost_leaves_the_untrained_network(network, tmp_path):
    keras.utils.set_random_seed(0)
    model = small.plain(keras)
    model.compile(keras.optimizers.SGD(1e30), "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match="without fine-tuning: The loss or the weights became infinite or no numbers"):
        kept = run(model, tmp_path / "run", finetune_epochs=2)
    assert kept.training is None and kept.untrained is None
    assert all(np.isfinite(w).all() for w in kept.model.get_weights())


def test_metrics_of_every_class_and_callbacks_of_ones_own(network, tmp_path):
    model = keras.models.clone_model(network)
    model.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy", metrics=[keras.metrics.F1Score()])
    x, y = small.labelled(network, 96)
    data = (x, np.eye(4, dtype="float32")[y])
    seen = tmp_path / "seen"  # a file: a list that the callback holds would be a part of what it is known by

    class Told(keras.callbacks.Callback):
        def __init__(self, every):
            super().__init__()
            self.every = every

        def on_epoch_end(self, epoch, logs=None):
            seen.write_text((seen.read_text() if seen.exists() else "") + str(self.every))

    for every in (1, 1, 2):  # what is as before is not trained again
        made = run(
            model, tmp_path / "run", finetune_epochs=1, train_data=data, finetune_callbacks=[Told(every)], teacher=None
        )
    assert seen.read_text() == "12" and 0 <= made.training["history"]["f1_score"][0] <= 1


@pytest.mark.parametrize("given", [{"teacher": 3}, {"temperature": 2.0}, {"finetune_callbacks": [3]}])
def test_a_training_that_is_not_asked_for_has_no_arguments(network, tmp_path, given):
    with pytest.raises(ValueError, match=f"{next(iter(given))} is given, but finetune_epochs is 0"):
        run(network, tmp_path, **given)


def test_ctrl_c_in_training_leaves_the_untrained_network(network, tmp_path):
    def stop(epoch, logs=None):
        raise KeyboardInterrupt

    hook = keras.callbacks.LambdaCallback(on_epoch_begin=stop)
    with pytest.warns(UserWarning, match="fine-tuning was stopped"):
        kept = run(network, tmp_path / "run", finetune_epochs=2, finetune_callbacks=[hook])
    assert kept.interrupted and kept.stopped == "fine-tuning" and kept.training is None
    told = json.loads((kept.run_dir / "result.json").read_text())
    assert (told["interrupted"], told["stopped"]) == (True, "fine-tuning")
    trained = kept.with_model(kept.model)  # by the caller: the network is not the untrained one any more
    assert not trained.interrupted and trained.stopped is None
    assert kept.tflite.exists()
    after = run(network, tmp_path / "run", finetune_epochs=1)
    assert after.training["epochs"] == 1 and not after.interrupted


class Stopping(callbacks.Callback):
    """Ctrl-C after so many trials."""

    def __init__(self, trials):
        self.trials = trials

    def on_episode_end(self, episode, logs=None):
        if episode + 1 == self.trials:
            raise KeyboardInterrupt


def test_ctrl_c_in_a_prolonged_search_is_told_as_such(network, tmp_path, no_pictures):
    first = run(network, tmp_path / "run", episodes=2)
    longer = len(first.trials) + 1
    kept = run(network, tmp_path / "run", episodes=4, callbacks=[Stopping(longer)], finetune_epochs=1, report=True)
    assert kept.interrupted and kept.stopped == "search" and kept.training is None
    page = (tmp_path / "run/report.html").read_text()
    assert "The search was stopped after 3 episodes: the same call goes on" in page
    assert "fine-tuning was stopped" not in page


def test_a_lone_callback_of_keras_will_do(network, tmp_path):
    seen = []
    hook = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    run(network, tmp_path / "run", finetune_epochs=1, finetune_callbacks=hook)
    assert seen == [0]


def test_stages_are_told_of_the_network_that_it_began_with(network, tmp_path):
    made = run(network, tmp_path / "run", budget="40%", finetune_epochs=1, episodes=1)
    stage = tmp_path / "run/stage-1"
    assert (stage / "journal.jsonl").exists()
    assert [unit["size"] for unit in made.units] == [16, 32, 4]
    assert made.compressed.macs <= 0.4 * made.base.macs
    assert made.stages == (0.5,) and made.seconds > json.loads((stage / "result.json").read_text())["seconds"]
    whole = (stage / "base.tflite").read_bytes()
    made.with_model(made.model)
    assert (tmp_path / "run/base.tflite").read_bytes() == whole


def test_small_budgets_go_in_halves():
    assert halves(0.5) == () == halves(0.6) == halves("30 ms") == halves(None)
    assert all(halves(budget) == (0.5,) for budget in ("30%", "0.3", " .3 ", "3e-1", np.float32(0.3)))
    assert halves(0.2) == (0.5, 0.25)


# -------------------------------------------------------------------------------------------------------- with_model


def test_a_model_trained_elsewhere_takes_the_place(result, network, no_pictures):
    other = keras.models.clone_model(result.model)
    other.set_weights([0.5 * w for w in result.model.get_weights()])
    before = {line.format: (result.run_dir / file(line)).read_bytes() for line in result.formats}
    new = result.with_model(other)
    assert new.model is other and new.untrained == result.untrained
    assert all((new.run_dir / file(line)).read_bytes() != before[line.format] for line in new.formats)
    stored = keras.saving.load_model(new.run_dir / "model.keras")
    assert all(np.array_equal(a, b) for a, b in zip(stored.get_weights(), other.get_weights(), strict=True))
    back = new.with_model(result.model)
    assert back.compressed == result.compressed
    assert (back.run_dir / "model.tflite").read_bytes() == before["float"]


def test_the_score_of_the_same_model_is_the_same_again(network, tmp_path):
    made = run(network, tmp_path / "run")  # without validation_data: scored on a part of train_data
    assert made.compressed.accuracy > 0.3
    assert made.with_model(made.model).compressed.accuracy == made.compressed.accuracy


def test_a_trained_model_above_the_limit_is_told_of(network, tmp_path):
    made = run(network, tmp_path / "run", target="size", budget=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # ours; Keras has some for newer versions of NumPy
        made.with_model(made.model)
    above = replace(made, limit=1000.0)
    with pytest.warns(UserWarning, match=r"takes .* kB, but its limit is 1 kB"):
        above.with_model(made.model)


def file(line):
    return {"float": "model.tflite"}.get(line.format, f"model_{line.format}.tflite")


def test_other_models_are_refused(result, network):
    with pytest.raises(ValueError, match="not the result's: the weights of its layer .* have shapes"):
        result.with_model(network)
    other = keras.models.clone_model(result.model)
    other.set_weights([w * np.nan for w in result.model.get_weights()])
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        result.with_model(other)
    with pytest.raises(TypeError, match=r"keras\.Model"):
        result.with_model(7)


def test_zeros_have_to_be_there(network, tmp_path):
    made = run(network, tmp_path / "run", method="magnitude", target="params", round_to=8)
    full = keras.models.clone_model(made.model)
    full.set_weights([w + 1.0 for w in made.model.get_weights()])
    with pytest.raises(ValueError, match=r"that were pruned are not zero any more; train with amc_tf.finetune\("):
        made.with_model(full)


# --------------------------------------------------------------------------------------------------------- callbacks


def test_callbacks_hear_of_every_episode(result, watch):
    told = [entry for entry in watch.told if entry[0] != "epoch"]
    assert told[0] == ("begin", 0) and told[-1][0] == "end"
    assert [entry[0] for entry in told[1:-1]] == [trial.number for trial in result.trials]
    for (_, logs), trial in zip(told[1:-1], result.trials, strict=True):
        assert logs["kind"] == trial.kind and logs["reward"] == trial.reward
        assert logs["cost_share"] == trial.outcome.cost / trial.outcome.base_cost
    assert told[-1][1]["best_reward"] == max(t.reward for t in result.trials if t.outcome.cost <= result.limit)


def test_scalars_for_tensorboard(result):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (result.run_dir / "tensorboard/search").glob("events*")
    read = EventAccumulator(str(events), {"tensors": 0})
    read.Reload()
    assert [event.step for event in read.Tensors("reward")] == [trial.number for trial in result.trials]
    assert list((result.run_dir / "tensorboard/finetune").rglob("events*"))


def test_early_stopping_ends_a_search_and_one_that_goes_on(network, tmp_path):
    given = {"episodes": 30, "train_data": small.labelled(network, 96), "sensitivity": None}
    first = run(network, tmp_path / "run", callbacks=[callbacks.EarlyStopping(2, min_delta=1.0)], **given)
    assert 3 <= len(first.trials) <= 12  # nothing is ever better by 1
    watched = Watch()
    again = run(network, tmp_path / "run", callbacks=[callbacks.EarlyStopping(2, min_delta=1.0), watched], **given)
    assert [t.plan for t in again.trials] == [t.plan for t in first.trials] and len(watched.told) == 2
    assert len(run(network, tmp_path / "run", **given | {"episodes": 16}).trials) > len(first.trials)


@pytest.mark.parametrize(("patience", "delta"), [(0, 0), (1.5, 0), (True, 0), (3, -1), (3, "x")])
def test_early_stopping_wants_numbers(patience, delta):
    with pytest.raises(ValueError, match=r"(patience|min_delta) is"):
        callbacks.EarlyStopping(patience, delta)


def test_callbacks_of_keras_are_for_the_training(network, tmp_path):
    with pytest.raises(TypeError, match="finetune_callbacks"):
        run(network, tmp_path, callbacks=[keras.callbacks.EarlyStopping()])


# ----------------------------------------------------------------------------------------------------------- preview


def test_a_look_ahead_writes_nothing(network, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_to_tflite, "convert", convert)  # not a kept file: how long it takes is told
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # ours; Keras has some for newer versions of NumPy
        seen = run(
            network, tmp_path / "run", dry_run=True, episodes=30, budget=0.3, finetune_epochs=3, quantize="int8"
        )
    assert isinstance(seen, Preview) and not (tmp_path / "run").exists()
    assert seen.networks == 31 and seen.stages == (0.5,) and seen.formats == ("model.tflite", "model_int8.tflite")
    assert set(seen.shrinking) == {"stem", "wide"} and "head" in seen.frozen
    alone = run(network, tmp_path / "run", dry_run=True).reachable
    assert alone == {t: ends[0] for t, ends in amc_tf.analyze(network, round_to=2).budgets().items()} | {
        "size": alone["size"]
    }
    assert all(seen.reachable[target] < least for target, least in alone.items())  # in two stages
    assert min(seen.setup_seconds, seen.search_seconds, seen.training_seconds) > 0
    assert any("fine-tuning about" in sentence for sentence in seen.sentences())
    assert any(f"the original scores {seen.accuracy:.4g} on 64" in sentence for sentence in seen.sentences())


def test_a_look_ahead_scores_the_original(network, result, tmp_path):
    assert run(network, tmp_path, dry_run=True).accuracy == result.base.accuracy
    assert run(network, tmp_path, dry_run=True, metric=lambda labels, found: 7.0).accuracy == 7.0
    assert run(network, tmp_path, dry_run=True, train_data=small.images(96)).accuracy is None
    with pytest.raises(ValueError, match="labels run from 0 to 9"):
        run(network, tmp_path, dry_run=True, train_data=(small.images(96), np.arange(96) % 10))
    late = np.append(np.zeros(95, int), 9)  # not among the few that the original is run on
    with pytest.raises(ValueError, match="labels run from 0 to 9"):
        run(network, tmp_path, dry_run=True, validation_data=(small.images(96), late))


def test_stages_reach_further_than_the_network_they_begin_with(network, tmp_path):
    least = run(network, tmp_path, dry_run=True).reachable["macs"]
    with pytest.raises(amc_tf.BudgetError):
        run(network, tmp_path, dry_run=True, budget=0.9 * least)
    seen = run(network, tmp_path, dry_run=True, budget=0.9 * least, finetune_epochs=1)
    assert seen.stages == halves(0.9 * least) != ()
    for stages, budget in (((0.9 * least,), 0.5 * least), ((0.5,), 1e-4)):
        with pytest.raises(amc_tf.BudgetError):
            run(network, tmp_path, dry_run=True, stages=stages, budget=budget, finetune_epochs=1)
    assert run(network, tmp_path, dry_run=True, budget="30%", finetune_epochs=1).stages == (0.5,)
