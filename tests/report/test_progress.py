"""What people see while the search runs."""

import io
from types import SimpleNamespace

from rich.console import Console

from amc_tf.report import progress
from amc_tf.search.outcome import Outcome, Trial


def trial(number, accuracy=0.5):
    if accuracy is None:
        return Trial(number, "failed", "agent", (8,), {"a": 0.5}, "d", None, None, 1.0, "BadPredictions: NaN.")
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


def test_an_accuracy_of_a_part_is_said_to_be_one():
    part = Outcome(0.2, 40, 0.9, 100, examples=37)
    lost = Trial(3, "complete", "agent", (8,), {"a": 0.5}, "d", part, -0.8, 1.0)
    assert "accuracy 0.200 of the first 37, cost" in shown(terminal=False, trials=(trial(2), lost))


def test_what_is_prepared_is_said_unless_silence_is_asked_for():
    for terminal, verbose in ((True, True), (False, True), (True, False), (False, False)):
        out = io.StringIO()
        with progress.preparing("converting", verbose, Console(file=out, force_terminal=terminal)):
            assert terminal or ("converting" in out.getvalue()) == verbose
        assert ("converting" in out.getvalue()) == verbose


def test_silence_when_asked_for():
    assert shown(terminal=False, verbose=False) == shown(terminal=True, verbose=False) == ""


def table_shown(terminal: bool, verbose: bool = True) -> str:
    out = io.StringIO()
    device = SimpleNamespace(name="adb:S1")
    with progress.TableProgress(device, verbose, Console(file=out, force_terminal=terminal, width=120)) as bar:
        for done in (3, 6):
            bar.update(done, 6)
    return out.getvalue()


def test_how_far_the_operators_are_measured():
    assert table_shown(terminal=False) == "timing 6 operators on adb:S1\n"
    assert "6/6" in table_shown(terminal=True) and "adb:S1" in table_shown(terminal=True)
    assert table_shown(terminal=False, verbose=False) == table_shown(terminal=True, verbose=False) == ""


def test_a_table_from_the_cache_shows_nothing():
    out = io.StringIO()
    with progress.TableProgress(SimpleNamespace(name="host"), True, Console(file=out)):
        pass
    assert out.getvalue() == ""
