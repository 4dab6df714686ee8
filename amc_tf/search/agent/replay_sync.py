"""ReplaySync: what the agent has been taught of the journal, and that it acts on exactly the trials it may know of."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from amc_tf.errors import AgentError, RunDirError
from amc_tf.search.agent.environment import Environment
from amc_tf.search.journal import Journal
from amc_tf.search.trial import Trial

_LOG = logging.getLogger(__name__)
_GIVEN = ("uniform", "threshold", "greedy")  # plans that fit the budget, but may spend less of it than the bounds want


class ReplaySync:
    """Teaches the agent the episodes in the journal, each when the first proposal that may know of it is made.

    What was learned lies in `agent.npz` in the run directory. It is saved before the last lesson is given, not after,
    so that the file never knows more than a search may that is killed at any moment and goes on. With lag = in_flight -
    1, proposal n is made with the trials before n - lag learned, and those before n - lag - 1 in the file. At that
    moment the journal holds m >= n - lag trials, and whoever goes on from them makes proposal m, with those before
    m - lag learned: for a lag of 0 or 1 that is never less than the file has. The rest is replayed from the journal.

    Args:
        agent: See Study.
        environment: Of the search.
        journal: Open.
        bound: Called with the number of a trial, sets the limit that the environment had or has for it.
        first: Number of the first trial to learn from, the agent's episode 0.
    """

    def __init__(
        self, agent: Any, environment: Environment, journal: Journal, bound: Callable[[int], None], first: int
    ):
        self._agent, self._environment, self._journal, self._bound = agent, environment, journal, bound
        self._first = first
        self._path = journal.run_dir / "agent.npz"
        self._saved = False  # whether the file is of this process
        self._current = False  # whether the agent is as the calls so far left it: Ctrl-C may have cut one short
        self._taught = first  # so many trials the agent has learned from, the first ones included
        self._acted: dict[int, tuple[tuple[int, ...], np.ndarray, np.ndarray]] = {}

    def act(self, number: int, known: int) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
        """Has the agent decide on a trial.

        Args:
            number: Of the trial.
            known: So many trials, the first ones of the journal, have been learned from when the agent acts.

        Returns:
            The widths; the states seen, float32 (steps, 11); the keep ratios executed, (steps,).

        Raises:
            AgentError, RunDirError: See Study.ask.
        """
        if number not in self._acted:
            if not self._current:
                self._resume(known)
            self._current = False
            lessons = self._journal.trials[self._taught : known]
            for trial in lessons[:-1]:
                self._teach(trial)
            self._agent.save(self._path)
            self._saved = True
            for trial in lessons[-1:]:
                self._teach(trial)
            episode = number - self._first
            self._execute(number, lambda t, state: self._agent.act(state, episode))
            self._current = True
        return self._acted[number]

    def follow(self, number: int, ratios: Sequence[float]) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
        """The episode of keep ratios that somebody else decided, within the bounds.

        Args:
            number: Of the trial.
            ratios: One a unit.

        Returns:
            As of `act`.
        """
        if number not in self._acted:
            self._execute(number, lambda t, state: ratios[t])
        return self._acted[number]

    def _execute(self, number: int, act: Callable[[int, np.ndarray], float]) -> None:
        self._bound(number)
        states, actions = self._environment.run(act)
        self._acted[number] = self._environment.widths, states, actions

    def _teach(self, trial: Trial) -> None:
        """A failed plan counts as the worst one so far, or the agent would propose it again and again.

        Where something else failed the plan is not to blame, and nothing is to be learned from it. Where scoring
        stopped early, the reward is an estimate. It errs a little towards the worse, as bad luck makes a stop more
        likely; but only for candidates that are no good, and by less than what separates them from the good ones.
        """
        if trial.kind == "sensitivity":  # far from any plan that the agent is to make
            self._taught = trial.number + 1
            return
        if trial.kind in _GIVEN:
            widths, (states, actions) = trial.widths, self._environment.seen(trial.widths)
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
        self._taught = trial.number + 1

    def _resume(self, known: int) -> None:
        """Loads the agent as far as it has learned before; with a journal without episodes the file is another's."""
        if (self._saved or len(self._journal.trials) > self._first) and self._path.exists():
            self._load(known)
        last = self._agent.last_episode
        if last >= max(0, known - self._first):
            raise RunDirError(
                f"The agent has learned episode {last}, but the first {known} trials of {self._journal.path} are all "
                "that it may know of: give a fresh agent, which learns from the journal."
            )
        self._taught = self._first + last + 1

    def _load(self, known: int) -> None:
        before = self._path.with_name("agent.before.npz")
        self._agent.save(before)  # there is no other way to make it fresh again
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
