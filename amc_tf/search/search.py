"""The search: ask for widths, tell what came of them, again and again; a killed one goes on where it stopped."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from amc_tf.errors import AgentError, AmcError, DeviceError, RunDirError
from amc_tf.search.budget import FLOOR, Budget, uniform
from amc_tf.search.environment import Environment
from amc_tf.search.features import NAMES
from amc_tf.search.journal import Journal
from amc_tf.search.outcome import Outcome, Proposal, Trial
from amc_tf.search.rewards import Reward, choose

if TYPE_CHECKING:
    from amc_tf.pruning.channel import Unit

_LOG = logging.getLogger(__name__)
_UNIFORM, _FIRST_EPISODE = 1, 2  # numbers of trials; 0 is the unpruned network
_UNIFORM_SHARE = 0.5  # of the base cost that the uniform plan keeps where there is no budget: the paper's usual one
_FAILURES_IN_A_ROW = 10  # after so many the cause is no plan's: a phone was unplugged, a disk is full


class Search:
    """Trial 0 is the unpruned network, trial 1 the uniform plan, and all that follow are the agent's episodes.

    `run()` does it all; `ask()` and `tell()` are for whoever evaluates elsewhere. Without a budget the uniform plan
    keeps half of the base cost, or the least that can be kept where that is more.

    Args:
        units: In the order in which they are decided.
        cost: Widths (units,) -> cost; exact, non-decreasing in each width.
        evaluate: Widths -> Outcome; where it raises AmcError the trial failed, all else is a bug and raises.
        agent: Fresh; has act, learn, save, load and last_episode of DdpgAgent. Its episodes count from 0.
        journal: Open; the trials in it are not done again.
        limit: What a plan may cost, in the cost's unit; None for no budget.
        floor: See Budget.
        correction: Trials so far -> what a candidate costs for each unit of `cost`, where `cost` only foretells what a
            device will say; the next proposal's limit is divided by it. None where `cost` is exact.
        reward: See rewards.choose.
        episodes: How many the agent gets in all.
        digest: Widths -> digest of their plan, for the journal; by default of the widths alone.
        on_episode_end: Called with each new trial and the best one so far, or None.

    Raises:
        BudgetError, RunDirError: The limit cannot be reached; the journal is of other units.
    """

    def __init__(
        self,
        units: Sequence["Unit"],
        cost: Callable[[np.ndarray], float],
        evaluate: Callable[[tuple[int, ...]], Outcome],
        agent: Any,
        journal: Journal,
        *,
        limit: float | None = None,
        floor: float = FLOOR,
        correction: Callable[[Sequence[Trial]], float] | None = None,
        reward: str | Reward | None = None,
        episodes: int = 400,
        digest: Callable[[tuple[int, ...]], str] | None = None,
        on_episode_end: Callable[[Trial, Trial | None], None] | None = None,
    ):
        self.units, self.cost, self.evaluate, self.agent, self.journal = tuple(units), cost, evaluate, agent, journal
        self.limit, self.episodes, self.on_episode_end = limit, episodes, on_episode_end
        self._correction = correction
        self.interrupted = False  # whether Ctrl-C ended run()
        self._environment = Environment(units, cost, None if limit is None else Budget(units, cost, limit, floor))
        self._reward = choose(reward, limit)
        self._digest = digest or (lambda widths: hashlib.sha256(repr(widths).encode()).hexdigest()[:16])
        self._agent_is_current = False
        self._asked: Proposal | None = None  # kept, as an agent asked twice would use up twice the random numbers
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
    def best(self) -> Trial | None:
        """The trial of the best reward, of equal ones the cheapest, among those complete and within the budget."""
        allowed = float("inf") if self.limit is None else self.limit
        able = [t for t in self.trials if t.state == "complete" and t.outcome.cost <= allowed]
        return max(able, key=lambda trial: (trial.reward, -trial.outcome.cost), default=None)

    def run(self) -> "Search":
        """Runs whatever trials are left. Ctrl-C ends it early, with `interrupted` set and finished trials kept.

        Raises:
            AmcError: Ten trials in a row failed; the journal has them, and the same call goes on after them.
        """
        self.interrupted = False
        failures = 0
        try:
            while len(self.trials) < _FIRST_EPISODE + self.episodes:
                proposal = self.ask()
                try:
                    result = self.evaluate(proposal.widths)
                except AmcError as error:
                    result = error
                trial = self.tell(proposal, result)
                if self.on_episode_end is not None:
                    self.on_episode_end(trial, self.best)
                failures = failures + 1 if trial.state == "failed" else 0
                if failures == _FAILURES_IN_A_ROW:
                    raise result
        except KeyboardInterrupt:
            self.interrupted = True
        return self

    def ask(self) -> Proposal:
        """The next widths to evaluate; the same ones until they are told of."""
        self._started = time.perf_counter()
        number = len(self.trials)
        if self._asked is None or self._asked.number != number:
            self._asked = self._propose(number)
        return self._asked

    def _propose(self, number: int) -> Proposal:
        widest = tuple(unit.channels for unit in self.units)
        if number >= _FIRST_EPISODE:
            episode = number - _FIRST_EPISODE
            if not self._agent_is_current:
                self._bring_agent_up()
            self._correct(number)
            states, actions = self._environment.run(lambda t, state: self.agent.act(state, episode))
            return Proposal(number, "agent", self._environment.widths, states, actions)
        kind, widths, limit = "base", widest, self._limit(number)
        if number == _UNIFORM:
            if limit is None:
                narrowest = np.array([unit.widths[0] for unit in self.units])
                limit = max(_UNIFORM_SHARE * self.cost(np.array(widest)), self.cost(narrowest))
            kind, widths = "uniform", uniform(self.units, self.cost, limit)
        return Proposal(number, kind, widths, np.zeros((0, len(NAMES)), np.float32), np.zeros(0))

    def _limit(self, number: int) -> float | None:
        """What the proposal of that number may cost by `cost`: a pure function of the trials before it."""
        if self.limit is None or self._correction is None:
            return self.limit
        least = self.cost(np.array([unit.widths[0] for unit in self.units]))
        return max(least, self.limit / self._correction(self.trials[:number]))

    def _correct(self, number: int) -> None:
        if self._environment.budget is not None:
            self._environment.budget.limit = self._limit(number)

    def tell(self, proposal: Proposal, result: Outcome | AmcError) -> Trial:
        """Records what came of a proposal, its outcome or why it failed: on disk first, then in the agent."""
        failed = isinstance(result, AmcError)
        trial = Trial(
            number=proposal.number,
            state="failed" if failed else "complete",
            kind=proposal.kind,
            widths=proposal.widths,
            keep_ratios={u.name: w / u.channels for u, w in zip(self.units, proposal.widths, strict=True)},
            plan=self._digest(proposal.widths),
            outcome=None if failed else result,
            reward=None if failed else self._reward(result),
            seconds=round(time.perf_counter() - self._started, 3),
            reason=f"{type(result).__name__}: {result}" if failed else None,
        )
        self._agent_is_current = False  # until it is saved: Ctrl-C in between must not cost it an episode
        self.journal.append(trial)
        if trial.kind == "agent":
            self._teach(trial, proposal.states, proposal.actions)
            self.agent.save(self.journal.run_dir / "agent.npz")
            self._agent_is_current = True
        return trial

    def _teach(self, trial: Trial, states: np.ndarray, actions: np.ndarray) -> None:
        """A failed plan counts as the worst one so far, or the agent would propose it again and again.

        Where the device failed the plan is not to blame, and nothing is to be learned from it.
        """
        if trial.reason is not None and trial.reason.startswith(DeviceError.__name__):
            return
        reward = trial.reward
        if reward is None:
            reward = min((t.reward for t in self.trials[: trial.number] if t.reward is not None), default=None)
        if reward is not None:
            self.agent.learn(trial.number - _FIRST_EPISODE, states, actions, reward)

    def _bring_agent_up(self) -> None:
        """Loads the agent and replays to it what the journal has and its file has not, as after a kill."""
        path = self.journal.run_dir / "agent.npz"
        episodes = self.trials[_FIRST_EPISODE:]
        if episodes and path.exists():
            try:
                self.agent.load(path)
            except AgentError as error:
                _LOG.warning("%s Its episodes are replayed from the journal instead.", error)
        if self.agent.last_episode >= len(episodes):
            raise RunDirError(
                f"{path} has learned episode {self.agent.last_episode}, but {self.journal.path} holds {len(episodes)} "
                "episodes: delete the agent's file and run the same call again, which replays the journal to a new one."
            )
        for trial in episodes[self.agent.last_episode + 1 :]:
            ratios = list(trial.keep_ratios.values())
            self._correct(trial.number)
            states, actions = self._environment.run(lambda t, state, ratios=ratios: ratios[t])
            if self._environment.widths != trial.widths:
                raise RunDirError(
                    f"Trial {trial.number} of {self.journal.path} kept {list(trial.widths)}, which the bounds of this "
                    f"search turn into {list(self._environment.widths)}: choose another run_dir."
                )
            self._teach(trial, states, actions)
        self._agent_is_current = True
