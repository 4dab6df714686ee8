"""Client of the DDPG agent. It runs ddpg_process.py, so that TF-Agents is not imported in this process."""

import json
import math
import os
import sys
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from amc_tf.checks import is_whole
from amc_tf.errors import AgentError
from amc_tf.isolated.provide import provide
from amc_tf.system.json_lines import JsonProcess, ProcessLost

_PACKAGE_PARENT = str(Path(__file__).resolve().parents[3])
_PROGRAM = Path(__file__).with_name("ddpg_process.py")
_SLACK = 1e-6  # rounding may put scaled features slightly outside [0, 1]


class DdpgAgent:
    """The DDPG agent. It learns a keep ratio for each unit from the reward at the end of an episode.

    It runs in a separate process, which starts while this constructor returns; the first call waits for it. The process
    ends at `close()`, at the end of the `with` block, when the agent is garbage collected, or when this process ends.

    Args:
        num_features: Length of a state.
        episodes: Number of episodes. The exploration noise decays over them.
        warmup_episodes: Number of first episodes that act at random; None for a quarter of `episodes`, as in the paper.
        low: Smallest keep ratio that `act` returns, in (0, 1).
        seed: Equal seeds and equal calls give equal actions.
        paper: Whether to learn exactly as in the paper; ddpg_process.py lists the differences otherwise.
        time_limit_s: Most seconds that one call may take, the start included.

    Raises:
        ValueError: An argument is outside its range.
        SetupError: TF-Agents is not in this environment and could not be installed beside it.
        AgentError: The process could not be started. Later calls raise it if the process ended, hangs or failed.
    """

    def __init__(
        self,
        num_features: int = 11,
        *,
        episodes: int,
        warmup_episodes: int | None = None,
        low: float = 0.2,
        seed: int = 0,
        paper: bool = False,
        time_limit_s: float = 300.0,
    ) -> None:
        self.num_features = _whole("num_features", num_features, least=1)
        self.episodes = _whole("episodes", episodes, least=1)
        self.warmup_episodes = self.episodes // 4
        if warmup_episodes is not None:
            self.warmup_episodes = _whole("warmup_episodes", warmup_episodes, least=0)
        self.seed = _whole("seed", seed, least=0)
        self.low = float(low)
        if not 0 < self.low < 1:
            raise ValueError(f"low is {low!r}, expected a keep ratio between 0 and 1, both excluded.")
        self._time_limit_s = time_limit_s
        settings = {
            "num_features": self.num_features,
            "episodes": self.episodes,
            "warmup_episodes": self.warmup_episodes,
            "low": self.low,
            "seed": self.seed,
            "paper": bool(paper),
        }
        self._process = _start(settings)
        self._finalizer = weakref.finalize(self, self._process.end)

    @property
    def last_episode(self) -> int:
        """Number of the last learned episode, also of a loaded file; -1 before the first."""
        return self._request("last_episode")

    def act(self, state: np.ndarray, episode: int, *, explore: bool = True) -> float:
        """Chooses a keep ratio.

        Args:
            state: (num_features,), each in [0, 1].
            episode: Number of the episode, from 0. Each step of an episode consumes one random number of the episode.
            explore: False for the actor's own choice: no noise, and no random number is consumed.

        Returns:
            A keep ratio in [low, 1].
        """
        episode = _whole("episode", episode, least=0)
        states = self._states(np.asarray(state)[None])
        return self._request("act", state=states[0].tolist(), episode=episode, explore=bool(explore))

    def learn(self, episode: int, states: np.ndarray, actions: np.ndarray, reward: float) -> None:
        """Stores a finished episode and, after warm-up, trains on the replay.

        Args:
            episode: Number of the episode, larger than the number of every learned episode.
            states: (steps, num_features), each in [0, 1].
            actions: (steps,), keep ratios in (0, 1] as executed, after bounding and rounding.
            reward: The final reward of the episode; every step of it is trained with this reward.

        Raises:
            ValueError: A shape is wrong, a number is out of range or not finite, or the episode was learned before.
        """
        episode = _whole("episode", episode, least=0)
        rows = self._states(states)
        ratios = np.asarray(actions, np.float64)
        if ratios.shape != (len(rows),):
            raise ValueError(f"actions has shape {ratios.shape}, expected {(len(rows),)}: one for each of the states.")
        if len(rows) == 0:
            raise ValueError("states is empty, expected one row for each step of the episode.")
        outside = ~((ratios > 0) & (ratios <= 1 + _SLACK))
        if outside.any():
            step = int(np.argmax(outside))
            raise ValueError(f"The action of step {step} is {ratios[step]}, expected a keep ratio in (0, 1].")
        if not math.isfinite(reward):
            raise ValueError(f"The reward of episode {episode} is {reward}, expected a finite number.")
        self._request("learn", episode=episode, states=rows.tolist(), actions=ratios.tolist(), reward=float(reward))

    def save(self, path: str | os.PathLike) -> None:
        """Writes all learned state to one file. An existing file is replaced only when the new one is complete."""
        self._request("save", path=os.path.abspath(path))

    def load(self, path: str | os.PathLike) -> None:
        """Restores the state that `save` wrote. With equal constructor arguments the agent continues where it stopped.

        Raises:
            AgentError: The file cannot be read or does not fit. The agent keeps its former state.
        """
        self._request("load", path=os.path.abspath(path))

    def close(self) -> None:
        """Ends the process. Unsaved state is lost."""
        self._finalizer()

    def __enter__(self) -> "DdpgAgent":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _states(self, states: np.ndarray) -> np.ndarray:
        """Checks (steps, num_features) states."""
        rows = np.asarray(states, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.num_features:
            raise ValueError(f"A state has shape {rows.shape[1:]}, expected {(self.num_features,)}.")
        outside = ~((rows >= -_SLACK) & (rows <= 1 + _SLACK))
        if outside.any():
            step, feature = np.argwhere(outside)[0]
            raise ValueError(
                f"Feature {feature} of the state is {rows[step, feature]}, expected a number in [0, 1]: scale it."
            )
        return rows

    def _request(self, call: str, **arguments: Any) -> Any:
        """Sends one request and waits for its reply; arguments and reply are JSON values."""
        if not self._finalizer.alive:
            raise AgentError(f"The agent is closed and cannot {call}: build a new one and load what was saved.")
        try:
            reply = self._process.ask({"call": call, **arguments}, self._time_limit_s)
        except ProcessLost as lost:
            self.close()
            raise AgentError(
                f"The agent's process {lost.how} when asked to {call} ({lost.last_words}): build a new agent and load "
                f"what was saved."
            ) from None
        if "refused" in reply:
            raise ValueError(reply["refused"])
        if "failed" in reply:
            raise AgentError(reply["failed"])
        return reply["value"]


def _whole(name: str, value: int, least: int) -> int:
    """Checks a whole number, which may be NumPy's, and returns it as int."""
    if not is_whole(value):
        raise TypeError(f"{name} is {value!r}, expected a whole number.")
    if value < least:
        raise ValueError(f"{name} is {value}, expected {least} or more.")
    return int(value)


def _start(settings: dict[str, Any]) -> JsonProcess:
    """Starts ddpg_process.py with the modules that this process finds, and TF-Agents."""
    isolated = provide("tf-agents")
    # The child gets this process's sys.path, as in multiprocessing. `python -c` puts the working directory first, where
    # a stray file could hide a module; so the child runs in a directory without modules.
    path = [os.path.abspath(entry) for entry in sys.path]
    if isolated is not None:
        path.insert(0, str(isolated))
    if _PACKAGE_PARENT not in path:
        path.append(_PACKAGE_PARENT)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "TF_USE_LEGACY_KERAS": "1",  # tf-agents 0.19 does not support Keras 3
        "CUDA_VISIBLE_DEVICES": "",  # layers of 300 units are faster on the CPU, and the caller needs the GPU memory
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": "1",  # scoring candidates needs the cores
    }
    arguments = json.dumps({"parent": os.getpid(), "settings": settings})
    try:
        return JsonProcess(_PROGRAM, arguments, environment=environment, name="amc_tf-agent")
    except OSError as error:
        raise AgentError(
            f"The agent's process could not be started with {sys.executable!r} ({error}): check that Python."
        ) from error
