"""Stages beside a compress() that answers at once: which of them are done, on what, and what stands in the end."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import amc_tf
from amc_tf.devices.timing import Timing
from amc_tf.pipeline import stages
from amc_tf.report import plots
from tests import small

pytestmark = pytest.mark.usefixtures("agent_at_once", "shapes_once", "eager_training")
USUAL = {
    "target": "macs", "budget": 0.6, "episodes": 2, "calibration_size": 32, "reward_size": 64, "round_to": 2,
    "verbose": False, "report": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Pages without pictures, which take half a second each time."""
    monkeypatch.setattr(plots, "draw_all", lambda record: {})


@pytest.fixture(scope="module")
def network():
    return small.plain(keras)


@pytest.fixture(scope="module")
def result(network, tmp_path_factory, agent_at_once, shapes_once):
    folder = tmp_path_factory.mktemp("stages")
    return amc_tf.compress(network, train_data=small.labelled(network, 96), run_dir=folder, **USUAL)


@pytest.fixture
def beside(result, network, tmp_path, monkeypatch):
    """What compress() makes of searches that end at these shares of the network's MACs; and what each was asked for."""

    def run(shares, **changes):
        calls, left = [], list(shares)

        def search_once(model, options):
            calls.append((model, options))
            whole = result.base.macs if len(calls) == 1 else round(shares[len(calls) - 2] * result.base.macs)
            found = replace(
                result, run_dir=options.run_dir, tflite=options.run_dir / result.tflite.name, seconds=2.0,
                base=replace(result.base, macs=whole),
                compressed=replace(result.compressed, macs=round(left.pop(0) * result.base.macs)),
            )  # fmt: skip
            found.run_dir.mkdir(parents=True, exist_ok=True)
            (found.run_dir / "journal.jsonl").write_bytes((result.run_dir / "journal.jsonl").read_bytes())
            found.save(b"base %d" % len(calls), {"float": b"file"})
            return found

        monkeypatch.setattr(stages, "search_once", search_once)
        data = small.labelled(network, 96)
        asked = USUAL | {"finetune_epochs": 1, "run_dir": tmp_path / "run", "train_data": data} | changes
        return amc_tf.compress(network, **asked), calls

    return run


def test_each_stage_goes_on_from_the_one_before(beside, result, network, tmp_path):
    made, calls = beside((0.7, 0.4, 0.2), stages=(0.7, 0.4), budget=0.2)
    assert [model for model, _ in calls] == [network, result.model, result.model]
    assert [options.budget for _, options in calls] == [0.7, 0.4 * result.base.macs, 0.2 * result.base.macs]
    assert [options.run_dir.name for _, options in calls] == ["stage-1", "stage-2", "run"]
    assert all(options.teacher is network and options.stages == () for _, options in calls)
    assert made.stages == (0.7, 0.4) and made.seconds == 6.0 and made.base == result.base
    assert (tmp_path / "run/base.tflite").read_bytes() == b"base 1"


def test_a_table_of_the_original_is_for_the_first_stage(beside):
    _, calls = beside((0.7, 0.4), stages=(0.7,), budget=0.4, sensitivity="table")
    assert [options.sensitivity for _, options in calls] == [Path("table"), None]


def test_a_stage_that_is_held_already_is_left_out(beside):
    made, calls = beside((0.3, 0.1), stages=(0.7, 0.4), budget=0.2)
    assert [options.run_dir.name for _, options in calls] == ["stage-1", "run"] and made.stages == (0.7,)


def test_where_a_stage_holds_the_budget_it_is_the_last_one(beside, tmp_path):
    made, calls = beside((0.2,), stages=(0.7, 0.4), budget=0.3, report=True)
    assert len(calls) == 1 and made.stages == () and made.budget == 0.3
    assert made.run_dir == tmp_path / "run" and made.tflite == tmp_path / "run/model.tflite"
    assert made.tflite.read_bytes() == b"file" and (tmp_path / "run/base.tflite").read_bytes() == b"base 1"
    found = json.loads((tmp_path / "run/result.json").read_text())
    assert (found["budget"], found["stages"]) == (0.3, []) and (tmp_path / "run/report.html").exists()


@pytest.mark.parametrize("budget", [np.float32(0.25), "25%"])
def test_budgets_of_every_kind_of_number(beside, tmp_path, budget):
    made, _ = beside((0.5, 0.25), stages=[np.float32(0.5)], budget=budget)
    assert (made.budget, made.stages) == (0.25, (0.5,))
    assert json.loads((tmp_path / "run/result.json").read_text())["stages"] == [0.5]


def test_a_budget_that_no_stages_reach_is_refused_before_the_first(beside, tmp_path):
    with pytest.raises(amc_tf.BudgetError):
        beside((0.5, 0.1), stages=(0.5,), budget=1e-4)
    with pytest.raises(ValueError, match="the budget is a share of the network"):
        beside((0.5, 0.1), stages=(0.5,), budget="3 MMAC")
    assert not (tmp_path / "run").exists()


class Bytes:
    """A device on which a file takes a microsecond a byte."""

    name, identity = "bytes", {"device": "bytes"}

    def benchmark(self, path, *, min_runs, min_seconds):
        us = float(path.stat().st_size)
        return Timing(processes=(us,), min_us=us, runs=1, environment={"before": {}, "after": {}})


def test_latency_after_a_training_of_ones_own_is_of_the_original(network, tmp_path):
    made = amc_tf.compress(
        network, train_data=small.labelled(network, 96), run_dir=tmp_path / "run", device=Bytes(), stages=(0.7,),
        finetune_epochs=1, **USUAL | {"budget": 0.4, "report": True},
    )  # fmt: skip
    whole = (tmp_path / "run/stage-1/base.tflite").stat().st_size
    for _ in range(2):
        assert made.latency["ratio"] == pytest.approx(made.tflite.stat().st_size / whole)
        assert made.compressed.latency_ms / made.base.latency_ms == pytest.approx(made.latency["ratio"])
        assert (tmp_path / "run/base.tflite").stat().st_size == whole and made.stages == (0.7,)
        stored = json.loads((tmp_path / "run/result.json").read_text())
        assert stored["latency"]["ratio"] == made.latency["ratio"] and stored["base"]["macs"] == made.base.macs
        made = made.with_model(made.model)
