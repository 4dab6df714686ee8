"""RandomAgent: acts at random and learns nothing. The DDPG agent has to beat random search within the budget."""

import json
import os
from pathlib import Path

import numpy as np

from amc_tf.errors import AgentError, RunDirError
from amc_tf.system import files


class RandomAgent:
    """An Agent that acts at random and learns nothing: the baseline of random search within the budget.

    Each keep ratio is uniform in [low, 1] and depends only on (seed, episode, step); the environment bounds it so that
    the budget is met.

    Args:
        num_features: Length of a state.
        low: Smallest keep ratio that `act` returns, in (0, 1).
        seed: Equal seeds and equal episodes give equal actions.

    Attributes:
        last_episode: Number of the last learned episode, also of a loaded file; -1 before the first.

    Raises:
        ValueError: An argument is outside its range.
    """

    def __init__(self, num_features: int = 11, *, low: float = 0.2, seed: int = 0) -> None:
        if not 0 < low < 1:
            raise ValueError(f"low is {low!r}, expected a keep ratio between 0 and 1, both excluded.")
        if seed < 0:
            raise ValueError(f"seed is {seed!r}, expected 0 or more.")
        self.num_features, self.low, self.seed = int(num_features), float(low), int(seed)
        self.last_episode = -1
        self._rng: tuple[int, np.random.Generator] | None = None  # current episode and its random numbers

    def act(self, state: np.ndarray, episode: int) -> float:
        """The next keep ratio of an episode, in [low, 1].

        Args:
            state: (num_features,); only its shape is checked.
            episode: Number of the episode, from 0.
        """
        if np.shape(state) != (self.num_features,):
            raise ValueError(f"A state has shape {np.shape(state)}, expected {(self.num_features,)}.")
        if self._rng is None or self._rng[0] != episode:
            self._rng = episode, np.random.default_rng([self.seed, episode])
        return float(self._rng[1].uniform(self.low, 1.0))

    def learn(self, episode: int, states: np.ndarray, actions: np.ndarray, reward: float) -> None:
        """Records the number of the episode; the other arguments are ignored.

        Raises:
            ValueError: The episode is not later than the last learned one.
        """
        if episode <= self.last_episode:
            raise ValueError(
                f"learn() got episode {episode}, but episodes up to {self.last_episode} are learned: each may be "
                "learned once, in rising order, so pass a later one."
            )
        self.last_episode = int(episode)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the number of the last episode.

        Raises:
            AgentError: The file cannot be written.
        """
        try:
            files.write(json.dumps({**self._settings(), "last_episode": self.last_episode}).encode(), Path(path))
        except RunDirError as error:
            raise AgentError(f"The random agent cannot be saved: {error}") from error

    def load(self, path: str | os.PathLike) -> None:
        """Continues after the episode that `save` wrote.

        Raises:
            AgentError: The file cannot be read or is of an agent with other arguments. This agent keeps its state.
        """
        try:
            stored = json.loads(Path(path).read_bytes())
            last = int(stored.pop("last_episode"))
            if stored != self._settings():
                raise ValueError(f"it is of {stored}, this agent of {self._settings()}")
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise AgentError(
                f"The random agent cannot be loaded from {os.fspath(path)} ({error!r}): pass a file that save() of an "
                "agent with the same arguments wrote."
            ) from error
        self.last_episode, self._rng = last, None

    def _settings(self) -> dict[str, str | int | float]:
        return {"agent": "random", "num_features": self.num_features, "low": self.low, "seed": self.seed}
