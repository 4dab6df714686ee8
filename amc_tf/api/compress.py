"""compress(): the whole way from a trained Keras model to the .tflite that ships."""

import contextlib
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf import request
from amc_tf.callbacks import Callback, Callbacks, TensorBoard, check_tensorboard, checked
from amc_tf.cost import counts
from amc_tf.data import splits
from amc_tf.graph import keras_reader
from amc_tf.graph.identity import digest
from amc_tf.isolated.provide import provide
from amc_tf.latency.session import Latency, missed
from amc_tf.pipeline import pruning_methods
from amc_tf.pipeline.export import Exporter, MeasurementSession, MeasurementSpec, again, ends, few, write_page
from amc_tf.pipeline.finetuning import Training
from amc_tf.pipeline.preview import Preview, preview
from amc_tf.pipeline.pruning_methods import IMPORTANCE, ROUND_TO, Method
from amc_tf.pipeline.selection import figures_of, finalists, uniform_network, units_of
from amc_tf.pipeline.stages import check_reach, halves, narrowest, staged
from amc_tf.pipeline.stages import checked as stages_of
from amc_tf.pruning.importance import Importance
from amc_tf.pruning.pruner import Pruner
from amc_tf.pruning.unit_lines import unit_lines
from amc_tf.report.progress import SearchProgress, TableProgress, preparing, say
from amc_tf.report.sparse_notes import sparsity_notes
from amc_tf.request import ORIGINAL, contents, run_name
from amc_tf.result import FLOAT, SEARCH, Result
from amc_tf.search.agent.ddpg_client import DdpgAgent
from amc_tf.search.budget import Budget, parse_budget, plain, too_large
from amc_tf.search.journal import Journal, header
from amc_tf.search.proposers.sensitivity import made_with, tabled
from amc_tf.search.rewards import Reward, choose
from amc_tf.search.schedule import Schedule
from amc_tf.search.scoring.evalset import EvalSet
from amc_tf.search.scoring.evaluator import Evaluator
from amc_tf.search.scoring.metrics import Metric
from amc_tf.search.study import Study
from amc_tf.tflite.conversion import keras_to_tflite
from amc_tf.tflite.conversion.quantize import FORMATS
from amc_tf.tflite.runtime.scorer import Scorer
from amc_tf.tflite.sparse.unsupported_operators import obstacles, processor_obstacle, zeros_missing
from amc_tf.training.distillation import TEMPERATURE, WEIGHT

_BOARD = "tensorboard"  # in the run directory


def compress(
    model: Any,
    *,
    target: str = "latency",
    budget: float | str | None = 0.5,
    train_data: Any = None,
    reward_data: Any = None,
    validation_data: Any = None,
    episodes: int = 400,
    seed: int = 0,
    device: Any = None,
    method: str = "channel",
    metric: Metric | None = None,
    reward: str | Reward | None = None,
    max_drop: float | None = None,
    round_to: int = ROUND_TO,
    min_keep: float | None = None,
    importance: str | Importance = IMPORTANCE,
    frozen: Sequence[str] = (),
    reconstruct: bool = True,
    sensitivity: str | Path | None = None,
    paper: bool = False,
    stages: Sequence[float] | None = None,
    finetune_epochs: int = 0,
    teacher: Any = ORIGINAL,
    temperature: float = TEMPERATURE,
    distill_weight: float = WEIGHT,
    finetune_callbacks: Sequence[Any] = (),
    quantize: str | Sequence[str] | None = None,
    integer_io: bool = False,
    calibration_size: int = 256,
    reward_size: int = 2000,
    run_dir: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    tensorboard: bool = False,
    report: bool = True,
    dry_run: bool = False,
    verbose: bool = True,
) -> Result | Preview:
    """Searches the smaller network that loses least, and makes it into a .tflite.

    The same call on the same run directory goes on where it stopped. Ctrl-C ends the search with the best so far.

    Args:
        model: trained keras.Model (Keras 3) or tf_keras.Model, functional or Sequential; it is not changed.
        target: what the budget is about: "latency", "macs" (also "flops"), "params" or "size".
        budget: what may be kept: a fraction (0.5, "50%") or absolute ("30 ms", "280 MMAC", "1.5 M", "2 MB"); None for
            no bound, where the reward weighs accuracy against cost instead.
        train_data: (x, y) arrays, tf.data.Dataset or keras PyDataset; on a part of it weights are reconstructed and
            BatchNorm is recalibrated.
        reward_data: what candidates are scored on; default: another part of train_data. Without labels the score is
            agreement with the original model.
        validation_data: never seen by the search, only reported.
        episodes: how many networks are tried besides the original and the uniform one.
        seed: of the agent and of the choice of examples. Same seed, same data: same plan.
        device: where latency is measured: "adb" (the one connected phone), "adb:SERIAL", "host" (this computer) or a
            device object. Default: for target "latency" the connected phone, else this computer with a warning; for the
            others nothing is measured.
        method: "channel", whole channels go and the network becomes smaller and faster; or "magnitude", single weights
            become zero and the file becomes smaller: targets "params", which counts what is not zero, "size" and, for a
            network that XNNPACK has sparse kernels for (`analyze` says), "latency".
        metric: (labels, predictions) -> number, the larger the better; default: accuracy.
        reward: "negative_error", "negative_error_log_cost" or a function Outcome -> number; default: the first under a
            budget, the second without.
        max_drop: with budget=None, how many points the accuracy on the reward split may fall (of a metric: hundredths);
            the cheapest network found that holds it is taken (the paper's accuracy-guaranteed protocol).
        round_to: channels are kept in multiples of this, which phones like; 1 for none.
        min_keep: least keep ratio of a layer; None for the paper's: 0.2, of the weights of a Dense layer 0.02.
        importance: which channels go first: "magnitude_in" (the paper's), "magnitude_out", "magnitude" or a function
            (group, weights) -> scores.
        frozen: names of layers to leave alone.
        reconstruct: whether kept weights are to make up for dropped ones, by least squares on a part of train_data.
        sensitivity: the sensitivity.json in the run directory of an earlier search on the same model and data with the
            same arguments, but for budget, target and episodes: spares this one the networks that it is measured on.
        paper: whether to search with the paper's agent alone, without first plans, refinement and what else
            ddpg_process.py lists; for comparison.
        stages: keep ratios of the whole network before `budget`, falling: the network is pruned to the first,
            fine-tuned, pruned further, and so on (the paper's 0.5, 0.35, 0.25 before 0.2); with finetune_epochs. Each
            is a search of its own, and min_keep is of what the one before left. Default: with finetune_epochs and a
            budget below half of the network, halves of it until the budget is reached; else none, as ().
        finetune_epochs: times through train_data that the pruned network is trained, see `finetune`; zeros stay zero.
            Without validation_data the accuracy is then of examples that it was trained on. Where the loss is lost in
            the first epoch, or Ctrl-C ends the training, the untrained network is the result, with a warning.
        teacher: whose outputs the fine-tuning learns from as well as from labels: "original", the model that was given;
            another model with the same inputs and outputs; or None for labels alone.
        temperature, distill_weight: see `finetune`.
        finetune_callbacks: Keras callbacks for the fine-tuning.
        quantize: formats to make beside the float file: "int8" (weights and activations, calibrated on the examples
            that BatchNorm is), "fp16" (weights) or "dynamic" (weights in 8 bits), or several; the first one ships. With
            target "latency" the times of the search are those of that format, and a fraction as budget is of the
            original's time in it; accuracy in the search is the float candidate's.
        integer_io: whether the int8 file takes and gives int8 instead of float32.
        calibration_size, reward_size: how many examples of train_data to use; reward_data is used whole.
        run_dir: where journal, plan, model and .tflite go; default: runs/ and a name made of the model and arguments.
        callbacks: objects of amc_tf.callbacks, told of every episode, which may end the search.
        tensorboard: whether to write the search and the fine-tuning as scalars to tensorboard/ in the run directory.
        report: whether to write report.html, MODEL_CARD.md and pictures of them to the run directory.
        dry_run: whether to look ahead only: arguments, data and model are checked, nothing is searched or written.
        verbose: whether to show progress on stderr.

    Returns:
        The Result; with dry_run a Preview.

    Raises:
        TypeError, ValueError: an argument or the data are of the wrong kind, out of range, or do not fit the model.
        UnsupportedModel: the model cannot be read, or nothing in it can shrink.
        BudgetError: the budget cannot be reached; the sentence gives the range.
        ConversionError: the .tflite cannot be made or is not fit to ship.
        DeviceError: the device cannot be used, or fails where the search cannot go on without it.
        RunDirError: the run directory cannot be written, or holds a search of another model or other arguments.
        SetupError: TF-Agents is neither in this environment nor to be had for it.
        AgentError: the agent's process failed.
    """
    finetune_epochs = request.whole("finetune_epochs", finetune_epochs, 0)
    budget = plain(budget)  # before it is journaled or names a run: "0.5" is 0.5
    if stages is None:
        stages = halves(budget, target) if finetune_epochs else ()
    dry_run, report = request.switch("dry_run", dry_run), request.switch("report", report)
    if not isinstance(stages, (list, tuple)) or stages:
        if not dry_run:
            return staged(compress, locals())
        stages, budget, _ = stages_of(stages, budget, {"target": target, "finetune_epochs": finetune_epochs})
    started = time.monotonic()
    target = request.check(target, method, metric, run_dir)
    callbacks, formats = checked(callbacks), request.formats(quantize, integer_io)
    request.check_timed(method, target, formats)
    episodes, seed = request.whole("episodes", episodes, 1), request.whole("seed", seed, 0)
    calibration_size = request.whole("calibration_size", calibration_size, 1)
    reward_size = request.whole("reward_size", reward_size, 1)
    round_to = request.whole("round_to", round_to, 1)
    guarantee = request.guarantee(max_drop, budget)
    min_keep, max_drop = (x.item() if isinstance(x, np.generic) else x for x in (min_keep, max_drop))  # for the journal
    reconstruct, paper = request.switch("reconstruct", reconstruct), request.switch("paper", paper)
    tensorboard = request.switch("tensorboard", tensorboard)
    if tensorboard:
        check_tensorboard()
    table = request.table(sensitivity, paper)
    known = request.known(metric=metric, reward=reward, importance=importance)
    choose(reward, None)  # a wrong reward or budget is said now, not after the first measurement
    if budget is not None:
        parse_budget(budget, 1.0, request.UNITS[target], target)
    way = pruning_methods.chosen(method, target)
    options = {"round_to": round_to, "min_keep": min_keep, "importance": importance, "frozen": frozen}
    pruning = pruning_methods.pruning(method, model, **options)
    calibration, reward_split = splits.splits(model, train_data, reward_data, calibration_size, reward_size, seed)
    if "int8" in formats and train_data is None:
        raise ValueError("quantize asks for int8, whose ranges come from examples; give train_data too.")
    if finetune_epochs and calibration.labels is None:
        raise ValueError(f"finetune_epochs is {finetune_epochs}, but train_data has no labels to train by; give both.")
    training = None
    if not finetune_epochs:
        request.check_untrained(teacher, temperature, distill_weight, finetune_callbacks)
    else:
        distillation = request.distillation(teacher, model, temperature, distill_weight)
        board = f"{_BOARD}/finetune" if tensorboard else None
        training = Training(
            model, train_data, finetune_epochs, seed, verbose, distillation, finetune_callbacks, board
        )
        training.check(way.zeros)  # now: what cannot be trained must not be found out after the search
    for unit in pruning.units if table is not None else ():
        table.curve(unit)  # raises where it has none
    if validation_data is not None:
        validation_data = splits.load(validation_data, model, "validation_data")

    since = time.monotonic()
    base_tflite = keras_to_tflite.convert(model)
    conversion = time.monotonic() - since
    costs = way.costs(pruning, base_tflite)
    in_the_way = _obstacles(way, base_tflite, model, verbose)
    if in_the_way == () and device is None and processor_obstacle() is None:
        device = "host"  # where zeros are worth time, it is told how much
    timed, priced = target == "latency" or device is not None, target == "latency"
    if priced:
        pruning_methods.check_faster(way, in_the_way)
    counted = None if priced else pruning_methods.cost_of(costs, target)
    if budget is not None and not priced:
        # Raises where it cannot be reached, before minutes of work.
        _limit(pruning, counted, stages[0] if stages else budget, target)
    timed_format = formats[0] if priced and formats else FLOAT
    finishing = Exporter(way.finished, formats, timed_format, calibration.inputs, integer_io, few(reward_split))
    timed_base = base_tflite if timed_format == FLOAT else finishing.file(model, timed_format)
    timed_as = None if timed_format == FLOAT else finishing.rough(timed_format)
    for format in formats if timed_format == FLOAT else formats[1:]:
        finishing.check(model, format)  # raises what no candidate could be made into either
    if dry_run:
        reach, asked = pruning, {"model": model, "method": method, "target": target, **options}
        if stages and not way.zeros:
            check_reach(asked, budget, base_tflite)
            reach = narrowest(asked)
        scored = [reward_split] if validation_data is None else [reward_split, validation_data]
        schedule = Schedule.of(pruning.units, episodes, table, paper, (), len(pruning.thresholds()))
        return preview(
            model, reach, base_tflite, costs, schedule, calibration, scored, metric, training,
            unit_lines(pruning, round_to), conversion, method=method, target=target, budget=budget, stages=tuple(stages),
            formats=tuple(FORMATS[format] for format in (FLOAT, *formats)),
            device=str(getattr(device, "name", device) or "the connected phone, else this computer") if timed else None,
        )  # fmt: skip
    provide("tf-agents")  # raises, or installs it, before anything is written or measured
    with contextlib.ExitStack() as stack:
        latency = None
        if timed:
            latency = stack.enter_context(Latency(device, pruning, timed_base, finishing.shipped, timed_as))
        cost = latency if priced else counted
        asked_for = header(
            digest(model),
            seed,
            {
                "target": target, "budget": budget, "episodes": episodes, "method": method, "metric": known["metric"],
                "reward": known["reward"], "round_to": round_to, "min_keep": min_keep,
                "importance": known["importance"],
                "max_drop": max_drop, "frozen": list(frozen), "reconstruct": reconstruct, "paper": paper,
                "sensitivity": None if table is None else table.digest, "calibration": contents(calibration),
                "reward_data": contents(reward_split), **({"device": latency.identity} if priced else {}),
                **({} if timed_format == FLOAT else {"quantize": timed_format, "integer_io": integer_io}),
            },
        )  # fmt: skip
        if run_dir is None:
            run_dir = Path("runs") / run_name(model.name, asked_for, [formats, integer_io])
        run_dir = Path(run_dir)
        journal = stack.enter_context(Journal(run_dir, asked_for))  # before minutes of work: is it this search's?
        thresholds = pruning.thresholds()
        schedule = Schedule.of(pruning.units, episodes, table, paper, journal.trials, len(thresholds))
        scorer = stack.enter_context(Scorer())
        earns = choose(reward, budget)
        reported, scored_on = splits.reported(reward_split, train_data, reward_data, validation_data)
        with preparing(f"converting {model.name} at some widths, to make candidates of", verbose):
            evaluator = Evaluator(
                pruning, cost, calibration, reward_split, base_tflite, scorer, metric, earns, reconstruct
            )
            # Now: labels that do not fit must not wait for the end.
            sample = evaluator.sample
            if reported is not reward_split:
                sample = EvalSet.of(reported, base_tflite, scorer, metric, sample.yes_above)
        if table is not None:
            table.check(evaluator.sample.base_accuracy, made_with(asked_for))
        if timed:
            with TableProgress(latency.device, verbose) as progress:
                latency.prepare(run_dir, evaluator if priced else None, journal.trials, progress.update)
        limit = None if budget is None else _limit(pruning, cost, budget, target)
        measured = {}
        if priced:
            latency.approach(limit)
            latency.save(run_dir)
            measured = {
                "measure": latency.measured(journal.trials),
                "correction": latency.correction,
                "in_flight": latency.in_flight,
            }
        with (
            DdpgAgent(
                episodes=schedule.acting, warmup_episodes=schedule.warmup, low=pruning.low, seed=seed, paper=paper
            ) as agent,
            SearchProgress(schedule.total, len(journal.trials), verbose) as progress,
        ):
            told = Callbacks([*callbacks, *([TensorBoard(run_dir / _BOARD / "search")] if tensorboard else [])])
            search = Study(
                pruning.units, cost, evaluator, agent, journal,
                **measured, limit=limit, reward=reward, schedule=schedule, table=table, seed=seed,
                thresholds=thresholds, guarantee=guarantee,
                digest=lambda widths: pruning.plan(widths).digest,
                on_episode_end=lambda *found: (progress.update(*found), told.episode(*found)),
            )  # fmt: skip
            with told.of(search):
                search.run()
        bench = MeasurementSession(sample, latency.stopwatch if timed else None)
        base_us = latency.stopwatch.base_us if timed else None
        for widths in finalists(search, latency if priced else None, earns, evaluator, guarantee):
            plan = pruning.plan(widths)
            compressed = pruning.apply(plan, evaluator.weights(plan))
            tflite = finishing.file(compressed, timed_format)
            comparison = bench.compare(tflite)
            fits = target != "size" or limit is None or len(tflite) <= limit
            if latency.holds(comparison, limit) if priced else fits:
                break
        else:
            raise missed(limit) if priced else too_large(limit)
        found = table
        if schedule.points and len(search.trials) >= schedule.table + len(schedule.points):
            found = tabled(pruning.units, search.trials, made_with(asked_for))
        if found is not None:
            found.save(run_dir / "sensitivity.json")
        figures = partial(figures_of, costs, counts.macs(pruning.groups, ()))
        finished = finishing(compressed, bench, {timed_format: (tflite, comparison)})
        reopening = MeasurementSpec(
            sample, timed_base, device, base_us, latency.identity if timed else None
        )
        result = Result(
            model=compressed,
            tflite=run_dir / FORMATS[formats[0] if formats else FLOAT],
            plan=plan,
            run_dir=run_dir,
            trials=search.trials,
            base=figures(pruning.full, sample.base_accuracy, base_tflite, None if base_us is None else base_us / 1e3),
            compressed=figures(
                widths, finished.formats[0].accuracy, finished.files[FLOAT], bench.ms(finished.comparison)
            ),
            obstacles=in_the_way if in_the_way != () else _too_few_zeros(compressed),
            uniform=uniform_network(search, widths, figures, finishing, pruning, evaluator, bench),
            method=method,
            max_drop=max_drop,
            target=target,
            budget=budget,
            limit=limit,
            seconds=time.monotonic() - started,
            difference=finished.difference,
            stopped=SEARCH if search.interrupted else None,
            scored_on=scored_on,
            scored_by="metric" if metric is not None else "agreement" if reported.labels is None else "accuracy",
            latency=None if not timed else latency.record(finished.comparison) | {"format": timed_format},
            formats=finished.formats,
            units=units_of(pruning, plan, round_to),
            again=partial(again, finishing, reopening, base_tflite),
            **ends(compressed),
        )
        result.save(base_tflite, finished.files)  # before hours of training
        if training is not None and not search.interrupted:  # who stops a search does not ask for those
            result = training.result(result, finishing, bench, base_tflite)
    if report:
        write_page(result.run_dir)
    return result


def _obstacles(way: Method, tflite: bytes, model: Any, verbose: bool) -> tuple[str, ...] | None:
    """What keeps zeros from making the network faster, which is told at once; None for a method that leaves none."""
    if not way.zeros:
        return None
    found = obstacles(tflite, keras_reader.layers(model))
    say(sparsity_notes(found, processor_obstacle()), verbose)
    return found


def _too_few_zeros(model: Any) -> tuple[str, ...]:
    """What is in the way of a network that has nothing else in it; told from the file with its zeros in."""
    return tuple(filter(None, [zeros_missing(keras_to_tflite.convert(model))]))


def _limit(pruning: Pruner, cost: Any, budget: float | str, target: str) -> float:
    """What a plan may cost.

    Raises:
        BudgetError: no plan costs so little, or the whole network does.
    """
    limit = parse_budget(budget, cost(cost.full), cost.unit, target)
    Budget(pruning.units, cost, limit)
    return limit
