"""The second step of compress(): opens what a search needs (journal, scorer, device, agent) and runs it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amc_tf.callbacks import Callbacks, TensorBoard
from amc_tf.cost.cost_model import Cost
from amc_tf.data import splits
from amc_tf.fingerprint import fingerprint
from amc_tf.isolated.provide import provide
from amc_tf.latency.search_latency import Latency
from amc_tf.pipeline.measurement import MeasurementSession
from amc_tf.pipeline.prepare import TENSORBOARD, Problem
from amc_tf.report.progress import SearchProgress, TableProgress, preparing
from amc_tf.result import FLOAT, check_folder
from amc_tf.search.agent.ddpg_client import DdpgAgent
from amc_tf.search.journal import Journal, header
from amc_tf.search.problem import SearchProblem
from amc_tf.search.proposer import ProposerSettings
from amc_tf.search.proposers.sensitivity import provenance, table_from_trials
from amc_tf.search.schedule import Schedule
from amc_tf.search.scoring.evalset import EvalSet
from amc_tf.search.scoring.evaluator import Evaluator, Scoring
from amc_tf.search.study import Study
from amc_tf.search.trial import Trial
from amc_tf.tflite.runtime.scorer import Scorer

RUNS = Path("runs")  # default folder of run directories


@dataclass(frozen=True)
class SearchSetup:
    """Everything that a search needs, open.

    Attributes:
        problem: what is searched.
        searched: the journal's header: what the trials depend on.
        run_dir: where the files go.
        journal: of the search, locked.
        schedule: who proposes which trial.
        evaluator: makes and scores candidates.
        evalset: the examples whose accuracy is reported.
        scored_on, scored_by: see Result.
        latency: the device and the prices, or None.
        cost: widths -> cost, in the target's unit.
        limit: the largest cost that the budget allows, or None.
    """

    problem: Problem
    searched: dict[str, Any]
    run_dir: Path
    journal: Journal
    schedule: Schedule
    evaluator: Evaluator
    evalset: EvalSet
    scored_on: str
    scored_by: str
    latency: Latency | None
    cost: Cost
    limit: float | None

    def run_study(self) -> Study:
        """Runs the trials that are left, and calls the callbacks.

        Raises:
            AmcError: as Study.run and DdpgAgent.
        """
        problem, options, schedule = self.problem, self.problem.options, self.schedule
        board = [TensorBoard(self.run_dir / TENSORBOARD / "search")] if options.tensorboard else []
        callbacks = Callbacks([*options.callbacks, *board])

        def on_episode_end(trial: Trial, best: Trial | None) -> None:
            progress.update(trial, best)
            callbacks.episode(trial, best)

        with (
            DdpgAgent(
                episodes=schedule.acting, warmup_episodes=schedule.warmup, low=problem.pruner.low, seed=options.seed,
                paper=options.paper,
            ) as agent,
            SearchProgress(schedule.total, len(self.journal.trials), options.verbose) as progress,
        ):  # fmt: skip
            study = Study(
                self._search_problem(), self._proposer_settings(), self.evaluator, agent, self.journal,
                in_flight=self._in_flight, on_episode_end=on_episode_end,
            )  # fmt: skip
            with callbacks.of(study):
                study.run()
        return study

    def _search_problem(self) -> SearchProblem:
        options, latency = self.problem.options, self.latency
        measure, correction = None, None
        if latency is not None and options.is_latency:
            measure, correction = latency.measurer(self.journal.trials), latency.correction
        return SearchProblem(
            self.problem.pruner.units, self.cost, self.limit, reward=options.reward, guarantee=options.guarantee,
            measure=measure, correction=correction,
        )  # fmt: skip

    def _proposer_settings(self) -> ProposerSettings:
        pruner, options = self.problem.pruner, self.problem.options
        return ProposerSettings(
            self.schedule, pruner.thresholds(), self.problem.sensitivity, options.seed,
            lambda widths: pruner.plan(widths).digest,
        )  # fmt: skip

    @property
    def _in_flight(self) -> int:
        """How many candidates are evaluated at once: while this computer measures, nothing else may run."""
        return self.latency.in_flight if self.latency is not None and self.problem.options.is_latency else 2


@dataclass(frozen=True)
class SearchRun(SearchSetup):
    """A search that has ended; its device and its scorer are still open.

    Attributes:
        study: the search itself, with its trials.
    """

    study: Study

    def save_sensitivity(self) -> None:
        """Writes the sensitivity table that was given, or that the search has measured, to the run directory."""
        table, schedule = self.problem.sensitivity, self.schedule
        trials = self.study.trials
        if schedule.samples and len(trials) >= schedule.first_sample + len(schedule.samples):
            table = table_from_trials(self.problem.pruner.units, trials, provenance(self.searched))
        if table is not None:
            table.save(self.run_dir / "sensitivity.json")

    def session(self) -> MeasurementSession:
        """Scores and times the files of the result."""
        return MeasurementSession(self.evalset, None if self.latency is None else self.latency.stopwatch)


@contextlib.contextmanager
def run_search(problem: Problem) -> Iterator[SearchRun]:
    """Opens a search and runs the trials that are left; the journal says which an earlier call has done.

    Raises:
        SetupError, DeviceError, RunDirError, ConversionError, BudgetError: as compress().
    """
    options, pruner = problem.options, problem.pruner
    provide("tf-agents")  # raises, or installs it, before anything is written or measured
    with contextlib.ExitStack() as stack:
        latency = stack.enter_context(_latency(problem)) if problem.is_timed else None
        cost = latency if latency is not None and options.is_latency else problem.counted_cost
        searched = _header(problem, latency)
        run_dir = options.folder or RUNS / _run_name(problem, searched)
        check_folder(run_dir)
        journal = stack.enter_context(Journal(run_dir, searched))  # raises if it holds another search
        schedule = Schedule.of(
            pruner.units, options.episodes, problem.sensitivity, options.paper, journal.trials,
            len(pruner.thresholds()),
        )  # fmt: skip
        scorer = stack.enter_context(Scorer())
        with preparing(f"converting {problem.model.name} at some widths, to make candidates of", options.verbose):
            scoring = Scoring(problem.reward_data, options.metric, options.reward_function)
            evaluator = Evaluator(
                pruner, cost, problem.base_tflite, scorer, problem.calibration, scoring, options.reconstruct
            )
            evalset, scored_on, scored_by = _reported(problem, evaluator, scorer)
        if problem.sensitivity is not None:
            problem.sensitivity.check(evaluator.eval_set.base_accuracy, provenance(searched))
        if latency is not None:
            with TableProgress(latency.device, options.verbose) as progress:
                latency.prepare(run_dir, evaluator if options.is_latency else None, journal.trials, progress.update)
        limit = problem.limit(cost)
        if latency is not None and options.is_latency:
            latency.calibrate(limit)
            latency.save(run_dir)
        setup = SearchSetup(
            problem, searched, run_dir, journal, schedule, evaluator, evalset, scored_on, scored_by, latency, cost,
            limit,
        )  # fmt: skip
        yield SearchRun(**vars(setup), study=setup.run_study())


def _latency(problem: Problem) -> Latency:
    exporter, timed_format = problem.exporter, problem.options.timed_format
    to_tflite = None if timed_format == FLOAT else exporter.rough(timed_format)
    return Latency(problem.device, problem.pruner, problem.timed_tflite, exporter.shipped, to_tflite)


def _header(problem: Problem, latency: Latency | None) -> dict[str, Any]:
    """What the trials depend on, for the journal."""
    options, table = problem.options, problem.sensitivity
    plain = ("target", "budget", "episodes", "method", "round_to", "min_keep", "max_drop", "reconstruct", "paper")
    arguments = {name: getattr(options, name) for name in plain}
    arguments |= options.function_identities()
    arguments |= {
        "frozen": sorted(options.frozen),
        "sensitivity": None if table is None else table.digest,
        "calibration": problem.calibration.digest(),
        "reward_data": problem.reward_data.digest(),
    }
    if latency is not None and options.is_latency:
        arguments["device"] = latency.identity
    if options.timed_format != FLOAT:
        arguments |= {"quantize": options.timed_format, "integer_io": options.integer_io}
    return header(problem.identity, options.seed, arguments)


def _run_name(problem: Problem, searched: dict[str, Any]) -> str:
    """The name of the run directory: another one for whatever another search would bring.

    It stays the same when a search is prolonged, the packages are renewed or its network is fine-tuned: one search
    serves all of these, and the last result stands in the directory.
    """
    arguments = {name: value for name, value in searched["arguments"].items() if name != "episodes"}
    options = problem.options
    key = fingerprint([searched["model"], searched["seed"], arguments, list(options.formats), options.integer_io])
    return f"{problem.model.name}-{key[:8]}"


def _reported(problem: Problem, evaluator: Evaluator, scorer: Scorer) -> tuple[EvalSet, str, str]:
    """The examples of the reported accuracies, whose argument they were, and by what they are scored.

    They are read now: labels that do not fit must not wait for the end.
    """
    options = problem.options
    reported, scored_on = splits.reported(
        problem.reward_data, options.train_data, options.reward_data, problem.validation_data
    )
    evalset = evaluator.eval_set
    if reported is not problem.reward_data:
        evalset = EvalSet.of(reported, problem.base_tflite, scorer, options.metric, evalset.yes_above)
    scored_by = "metric" if options.metric is not None else "agreement" if reported.labels is None else "accuracy"
    return evalset, scored_on, scored_by
