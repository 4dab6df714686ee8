"""Proposal (a plan to try), Outcome (its accuracy and cost) and Trial (the finished record of both)."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from amc_tf.checks import is_whole
from amc_tf.errors import AmcError, BadPredictions, BudgetError, ConversionError, DeviceError, UnsupportedModel

STATES = ("complete", "failed")
KINDS = ("base", "uniform", "threshold", "sensitivity", "greedy", "agent", "refined")
FAILURES = ("candidate", "device", "other")
_CANDIDATE_ERRORS = (BadPredictions, BudgetError, ConversionError, UnsupportedModel)
# Names of the device errors in a journal of format 1. Names, because a report does not import the devices.
_DEVICE_ERRORS_1 = ("DeviceError", "LinkLost", "StorageFull", "Throttled", "TimedOut")


@dataclass(frozen=True)
class Outcome:
    """Accuracy and cost of one candidate, beside those of the unpruned network.

    Attributes:
        accuracy: Accuracy of the candidate on the reward data, in [0, 1] for a classifier.
        cost: Cost of the candidate, in the unit of the target (MACs, params, bytes, microseconds).
        base_accuracy: Accuracy of the unpruned network on the same data.
        base_cost: Cost of the unpruned network, in the same unit.
        predicted: Predicted cost, if `cost` was measured on a device; else None.
        examples: Number of examples that were scored, if scoring stopped early; None: all of them.
    """

    accuracy: float
    cost: float
    base_accuracy: float
    base_cost: float
    predicted: float | None = None
    examples: int | None = None

    def __post_init__(self):
        if self.examples is not None:
            if not is_whole(self.examples) or self.examples < 1:
                raise ValueError(f"An Outcome has examples = {self.examples!r}, expected a whole number, 1 or more.")
            object.__setattr__(self, "examples", int(self.examples))
        for name, value in asdict(self).items():
            if name == "examples" or (name == "predicted" and value is None):
                continue
            if not math.isfinite(value):
                raise ValueError(
                    f"An Outcome has {name} = {value!r}, expected a finite number: look for NaN in the data or in the "
                    "predictions of the network."
                )
            object.__setattr__(self, name, float(value))  # a NumPy number cannot be written to a journal


@dataclass(frozen=True)
class Proposal:
    """A plan to evaluate.

    Attributes:
        number, kind, widths, plan: Those of the trial that it becomes.
        states: States of the agent's episode, float32 (steps, 11); (0, 11) if no episode led to the plan.
        actions: Executed keep ratios, (steps,).
        beat: Reward that the candidate must exceed to become the best. A candidate that cannot may be scored on a part
            of the examples, see scoring.racing. None: it is scored on all examples.
        outcome: Outcome of an earlier trial of the same plan, which need not be evaluated again; else None.
    """

    number: int
    kind: str
    widths: tuple[int, ...]
    plan: str
    states: np.ndarray
    actions: np.ndarray
    beat: float | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Trial:
    """One finished trial: a plan and its outcome.

    Attributes:
        number: Counts from 0; 0 is the unpruned network, 1 the uniform plan.
        state: "complete" or "failed".
        kind: Algorithm that proposed it, one of KINDS: for "sensitivity" one unit is narrowed, "refined" is of
            proposers.refine.
        widths: Kept channels, one number per unit.
        keep_ratios: Unit name -> fraction of its channels kept, as executed after bounds and rounding.
        plan: Digest of the plan.
        outcome: None if the trial failed.
        reward: None if the trial failed.
        seconds: Wall time from the end of the trial before until the end of this one; if no trial was pending when it
            was asked for, from then on. So the seconds of all trials add up to the time of the search, although two may
            be in flight at once.
        reason: Why the trial failed, else None.
        failure: What failed, one of FAILURES: the "candidate", which should not be proposed again; the "device" that
            measures; or an "other" part, such as the scorer. None if the trial is complete.
    """

    number: int
    state: str
    kind: str
    widths: tuple[int, ...]
    keep_ratios: dict[str, float]
    plan: str
    outcome: Outcome | None
    reward: float | None
    seconds: float
    reason: str | None = None
    failure: str | None = None

    def __post_init__(self):
        if self.state not in STATES or self.kind not in KINDS:
            raise ValueError(
                f"A Trial has state {self.state!r} and kind {self.kind!r}, expected one of {STATES} and one of {KINDS}."
            )
        complete = self.state == "complete"
        if complete != (self.outcome is not None) or complete != (self.reward is not None):
            raise ValueError(
                f"Trial {self.number} is {self.state} with outcome {self.outcome} and reward {self.reward}: a complete "
                "trial has both, a failed one has neither."
            )
        if complete != (self.reason is None):
            raise ValueError(f"Trial {self.number} is {self.state} for reason {self.reason!r}: a failure has one.")
        if self.failure not in ((None,) if complete else FAILURES):
            expected = "None" if complete else f"one of {FAILURES}"
            raise ValueError(f"Trial {self.number} is {self.state}, its failure {self.failure!r}; expected {expected}.")
        if len(self.widths) != len(self.keep_ratios):
            raise ValueError(f"Trial {self.number} has {len(self.widths)} widths, {len(self.keep_ratios)} keep ratios.")

    def to_dict(self) -> dict[str, Any]:
        """Plain types for a journal line; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Trial":
        """The trial of a journal line. Format 1 has no `failure`; it is derived from the reason.

        Raises:
            TypeError, ValueError, KeyError: The fields are not those of a trial.
        """
        outcome = fields["outcome"]
        if fields.get("state") == "failed" and "failure" not in fields:
            fields = {**fields, "failure": _failure_1(str(fields["reason"]))}
        return cls(
            **{
                **fields,
                "widths": tuple(fields["widths"]),
                "outcome": None if outcome is None else Outcome(**outcome),
            }
        )


def failure(error: AmcError) -> str:
    """What failed, one of FAILURES."""
    if isinstance(error, DeviceError):
        return "device"
    return "candidate" if isinstance(error, _CANDIDATE_ERRORS) else "other"


def _failure_1(reason: str) -> str:
    """What failed, from the reason in a journal of format 1, which begins with the class of the error."""
    name = reason.partition(":")[0]
    if name in _DEVICE_ERRORS_1:
        return "device"
    return "candidate" if name in [kind.__name__ for kind in _CANDIDATE_ERRORS] else "other"
