"""Record: the contents of a run directory as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amc_tf.cost.reach import Reach
from amc_tf.devices.timing import Timing
from amc_tf.report.signature import TensorSpec
from amc_tf.result import Figures, Format
from amc_tf.search.best_trial import best_trial
from amc_tf.search.guarantee import Guarantee
from amc_tf.search.trial import Trial

UNKNOWN_PHASE = "search or fine-tuning"  # Record.stopped where the run directory does not tell the two apart


@dataclass(frozen=True)
class Unit:
    """One unit of the plan that ships.

    Attributes:
        name: of the unit.
        layers: with a weight axis that holds the unit's channels.
        size, kept: channels or weights, before and after.
        frozen: why the unit cannot shrink, or None.
    """

    name: str
    layers: tuple[str, ...]
    size: int
    kept: int
    frozen: str | None

    @property
    def keep(self) -> float:
        """The keep ratio; 1 for a kernel that was all zeros before pruning."""
        return self.kept / self.size if self.size else 1.0


@dataclass(frozen=True)
class Measurement:
    """The latency measurement of a run.

    Attributes:
        device: identity of the device.
        ratio: time of the compressed network over that of the base network.
        low, high: 95 % interval of `ratio`, or None.
        base, compressed: timings on that device, measured in turns.
        table_seconds: seconds spent on the latency table, or None where there is no table.
        format: of both files that were timed.
    """

    device: Mapping[str, Any]
    ratio: float
    low: float | None
    high: float | None
    base: Timing
    compressed: Timing
    table_seconds: float | None
    format: str


@dataclass(frozen=True)
class Training:
    """The fine-tuning of the compressed network.

    Attributes:
        epochs: that were trained.
        distilled: whether a teacher was used.
        temperature, weight: of the distillation, or None.
        history: quantity -> one number per epoch; None stands for NaN.
    """

    epochs: int
    distilled: bool
    temperature: float | None
    weight: float | None
    history: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class Record:
    """A run directory.

    Attributes with the name of a `Result` attribute have its meaning. Whatever an earlier amc_tf did not write is empty
    or None.

    Attributes:
        name: of the folder.
        tflite: name of the file that ships.
        inputs, outputs: of that file; empty where they are unknown.
        stopped: as in `Result`, or UNKNOWN_PHASE.
        digest: of the plan that ships, or None.
        model: digest of the base network.
        seed, versions, arguments: from the header of the journal.
        units: in the order of the network.
        frozen_known: whether `units` includes the frozen ones.
    """

    name: str
    base: Figures
    compressed: Figures
    uniform: Figures | None
    untrained: Figures | None
    method: str
    target: str
    budget: float | str | None
    limit: float | None
    max_drop: float | None
    episodes: int
    seconds: float
    difference: float
    stopped: str | None
    scored_on: str
    scored_by: str
    obstacles: tuple[str, ...] | None
    reach: Reach | None
    formats: tuple[Format, ...]
    tflite: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    latency: Measurement | None
    training: Training | None
    stages: tuple[float, ...]
    units: tuple[Unit, ...]
    frozen_known: bool
    digest: str | None
    model: str
    seed: int
    versions: Mapping[str, str]
    arguments: Mapping[str, Any]
    trials: tuple[Trial, ...]

    @property
    def failed(self) -> tuple[Trial, ...]:
        """The trials that failed."""
        return tuple(trial for trial in self.trials if trial.state == "failed")

    def first_of_kind(self, kind: str) -> Trial | None:
        """The first trial of a kind that has an outcome, or None."""
        return next((trial for trial in self.trials if trial.kind == kind and trial.outcome is not None), None)

    def best_so_far(self) -> list[tuple[int, Trial]]:
        """Pairs (trial number, best trial up to that number), from the first trial that can be best.

        `best_trial` decides, as it does in the search.
        """
        guarantee = None if self.max_drop is None else Guarantee(self.max_drop / 100)
        sensitivity_counts = self.limit is None and self.target != "latency"
        best: Trial | None = None
        pairs = []
        for trial in self.trials:
            best = best_trial([*filter(None, [best]), trial], self.limit, guarantee, sensitivity_counts)
            if best is not None:
                pairs.append((trial.number, best))
        return pairs

    def front(self) -> list[Trial]:
        """The Pareto front of accuracy and cost, cheapest first. Only trials scored on all examples count."""
        whole = [t for t in self.trials if t.outcome is not None and t.outcome.examples is None]
        front: list[Trial] = []
        for trial in sorted(whole, key=lambda t: (t.outcome.cost, -t.outcome.accuracy)):
            if not front or trial.outcome.accuracy > front[-1].outcome.accuracy:
                front.append(trial)
        return front
