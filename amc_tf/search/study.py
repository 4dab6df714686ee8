"""Study: the search loop of ask, evaluate and tell. A search that was killed resumes from its journal."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from amc_tf.errors import AmcError, RunDirError
from amc_tf.search.agent.agent_interface import Agent
from amc_tf.search.journal import Journal
from amc_tf.search.problem import SearchProblem
from amc_tf.search.proposer import Proposer, ProposerSettings
from amc_tf.search.trial import Outcome, Proposal, Trial, failure

_FAILURES_IN_A_ROW = 10  # then no plan is the cause: a phone was unplugged, or the disk is full


class Study:
    """Tries plans in the order of a schedule: the unpruned network, the uniform plan, then `schedule.episodes` more.

    `run()` does it all; `ask()` and `tell()` are for callers that evaluate elsewhere.

    With in_flight=2 the next proposal is evaluated while one still is. A proposal depends only on the trials that the
    Proposer lets it use, so the same seed gives the same trials. A plan with a known outcome is not evaluated again.

    Args:
        problem: Units, cost, budget, reward.
        settings: The schedule and what its proposers need.
        evaluate: (widths, beat) -> Outcome, see Proposal.beat. Called in `in_flight` threads. If it raises AmcError the
            trial has failed; a RunDirError is not the plan's fault and ends the search; any other error is a bug.
        agent: A fresh agent. Its episodes count from 0.
        journal: Open. Its trials are not repeated.
        in_flight: Number of proposals that are evaluated at once: 1 or 2.
        on_episode_end: Called with each new trial and the best trial so far, or None.

    Attributes:
        units, cost, limit: Those of the problem.
        schedule: That of the settings.
        interrupted: Whether Ctrl-C ended run().
        stop_search: Set it to True to end run() after the current trial.

    Raises:
        ValueError: in_flight is neither 1 nor 2, or there is no unit.
        BudgetError, RunDirError: The limit cannot be reached; the journal is of other units.
    """

    def __init__(
        self,
        problem: SearchProblem,
        settings: ProposerSettings,
        evaluate: Callable[[tuple[int, ...], float | None], Outcome],
        agent: Agent,
        journal: Journal,
        *,
        in_flight: int = 2,
        on_episode_end: Callable[[Trial, Trial | None], None] | None = None,
    ):
        if in_flight not in (1, 2):
            raise ValueError(f"in_flight is {in_flight!r}, expected 1 or 2: the agent would learn too late from more.")
        self.units, self.cost, self.limit = problem.units, problem.cost, problem.limit
        self.schedule, self.evaluate, self.journal = settings.schedule, evaluate, journal
        self.in_flight, self.on_episode_end = in_flight, on_episode_end
        self.interrupted = self.stop_search = False
        self._problem = problem
        self._proposer = Proposer(problem, settings, agent, journal, in_flight)
        self._proposals: dict[int, Proposal] = {}  # asked for and not yet told, by number
        self._since = time.perf_counter()  # start of the seconds of the next trial that is told
        names = [unit.name for unit in self.units]
        recorded = list(self.trials[0].keep_ratios) if self.trials else names
        if recorded != names:
            raise RunDirError(f"{journal.path} is of units {recorded}, this search of {names}: choose another run_dir.")

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The finished trials, also those of earlier processes."""
        return tuple(self.journal.trials)

    @property
    def pending(self) -> tuple[Proposal, ...]:
        """The proposals of this process that are not yet told, in order."""
        return tuple(self._proposals[n] for n in sorted(self._proposals) if n >= len(self.journal.trials))

    @property
    def best(self) -> Trial | None:
        """The trial of the best reward among those complete and within the budget; of equal rewards the cheapest.

        With a guarantee it is the cheapest trial that holds the accuracy; of equal costs the most accurate.

        Two kinds of trials are never best: those whose scoring stopped early, since their accuracy is an estimate; and
        sensitivity samples, if there is a budget or costs are measured.
        """
        return self._problem.best(self.trials)

    def best_of(self, count: int) -> Trial | None:
        """The best of the first `count` trials."""
        return self._problem.best(self.trials[:count])

    def merit(self, trial: Trial) -> float:
        """What the best trial maximises: the reward or, with a guarantee, minus the share of the base cost."""
        return self._problem.merit(trial)

    def run(self) -> "Study":
        """Runs the trials that are left. Ctrl-C ends it early: `interrupted` is set, finished trials are kept.

        A running evaluation cannot be stopped, so this returns when it has ended. Its outcome is lost; another run()
        evaluates the proposal again.

        Raises:
            AmcError: Ten trials in a row failed. The journal has them; another run() continues after them.
            RunDirError: There is no room for the files of an evaluation or for the journal. Another run() continues.
        """
        self.interrupted = False
        self._since = time.perf_counter()
        pool = ThreadPoolExecutor(self.in_flight, thread_name_prefix="amc_tf-candidate")
        try:
            self._run(pool)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            # Running evaluations would disturb what the caller does next, such as measuring the best networks.
            pool.shutdown(wait=True, cancel_futures=True)
        return self

    def _run(self, pool: ThreadPoolExecutor) -> None:
        evaluations: dict[int, Future] = {}

        def start(proposal: Proposal) -> None:
            if proposal.outcome is None:
                evaluations[proposal.number] = pool.submit(self.evaluate, proposal.widths, proposal.beat)

        for proposal in self.pending:  # left by a run() that was stopped
            start(proposal)
        failures, total = 0, self.schedule.total
        while len(self.trials) < total and not self.stop_search:
            while len(self.pending) < min(self._most_pending, total - len(self.trials)):
                start(self.ask())
            proposal = self.pending[0]
            result = self._result(proposal, evaluations.pop(proposal.number, None))
            trial = self.tell(proposal, result)
            if self.on_episode_end is not None:
                self.on_episode_end(trial, self.best)
            failures = failures + 1 if trial.state == "failed" else 0
            if failures == _FAILURES_IN_A_ROW:
                raise result

    def _result(self, proposal: Proposal, evaluation: Future | None) -> Outcome | AmcError:
        """The outcome of a proposal, measured if that is due, or the error of its failure."""
        if evaluation is None:
            return proposal.outcome
        try:
            outcome, measure = evaluation.result(), self._problem.measure
            # Called in this thread and in order: all trials before are told, although others are being evaluated.
            if measure is not None and proposal.kind != "sensitivity":
                outcome = measure(proposal.widths, outcome) or outcome
            return outcome
        except RunDirError:
            raise
        except AmcError as error:
            return error

    def ask(self) -> Proposal:
        """The next widths to evaluate. At most `in_flight` proposals may be pending.

        Raises:
            ValueError: So many are pending already.
            AgentError: The agent's process failed, or its state cannot be written.
            RunDirError: The journal was written with other bounds.
        """
        pending = self.pending
        if len(pending) >= self._most_pending:
            raise ValueError(
                f"{len(pending)} proposals are pending, as many as may be in flight: tell what came of number "
                f"{pending[0].number} first."
            )
        if not pending:
            self._since = time.perf_counter()
        number = len(self.trials) + len(pending)
        previous = (*self.trials[-1:], *pending)[-1] if number else None
        proposal = self._proposals[number] = self._proposer.propose(number, previous)
        return proposal

    @property
    def _most_pending(self) -> int:
        """Most proposals that may be pending with the next one: 1 if that is greedy, which needs the whole table."""
        following = len(self.trials) + len(self.pending)
        return 1 if self.schedule.kind(following) == "greedy" else self.in_flight

    def tell(self, proposal: Proposal, result: Outcome | AmcError) -> Trial:
        """Records the outcome of a proposal, or the error of its failure. The agent learns it at the next ask().

        Raises:
            ValueError: The proposal is not the first of the pending ones.
            RunDirError: The journal cannot be written.
        """
        first = next(iter(self.pending), None)
        if first is None or proposal.number != first.number:
            expected = "none is pending: ask for one" if first is None else f"expected number {first.number}"
            raise ValueError(f"Proposal {proposal.number} was told; {expected}, since proposals are told in order.")
        failed, now = isinstance(result, AmcError), time.perf_counter()
        trial = Trial(
            number=proposal.number,
            state="failed" if failed else "complete",
            kind=proposal.kind,
            widths=proposal.widths,
            keep_ratios={u.name: w / u.size for u, w in zip(self.units, proposal.widths, strict=True)},
            plan=proposal.plan,
            outcome=None if failed else result,
            reward=None if failed else self._problem.reward(result),
            seconds=round(now - self._since, 3),
            reason=f"{type(result).__name__}: {result}" if failed else None,
            failure=failure(result) if failed else None,
        )
        self.journal.append(trial)
        self._since = now
        del self._proposals[trial.number]
        return trial
