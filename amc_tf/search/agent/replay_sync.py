"""ReplaySync: feeds the trials of the journal to the agent, so that it has learned exactly those that it may use."""

import contextlib
import logging
from collections.abc import Callable, Sequence

import numpy as np

from amc_tf.errors import AgentError, RunDirError
from amc_tf.search.agent.agent_interface import Agent
from amc_tf.search.agent.environment import Environment
from amc_tf.search.journal import Journal
from amc_tf.search.trial import Trial

_LOG = logging.getLogger(__name__)
_UNBOUNDED = ("uniform", "threshold", "greedy")  # kinds of plans within the limit that may spend less than the floor

Episode = tuple[tuple[int, ...], np.ndarray, np.ndarray]  # widths; states, float32 (steps, 11); keep ratios, (steps,)


class ReplaySync:
    """Has the agent learn the trials of the journal: each when the first proposal that may use it is made.

    The checkpoint `agent.npz` in the run directory always lags the journal, so a killed search can resume: it is saved
    before the last known trial is learned, not after. In detail, with lag = in_flight - 1: when proposal n is made, the
    agent has learned the trials before n - lag and the checkpoint those before n - lag - 1. The journal then holds
    m >= n - lag trials. A resumed search makes proposal m and must have learned the trials before m - lag. For a lag of
    0 or 1 the checkpoint never has more than those; the rest is replayed from the journal.

    Args:
        agent: See Study.
        environment: Of the search.
        journal: Open.
        set_limit: (trial's number) -> None; sets the environment's limit to that of the trial.
        first: Number of the first trial to learn from, the agent's episode 0.
    """

    def __init__(
        self, agent: Agent, environment: Environment, journal: Journal, set_limit: Callable[[int], None], first: int
    ):
        self._agent, self._environment, self._journal, self._set_limit = agent, environment, journal, set_limit
        self._first = first
        self._path = journal.run_dir / "agent.npz"
        self._saved = False  # whether this process wrote the checkpoint
        self._in_sync = False  # False before the first call, and after a call that Ctrl-C interrupted
        self._learned = first  # the agent has learned the trials before this number
        self._episodes: dict[int, Episode] = {}  # trial's number -> its episode

    def act(self, number: int, known: int) -> Episode:
        """The agent's episode for a trial.

        Args:
            number: Number of the trial.
            known: Number of trials, the first ones of the journal, that the agent has learned when it acts.

        Raises:
            AgentError, RunDirError: See Study.ask.
        """
        if number not in self._episodes:
            if not self._in_sync:
                self._resume(known)
            self._in_sync = False
            new = self._journal.trials[self._learned : known]
            for trial in new[:-1]:
                self._learn(trial)
            self._agent.save(self._path)
            self._saved = True
            for trial in new[-1:]:
                self._learn(trial)
            episode = number - self._first
            self._run_episode(number, lambda t, state: self._agent.act(state, episode))
            self._in_sync = True
        return self._episodes[number]

    def follow(self, number: int, ratios: Sequence[float]) -> Episode:
        """The episode that executes given keep ratios, within the bounds.

        Args:
            number: Number of the trial.
            ratios: One per unit.
        """
        if number not in self._episodes:
            self._run_episode(number, lambda t, state: ratios[t])
        return self._episodes[number]

    def _run_episode(self, number: int, act: Callable[[int, np.ndarray], float]) -> None:
        self._set_limit(number)
        states, actions = self._environment.run(act)
        self._episodes[number] = self._environment.widths, states, actions

    def _learn(self, trial: Trial) -> None:
        """Has the agent learn a trial.

        A failed candidate gets the worst reward so far, or the agent would propose it again and again. If the device or
        another part failed, nothing is learned, since the plan is not the cause. If scoring stopped early, the reward
        is an estimate. It is slightly too low on average, because bad luck makes a stop more likely; but this concerns
        only poor candidates, and the error is smaller than their distance from good ones.
        """
        if trial.kind == "sensitivity":  # unlike any plan that the agent should make
            self._learned = trial.number + 1
            return
        if trial.kind in _UNBOUNDED:
            widths, (states, actions) = trial.widths, self._environment.replay(trial.widths)
        else:
            widths, states, actions = self.follow(trial.number, list(trial.keep_ratios.values()))
        if widths != trial.widths:
            raise RunDirError(
                f"Trial {trial.number} of {self._journal.path} kept {list(trial.widths)}, which the bounds of this "
                f"search turn into {list(widths)}: choose another run_dir."
            )
        reward = trial.reward
        if reward is None:
            before = self._journal.trials[: trial.number]
            reward = min((t.reward for t in before if t.reward is not None), default=None)
        if reward is not None and trial.failure in (None, "candidate"):
            self._agent.learn(trial.number - self._first, states, actions, reward)
        self._learned = trial.number + 1

    def _resume(self, known: int) -> None:
        """Loads the checkpoint. If the journal has no episodes, a checkpoint is of another search and is not loaded."""
        if (self._saved or len(self._journal.trials) > self._first) and self._path.exists():
            self._load(known)
        last = self._agent.last_episode
        if last >= max(0, known - self._first):
            raise RunDirError(
                f"The agent has learned episode {last}, but the first {known} trials of {self._journal.path} are all "
                "that it may know of: give a fresh agent, which learns from the journal."
            )
        self._learned = self._first + last + 1

    def _load(self, known: int) -> None:
        """Loads the checkpoint, unless it is damaged or has learned later episodes than the agent may use."""
        before = self._path.with_name("agent.before.npz")
        self._agent.save(before)  # the only way to make the agent fresh again
        try:
            self._agent.load(self._path)
            last = self._agent.last_episode
            if last >= max(0, known - self._first):
                _LOG.warning(
                    "%s has learned episode %d, later than the journal beside it allows: the episodes are replayed "
                    "from the journal instead.", self._path, last,
                )  # fmt: skip
                self._agent.load(before)
        except AgentError as error:
            _LOG.warning("%s Its episodes are replayed from the journal instead.", error)
        finally:
            with contextlib.suppress(OSError):
                before.unlink()
