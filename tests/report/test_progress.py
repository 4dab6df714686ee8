"""What users see during a search and after it."""

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from amc_tf.report import progress
from amc_tf.result import Figures, Format, Result
from amc_tf.search.trial import Outcome, Trial


def trial(number, accuracy=0.5):
    if accuracy is None:
        why = ("BadPredictions: NaN.", "candidate")
        return Trial(number, "failed", "agent", (8,), {"a": 0.5}, "d", None, None, 1.0, *why)
    return Trial(number, "complete", "agent", (8,), {"a": 0.5}, "d", Outcome(accuracy, 40, 0.9, 100), -0.5, 1.0)


def shown(terminal: bool, verbose: bool = True, trials=None) -> str:
    trials = trials or (trial(2), trial(3, 0.7))
    out = io.StringIO()
    with progress.SearchProgress(4, 2, verbose, Console(file=out, force_terminal=terminal, width=160)) as bar:
        for each in trials:
            bar.update(each, trials[0])
    return out.getvalue()


def test_plain_lines_where_there_is_no_terminal():
    lines = shown(terminal=False).strip().splitlines()
    assert lines[0].startswith("search 3/4  agent 2: accuracy 0.500, cost 0.400 of base; best 0.500 (trial 2)")
    assert lines[-1].startswith("search 4/4") and "left" in lines[-1]
    assert "\x1b" not in "".join(lines)


def test_a_live_line_on_a_terminal():
    assert "4/4" in shown(terminal=True) and "\x1b" in shown(terminal=True)


def test_a_failed_trial_says_why():
    assert "failed: BadPredictions: NaN." in shown(terminal=False, trials=(trial(2), trial(3, None)))


def test_an_accuracy_of_a_part_of_the_examples_names_the_part():
    part = Outcome(0.2, 40, 0.9, 100, examples=37)
    lost = Trial(3, "complete", "agent", (8,), {"a": 0.5}, "d", part, -0.8, 1.0)
    assert "accuracy 0.200 of the first 37, cost" in shown(terminal=False, trials=(trial(2), lost))


def test_preparing_is_announced_unless_not_verbose():
    for terminal, verbose in ((True, True), (False, True), (True, False), (False, False)):
        out = io.StringIO()
        with progress.preparing("converting", verbose, Console(file=out, force_terminal=terminal)):
            assert terminal or ("converting" in out.getvalue()) == verbose
        assert ("converting" in out.getvalue()) == verbose


def test_nothing_is_shown_unless_verbose():
    assert shown(terminal=False, verbose=False) == shown(terminal=True, verbose=False) == ""


def shown_table(terminal: bool, verbose: bool = True) -> str:
    out = io.StringIO()
    device = SimpleNamespace(name="adb:S1")
    with progress.TableProgress(device, verbose, Console(file=out, force_terminal=terminal, width=120)) as bar:
        for done in (3, 6):
            bar.update(done, 6)
    return out.getvalue()


def test_the_number_of_timed_operators_is_shown():
    assert shown_table(terminal=False) == "timing 6 operators on adb:S1\n"
    assert "6/6" in shown_table(terminal=True) and "adb:S1" in shown_table(terminal=True)
    assert shown_table(terminal=False, verbose=False) == shown_table(terminal=True, verbose=False) == ""


def test_a_table_from_the_cache_shows_nothing():
    out = io.StringIO()
    with progress.TableProgress(SimpleNamespace(name="host"), True, Console(file=out)):
        pass
    assert out.getvalue() == ""


BASE = Figures(0.912, 1_000_000, 50_000, 204_800, 12.0)
SMALL = Figures(0.903, 500_000, 20_000, 81_920, 6.6)
EVEN = Figures(0.8712, 498_000, 25_000, 102_400, 7.04)
LATENCY = {"ratio_low": 0.54, "ratio_high": 0.56, "device": {"name": "adb:S1"}}


def result(run_dir: Path, **changes) -> Result:
    kinds = ("base", "uniform", "sensitivity", "greedy", "agent", "refined")
    return Result(**{
        "model": None, "tflite": run_dir / "model.tflite", "plan": None, "run_dir": run_dir,
        "trials": tuple(replace(trial(number), kind=kind) for number, kind in enumerate(kinds)),
        "base": BASE, "compressed": SMALL, "uniform": EVEN, "target": "macs", "budget": 0.5, "limit": 500_000.0,
        "seconds": 12.34, "difference": 1e-6, "scored_on": "validation_data",
        "scored_by": "accuracy", "latency": LATENCY, **changes,
    })  # fmt: skip


def test_the_table_has_the_uniform_network_between_base_and_compressed(tmp_path):
    assert result(tmp_path).rows() == [
        ("accuracy", "91.20%", "87.12%", "90.30%", "-0.90 points"),
        ("MACs", "1,000,000", "498,000", "500,000", "50.0% kept"),
        ("params", "50,000", "25,000", "20,000", "40.0% kept"),
        ("size", "204,800 B", "102,400 B", "81,920 B", "40.0% kept"),
        ("latency", "12 ms", "7.04 ms", "6.6 ms", "55.0% kept (54.0% to 56.0%)"),
    ]


@pytest.mark.parametrize(
    "even, expected",
    [(None, ["", "", "", "", ""]), (replace(EVEN, latency_ms=None), ["87.12%", "498,000", "25,000", "102,400 B", ""])],
    ids=["none", "not measured"],
)
def test_a_missing_uniform_figure_leaves_its_place_empty(tmp_path, even, expected):
    whole, found = result(tmp_path).rows(), result(tmp_path, uniform=even).rows()
    assert [row[2] for row in found] == expected
    assert [row[:2] + row[3:] for row in found] == [row[:2] + row[3:] for row in whole]


def test_without_latency_the_table_has_no_line_for_it(tmp_path):
    untimed = {name: replace(own, latency_ms=None) for name, own in (("base", BASE), ("compressed", SMALL))}
    rows = result(tmp_path, **untimed, uniform=EVEN, latency=None).rows()
    assert [row[0] for row in rows] == ["accuracy", "MACs", "params", "size"]


def test_an_accuracy_of_zero_is_shown(tmp_path):
    nothing = replace(EVEN, accuracy=0.0)
    assert result(tmp_path, uniform=nothing).rows()[0][2] == "0.00%"


@pytest.mark.parametrize("even", [EVEN, None])
def test_the_summary_has_the_uniform_network_and_counts_all_but_it_and_the_base(tmp_path, even):
    summary = result(tmp_path, uniform=even).summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["uniform"] == (None if even is None else vars(EVEN))
    assert summary["base"] == vars(BASE) and summary["compressed"] == vars(SMALL)
    assert summary["episodes"] == 4


@pytest.mark.parametrize(
    ("stopped", "says"),
    [
        ("search", "The search was stopped after 4 episodes: the same call goes on from there."),
        ("fine-tuning", "The fine-tuning was stopped, so the network is the untrained one: "
         "the same call trains it anew."),
        (None, None),
    ],
)
def test_print_result_names_what_was_stopped(tmp_path, stopped, says):
    out = io.StringIO()
    progress.print_result(result(tmp_path, stopped=stopped), Console(file=out, width=60))
    assert says in out.getvalue().splitlines() if says else "was stopped" not in out.getvalue()


def test_a_result_prints_as_its_table(tmp_path):
    head, first, *_ = str(result(tmp_path)).splitlines()
    assert head.split() == ["base", "uniform", "compressed"]
    assert first.split() == ["accuracy", "91.20%", "87.12%", "90.30%", "-0.90", "points"]
    assert all(head.index(name) == first.index(value) for name, value in
               (("base", "91.20%"), ("uniform", "87.12%"), ("compressed", "90.30%")))  # fmt: skip


def test_several_formats_have_a_table_of_their_own(tmp_path):
    formats = (Format("float", 0.903, 6.6, 81_920, 70_000), Format("int8", 0.9, None, 20_480, 9_000))
    lines = str(result(tmp_path, formats=formats)).splitlines()
    assert lines[-3].split() == ["compressed", "as", "accuracy", "latency", "size", "gzipped"]
    assert lines[-1].split() == ["int8", "90.00%", "20,480", "B", "9,000", "B", "model_int8.tflite"]
    assert lines[-2].index("model.tflite") == lines[-1].index("model_int8.tflite")
    assert str(result(tmp_path, formats=formats[:1])) == str(result(tmp_path))


def test_print_result_begins_with_the_table_and_ends_with_the_paths(tmp_path):
    out, found = io.StringIO(), result(tmp_path)
    progress.print_result(found, Console(file=out, width=40))
    assert out.getvalue().startswith(f"{found}\naccuracy on validation_data, before fine-tuning\n")
    assert out.getvalue().endswith(f"tflite   {found.tflite}\nrun_dir  {found.run_dir}\n")
