"""Agent: what the search expects of whatever chooses keep ratios."""

import os
from typing import Protocol

import numpy as np


class Agent(Protocol):
    """Chooses one keep ratio per unit and learns from the reward of the finished episode."""

    @property
    def last_episode(self) -> int:
        """Number of the last learned episode, also of a loaded file; -1 before the first."""

    def act(self, state: np.ndarray, episode: int) -> float:
        """A keep ratio in (0, 1] for a state (features,); the steps of an episode are asked for in order."""

    def learn(self, episode: int, states: np.ndarray, actions: np.ndarray, reward: float) -> None:
        """Learns a finished episode: states (steps, features), executed keep ratios (steps,), one final reward.

        Raises:
            ValueError: The episode is not later than the last learned one.
        """

    def save(self, path: str | os.PathLike) -> None:
        """Writes all learned state to one file.

        Raises:
            AgentError: The file cannot be written.
        """

    def load(self, path: str | os.PathLike) -> None:
        """Restores the state that `save` wrote.

        Raises:
            AgentError: The file cannot be read or does not fit. The agent keeps its former state.
        """
