"""Numbers from NumPy are as good as Python's, wherever one is checked; and a bool is none."""

import ast
from pathlib import Path

import numpy as np
import pytest

from amc_tf import callbacks
from amc_tf.checks import is_number, is_whole
from amc_tf.devices.android.adb_device import AdbDevice
from amc_tf.devices.host import computer
from amc_tf.pruning.pruner import is_ratio
from amc_tf.search.budget import parse_budget
from amc_tf.search.proposers.sensitivity import Sensitivity
from amc_tf.search.trial import Outcome
from amc_tf.tflite.runtime.scorer import Scorer
from amc_tf.training.distillation import Distillation

PACKAGE = Path(__file__).parents[1] / "amc_tf"
WHOLE = [3, np.int8(3), np.int64(3), np.uint16(3)]
NUMBERS = [*WHOLE, 0.5, np.float16(0.5), np.float32(0.5), np.float64(0.5)]
NEITHER = [True, False, np.True_, np.False_, None, "3", 3j, np.complex64(3), [3], np.array([3])]


def test_what_is_a_number() -> None:
    assert all(map(is_whole, WHOLE)) and all(map(is_number, NUMBERS))
    assert not any(map(is_whole, [*NEITHER, 0.5, 3.0, np.float32(3)])) and not any(map(is_number, NEITHER))


@pytest.mark.parametrize("kind", [int, np.int32, np.uint8])
def test_whole_numbers_of_numpy_are_taken(kind: type, monkeypatch) -> None:
    asked = kind(2)
    assert callbacks.EarlyStopping(asked).patience == 2 and type(callbacks.EarlyStopping(asked).patience) is int
    with Scorer(asked) as scorer:
        assert type(scorer.workers) is int
    device = computer.HostDevice(num_threads=asked)
    assert device.identity["threads"] == "2" and type(device._settings["threads"]) is int  # which goes through JSON
    with pytest.raises(Exception, match="adb") as raised:  # but for that there is no such program
        AdbDevice(num_threads=asked, retries=asked, adb="/nowhere/adb")
    assert not isinstance(raised.value, TypeError) and "whole number" not in str(raised.value)


@pytest.mark.parametrize("kind", [float, np.float32, np.float64])
def test_numbers_of_numpy_are_taken(kind: type) -> None:
    quarter = kind(0.25)
    assert callbacks.EarlyStopping(2, quarter).min_delta == 0.25 and is_ratio(quarter)
    assert parse_budget(quarter, 8.0, "MACs", "macs") == 2.0
    assert Distillation(None, quarter, quarter).weight == 0.25


@pytest.mark.parametrize("value", [True, np.True_])
def test_a_bool_is_no_number(value) -> None:
    for wrong in (
        lambda: callbacks.EarlyStopping(value), lambda: callbacks.EarlyStopping(2, value), lambda: Scorer(value),
        lambda: computer.HostDevice(num_threads=value), lambda: AdbDevice(num_threads=value),
        lambda: AdbDevice(retries=value), lambda: parse_budget(value, 8.0, "MACs", "macs"),
        lambda: Distillation(None, value, 0.5), lambda: Outcome(0.5, 1.0, 0.5, 1.0, examples=value),
        lambda: Sensitivity(0.9, {"unit": {value: 0.5}}),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=repr(value)):
            wrong()
    assert not is_ratio(value)


def test_one_place_says_what_a_number_is() -> None:
    """A second check would forget NumPy's numbers sooner or later, or accept a bool."""
    allowed = {"checks.py", "search/journal.py", "report/run_reader.py"}  # the last two check the types of JSON
    allowed |= {"fingerprint.py", "graph/identity.py"}  # which describe values by their type
    checking = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance"
        for name in ast.walk(node.args[1])
        if getattr(name, "id", "") in ("int", "float") or getattr(name, "attr", "") in ("integer", "floating", "number")
    }
    assert checking <= allowed
