"""Search under a latency budget: on a device whose time is computed, on the stand-in phone, and on this computer."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import amc_tf
from amc_tf.devices import timing
from amc_tf.devices.android.adb_client import find_adb
from amc_tf.devices.android.benchmark_binary import sha256
from amc_tf.devices.timing import Timing
from amc_tf.latency import candidate_timing, search_latency, stopwatch
from amc_tf.latency import table as latency_table
from amc_tf.latency.search_latency import Latency
from amc_tf.latency.table import load_or_measure
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.result import Result
from amc_tf.search.scoring.evaluator import Evaluator
from amc_tf.tflite.slicing.shapes import Shapes
from tests import small
from tests.latency.test_table import microseconds
from tests.standin_adbd import Next, StandIn, Vanish

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("agent_at_once", "shapes_once")]


class Computed:
    """Takes a known time for a file; of narrower networks as a whole `share` times what their operators take."""

    name = "computed"

    def __init__(self, share: float = 1.0, unit: float = 100.0):
        self.identity = {"device": "computed"}
        self.share, self.unit = share, unit
        self.files: list[bytes] = []  # what was measured as a whole
        self.fails = 0  # so many measurements of candidates

    def benchmark(self, path, *, min_runs, min_seconds) -> Timing:
        file, base = Path(path).read_bytes(), Path(path).name == "base.tflite"
        self.files.append(file)
        if not base and self.fails:
            self.fails -= 1
            raise amc_tf.DeviceError("The phone fell asleep: wake it.")
        return self._timing(self.unit * microseconds(file) * (1 if base else self.share))

    def benchmark_many(self, paths, *, min_runs, min_seconds) -> list[Timing]:
        return [self._timing(self.unit * microseconds(Path(path).read_bytes())) for path in paths]

    def _timing(self, us) -> Timing:
        return Timing(processes=(us,), min_us=us, runs=1, environment={"before": {}, "after": {}})


@pytest.fixture(scope="module")
def model():
    return small.plain(keras)


@pytest.fixture(scope="module")
def table(model, tmp_path_factory, shapes_once) -> Path:
    """The folder of the table of `model` on a Computed, which takes longer than the searches."""
    pruning, folder = ChannelPruner(model, round_to=2), tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency_table, "_PASSES", 1)  # all would be alike
        load_or_measure(Computed(), Shapes(pruning), pruning.units, folder=folder)
    return folder


@pytest.fixture(autouse=True)
def apart(own_cache, table):
    """Tables in a folder of the test, where that of `table` lies."""
    shutil.copytree(table, own_cache / "latency")


def run(model, run_dir, device, **changes):
    arguments = {
        "target": "latency", "budget": 0.6, "episodes": 12, "calibration_size": 32, "reward_size": 64, "round_to": 2,
        "run_dir": run_dir, "verbose": False, "report": False, "train_data": small.labelled(model, 96),
    }  # fmt: skip
    return amc_tf.compress(model, device=device, **(arguments | changes))


@pytest.fixture(scope="module")
def done(model, table, tmp_path_factory, agent_at_once, shapes_once) -> tuple[Computed, Result]:
    """A device, and a finished search on it."""
    device, folder = Computed(), tmp_path_factory.mktemp("done")
    shutil.copytree(table, folder / "cache/latency")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMC_TF_CACHE", str(folder / "cache"))
        patch.setattr(sys.modules["amc_tf.pipeline.searching"], "provide", lambda name: None)
        return device, run(model, folder / "run", device)


def test_the_budget_is_held_by_what_was_measured(done):
    device, result = done
    base = (result.run_dir / "base.tflite").read_bytes()
    measured = microseconds(result.tflite.read_bytes()) / microseconds(base)
    assert measured <= 0.6
    assert result.compressed.latency_ms / result.base.latency_ms == pytest.approx(measured)
    assert result.tflite.read_bytes() in device.files  # the very file that ships
    assert result.latency["ratio"] == pytest.approx(measured)
    assert json.loads((result.run_dir / "result.json").read_text())["latency"]["device"] == device.identity


def test_a_table_that_was_measured_before_is_not_measured_again(model, tmp_path, own_cache):
    class Once(Computed):
        def benchmark_many(self, paths, *, min_runs, min_seconds):
            raise AssertionError("it was measured before")

    before = sorted((own_cache / "latency").iterdir())
    assert run(model, tmp_path / "run", Once(), episodes=1).tflite.exists()
    assert sorted((own_cache / "latency").iterdir()) == before


def test_the_budget_is_spent(done):
    _, result = done
    shares = [t.outcome.cost / t.outcome.base_cost for t in result.trials if t.kind in ("agent", "refined")]
    assert max(shares) <= 0.6 and min(shares) > 0.5


@pytest.mark.parametrize("share", [0.8, 1.3])
def test_measured_candidates_correct_the_table(model, tmp_path, share):
    """A device on which whole networks take longer, or less long, than their operators promise."""
    result = run(model, tmp_path / "run", Computed(share=share), episodes=20)
    shares = [t.outcome.cost / t.outcome.base_cost for t in result.trials if t.number > 0]
    assert max(shares) <= 0.6 and min(shares) > 0.5
    assert 0.4 < result.compressed.latency_ms / result.base.latency_ms <= 0.6


def test_where_no_trial_holds_the_budget_the_best_is_narrowed(model, tmp_path):
    """As if the search had measured candidates as faster than they are."""
    device = Computed()

    def slow_down(trial, best):
        device.share = 1.3

    result = run(model, tmp_path / "run", device, episodes=1, callbacks=small.hook(slow_down))
    assert result.compressed.latency_ms / result.base.latency_ms <= 0.6
    assert result.plan.digest not in {trial.plan for trial in result.trials}


def test_where_nothing_holds_the_budget_the_sentence_says_so(model, tmp_path):
    device = Computed()

    def slow_down(trial, best):
        device.share = 9

    with pytest.raises(amc_tf.BudgetError, match="No network of the search takes at most"):
        run(model, tmp_path / "run", device, episodes=1, callbacks=small.hook(slow_down))


def test_a_budget_in_milliseconds(model, tmp_path):
    device = Computed()
    base_ms = device.unit * microseconds(amc_tf.tflite.conversion.keras_to_tflite.convert(model)) / 1e3
    result = run(model, tmp_path / "run", device, budget=f"{0.6 * base_ms:.6f} ms")
    assert result.limit == pytest.approx(600 * base_ms)
    assert 0.5 * base_ms < result.compressed.latency_ms <= 0.6 * base_ms


def test_without_a_budget_the_reward_weighs_accuracy_against_latency(model, tmp_path):
    result = run(model, tmp_path / "run", Computed(), budget=None)
    costs = {round(t.outcome.cost / t.outcome.base_cost, 1) for t in result.trials if t.kind in ("agent", "refined")}
    assert len(costs) > 2 and result.compressed.latency_ms < result.base.latency_ms


@pytest.mark.parametrize("budget, says", [(30, "no unit of time"), ("2 MB", "unit of size")])
def test_wrong_budgets_get_one_sentence(model, tmp_path, budget, says):
    with pytest.raises(ValueError, match=says) as raised:
        run(model, tmp_path / "run", Computed(), budget=budget)
    assert "\n" not in str(raised.value)


def test_a_failed_measurement_is_a_failed_trial_and_the_search_goes_on(model, tmp_path):
    device = Computed()

    def fall_asleep(trial, best):
        device.fails = 2 if trial.number == 0 else device.fails

    result = run(model, tmp_path / "run", device, callbacks=small.hook(fall_asleep))
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert [trial.reason for trial in failed] == ["DeviceError: The phone fell asleep: wake it."] * 2
    assert len(result.trials) == 14 and result.compressed.latency_ms / result.base.latency_ms <= 0.6


def test_a_phone_that_is_gone_at_the_end_costs_nothing_but_another_call(model, tmp_path):
    device = Computed()

    def leave(trial, best):
        device.fails = 99 if trial.number == 13 else 0

    with pytest.raises(amc_tf.DeviceError, match="asleep"):
        run(model, tmp_path / "run", device, callbacks=small.hook(leave))
    device.fails = 0
    result = run(model, tmp_path / "run", device, callbacks=small.hook(leave))
    assert len(result.trials) == 14 and result.tflite.exists()


def test_a_search_that_goes_on_ends_as_one_that_was_not_stopped(model, tmp_path, own_cache):
    whole = run(model, tmp_path / "whole", Computed(share=1.2))
    other = Computed(share=1.2, unit=130.0)  # a day on which all takes longer: prices are those of the first day

    def stop(trial, best):
        if trial.number == 7:
            raise KeyboardInterrupt

    run(model, tmp_path / "parts", Computed(share=1.2), callbacks=small.hook(stop))
    (tmp_path / "parts/agent.npz").unlink()  # every lesson is replayed, within the limits of its day
    shutil.rmtree(own_cache / "latency")
    rest = run(model, tmp_path / "parts", other)
    assert [t.widths for t in rest.trials] == [t.widths for t in whole.trials]
    assert [t.outcome.cost for t in rest.trials] == pytest.approx([t.outcome.cost for t in whole.trials])


@pytest.mark.parametrize("damage", ["", "{}", "nan", "gone"])
def test_without_its_prices_a_search_does_not_go_on(model, done, tmp_path, damage):
    """Not one that is finished either."""
    shutil.copytree(done[1].run_dir, tmp_path / "run")
    path = tmp_path / "run/latency.json"
    if damage == "gone":
        path.unlink()
    elif damage == "nan":
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_us": float("nan")}))
    else:
        path.write_text(damage)
    with pytest.raises(amc_tf.RunDirError, match=r"latency.json is missing, damaged"):
        run(model, tmp_path / "run", Computed())


def test_prices_of_another_network_are_not_taken(model, tmp_path):
    """Left in the folder after its journal was deleted."""
    run(small.plain(keras, width=12), tmp_path / "run", Computed(), episodes=1)
    (tmp_path / "run/journal.jsonl").unlink()
    (tmp_path / "run/agent.npz").unlink()
    result = run(model, tmp_path / "run", Computed(), episodes=2)
    assert 0.5 < result.compressed.latency_ms / result.base.latency_ms <= 0.6


def test_a_wrong_budget_leaves_nothing_that_binds_the_next_call(model, tmp_path):
    with pytest.raises(amc_tf.BudgetError):
        run(model, tmp_path / "run", Computed(), budget="1 us")
    assert not (tmp_path / "run").exists()


def test_a_device_that_fails_before_the_search_does_not_stop_it(model, tmp_path):
    device = Computed()
    device.fails = 1
    assert run(model, tmp_path / "run", device, episodes=2).tflite.exists()


def test_a_search_belongs_to_one_device(model, tmp_path):
    run(model, tmp_path / "run", Computed(), episodes=2)
    other = Computed()
    other.identity = {"device": "another"}
    with pytest.raises(amc_tf.RunDirError, match="device"):
        run(model, tmp_path / "run", other, episodes=2)


def test_a_device_beside_another_target_is_only_measured_on(model, tmp_path):
    result = run(model, tmp_path / "run", Computed(), target="macs", episodes=2)
    measured = microseconds(result.tflite.read_bytes()) / microseconds((tmp_path / "run/base.tflite").read_bytes())
    assert result.compressed.latency_ms / result.base.latency_ms == pytest.approx(measured)
    assert result.compressed.macs <= 0.6 * result.base.macs


@pytest.mark.parametrize("local, in_flight", [(True, 1), (False, 2)])
def test_while_this_computer_measures_nothing_else_runs(model, tmp_path, monkeypatch, local, in_flight):
    """A device may say of itself that it is this computer."""
    running, together, beside = [], [0], [0]
    evaluate = Evaluator.__call__

    def slow(self, widths, beat=None):
        running.append(widths)
        together.append(len(running))
        time.sleep(0.05)
        try:
            return evaluate(self, widths, beat)
        finally:
            running.remove(widths)

    class Watching(Computed):
        def benchmark(self, path, **settings):
            beside.append(len(running))
            return super().benchmark(path, **settings)

    device = Watching()
    device.local = local
    monkeypatch.setattr(Evaluator, "__call__", slow)
    run(model, tmp_path / "run", device, episodes=4)
    assert max(together) == in_flight
    assert beside and (not local or max(beside) == 0)


def test_the_host_is_this_computer(model):
    pruning = ChannelPruner(model, round_to=2)
    with Latency("host", pruning, b"") as host_latency, Latency(Computed(), pruning, b"") as other:
        assert (host_latency.in_flight, other.in_flight) == (1, 2)


def test_the_table_shows_milliseconds_and_how_sure_they_are(done):
    rows = {row[0]: row for row in done[1].rows()}
    latency = rows["latency"]
    assert all(cell.endswith(" ms") for cell in latency[1:4]) and " to " in latency[4]


@pytest.fixture
def briefly(monkeypatch):
    """Real times of a few milliseconds: each of the many processes costs more than what it measures."""
    for name in ("_BRIEF", "_THOROUGH"):
        monkeypatch.setattr(stopwatch, name, {"min_runs": 10, "min_seconds": 0.02})
    monkeypatch.setattr(timing, "_WARMUP_SECONDS", 0.01)
    monkeypatch.setattr(latency_table, "_PASSES", 1)
    monkeypatch.setattr(latency_table, "_MIN_SECONDS", 0.01)
    for module in (candidate_timing, search_latency):
        monkeypatch.setattr(module, "FINAL_ROUNDS", 1)
    monkeypatch.setattr(stopwatch, "BASE_ROUNDS", 2)
    monkeypatch.setattr(stopwatch.Stopwatch.compare, "__defaults__", (2,))


def slow_network():
    """Its halves take half or a quarter of the time: much less than a budget of 80 %, also on a computer under load."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((small.SIDE, small.SIDE, 3)), layers.Conv2D(128, 3, activation="relu", name="first"),
            layers.Conv2D(128, 3, activation="relu", name="second"), layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(small.CLASSES, activation="softmax", name="head"),
        ],
        name="slow",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.05, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.usefixtures("briefly")
def test_on_this_computer(tmp_path):
    result = run(slow_network(), tmp_path / "run", "host", budget=0.8, episodes=1, round_to=64)
    assert 0 < result.compressed.latency_ms < result.base.latency_ms
    assert result.latency["device"]["runtime"].startswith("ai-edge-litert")


@pytest.mark.usefixtures("briefly")
def test_on_the_phone_on_the_cable_and_nothing_is_left_behind(tmp_path, monkeypatch, own_cache):
    """The real adb, the stand-in phone, the program where the user was told to put it."""
    with StandIn(tmp_path / "phone") as phone:
        for name, value in phone.env.items():
            monkeypatch.setenv(name, value)
        shutil.copy(phone.binary, own_cache / "benchmark_model-2.2.0-arm64-v8a")
        monkeypatch.setenv("AMC_TF_ACCEPT_BINARY", sha256(phone.binary))
        subprocess.run([find_adb(), "connect", phone.serial], check=True, capture_output=True, timeout=60)
        phone.faults.vanish = lost = Next(Vanish(seconds=0.1, away=0.3), when="@@ran", after=20)
        result = run(slow_network(), tmp_path / "run", "adb", budget=0.8, episodes=1, round_to=64)
        assert lost.times == 0 and all(trial.state == "complete" for trial in result.trials)
        assert 0 < result.compressed.latency_ms < result.base.latency_ms
        assert result.latency["device"]["model"] == "Stand_In"
        assert phone.files == [] and not [line for line in phone.leftovers().values() if "benchmark" in line]


def test_a_result_that_cannot_be_written_is_one_sentence_and_the_journal_is_safe(model, tmp_path):
    def in_the_way(trial, best):
        (tmp_path / "run/base.tflite/taken").mkdir(parents=True, exist_ok=True)

    with pytest.raises(amc_tf.RunDirError, match="cannot be written .*directory.*journal is safe"):
        run(model, tmp_path / "run", Computed(), episodes=2, callbacks=small.hook(in_the_way))
    assert not [path for path in (tmp_path / "run").iterdir() if "part" in path.name]
    shutil.rmtree(tmp_path / "run/base.tflite")
    assert run(model, tmp_path / "run", Computed(), episodes=2).tflite.exists()
