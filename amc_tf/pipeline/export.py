"""The last step of compress(): the winner's files, scored and timed, and the Result that is written."""

import time
from functools import partial
from pathlib import Path
from typing import Any

from amc_tf.errors import BadPredictions, ConversionError, DeviceError
from amc_tf.pipeline.measurement import MeasurementSession, MeasurementSpec
from amc_tf.pipeline.prepare import Problem
from amc_tf.pipeline.re_export import with_model
from amc_tf.pipeline.searching import SearchRun
from amc_tf.pipeline.selection import Winner
from amc_tf.pruning.plan import Plan
from amc_tf.pruning.unit_lines import unit_lines
from amc_tf.result import FLOAT, SEARCH, Figures, Result, packed
from amc_tf.search.proposers.handmade import uniform
from amc_tf.tflite.conversion import keras_to_tflite
from amc_tf.tflite.conversion.quantize import FORMATS
from amc_tf.tflite.sparse.unsupported_operators import zeros_missing


def export(winner: Winner, run: SearchRun, session: MeasurementSession) -> Result:
    """Makes the files that ship, and writes the result.

    Args:
        winner: of the search.
        run: the search, still open.
        session: scores and times files.

    Raises:
        ConversionError, BadPredictions, DeviceError, RunDirError: as compress().
    """
    problem, options = run.problem, run.problem.options
    first = {options.timed_format: (winner.tflite, winner.comparison)}
    exported = problem.exporter.export(winner.model, session, first)
    base_us = None if session.stopwatch is None else session.stopwatch.base_us
    identity = None if run.latency is None else run.latency.identity
    spec = MeasurementSpec(run.evalset, problem.timed_tflite, problem.device, base_us, identity)
    signature = _signature(winner.model)
    result = Result(
        model=winner.model,
        tflite=run.run_dir / FORMATS[options.shipped_format],
        plan=winner.plan,
        run_dir=Path(run.run_dir),
        trials=run.study.trials,
        base=_figures(
            problem, problem.pruner.full, run.evalset.base_accuracy, problem.base_tflite,
            None if base_us is None else base_us / 1e3,
        ),
        compressed=_figures(
            problem, winner.widths, exported.formats[0].accuracy, exported.files[FLOAT],
            session.ms(exported.comparison),
        ),
        uniform=_uniform_figures(winner, run, session),
        obstacles=_unsupported(problem, winner.model),
        reach=problem.reach,
        method=options.method,
        max_drop=options.max_drop,
        target=options.target,
        budget=options.budget,
        limit=run.limit,
        seconds=time.monotonic() - problem.started,
        difference=exported.difference,
        stopped=SEARCH if run.study.interrupted else None,
        scored_on=run.scored_on,
        scored_by=run.scored_by,
        latency=_latency(run, exported.comparison),
        formats=exported.formats,
        units=_units(problem, winner.plan),
        again=partial(with_model, problem.exporter, spec, problem.base_tflite),
        inputs=signature["inputs"],
        outputs=signature["outputs"],
    )  # fmt: skip
    result.save(problem.base_tflite, exported.files)
    return result


def _figures(problem: Problem, widths: tuple[int, ...], accuracy: float, tflite: bytes, ms: float | None) -> Figures:
    costs = problem.costs
    macs = int(costs["macs"](widths)) if "macs" in costs else problem.dense_macs
    return Figures(accuracy, macs, int(costs["params"](widths)), len(tflite), ms, packed(tflite))


def _uniform_figures(winner: Winner, run: SearchRun, session: MeasurementSession) -> Figures | None:
    """The uniform plan at the same budget, or without a budget at the winner's cost; made and scored the same way."""
    problem, study, exporter = run.problem, run.study, run.problem.exporter
    widths = next((trial.widths for trial in study.trials if trial.kind == "uniform"), None)
    if widths is None:  # Ctrl-C came before
        return None
    if study.limit is None:
        widths = uniform(study.units, study.cost, study.cost(winner.widths))
    ms = None
    try:
        tflite = exporter.shipped(run.evaluator.tflite(widths))
        accuracy = session.evalset.accuracy(tflite)
        timed = tflite
        if exporter.timed_format != FLOAT:
            plan = problem.pruner.plan(widths)
            timed = exporter.file(problem.pruner.apply(plan, run.evaluator.weights(plan)), exporter.timed_format)
        ms = session.ms(session.compare(timed))
    except DeviceError:  # nothing else needs this figure
        pass
    except (BadPredictions, ConversionError):
        return None
    return _figures(problem, widths, accuracy, tflite, ms)


def _unsupported(problem: Problem, model: Any) -> tuple[str, ...] | None:
    """What keeps zeros from making the network faster. If no operator does, too few zeros may."""
    if problem.unsupported != ():
        return problem.unsupported
    return tuple(filter(None, [zeros_missing(keras_to_tflite.convert(model))]))


def _latency(run: SearchRun, comparison: Any) -> dict[str, Any] | None:
    if run.latency is None:
        return None
    return run.latency.record(comparison) | {"format": run.problem.options.timed_format}


def _units(problem: Problem, plan: Plan) -> tuple[dict[str, Any], ...]:
    """What was kept of everything that could be pruned, and why the rest could not."""
    pruner = problem.pruner
    kept = {unit.name: width for unit, width in zip(pruner.units, pruner.widths(plan), strict=True)}
    return tuple(
        {
            "name": line.name, "layers": list(line.layers), "size": line.size,
            "kept": int(kept.get(line.name, line.size)), "frozen": line.frozen,
        }
        for line in unit_lines(pruner, problem.options.round_to)
    )  # fmt: skip


def _signature(model: Any) -> dict[str, tuple[dict[str, Any], ...]]:
    """Inputs and outputs of a model's .tflite as plain types, by the names of the fields of a Result."""
    specs = [(spec.shape, spec.dtype.name) for spec in keras_to_tflite.arguments(model, 1)]
    outputs = [((1, *tensor.shape[1:]), getattr(tensor.dtype, "name", tensor.dtype)) for tensor in model.outputs]
    sides = {
        "inputs": (keras_to_tflite.input_names(model), specs),
        "outputs": (keras_to_tflite.output_names(model), outputs),
    }
    return {
        side: tuple(
            {"name": name, "shape": [int(size) for size in shape], "dtype": str(dtype)}
            for name, (shape, dtype) in zip(names, specs, strict=True)
        )
        for side, (names, specs) in sides.items()
    }
