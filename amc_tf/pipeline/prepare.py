"""The first step of compress(): the model, the data and the options become a Problem. Nothing is searched or written.

Whatever can be wrong with a call is said here, before minutes of work.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amc_tf.cost.cost_model import Cost
from amc_tf.cost.counts import macs as macs_of
from amc_tf.cost.reach import Reach, reach
from amc_tf.data import splits
from amc_tf.data.splits import Split
from amc_tf.graph import keras_reader
from amc_tf.graph.identity import digest
from amc_tf.options import Options
from amc_tf.pipeline.exporter import Exporter, agreement_inputs
from amc_tf.pipeline.finetuning import FineTuning
from amc_tf.pipeline.pruning_methods import PRUNING_METHODS, PruningMethod, pruner_of
from amc_tf.pruning.pruner import Pruner
from amc_tf.report.progress import say
from amc_tf.report.reach_notes import little_reach
from amc_tf.report.sparse_notes import sparsity_notes
from amc_tf.result import FLOAT
from amc_tf.search.budget import Budget, parse_budget
from amc_tf.search.proposers.sensitivity import Sensitivity
from amc_tf.tflite.conversion import keras_to_tflite
from amc_tf.tflite.operator_costs import operator_costs
from amc_tf.tflite.sparse.unsupported_operators import find_unsupported, unsupported_processor
from amc_tf.training.distillation import Distillation

TENSORBOARD = "tensorboard"  # folder in the run directory


@dataclass(frozen=True)
class Problem:
    """What a search starts from.

    Attributes:
        model: the Keras model that was given.
        identity: its digest.
        options: the arguments of compress().
        method: how it is pruned.
        pruner: of the model.
        calibration, reward_data: examples that candidates are made with, and scored on.
        validation_data: examples that only the result is scored on, or None.
        base_tflite: the model's float .tflite.
        timed_tflite: the model's .tflite in the format that latencies are of.
        conversion_seconds: time that one conversion of the model took.
        costs: target -> exact cost, widths -> number; none for latency.
        reach: how many of the MACs channels can save; None for single weights.
        unsupported: operators that keep zeros from making the network faster, a sentence each; None for whole channels.
        device: where latency is measured, see compress(); None if it is not.
        exporter: makes the files.
        finetuning: the training at the end, or None.
        sensitivity: the table of an earlier search, or None.
        started: time.monotonic() at the start of the call.
    """

    model: Any
    identity: str
    options: Options
    method: PruningMethod
    pruner: Pruner
    calibration: Split
    reward_data: Split
    validation_data: Split | None
    base_tflite: bytes
    timed_tflite: bytes
    conversion_seconds: float
    costs: dict[str, Cost]
    reach: Reach | None
    unsupported: tuple[str, ...] | None
    device: Any
    exporter: Exporter
    finetuning: FineTuning | None
    sensitivity: Sensitivity | None
    started: float

    @property
    def is_timed(self) -> bool:
        """Whether latency is measured."""
        return self.options.is_latency or self.device is not None

    @property
    def counted_cost(self) -> Cost:
        """The cost that the budget is about, unless it is a latency, which a device measures."""
        return self.method.cost(self.costs, self.options.target)

    @property
    def dense_macs(self) -> int:
        """MACs of the whole network; single weights that are zero are multiplied like all others."""
        return int(macs_of(self.pruner.groups, (), self.base_tflite)(()))

    def limit(self, cost: Cost) -> float | None:
        """The largest cost that the budget allows; None without a budget.

        Raises:
            BudgetError: no plan costs so little, or the whole network does.
        """
        if self.options.budget is None:
            return None
        limit = parse_budget(self.options.budget, cost(cost.full), cost.unit, self.options.target)
        Budget(self.pruner.units, cost, limit)
        return limit


def prepare(model: Any, options: Options) -> Problem:
    """Reads the model and the data, converts the model, and checks whatever can be checked before the search.

    Raises:
        As compress().
    """
    started = time.monotonic()
    method = PRUNING_METHODS[options.method]
    pruner = pruner_of(model, options)
    identity = digest(model)  # raises for a layer that a later call could not tell from another one
    calibration, reward_data = splits.splits(
        model, options.train_data, options.reward_data, options.calibration_size, options.reward_size, options.seed
    )
    validation_data = None
    if options.validation_data is not None:
        validation_data = splits.load(options.validation_data, model, "validation_data")
    finetuning = _finetuning(model, options, calibration, method)
    table = None if options.sensitivity is None else _sensitivity(options.sensitivity, pruner)

    since = time.monotonic()
    base_tflite = keras_to_tflite.convert(model)
    conversion_seconds = time.monotonic() - since
    unsupported = _unsupported(method, base_tflite, model, options.verbose)
    costs = operator_costs(base_tflite) if pruner.groups.unknown else ()
    reached = None if method.zeros else reach(pruner.groups, costs)
    say(little_reach(reached), options.verbose)
    exporter = Exporter(
        method.shipped, options.formats, options.timed_format, calibration.inputs, options.integer_io,
        agreement_inputs(reward_data),
    )  # fmt: skip
    problem = Problem(
        model=model, identity=identity, options=options, method=method, pruner=pruner, calibration=calibration,
        reward_data=reward_data, validation_data=validation_data, base_tflite=base_tflite, timed_tflite=base_tflite,
        conversion_seconds=conversion_seconds, costs=method.costs(pruner, base_tflite), reach=reached,
        unsupported=unsupported, device=_device(options, unsupported), exporter=exporter, finetuning=finetuning,
        sensitivity=table, started=started,
    )  # fmt: skip
    _check_reach(problem)
    return replace(problem, timed_tflite=_timed_tflite(problem))


def _sensitivity(path: str | Path, pruner: Pruner) -> Sensitivity:
    table = Sensitivity.load(path)
    for unit in pruner.units:
        table.curve(unit)  # raises if the table lacks it
    return table


def _finetuning(model: Any, options: Options, calibration: Split, method: PruningMethod) -> FineTuning | None:
    if not options.finetune_epochs:
        return None
    if calibration.labels is None:
        raise ValueError(
            f"finetune_epochs is {options.finetune_epochs}, but train_data has no labels to train by; give both."
        )
    distillation = None
    if options.teacher is not None:
        teacher = model if isinstance(options.teacher, str) else options.teacher
        distillation = Distillation(teacher, options.temperature, options.distill_weight)
        distillation.check(model)
    finetuning = FineTuning(
        model, options.train_data, options.finetune_epochs, options.seed, options.verbose, distillation,
        options.finetune_callbacks, f"{TENSORBOARD}/finetune" if options.tensorboard else None,
    )  # fmt: skip
    finetuning.check(method.zeros)
    return finetuning


def _unsupported(method: PruningMethod, tflite: bytes, model: Any, verbose: bool) -> tuple[str, ...] | None:
    """What keeps zeros from making the network faster; the user is told at once. None if the method leaves no zeros."""
    if not method.zeros:
        return None
    found = find_unsupported(tflite, keras_reader.layers(model))
    say(sparsity_notes(found, unsupported_processor()), verbose)
    return found


def _device(options: Options, unsupported: tuple[str, ...] | None) -> Any:
    """The caller's device. If zeros can make the network faster on this computer, that is measured here by default."""
    if unsupported == () and options.device is None and unsupported_processor() is None:
        return "host"
    return options.device


def _check_reach(problem: Problem) -> None:
    """Raises if the budget cannot be reached. In stages, the first one is the budget of the first search."""
    options = problem.options
    if options.is_latency:
        problem.method.check_faster(problem.unsupported)
        return
    cost = problem.counted_cost
    first = replace(options, budget=options.shares[0], stages=()) if options.shares else options
    replace(problem, options=first).limit(cost)


def _timed_tflite(problem: Problem) -> bytes:
    """The base network in the format that latencies are of; raises if any other format cannot be made."""
    options, exporter = problem.options, problem.exporter
    timed_format = options.timed_format
    for format in options.formats:
        if format != timed_format:
            exporter.check(problem.model, format)
    return problem.base_tflite if timed_format == FLOAT else exporter.file(problem.model, timed_format)
