"""Preview: what a call of compress() would do, how far the budget can go, and about how long it would take."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from amc_tf.data.splits import Split
from amc_tf.pipeline.finetuning import Training
from amc_tf.pruning.pruner import Pruner
from amc_tf.pruning.unit_lines import UnitLine
from amc_tf.report.amounts import duration
from amc_tf.search.budget import extremes
from amc_tf.search.schedule import Schedule
from amc_tf.search.scoring.evalset import EvalSet
from amc_tf.search.scoring.metrics import Metric, accuracy
from amc_tf.tflite.runtime.scorer import Scorer, outputs

# Measured on networks of docs/results.md: set-up took as long as so many conversions of the whole network, an episode
# so many times the inference of its examples, those for BatchNorm among them.
_CONVERSIONS, _OVERHEAD = 12, 1.3
_TIMED = 64  # examples that inference is timed on


@dataclass(frozen=True)
class Preview:
    """What would happen.

    Attributes:
        model, method, target, budget: as asked for.
        shrinking, frozen: names of the units that can shrink, and name -> why for those that cannot.
        reachable: least share of the base that the budget can be, by target; of a latency it is known only once the
            device has measured the operators.
        networks: how many would be tried, of which some measure the units' sensitivity.
        calibration, reward: how many examples candidates are made and scored on.
        accuracy: of the original on a few of the latter, by the metric where one was given; None without labels.
        stages: shares of the network before the budget.
        formats: files that would be made.
        device: where latency would be measured, or None.
        setup_seconds, search_seconds, training_seconds: about, on this computer as it is now, for each stage; the
            measuring of operators for a latency comes to it, once for a network and a device.
    """

    model: str
    method: str
    target: str
    budget: float | str | None
    shrinking: tuple[str, ...]
    frozen: dict[str, str]
    reachable: dict[str, float]
    networks: int
    sensitivity: int
    calibration: int
    reward: int
    accuracy: float | None
    stages: tuple[float, ...]
    formats: tuple[str, ...]
    device: str | None
    setup_seconds: float
    search_seconds: float
    training_seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """The same for people."""
        what = "groups of channels" if self.method == "channel" else "kernels"
        told = [
            f"{self.model}: {len(self.shrinking)} {what} can shrink, {len(self.frozen)} stay whole (amc-tf analyze "
            f"says why)",
            *(f"budget for target={t}: from {least:.3f} to 1 of the base" for t, least in self.reachable.items()),
        ]
        if self.target == "latency":
            told.append(f"latency on {self.device}: its range is known once the operators are measured there")
        told.append(
            f"{self.networks} networks would be tried ({self.sensitivity} to measure sensitivity), made with "
            f"{self.calibration} examples and scored on {self.reward}"
        )
        if self.accuracy is not None:
            told.append(f"the original scores {self.accuracy:.4g} on {min(_TIMED, self.reward)} of those")
        if self.stages:
            told.append(f"in stages of {', '.join(f'{share:g}' for share in self.stages)} and then {self.budget}")
        told.append(f"files: {', '.join(self.formats)}")
        took = f"set-up about {duration(self.setup_seconds)}, search at most about {duration(self.search_seconds)}"
        if self.training_seconds:
            took += f", fine-tuning about {duration(self.training_seconds)}"
        return [*told, took + (", each stage" if self.stages else "")]


def preview(
    model: Any,
    pruning: Pruner,
    base: bytes,
    costs: dict[str, Any],
    schedule: Schedule,
    calibration: Split,
    splits: Sequence[Split],
    metric: Metric | None,
    training: Training | None,
    units: Sequence[UnitLine],
    conversion: float,
    **asked: Any,
) -> Preview:
    """Looks ahead; runs the base network on a few examples, and a few steps of the training where there would be one.

    Args:
        model, base, costs, schedule, calibration, metric, training: of the search; base is the network's .tflite.
        pruning: whose narrowest plan can be reached, in all stages together.
        splits: what would be scored on: the reward split, and the validation data where there are some.
        units: everything that could be pruned.
        conversion: seconds that the conversion of the whole network took.
        asked: other fields of the Preview, as they are.

    Raises:
        ValueError: the labels do not fit the outputs, or those hold NaN.
    """
    narrowest, whole = extremes(pruning.units)
    reward = splits[0]
    with Scorer() as scorer:
        sample, *_ = (_looked_at(split, base, scorer, metric) for split in splits)
        started = time.monotonic()
        sample.accuracy(base)
        each = (time.monotonic() - started) / len(sample)
    networks = schedule.total - 1  # the original is scored too, but is none of those
    return Preview(
        model=model.name,
        shrinking=tuple(line.name for line in units if line.frozen is None),
        frozen={line.name: line.frozen for line in units if line.frozen is not None},
        reachable={target: float(cost(narrowest) / cost(whole)) for target, cost in costs.items()},
        networks=networks,
        sensitivity=len(schedule.samples),
        calibration=len(calibration),
        reward=len(reward),
        accuracy=None if reward.labels is None else sample.base_accuracy,
        setup_seconds=round(_CONVERSIONS * conversion, 1),
        search_seconds=round(networks * _OVERHEAD * each * (len(reward) + len(calibration)), 1),
        training_seconds=None if training is None else training.seconds(),
        **asked,
    )


def _looked_at(split: Split, base: bytes, scorer: Scorer, metric: Metric | None) -> EvalSet:
    """A few examples as they would be scored on; ValueError where labels, also those of all others, do not fit."""
    sample = EvalSet.of(split.take(np.arange(min(_TIMED, len(split)))), base, scorer, metric)
    if metric is None and split.labels is not None:
        (said, *_) = outputs(scorer.run(base, sample.dataset))
        accuracy(split.labels, np.broadcast_to(said[:1], (len(split), *said.shape[1:])))
    return sample
