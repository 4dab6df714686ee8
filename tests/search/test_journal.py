"""The journal: what is on disk when, what is tolerated, and what is refused."""

import json
import logging
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from amc_tf.errors import RunDirError
from amc_tf.search import journal as journal_module
from amc_tf.search.journal import Journal, header, read
from amc_tf.search.trial import Outcome, Trial

ROOT = Path(__file__).parents[2]
HEADER = header("0123abcd", 7, {"target": "macs", "budget": 0.5, "round_to": 8, "shape": (32, 32), "episodes": 400})


def trial(number: int, reward: float = -0.25) -> Trial:
    outcome = Outcome(1 + reward, 50.0, 0.9, 100.0)
    return Trial(number, "complete", "agent", (8, 16), {"a": 1 / 3, "b": 0.5}, "ff", outcome, reward, 0.125)


def failed(number: int) -> Trial:
    why = ("no phone", "device")
    return Trial(number, "failed", "agent", (8, 16), {"a": 1 / 3, "b": 0.5}, "ff", None, None, 0.125, *why)


def with_trials(folder: Path, count: int) -> Path:
    with Journal(folder, HEADER) as journal:
        for number in range(count):
            journal.append(trial(number))
    return folder / "journal.jsonl"


def test_lines_are_the_header_and_the_trials(tmp_path: Path) -> None:
    with Journal(tmp_path / "runs" / "x", HEADER) as journal:
        journal.append(trial(0))
        journal.append(failed(1))
        lines = [json.loads(line) for line in journal.path.read_text().splitlines()]  # while it is open
    first, second, third = lines
    assert (first["seed"], first["model"]) == (7, "0123abcd")
    assert first["arguments"]["budget"] == 0.5
    assert first["versions"]["numpy"] == np.__version__
    assert {"python", "tensorflow", "keras"} <= set(first["versions"])
    assert second == {
        "number": 0,
        "state": "complete",
        "kind": "agent",
        "widths": [8, 16],
        "keep_ratios": {"a": 1 / 3, "b": 0.5},
        "plan": "ff",
        "outcome": {
            "accuracy": 0.75,
            "cost": 50.0,
            "base_accuracy": 0.9,
            "base_cost": 100.0,
            "predicted": None,
            "examples": None,
        },
        "reward": -0.25,
        "seconds": 0.125,
        "reason": None,
        "failure": None,
    }
    assert [third[name] for name in ("state", "outcome", "reason", "failure")] == ["failed", None, "no phone", "device"]


def test_lines_of_before_scoring_stopped_early_are_read(tmp_path: Path) -> None:
    with Journal(tmp_path, HEADER) as journal:
        journal.append(trial(0))
        path = journal.path
    path.write_text(path.read_text().replace(', "examples": null', ""))
    assert "examples" not in path.read_text()
    with Journal(tmp_path, HEADER) as journal:
        assert journal.trials == [trial(0)]


def test_trials_come_back(tmp_path: Path) -> None:
    with Journal(tmp_path, HEADER) as journal:
        journal.append(trial(0, -0.1))
        journal.append(failed(1))
    with Journal(tmp_path, HEADER) as journal:
        assert journal.trials == [trial(0, -0.1), failed(1)]
        journal.append(trial(2))
    with Journal(tmp_path, HEADER) as journal:
        assert [t.number for t in journal.trials] == [0, 1, 2]


def test_only_the_next_trial_may_be_appended(tmp_path: Path) -> None:
    with Journal(tmp_path, HEADER) as journal:
        journal.append(trial(0))
        with pytest.raises(ValueError, match="holds 1 trials, so number 2"):
            journal.append(trial(2))


def test_a_last_line_torn_anywhere_is_cut_off(tmp_path: Path) -> None:
    path = with_trials(tmp_path, 2)
    whole = path.read_bytes()
    start = whole.rstrip(b"\n").rindex(b"\n") + 1
    for end in [*range(start, len(whole), 3), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with Journal(tmp_path, HEADER) as journal:
            assert [t.number for t in journal.trials] == [0]
            journal.append(trial(1))
        assert path.read_bytes() == whole


def test_a_last_line_of_garbage_is_cut_off(tmp_path: Path) -> None:
    path = with_trials(tmp_path, 1)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0\0\xff\r\0\n")  # blocks that a power cut left unwritten
    with Journal(tmp_path, HEADER) as journal:
        assert len(journal.trials) == 1
    assert path.read_bytes() == whole


def test_a_header_that_a_killed_call_left_binds_nobody(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(tmp_path, HEADER)
    left = path.read_bytes()
    journal.close()
    path.write_bytes(left)
    with Journal(tmp_path, header("another", 1, {})) as journal:
        journal.append(trial(0))
    with pytest.raises(RunDirError, match="holds another search"):
        Journal(tmp_path, HEADER)


def test_an_empty_folder_of_the_callers_stays(tmp_path: Path) -> None:
    with Journal(tmp_path, HEADER):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_run_dir(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunDirError, match="run_dir is .*file', which is a file; the path of a folder is expected"):
        Journal(tmp_path / "file", HEADER)


def test_a_journal_without_a_trial_binds_nobody(tmp_path: Path) -> None:
    with Journal(tmp_path / "run", HEADER):
        assert (tmp_path / "run/journal.jsonl").exists()
    assert not (tmp_path / "run").exists()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/notes.txt").write_text("mine")
    with Journal(tmp_path / "kept", HEADER):
        pass
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["notes.txt"]


def test_a_journal_of_another_search_stays_though_it_was_refused(tmp_path: Path) -> None:
    path = with_trials(tmp_path, 2)
    whole = path.read_bytes()
    with pytest.raises(RunDirError), Journal(tmp_path, {**HEADER, "seed": 99}):
        pass
    assert path.read_bytes() == whole


def test_a_torn_header_is_written_again(tmp_path: Path) -> None:
    Journal(tmp_path, HEADER).close()
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    Journal(tmp_path, HEADER).close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "line, text, said",
    [
        (2, '{"number": 0, "sta', "line 2, is no JSON object"),
        (3, "[1, 2]", "line 3, is no JSON object"),
        (3, '{"number": 1}', "line 3, is no trial"),
        (1, '{"hello": 1}', "line 1, has format None"),
    ],
)
def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path, line: int, text: str, said: str) -> None:
    path = with_trials(tmp_path, 3)
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")
    before = path.read_bytes()
    with pytest.raises(RunDirError) as caught:
        Journal(tmp_path, HEADER)
    assert str(path) in str(caught.value) and said in str(caught.value)
    assert path.read_bytes() == before
    with pytest.raises(RunDirError, match=said):  # the lock was let go
        Journal(tmp_path, HEADER)


def test_a_missing_line_is_an_error(tmp_path: Path) -> None:
    path = with_trials(tmp_path, 3)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(RunDirError, match="line 3, is trial 2, expected trial 1"):
        Journal(tmp_path, HEADER)


@pytest.mark.parametrize(
    "changed, said",
    [
        ({**HEADER, "seed": 8}, "seed was 7 and is 8"),
        ({**HEADER, "model": "beef"}, "model was '0123abcd' and is 'beef'"),
        ({**HEADER, "arguments": {**HEADER["arguments"], "budget": 0.4}}, "budget was 0.5 and is 0.4"),
        ({**HEADER, "arguments": {**HEADER["arguments"], "metric": "top5"}}, "metric was None and is 'top5'"),
        ({**HEADER, "arguments": {**HEADER["arguments"], "shape": (8, 8)}}, r"shape was \[32, 32\] and is \[8, 8\]"),
    ],
)
def test_another_search_is_refused(tmp_path: Path, changed: dict, said: str) -> None:
    path = with_trials(tmp_path, 1)
    before = path.read_bytes()
    with pytest.raises(RunDirError, match=f"holds another search: {said}. Choose another run_dir") as caught:
        Journal(tmp_path, changed)
    assert str(tmp_path) in str(caught.value)
    assert path.read_bytes() == before


def test_the_error_names_all_that_differs(tmp_path: Path) -> None:
    with_trials(tmp_path, 1)
    with pytest.raises(RunDirError, match="seed was 7 and is 8; budget was 0.5 and is 0.4"):
        Journal(tmp_path, {**HEADER, "seed": 8, "arguments": {**HEADER["arguments"], "budget": 0.4}})


@pytest.mark.parametrize(
    "changed, said",
    [
        ({**HEADER, "versions": {**HEADER["versions"], "numpy": "9.9"}}, "versions.numpy"),
        ({**HEADER, "arguments": {**HEADER["arguments"], "episodes": 800}}, "arguments.episodes"),
    ],
)
def test_versions_and_the_number_of_episodes_may_change(
    tmp_path: Path, changed: dict, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with_trials(tmp_path, 1)
    with caplog.at_level(logging.WARNING), Journal(tmp_path, changed) as journal:
        assert len(journal.trials) == 1
    assert said in caplog.text


def test_an_argument_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Journal(tmp_path / "x", {**HEADER, "arguments": {"reward": object()}})
    assert not (tmp_path / "x").exists()


def test_two_journals_cannot_share_a_run_directory(tmp_path: Path) -> None:
    with Journal(tmp_path, HEADER), pytest.raises(RunDirError, match=f"{tmp_path} is in use by another search"):
        Journal(tmp_path, HEADER)
    Journal(tmp_path, HEADER).close()


def test_the_journal_can_be_read_and_lies_beside_its_lock(tmp_path: Path) -> None:
    with Journal(tmp_path, HEADER) as journal:
        journal.append(trial(0))
        assert read(tmp_path)[1] == [trial(0)]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.jsonl", "journal.lock"]


def test_a_file_system_without_locks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(journal_module, "Lock", refuse)
    with pytest.raises(RunDirError, match="journal.jsonl cannot be locked: No locks available. .* another run_dir"):
        Journal(tmp_path, HEADER)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
def test_a_fork_that_ends_leaves_the_journal_alone(tmp_path: Path) -> None:
    with Journal(tmp_path, HEADER) as journal:
        child = os.fork()
        if not child:
            journal.__exit__(None, None, None)
            os._exit(0)
        os.waitpid(child, 0)
        assert "taken" in told(tmp_path)
        assert journal.path.exists()
    assert not journal.path.exists()


TRY = """
import sys
from amc_tf.errors import RunDirError
from amc_tf.search.journal import Journal
from tests.search.test_journal import HEADER
try:
    Journal(sys.argv[1], HEADER)
    print("free")
except RunDirError as error:
    print("taken" if "in use by another search" in str(error) else error)
"""


def told(folder: Path) -> str:
    """What another process hears that wants the run directory."""
    return subprocess.run([sys.executable, "-c", TRY, str(folder)], cwd=ROOT, capture_output=True, text=True).stdout


def test_two_processes_cannot_share_a_run_directory(tmp_path: Path) -> None:
    with Journal(tmp_path, HEADER) as journal:
        journal.append(trial(0))
        assert told(tmp_path) == "taken\n"
    assert told(tmp_path) == "free\n"


HOLD = """
import sys
from amc_tf.search.journal import Journal
from tests.search.test_journal import HEADER, trial
journal = Journal(sys.argv[1], HEADER)
for number in range(10**6):
    journal.append(trial(number))
    print(number, flush=True)
"""


def test_lines_survive_a_kill_and_the_lock_does_not(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        told = [int(process.stdout.readline()) for _ in range(20)]
        with pytest.raises(RunDirError, match="in use by another search"):
            Journal(tmp_path, HEADER)
        os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().splitlines()]
    finally:
        process.kill()
        process.wait(10)
    with Journal(tmp_path, HEADER) as journal:
        assert len(journal.trials) >= len(told) >= 20
        assert journal.trials == [trial(number) for number in range(len(journal.trials))]


def test_a_full_disk_names_path_and_cause_and_leaves_the_file_whole(tmp_path: Path) -> None:
    path = with_trials(tmp_path, 1)
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path, HEADER) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 30, hard))  # room for a part of the line only
        try:
            with pytest.raises(RunDirError) as caught:
                journal.append(trial(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert str(path) in str(caught.value) and "cannot be written: File too large" in str(caught.value)
        assert path.read_bytes() == whole
        assert journal.trials == [trial(0)]
        journal.append(trial(1))  # there is room again
    with Journal(tmp_path, HEADER) as journal:
        assert journal.trials == [trial(0), trial(1)]


def test_ctrl_c_within_a_write_leaves_the_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    path = with_trials(tmp_path, 1)
    whole = path.read_bytes()
    with Journal(tmp_path, HEADER) as journal:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "fsync", interrupted)
            journal.append(trial(1))
        assert path.read_bytes() == whole
        journal.append(trial(1))


def test_each_line_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        fsync(handle)
        synced.append(os.fstat(handle).st_ino)

    with Journal(tmp_path, HEADER) as journal:
        monkeypatch.setattr(os, "fsync", watched)
        journal.append(trial(0))
        assert synced == [journal.path.stat().st_ino]


def test_a_run_directory_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RunDirError, match="journal.jsonl cannot be opened for writing: Not a dir"):
        Journal(tmp_path / "file" / "deeper/still", HEADER)


def test_a_journal_that_is_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(RunDirError, match="cannot be opened for writing: Is a directory"):
        Journal(tmp_path, HEADER)
