"""The search: ask for widths, tell what came of them, again and again; a killed one goes on where it stopped."""

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from amc_tf.errors import AmcError, RunDirError
from amc_tf.search.agent.environment import Environment
from amc_tf.search.agent.features import NAMES
from amc_tf.search.agent.replay_sync import ReplaySync
from amc_tf.search.best_trial import best_trial
from amc_tf.search.budget import FLOOR, Budget, uniform
from amc_tf.search.guarantee import Guarantee, accuracy
from amc_tf.search.journal import Journal
from amc_tf.search.proposers.baselines import greedy
from amc_tf.search.proposers.refine import refined
from amc_tf.search.proposers.sensitivity import Sensitivity, tabled
from amc_tf.search.rewards import Reward, choose, negative_error
from amc_tf.search.schedule import UNIFORM, Schedule
from amc_tf.search.trial import Outcome, Proposal, Trial, failure

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

_UNIFORM_SHARE = 0.5  # of the base cost that the uniform plan keeps where there is no budget: the paper's usual one
_FAILURES_IN_A_ROW = 10  # after so many the cause is no plan's: a phone was unplugged, a disk is full


class Study:
    """Tries plans in the order of a schedule: the unpruned network, the uniform plan, and then its episodes.

    `run()` does it all; `ask()` and `tell()` are for whoever evaluates elsewhere. Without a budget the uniform plan
    keeps half of the base cost, or the least that can be kept where that is more.

    With two in flight, the next is evaluated while one is: a proposal knows of all trials but the `in_flight - 1` right
    before it, be they finished or not; the greedy plan alone waits for all. So the same seed gives the same trials,
    however long each takes and wherever the search was stopped. A plan that a proposal knows to have been tried is not
    evaluated again.

    Args:
        units: In the order in which they are decided.
        cost: Widths (units,) -> cost; exact, non-decreasing in each width.
        evaluate: (widths, beat) -> Outcome, see Proposal.beat; called in threads, `in_flight` at once. Where it raises
            AmcError the trial failed; a RunDirError is no plan's fault and ends the search, and all else is a bug.
        agent: Fresh; has act, learn, save, load and last_episode of DdpgAgent. Its episodes count from 0.
        journal: Open; the trials in it are not done again.
        in_flight: How many proposals are evaluated at once: 1 or 2.
        measure: (widths, outcome) -> the outcome as measured, or None where it stays; errors as of `evaluate`. Called
            in order, once all trials before are told, in the thread of run(); while others are evaluated.
        limit: What a plan may cost, in the cost's unit; None for no budget.
        floor: See Budget.
        correction: Trials so far -> what a candidate costs for each unit of `cost`, where `cost` only foretells what a
            device will say; the next proposal's limit is divided by it. None where `cost` is exact.
        reward: See rewards.choose.
        schedule: Who decides which trial; a number of episodes stands for the paper's schedule.
        thresholds: (cost, what a plan may cost) -> widths: plans of one threshold, as many as the schedule has.
        guarantee: How far the accuracy may fall: the cheapest plan that holds it is best then, and what the refinement
            looks for. Only without a limit.
        table: What is known of the units' sensitivity, for the greedy plan; None to measure it as the schedule says.
        seed: Of the refinement.
        digest: Widths -> digest of their plan, for the journal; by default of the widths alone.
        on_episode_end: Called with each new trial and the best one so far, or None.

    Attributes:
        interrupted: Whether Ctrl-C ended run().
        stop_search: Set it to have run() end after the current trial.

    Raises:
        ValueError: in_flight is neither 1 nor 2, or units share a name.
        BudgetError, RunDirError: The limit cannot be reached; the journal is of other units.
    """

    def __init__(
        self,
        units: Sequence["Unit"],
        cost: Callable[[np.ndarray], float],
        evaluate: Callable[[tuple[int, ...], float | None], Outcome],
        agent: Any,
        journal: Journal,
        *,
        in_flight: int = 2,
        measure: Callable[[tuple[int, ...], Outcome], Outcome | None] | None = None,
        limit: float | None = None,
        floor: float = FLOOR,
        correction: Callable[[Sequence[Trial]], float] | None = None,
        reward: str | Reward | None = None,
        schedule: Schedule | int = 400,
        thresholds: Sequence[Callable[[Callable, float], tuple[int, ...]]] = (),
        guarantee: Guarantee | None = None,
        table: Sensitivity | None = None,
        seed: int = 0,
        digest: Callable[[tuple[int, ...]], str] | None = None,
        on_episode_end: Callable[[Trial, Trial | None], None] | None = None,
    ):
        if in_flight not in (1, 2):
            raise ValueError(f"in_flight is {in_flight!r}, expected 1 or 2: the agent would learn too late from more.")
        self.units, self.cost, self.evaluate, self.agent, self.journal = tuple(units), cost, evaluate, agent, journal
        self.in_flight, self.measure = in_flight, measure
        self.limit, self.on_episode_end = limit, on_episode_end
        self.schedule = schedule if isinstance(schedule, Schedule) else Schedule(schedule, paper=True)
        self._table, self._seed, self._thresholds, self._guarantee = table, seed, thresholds, guarantee
        self._correction = correction
        self.interrupted = self.stop_search = False
        self._environment = Environment(units, cost, None if limit is None else Budget(units, cost, limit, floor))
        self._lessons = ReplaySync(agent, self._environment, journal, self._bound, self.schedule.taught)
        self._reward = choose(reward, limit)
        self._digest = digest or (lambda widths: hashlib.sha256(repr(widths).encode()).hexdigest()[:16])
        self._asked: dict[int, Proposal] = {}
        self._since = time.perf_counter()  # the seconds of the trial that is told of next count from here
        names = [unit.name for unit in units]
        if len(set(names)) < len(names):
            raise ValueError(f"The names of units are {names}: each needs its own, for the journal.")
        known = list(self.trials[0].keep_ratios) if self.trials else names
        if known != names:
            raise RunDirError(f"{journal.path} is of units {known}, this search of {names}: choose another run_dir.")

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Those finished, in this process or before."""
        return tuple(self.journal.trials)

    @property
    def pending(self) -> tuple[Proposal, ...]:
        """Those asked for in this process and not yet told of, in order."""
        return tuple(self._asked[number] for number in sorted(self._asked) if number >= len(self.journal.trials))

    @property
    def best(self) -> Trial | None:
        """The trial of the best reward, of equal ones the cheapest, among those complete and within the budget.

        Where it was said how far the accuracy may fall, the cheapest that holds it, of equal ones the most accurate.

        Where scoring stopped early the accuracy is an estimate, and such a trial is never best; nor is a point of the
        sensitivity table where there is a budget or costs are measured.
        """
        return self._best(self.trials)

    def best_of(self, count: int) -> Trial | None:
        """The best of the first `count` trials."""
        return self._best(self.trials[:count])

    def merit(self, trial: Trial) -> float:
        """What the best trial has most of: reward; where accuracy is guaranteed, little of the base's cost."""
        return trial.reward if self._guarantee is None else -trial.outcome.cost / trial.outcome.base_cost

    def run(self) -> "Study":
        """Runs whatever trials are left. Ctrl-C ends it early, with `interrupted` set and finished trials kept.

        Evaluations that have begun cannot be stopped: it returns when they have ended. What they found is lost, unless
        another run() evaluates it again.

        Raises:
            AmcError: Ten trials in a row failed; the journal has them, and the same call goes on after them.
            RunDirError: There is no room for what evaluating needs, or for the journal; the same call goes on.
        """
        self.interrupted = False
        self._since = time.perf_counter()
        pool = ThreadPoolExecutor(self.in_flight, thread_name_prefix="amc_tf-candidate")
        try:
            self._run(pool)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            # They would compete with whatever the caller does next, such as measuring the best ones.
            pool.shutdown(wait=True, cancel_futures=True)
        return self

    def _run(self, pool: ThreadPoolExecutor) -> None:
        begun: dict[int, Future] = {}

        def begin(proposal: Proposal) -> None:
            if proposal.outcome is None:
                begun[proposal.number] = pool.submit(self.evaluate, proposal.widths, proposal.beat)

        for proposal in self.pending:  # of a run() that was stopped
            begin(proposal)
        failures, total = 0, self.schedule.total
        while len(self.trials) < total and not self.stop_search:
            while len(self.pending) < min(self._room, total - len(self.trials)):
                begin(self.ask())
            proposal = self.pending[0]
            result = self._result(proposal, begun.pop(proposal.number, None))
            trial = self.tell(proposal, result)
            if self.on_episode_end is not None:
                self.on_episode_end(trial, self.best)
            failures = failures + 1 if trial.state == "failed" else 0
            if failures == _FAILURES_IN_A_ROW:
                raise result

    def _result(self, proposal: Proposal, begun: Future | None) -> Outcome | AmcError:
        if begun is None:
            return proposal.outcome
        try:
            outcome = begun.result()
            wanted = self.measure is not None and proposal.kind != "sensitivity"
            measured = self.measure(proposal.widths, outcome) if wanted else None
            return outcome if measured is None else measured
        except RunDirError:
            raise
        except AmcError as error:
            return error

    def ask(self) -> Proposal:
        """The next widths to evaluate; up to `in_flight` may be asked for before the first of them is told of.

        Raises:
            ValueError: So many are pending already.
            AgentError: The agent's process failed, or what it learned cannot be written.
            RunDirError: The journal is of other bounds.
        """
        pending = self.pending
        if len(pending) >= self._room:
            raise ValueError(
                f"{len(pending)} proposals are pending, as many as may be in flight: tell what came of number "
                f"{pending[0].number} first."
            )
        if not pending:
            self._since = time.perf_counter()
        proposal = self._propose(len(self.trials) + len(pending))
        self._asked[proposal.number] = proposal
        return proposal

    def _propose(self, number: int) -> Proposal:
        known = self._known(number)
        states, actions, beat = np.zeros((0, len(NAMES)), np.float32), np.zeros(0), None
        kind = self.schedule.kind(number)
        if kind == "agent":
            widths, states, actions = self._lessons.act(number, len(known))
            beat = self._beat(known, widths)
        elif kind == "refined":
            widths, states, actions = self._lessons.follow(number, self._refined(number, known))
            beat = self._beat(known, widths)
        else:
            widths = self._given(kind, number, known)
        plan = self._digest(widths)
        # What a point of the table came to was not measured.
        final = (t for t in known if t.state == "complete" and (t.kind != "sensitivity" or self.measure is None))
        outcome = next((t.outcome for t in final if t.plan == plan), None)
        return Proposal(number, kind, widths, plan, states, actions, beat, outcome)

    def _known(self, number: int) -> tuple[Trial, ...]:
        """What the proposal of that number may know of, although the journal may hold more after a restart."""
        lag = 0 if self.schedule.kind(number) == "greedy" else self.in_flight - 1
        return self.trials[: max(0, number - lag)]

    @property
    def _room(self) -> int:
        """How many may be in flight once the next one is asked for: the greedy plan needs the whole table."""
        following = len(self.trials) + len(self.pending)
        return 1 if self.schedule.kind(following) == "greedy" else self.in_flight

    def _given(self, kind: str, number: int, known: Sequence[Trial]) -> tuple[int, ...]:
        """The widths of a trial that nobody has to decide."""
        full = tuple(unit.size for unit in self.units)
        if kind == "sensitivity":
            i, width = self.schedule.points[number - self.schedule.table]
            return (*full[:i], width, *full[i + 1 :])
        if kind == "greedy":
            table = self._table or tabled(self.units, known)
            if table is not None:  # else a unit's points all failed
                return greedy(self.units, self.cost, self._affordable(number), table)
        if kind == "threshold":
            return self._thresholds[number - UNIFORM - 1](self.cost, self._affordable(number))
        return full if kind == "base" else uniform(self.units, self.cost, self._affordable(number))

    def _refined(self, number: int, known: Sequence[Trial]) -> list[float]:
        """The keep ratios of a refined plan."""
        rng = np.random.default_rng([self._seed, number])
        limit, wide = self._limit(number), number - self.schedule.taught < self.schedule.warmup
        # What the one before tries is known, although not what came of it: it need not be tried twice.
        before = self._asked.get(number - 1) or (self.trials[number - 1] if number <= len(self.trials) else None)
        avoid = () if before is None else (before.widths,)
        worth = attrgetter("reward")
        if self._guarantee is not None:
            best, made = self._best(known), [t for t in known if t.kind not in ("base", "sensitivity")]
            wanted = self._guarantee.cheaper(self._base if best is None else best.outcome.cost, rng)
            share = 1.0 if self._correction is None else self._correction(known)
            limit, worth = max(self._least(), wanted / share), accuracy
            alike = self._guarantee.alike([t for t in made if t.state == "complete"], wanted)
            known = [*alike, *(t for t in made if t.state == "failed")]  # which need not be tried again
        widths = refined(self.units, self.cost, limit, known, rng, wide, avoid, worth)
        return [width / unit.size for width, unit in zip(widths, self.units, strict=True)]

    def _affordable(self, number: int) -> float:
        """What a given plan may cost."""
        limit = self._limit(number)
        if limit is None:
            limit = max(_UNIFORM_SHARE * self._base, self._least())
        return limit

    def _beat(self, known: Sequence[Trial], widths: tuple[int, ...]) -> float | None:
        """What a candidate has to beat; None where its reward depends on a cost that is measured only afterwards."""
        best = self._best(known)
        if self._guarantee is not None:
            if best is None or self.measure:
                return None
            return self._reward(self._guarantee.beat(best.outcome, self.cost(np.array(widths))))
        return None if best is None or (self.measure and self._reward is not negative_error) else best.reward

    def _best(self, trials: Sequence[Trial]) -> Trial | None:
        points = self.limit is None and self.measure is None  # else they are no candidates
        return best_trial(trials, self.limit, self._guarantee, points)

    def _least(self) -> float:
        return self.cost(np.array([unit.widths[0] for unit in self.units]))

    @property
    def _base(self) -> float:
        return self.cost(np.array([unit.size for unit in self.units]))

    def _limit(self, number: int) -> float | None:
        """What the proposal of that number may cost by `cost`: a pure function of the trials it may know of."""
        if self.limit is None or self._correction is None:
            return self.limit
        return max(self._least(), self.limit / self._correction(self._known(number)))

    def _bound(self, number: int) -> None:
        if self._environment.budget is not None:
            self._environment.budget.limit = self._limit(number)

    def tell(self, proposal: Proposal, result: Outcome | AmcError) -> Trial:
        """Records what came of a proposal, its outcome or why it failed; the agent learns of it when it is asked next.

        Raises:
            ValueError: It is not the first of those pending.
            RunDirError: The journal cannot be written.
        """
        first = next(iter(self.pending), None)
        if first is None or proposal.number != first.number:
            expected = "none is pending: ask for one" if first is None else f"expected number {first.number}"
            raise ValueError(f"Proposal {proposal.number} was told of; {expected}, as they are told of in order.")
        failed, now = isinstance(result, AmcError), time.perf_counter()
        trial = Trial(
            number=proposal.number,
            state="failed" if failed else "complete",
            kind=proposal.kind,
            widths=proposal.widths,
            keep_ratios={u.name: w / u.size for u, w in zip(self.units, proposal.widths, strict=True)},
            plan=proposal.plan,
            outcome=None if failed else result,
            reward=None if failed else self._reward(result),
            seconds=round(now - self._since, 3),
            reason=f"{type(result).__name__}: {result}" if failed else None,
            failure=failure(result) if failed else None,
        )
        self.journal.append(trial)
        self._since = now
        del self._asked[trial.number]
        return trial
