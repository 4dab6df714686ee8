"""Proposer: the next widths to try, by the algorithm that the schedule names for that trial."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from amc_tf.search.agent.agent_interface import Agent
from amc_tf.search.agent.environment import Environment
from amc_tf.search.agent.features import NAMES
from amc_tf.search.agent.replay_sync import ReplaySync
from amc_tf.search.budget import Budget
from amc_tf.search.guarantee import negative_error_of
from amc_tf.search.journal import Journal
from amc_tf.search.problem import SearchProblem
from amc_tf.search.proposers.greedy import greedy
from amc_tf.search.proposers.handmade import uniform
from amc_tf.search.proposers.refine import refined
from amc_tf.search.proposers.sensitivity import Sensitivity, table_from_trials
from amc_tf.search.schedule import UNIFORM, Schedule
from amc_tf.search.trial import Outcome, Proposal, Trial


def widths_digest(widths: tuple[int, ...]) -> str:
    """Digest of the widths alone."""
    return hashlib.sha256(repr(widths).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ProposerSettings:
    """Which algorithms propose, and what they need besides the problem.

    Attributes:
        schedule: Which algorithm proposes which trial.
        thresholds: (cost, limit) -> widths: plans that cut all units at one threshold, `schedule.thresholds` of them.
        table: Known sensitivity of the units, for the greedy plan; None to measure it as the schedule says.
        seed: Seed of the refinement.
        digest: Widths -> digest of their plan. Two proposals with the same digest are the same plan.
    """

    schedule: Schedule
    thresholds: Sequence[Callable[[Callable, float], tuple[int, ...]]] = ()
    table: Sensitivity | None = None
    seed: int = 0
    digest: Callable[[tuple[int, ...]], str] = widths_digest


class Proposer:
    """Makes proposal n from the trials that proposal n may use, and from nothing else.

    Proposal n may use the trials before n - (in_flight - 1), whether or not later ones have finished; the greedy plan
    uses all trials before it. So the same seed gives the same proposals, whatever the timing and wherever a search was
    stopped and resumed.

    Args:
        problem: What is searched.
        settings: The schedule and what its algorithms need.
        agent: A fresh agent. Its episodes count from 0.
        journal: Open; its trials are the known ones.
        in_flight: Number of proposals that are evaluated at once.

    Raises:
        BudgetError: The limit cannot be reached.
        ValueError: There is no unit.
    """

    def __init__(
        self, problem: SearchProblem, settings: ProposerSettings, agent: Agent, journal: Journal, in_flight: int
    ):
        self._problem, self._settings, self._journal, self._in_flight = problem, settings, journal, in_flight
        limit = problem.limit
        budget = None if limit is None else Budget(problem.units, problem.cost, limit, problem.floor)
        self._environment = Environment(problem.units, problem.cost, budget)
        first = settings.schedule.first_learned
        self._replay_sync = ReplaySync(agent, self._environment, journal, self._set_limit, first)

    def propose(self, number: int, previous: Trial | Proposal | None) -> Proposal:
        """Proposal `number`.

        Args:
            number: Number of the trial that it will become.
            previous: The proposal before it, or its trial; the widths are known although the outcome may not be.

        Raises:
            AgentError: The agent's process failed, or its state cannot be written.
            RunDirError: The journal was written with other bounds.
        """
        known, kind = self._known(number), self._settings.schedule.kind(number)
        states, actions, reward_to_beat = np.zeros((0, len(NAMES)), np.float32), np.zeros(0), None
        if kind in ("agent", "refined"):
            if kind == "agent":
                widths, states, actions = self._replay_sync.act(number, len(known))
            else:
                ratios = self._refined_ratios(number, known, previous)
                widths, states, actions = self._replay_sync.follow(number, ratios)
            reward_to_beat = self._problem.reward_to_beat(known, widths)
        else:
            widths = self._fixed_widths(kind, number, known)
        plan = self._settings.digest(widths)
        return Proposal(number, kind, widths, plan, states, actions, reward_to_beat, self._known_outcome(plan, known))

    def _known(self, number: int) -> tuple[Trial, ...]:
        """The trials that proposal `number` may use. After a restart the journal may hold more."""
        lag = 0 if self._settings.schedule.kind(number) == "greedy" else self._in_flight - 1
        return tuple(self._journal.trials[: max(0, number - lag)])

    def _known_outcome(self, plan: str, known: Sequence[Trial]) -> Outcome | None:
        """The outcome of an earlier trial of the same plan."""
        same = (trial for trial in known if trial.plan == plan and trial.state == "complete")
        # The cost of a sensitivity sample is never measured.
        final = (trial for trial in same if trial.kind != "sensitivity" or self._problem.measure is None)
        return next((trial.outcome for trial in final), None)

    def _fixed_widths(self, kind: str, number: int, known: Sequence[Trial]) -> tuple[int, ...]:
        """The widths of a trial that neither the agent nor the refinement decides."""
        problem, settings = self._problem, self._settings
        if kind == "base":
            return problem.full
        if kind == "sensitivity":
            i, width = settings.schedule.samples[number - settings.schedule.first_sample]
            return (*problem.full[:i], width, *problem.full[i + 1 :])
        limit = problem.uniform_limit_after(known)
        if kind == "greedy":
            table = settings.table or table_from_trials(problem.units, known)
            if table is not None:  # None if all samples of a unit failed
                return greedy(problem.units, problem.cost, limit, table)
        if kind == "threshold":
            return settings.thresholds[number - UNIFORM - 1](problem.cost, limit)
        return uniform(problem.units, problem.cost, limit)

    def _refined_ratios(
        self, number: int, known: Sequence[Trial], previous: Trial | Proposal | None
    ) -> list[float]:
        """The keep ratios of a refined plan."""
        problem, schedule, guarantee = self._problem, self._settings.schedule, self._problem.guarantee
        rng = np.random.default_rng([self._settings.seed, number])
        wide = number - schedule.first_learned < schedule.warmup
        avoid = () if previous is None else (previous.widths,)
        if guarantee is None:
            limit, worth = problem.limit_after(known), attrgetter("reward")
        else:
            best, correction = problem.best(known), problem.correction
            cost_limit = guarantee.next_cost_limit(problem.base_cost if best is None else best.outcome.cost, rng)
            ratio = 1.0 if correction is None else correction(known)
            limit, worth = max(problem.least_cost, cost_limit / ratio), negative_error_of
            candidates = [trial for trial in known if trial.kind not in ("base", "sensitivity")]
            complete = [trial for trial in candidates if trial.state == "complete"]
            failed = [trial for trial in candidates if trial.state == "failed"]  # not to be tried again
            known = [*guarantee.of_similar_cost(complete, cost_limit), *failed]
        widths = refined(problem.units, problem.cost, limit, known, rng, wide, avoid, worth)
        return [width / unit.size for width, unit in zip(widths, problem.units, strict=True)]

    def _set_limit(self, number: int) -> None:
        """Sets the limit that the environment has for trial `number`."""
        if self._environment.budget is not None:
            self._environment.budget.limit = self._problem.limit_after(self._known(number))
