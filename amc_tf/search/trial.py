"""What is to be tried (Proposal), what it was worth (Outcome), and the record of both (Trial)."""

import math
from dataclasses import asdict, dataclass

import numpy as np

from amc_tf.checks import is_whole
from amc_tf.errors import AmcError, BadPredictions, BudgetError, ConversionError, DeviceError, UnsupportedModel

STATES = ("complete", "failed")
KINDS = ("base", "uniform", "threshold", "sensitivity", "greedy", "agent", "refined")
FAILURES = ("candidate", "device", "other")
_CANDIDATES = (BadPredictions, BudgetError, ConversionError, UnsupportedModel)
# The classes that a journal of format 1 may name. It is a list, since a report need not have imported the devices.
_DEVICES_1 = ("DeviceError", "LinkLost", "StorageFull", "Throttled", "TimedOut")


@dataclass(frozen=True)
class Outcome:
    """How good and how costly one candidate is, beside the unpruned network.

    Attributes:
        accuracy: Of the candidate on the reward data, in [0, 1] for a classifier.
        cost: Of the candidate, in the unit of the target (MACs, params, bytes, microseconds).
        base_accuracy: Of the unpruned network on the same data.
        base_cost: Of the unpruned network, in the same unit.
        predicted: What the cost had been foretold to be, where `cost` was measured on a device; else None.
        examples: How many examples the accuracy is of, where scoring stopped early; None: all of them.
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
            object.__setattr__(self, name, float(value))  # an evaluator's NumPy number would not go into a journal


@dataclass(frozen=True)
class Proposal:
    """What to evaluate next.

    Attributes:
        number, kind, widths, plan: Of the trial to be.
        states: What the agent saw or would have seen, float32 (steps, 11); (0, 11) for the plans that are given.
        actions: The keep ratios that were executed, (steps,).
        beat: The reward of the best trial that the proposal may know of: a candidate that cannot reach it may be scored
            on a part of the examples, see racing. None: on all of them.
        outcome: What an earlier trial of the same plan came to: there is nothing to evaluate or measure. Else None.
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
    """One finished attempt: what was kept, and what came of it.

    Attributes:
        number: Counts from 0; 0 is the unpruned network, 1 the uniform plan.
        state: "complete" or "failed".
        kind: Who decided, see KINDS: "sensitivity" has one unit narrowed, "refined" is of search.refine.
        widths: Channels kept, one a unit.
        keep_ratios: Unit name -> fraction of its channels kept, as executed after bounds and rounding.
        plan: Digest of the plan.
        outcome: None where the trial failed.
        reward: None where the trial failed.
        seconds: Wall time until its outcome, since the trial before it was told or, where none was waited for, since it
            was asked for itself. So the seconds of all trials add up to what the search took, although several are in
            flight at once.
        reason: Why the trial failed, else None.
        failure: What failed, one of FAILURES: the "candidate", which is not to be proposed again; the "device" that
            should have measured it; or an "other" part of the machinery, such as the scorer. None where nothing did.
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

    def to_dict(self) -> dict:
        """Plain types for a journal line; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict) -> "Trial":
        """The trial of a journal line; one of format 1 has no `failure`, which its reason tells.

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
    return "candidate" if isinstance(error, _CANDIDATES) else "other"


def _failure_1(reason: str) -> str:
    """The same of a reason in a journal of format 1, which begins with the class of the error."""
    name = reason.partition(":")[0]
    if name in _DEVICES_1:
        return "device"
    return "candidate" if name in [kind.__name__ for kind in _CANDIDATES] else "other"
