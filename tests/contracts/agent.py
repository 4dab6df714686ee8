"""Contracts of agents: what the search expects of an Agent. A test class subclasses one and gives its fixtures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amc_tf.search.agent.agent_interface import Agent

FEATURES, STEPS, EPISODES = 11, 5, 8


def states(episode: int) -> np.ndarray:
    """(STEPS, FEATURES) states of an episode; they depend only on its number."""
    return np.random.default_rng(episode).random((STEPS, FEATURES))


def act_out(agent: Agent, episode: int) -> np.ndarray:
    """Acts and learns one episode; returns its actions."""
    actions = np.array([agent.act(state, episode) for state in states(episode)])
    agent.learn(episode, states(episode), actions, -float(((actions - 0.5) ** 2).sum()))
    return actions


class ActingContract:
    """For every agent. Subclasses give `make_agent`, which builds equal agents of 11 features."""

    @pytest.fixture
    def agent(self, make_agent: Callable[[], Agent]) -> Agent:
        return make_agent()

    def test_actions_are_keep_ratios(self, agent) -> None:
        actions = [agent.act(state, episode) for episode in (0, EPISODES - 1) for state in states(episode)]
        assert all(type(action) is float and 0 < action <= 1 for action in actions)

    def test_knows_the_last_episode_it_learned(self, agent) -> None:
        assert agent.last_episode == -1
        act_out(agent, 0)
        act_out(agent, 2)
        assert agent.last_episode == 2

    def test_learns_each_episode_once(self, agent) -> None:
        act_out(agent, 1)
        for episode in (0, 1):
            with pytest.raises(ValueError, match=f"episode {episode}"):
                agent.learn(episode, states(episode), np.full(STEPS, 0.5), -1.0)
        assert agent.last_episode == 1
        act_out(agent, 2)
        assert agent.last_episode == 2

    @pytest.mark.parametrize("state", [np.zeros(FEATURES + 1), np.zeros((1, FEATURES)), 0.5])
    def test_refuses_to_act_on_a_state_of_another_shape(self, agent, state) -> None:
        with pytest.raises(ValueError, match="expected .11"):
            agent.act(state, 0)

    def test_loaded_goes_on_as_saved(self, make_agent: Callable, tmp_path: Path) -> None:
        path = tmp_path / "agent"
        saved = make_agent()
        for episode in range(EPISODES // 2):
            act_out(saved, episode)
        saved.save(path)
        uninterrupted = [act_out(saved, episode) for episode in range(EPISODES // 2, EPISODES)]
        loaded = make_agent()
        loaded.load(path)
        assert loaded.last_episode == EPISODES // 2 - 1
        resumed = [act_out(loaded, episode) for episode in range(EPISODES // 2, EPISODES)]
        assert np.array_equal(resumed, uninterrupted)


class AgentContract(ActingContract):
    """For agents that learn from rewards; `make_agent` builds them for EPISODES episodes."""

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"reward": float("nan")}, "reward"),
            ({"reward": float("inf")}, "reward"),
            ({"actions": [0.5, 0.0]}, "action of step 1 is 0.0"),
            ({"actions": [1.5, 0.5]}, "action of step 0 is 1.5"),
            ({"actions": [float("nan"), 0.5]}, "action of step 0 is nan"),
            ({"actions": [0.5]}, "actions has shape"),
            ({"states": np.zeros((2, FEATURES - 1))}, "expected .11"),
            ({"states": np.zeros(FEATURES)}, "expected .11"),
            ({"states": np.full((2, FEATURES), 1.1)}, "Feature 0"),
            ({"states": np.zeros((0, FEATURES)), "actions": []}, "empty"),
            ({"episode": -1}, "episode is -1"),
            ({"episode": 0}, "episode 0"),
        ],
    )
    def test_refuses_what_cannot_be_learned(self, agent, changed: dict, message: str) -> None:
        act_out(agent, 0)
        right = {"episode": 1, "states": np.zeros((2, FEATURES)), "actions": [0.5, 0.5], "reward": -1.0}
        with pytest.raises(ValueError, match=message):
            agent.learn(**{**right, **changed})
        assert agent.last_episode == 0
        agent.learn(**right)
