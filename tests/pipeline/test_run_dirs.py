"""Run directories outlive releases: those of 0.1 are read, and refused in one sentence where they cannot go on."""

import errno
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import amc_tf
from amc_tf import result
from amc_tf.errors import RunDirError
from amc_tf.options import Options
from amc_tf.pipeline import searching, stages
from amc_tf.pipeline.exporter import Exporter
from amc_tf.pipeline.prepare import prepare
from amc_tf.pruning.plan import Plan
from amc_tf.report import page
from amc_tf.report.run_reader import read_run
from amc_tf.result import EARLIER, RESULT_FORMAT
from amc_tf.search import journal
from amc_tf.search.proposers.sensitivity import Sensitivity
from amc_tf.search.trial import Outcome, Trial
from amc_tf.tflite.conversion import keras_to_tflite
from tests import small

BASE = Trial(0, "complete", "base", (16, 32), {"stem": 1.0, "wide": 1.0}, "plan", Outcome(1, 9, 1, 9), -0.0, 0.1)
OLD = Path(__file__).parent / "run_dirs" / "0.1"

pytestmark = pytest.mark.usefixtures("agent_at_once", "shapes_once")


@pytest.fixture(params=sorted(path.name for path in OLD.iterdir()))
def old_run(request, tmp_path) -> Path:
    """A run directory that amc_tf 0.1 left, without its models."""
    return Path(shutil.copytree(OLD / request.param, tmp_path / request.param))


def test_there_are_runs_of_the_earlier_release():
    assert {path.name for path in OLD.iterdir()} >= {"macs", "latency"}


def test_an_earlier_run_is_read(old_run):
    header, trials = journal.read(old_run)
    assert header["format"] == 1 and trials[0].kind == "base"
    found = read_run(old_run)
    assert found.compressed.macs < found.base.macs
    assert Plan.load(old_run / "plan.json").digest == found.digest
    assert "report" in page.write(old_run).name


def test_the_table_of_an_earlier_run_is_read():
    table = Sensitivity.load(OLD / "macs" / "sensitivity.json")
    assert table.accuracy and not table.provenance


def test_an_earlier_run_is_not_gone_on_with(old_run):
    """Its journal knew a network by its weights alone: another one would be taken for it."""
    model = small.settled(small.network(keras))
    before = (old_run / "journal.jsonl").read_bytes()
    with pytest.raises(RunDirError, match=r"earlier amc_tf.*format 1.*choose another run_dir"):
        amc_tf.compress(
            model, target="macs", budget=0.5, episodes=30, train_data=small.labelled(model, 256, seed=3),
            run_dir=old_run, verbose=False, report=False,
        )  # fmt: skip
    assert (old_run / "journal.jsonl").read_bytes() == before


def test_a_run_of_a_later_release_is_refused(old_run):
    path = old_run / "journal.jsonl"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99', 1))
    with pytest.raises(RunDirError, match="format 99.*later amc_tf.*renew"):
        journal.read(old_run)
    with pytest.raises(RunDirError, match="format 99.*later amc_tf.*renew"):
        journal.Journal(old_run, journal.header("m", 0, {}))


def test_a_result_of_a_later_release_is_refused(old_run):
    path = old_run / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": RESULT_FORMAT + 1}))
    with pytest.raises(RunDirError, match=f"format {RESULT_FORMAT + 1}.*renew"):
        read_run(old_run)


def test_a_table_of_a_later_release_is_refused(tmp_path):
    table = json.loads((OLD / "macs" / "sensitivity.json").read_text())
    (tmp_path / "table.json").write_text(json.dumps(table | {"format": 99}))
    with pytest.raises(RunDirError, match="format 99, expected 1 to 2"):
        Sensitivity.load(tmp_path / "table.json")


@pytest.fixture(scope="module")
def trained():
    model = small.plain(keras)
    return model, small.labelled(model, 256, seed=3)


def compress(trained, run_dir=None, **arguments):
    model, data = trained
    given = {"target": "macs", "budget": 0.5, "episodes": 2, "train_data": data, "verbose": False, "report": False}
    return amc_tf.compress(model, run_dir=run_dir, **{**given, **arguments})


@pytest.mark.parametrize("stages", [(), (0.7,)])
@pytest.mark.parametrize("name", ["model.keras", "plan.json", "base.tflite", "model.tflite"])
def test_a_file_of_other_making_is_not_replaced(trained, tmp_path, name, stages):
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(RunDirError, match=f"holds {name} but no search.*choose another run_dir"):
        compress(trained, tmp_path, stages=stages, finetune_epochs=len(stages))
    assert (tmp_path / name).read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("failing", ["plan.json", "model.tflite", "result.json"])
def test_a_result_that_cannot_be_written_leaves_the_one_before(trained, tmp_path, monkeypatch, failing):
    first = compress(trained, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def full(data, path):
        if path.name.endswith(failing):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(data, path)

    real = result.write
    monkeypatch.setattr(result, "write", full)
    monkeypatch.setattr(sys.modules["amc_tf.pruning.plan"], "write", full)
    with pytest.raises(RunDirError, match="result cannot be written.*No space left.*the journal is safe"):
        replace(first, seconds=99.0).save(b"another", {"float": b"another"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_layers_are_frozen_in_any_order_and_inputs_too(trained, tmp_path):
    first = compress(trained, tmp_path, frozen=["wide", "image"], budget=0.6)
    again = compress(trained, tmp_path, frozen=["image", "wide"], budget=0.6)
    assert again.plan.digest == first.plan.digest
    frozen = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[0])["arguments"]["frozen"]
    assert frozen == ["image", "wide"]


def test_the_same_call_with_another_format_keeps_the_file_of_the_first(trained, tmp_path):
    first = compress(trained, tmp_path, quantize="int8")
    shipped = first.tflite.read_bytes()
    second = compress(trained, tmp_path, quantize="fp16")
    assert first.tflite.read_bytes() == shipped and second.tflite != first.tflite
    formats = json.loads((tmp_path / "result.json").read_text())["formats"]
    assert [line["format"] for line in formats] == ["float", "fp16"]


def test_a_file_of_another_network_moves_out_of_the_way(trained, tmp_path):
    first = compress(trained, tmp_path, quantize="int8")
    shipped = first.tflite.read_bytes()
    other = compress(trained, tmp_path, quantize="fp16", finetune_epochs=1)
    assert other.training is not None
    assert not first.tflite.exists()
    assert (tmp_path / EARLIER / first.tflite.name).read_bytes() == shipped


def by_class(labels, predictions):
    return float((predictions.argmax(-1) == labels).mean())


def by_chance(labels, predictions, share=0.5):
    return share * by_class(labels, predictions)


CALLS = {
    "as it is": {},
    "budget": {"budget": 0.6},
    "target": {"target": "params"},
    "seed": {"seed": 1},
    "metric": {"metric": by_class},
    "another metric": {"metric": by_chance},
    "importance": {"importance": "magnitude_out"},
    "an importance of one's own": {"importance": lambda group, weights: np.arange(group.channels, dtype=float)},
    "reward": {"reward": "negative_error_log_cost"},
    "quantize": {"quantize": "int8"},
    "two formats": {"quantize": ["int8", "fp16"]},
    "integer_io": {"quantize": "int8", "integer_io": True},
    "data": {"reward_size": 100},
    "frozen": {"frozen": ["stem"]},
    "reconstruct": {"reconstruct": False},
    "round_to": {"round_to": 4},
    "min_keep": {"min_keep": 0.5},
    "paper": {"paper": True},
    "method": {"method": "magnitude", "target": "params"},
}


def known_as(trained, **arguments):
    """What a call is known by, without its search: (name of its run directory, header of its journal)."""
    model, data = trained
    given = {"target": "macs", "budget": 0.5, "episodes": 2, "train_data": data, "verbose": False}
    problem = prepare(model, Options(**{**given, **arguments}))
    header = searching._header(problem, None)
    return searching._run_name(problem, header), header


@pytest.fixture(scope="module")
def calls(trained):
    base = keras_to_tflite.convert(trained[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras_to_tflite, "convert", lambda model: base)  # which it is for every call
        patch.setattr(Exporter, "check", lambda *_: None)
        return {name: known_as(trained, **arguments) for name, arguments in CALLS.items()}


def test_every_argument_that_matters_gives_a_run_directory_of_its_own(trained, calls):
    """By default; what was found for another call is neither taken nor written over."""
    assert len({name for name, _ in calls.values()}) == len(CALLS)
    assert known_as(trained) == calls["as it is"] and known_as(trained, episodes=9)[0] == calls["as it is"][0]


def test_every_argument_that_matters_is_refused_in_the_run_directory_of_another(calls, tmp_path):
    shipping = ("as it is", "quantize", "two formats", "integer_io")  # the search is the same, and gone on with
    with journal.Journal(tmp_path, calls["as it is"][1]) as first:
        first.append(BASE)
    for name, (_, header) in calls.items():
        if name in shipping:
            journal.Journal(tmp_path, header).close()
        else:
            with pytest.raises(RunDirError, match="holds another search"):
                journal.Journal(tmp_path, header)


def test_a_network_of_equal_weights_and_another_activation_is_another_network(trained, tmp_path):
    """Seen: the second resumed the search of the first, and shipped its plan with the first's accuracy."""
    first, data = trained
    other = keras.models.clone_model(first, clone_function=tanh_of)
    other.set_weights(first.get_weights())
    compress(trained, tmp_path)
    with pytest.raises(RunDirError, match="holds another search: model was"):
        compress((other, data), tmp_path)


def tanh_of(layer):
    config = layer.get_config()
    if layer.name == "stem":
        config["activation"] = "tanh"
    return type(layer).from_config(config)


def test_staged_calls_have_run_directories_of_their_own(trained):
    model, data = trained
    calls = [
        {}, {"quantize": "int8"}, {"importance": "magnitude_out"}, {"metric": by_class}, {"metric": by_chance},
        {"seed": 2}, {"temperature": 2.0}, {"train_data": (data[0], 3 - data[1])}, {"teacher": None},
        {"teacher": model}, {"frozen": ["stem"]}, {"stages": (0.6,)}, {"budget": 0.2},
    ]  # fmt: skip
    staged = {"target": "macs", "budget": 0.3, "stages": (0.5,), "finetune_epochs": 1, "train_data": data}
    names = [stages._run_name(model, Options(**{**staged, **call})) for call in calls]
    assert len(set(names)) == len(calls)
    assert stages._run_name(model, Options(**staged)) == names[0]


def test_a_metric_that_cannot_be_told_from_another_is_refused_before_anything_is_done(trained, tmp_path):
    import threading

    lock = threading.Lock()

    def scored(labels, predictions):
        with lock:
            return by_class(labels, predictions)

    with pytest.raises(ValueError, match="metric is .*scored, which cannot be told from another one.*`name`"):
        compress(trained, tmp_path / "run", metric=scored)
    assert not (tmp_path / "run").exists()
    scored.name = "by class"
    assert compress(trained, tmp_path / "run", metric=scored).scored_by == "metric"


def test_a_sensitivity_table_of_another_network_is_refused(trained, tmp_path):
    first = compress(trained, tmp_path / "one", episodes=20)
    table = first.run_dir / "sensitivity.json"
    assert Sensitivity.load(table).provenance
    compress(trained, tmp_path / "two", budget=0.6, sensitivity=table)
    with pytest.raises(ValueError, match="table was measured with importance 'magnitude_in'.*'magnitude_out'"):
        compress(trained, tmp_path / "three", importance="magnitude_out", sensitivity=table)
