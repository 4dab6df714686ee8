"""Preview: what a call of compress() would do, how far the budget can go, and about how long it would take."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from amc_tf.data.splits import Split
from amc_tf.pipeline.prepare import Problem
from amc_tf.pipeline.stages import check_reach, narrowest
from amc_tf.pruning.pruner import Pruner
from amc_tf.pruning.unit_lines import unit_lines
from amc_tf.report.amounts import duration
from amc_tf.result import FLOAT
from amc_tf.search.budget import extremes
from amc_tf.search.schedule import Schedule
from amc_tf.search.scoring.evalset import EvalSet
from amc_tf.search.scoring.metrics import accuracy
from amc_tf.tflite.conversion.quantize import FORMATS
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
        sentences = [
            f"{self.model}: {len(self.shrinking)} {what} can shrink, {len(self.frozen)} stay whole (amc-tf analyze "
            f"says why)",
            *(f"budget for target={t}: from {least:.3f} to 1 of the base" for t, least in self.reachable.items()),
        ]
        if self.target == "latency":
            sentences.append(f"latency on {self.device}: its range is known once the operators are measured there")
        sentences.append(
            f"{self.networks} networks would be tried ({self.sensitivity} to measure sensitivity), made with "
            f"{self.calibration} examples and scored on {self.reward}"
        )
        if self.accuracy is not None:
            sentences.append(f"the original scores {self.accuracy:.4g} on {min(_TIMED, self.reward)} of those")
        if self.stages:
            sentences.append(f"in stages of {', '.join(f'{share:g}' for share in self.stages)} and then {self.budget}")
        sentences.append(f"files: {', '.join(self.formats)}")
        took = f"set-up about {duration(self.setup_seconds)}, search at most about {duration(self.search_seconds)}"
        if self.training_seconds:
            took += f", fine-tuning about {duration(self.training_seconds)}"
        return [*sentences, took + (", each stage" if self.stages else "")]


def preview(problem: Problem) -> Preview:
    """Looks ahead. It runs the base network on a few examples, and a few steps of the fine-tuning if there is one.

    Raises:
        BudgetError: not even all stages together can reach the budget.
        ValueError: the labels do not fit the outputs, or those hold NaN.
    """
    options, pruner = problem.options, problem.pruner
    units = unit_lines(pruner, options.round_to)
    schedule = Schedule.of(
        pruner.units, options.episodes, problem.sensitivity, options.paper, (), len(pruner.thresholds())
    )
    least, whole = extremes(_narrowest(problem).units)
    with Scorer() as scorer:
        scored = [problem.reward_data, problem.validation_data]
        evalset, *_ = (_first_examples(data, problem, scorer) for data in scored if data is not None)
        started = time.monotonic()
        evalset.accuracy(problem.base_tflite)
        seconds_each = (time.monotonic() - started) / len(evalset)
    networks = schedule.total - 1  # the original is scored too, but is none of those
    examples = len(problem.reward_data) + len(problem.calibration)
    return Preview(
        model=problem.model.name,
        method=options.method,
        target=options.target,
        budget=options.budget,
        shrinking=tuple(line.name for line in units if line.frozen is None),
        frozen={line.name: line.frozen for line in units if line.frozen is not None},
        reachable={target: float(cost(least) / cost(whole)) for target, cost in problem.costs.items()},
        networks=networks,
        sensitivity=len(schedule.samples),
        calibration=len(problem.calibration),
        reward=len(problem.reward_data),
        accuracy=None if problem.reward_data.labels is None else evalset.base_accuracy,
        stages=options.shares,
        formats=tuple(FORMATS[format] for format in (FLOAT, *options.formats)),
        device=_device(problem),
        setup_seconds=round(_CONVERSIONS * problem.conversion_seconds, 1),
        search_seconds=round(networks * _OVERHEAD * seconds_each * examples, 1),
        training_seconds=None if problem.finetuning is None else problem.finetuning.seconds(),
    )


def _narrowest(problem: Problem) -> Pruner:
    """The pruner whose narrowest plan can be reached, in all stages together."""
    if not problem.options.stages or problem.method.zeros:
        return problem.pruner
    check_reach(problem.model, problem.options, problem.base_tflite)
    return narrowest(problem.model, problem.options)


def _device(problem: Problem) -> str | None:
    if not problem.is_timed:
        return None
    return str(getattr(problem.device, "name", problem.device) or "the connected phone, else this computer")


def _first_examples(split: Split, problem: Problem, scorer: Scorer) -> EvalSet:
    """A few examples as they would be scored; ValueError if labels, also those of all others, do not fit."""
    metric = problem.options.metric
    evalset = EvalSet.of(split.take(np.arange(min(_TIMED, len(split)))), problem.base_tflite, scorer, metric)
    if metric is None and split.labels is not None:
        (predictions, *_) = outputs(scorer.run(problem.base_tflite, evalset.dataset))
        accuracy(split.labels, np.broadcast_to(predictions[:1], (len(split), *predictions.shape[1:])))
    return evalset
