"""The records: what they refuse, and that a trial survives JSON."""

import json
import math

import numpy as np
import pytest

from amc_tf.devices.android import adb_device  # noqa: F401 - with all classes of its errors
from amc_tf.errors import AmcError, BadPredictions, ConversionError, DeviceError
from amc_tf.search.trial import Outcome, Trial, failure

OUTCOME = Outcome(accuracy=0.5, cost=10.0, base_accuracy=0.9, base_cost=20.0)


def trial(**changes) -> Trial:
    fields = {
        "number": 2,
        "state": "complete",
        "kind": "agent",
        "widths": (8, 16),
        "keep_ratios": {"a": 0.5, "b": 1 / 3},
        "plan": "0123",
        "outcome": OUTCOME,
        "reward": -0.5,
        "seconds": 0.25,
        "reason": None,
        "failure": None,
    }
    return Trial(**{**fields, **changes})


@pytest.mark.parametrize("field", ["accuracy", "cost", "base_accuracy", "base_cost"])
def test_an_outcome_refuses_what_is_not_finite(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} = nan"):
        Outcome(**{"accuracy": 0.5, "cost": 1.0, "base_accuracy": 0.5, "base_cost": 1.0, field: math.nan})


@pytest.mark.parametrize("examples", [0, -1, 1.5, True])
def test_an_outcome_refuses_what_is_no_number_of_examples(examples) -> None:
    with pytest.raises(ValueError, match=f"examples = {examples}"):
        Outcome(0.5, 1.0, 0.5, 1.0, examples=examples)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"state": "pruned"}, "'pruned'"),
        ({"kind": "shallow"}, "'shallow'"),
        ({"outcome": None}, "complete with outcome None"),
        ({"reward": None}, "reward None"),
        ({"state": "failed", "reason": "no phone"}, "failed with outcome"),
        ({"reason": "no phone"}, "complete for reason 'no phone'"),
        ({"state": "failed", "outcome": None, "reward": None}, "failed for reason None"),
        ({"state": "failed", "outcome": None, "reward": None, "reason": "no"}, "failed, its failure None"),
        ({"failure": "device"}, "complete, its failure 'device'; expected None"),
        ({"widths": (8,)}, "1 widths, 2 keep ratios"),
    ],
)
def test_a_trial_refuses_what_contradicts_itself(changes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trial(**changes)


@pytest.mark.parametrize(
    "record",
    [
        trial(),
        trial(outcome=Outcome(0.5, 10.0, 0.9, 20.0, 9.0, np.int64(125))),
        trial(state="failed", outcome=None, reward=None, reason="no phone", failure="device"),
    ],
    ids=["complete", "stopped", "failed"],
)
def test_a_trial_survives_json(record: Trial) -> None:
    assert Trial.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_from_dict_refuses_other_fields() -> None:
    with pytest.raises(TypeError, match="sparsity"):
        Trial.from_dict({**trial().to_dict(), "sparsity": 0.5})
    with pytest.raises(KeyError, match="widths"):
        Trial.from_dict({"outcome": None})


def of_format_1(failed: AmcError) -> dict:
    reason = f"{type(failed).__name__}: {failed}"
    line = trial(state="failed", outcome=None, reward=None, reason=reason, failure="other")
    return {name: value for name, value in line.to_dict().items() if name != "failure"}


@pytest.mark.parametrize(
    ("failed", "what"),
    [
        (DeviceError("the phone is gone"), "device"),
        *((kind("the phone is gone"), "device") for kind in sorted(DeviceError.__subclasses__(), key=str)),
        (ConversionError("it cannot be made"), "candidate"),
        (BadPredictions("NaN"), "candidate"),
        (AmcError("the scorer was closed"), "other"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, AmcError) else given,
)
def test_what_failed_is_known_from_the_error_and_from_an_old_line(failed: AmcError, what: str) -> None:
    assert failure(failed) == what == Trial.from_dict(of_format_1(failed)).failure


def test_an_old_line_whose_reason_names_no_class_is_of_neither() -> None:
    assert Trial.from_dict({**of_format_1(AmcError()), "reason": "Unplugged."}).failure == "other"
