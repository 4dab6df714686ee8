"""Stand-ins for the units, the cost, the agent and the evaluator of a search."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amc_tf.search.agent.agent_interface import Agent
from amc_tf.search.journal import Journal
from amc_tf.search.problem import SearchProblem
from amc_tf.search.proposer import ProposerSettings
from amc_tf.search.proposers.sensitivity import Sensitivity, samples_to_measure, table_from_trials
from amc_tf.search.schedule import Schedule
from amc_tf.search.study import Study
from amc_tf.search.trial import Outcome, Trial


@dataclass(frozen=True)
class FakeUnit:
    """What the search reads of a unit."""

    name: str
    size: int
    widths: tuple[int, ...]
    filters: int = 16
    inputs: int = 16
    height: int = 8
    width: int = 8
    stride: int = 1
    kernel: int = 3


def unit(channels: int, step: int = 8, low: float = 0.2, name: str = "u", **fields) -> FakeUnit:
    """Widths are the multiples of `step` down to `low`, and all channels."""
    least = math.ceil(low * channels / step) * step
    widths = sorted({*range(min(least, channels), channels, step), channels})
    return FakeUnit(name, channels, tuple(widths), filters=channels, **fields)


def units(*channels: int, step: int = 8, low: float = 0.2) -> list[FakeUnit]:
    return [unit(n, step, low, name=f"unit{i}") for i, n in enumerate(channels)]


class ProductCost:
    """sum of coefficients[i, j] * w_i * w_j, where the last of the w is 1: the form that MACs have."""

    unit = "MACs"

    def __init__(self, coefficients: np.ndarray):
        self.coefficients = np.asarray(coefficients, np.float64)  # (units + 1, units + 1), none negative
        self.calls = 0

    def __call__(self, widths: Sequence[int]) -> float:
        self.calls += 1
        w = np.ones(len(self.coefficients))
        w[:-1] = widths
        return float(w @ self.coefficients @ w)


class FunctionCost:
    """A function of widths as a cost."""

    unit = "MACs"

    def __init__(self, function: Callable[[Sequence[int]], float]):
        self._function = function

    def __call__(self, widths: Sequence[int]) -> float:
        return float(self._function(widths))


def chain_cost(num_units: int, fixed: float = 0.0) -> ProductCost:
    """Convolutions in a row: the first has 3 inputs, the last 10 outputs, each other joins two units."""
    coefficients = np.zeros((num_units + 1, num_units + 1))
    for i in range(num_units - 1):
        coefficients[i, i + 1] = 9 * 64
    coefficients[0, -1] = 27 * 64
    coefficients[num_units - 1, -1] += 10
    coefficients[-1, -1] = fixed
    return ProductCost(coefficients)


def evaluator(cost: ProductCost, some: Sequence[FakeUnit]):
    """An accuracy that falls with what is cut, differently for each unit."""
    weights = np.linspace(0.5, 1.5, len(some))
    base = cost([one.size for one in some])

    def evaluate(widths: tuple[int, ...], beat: float | None = None) -> Outcome:
        accuracy = 0.9 * (1 - math.exp(-0.05 * float(weights @ np.array(widths)) / len(some)))
        return Outcome(accuracy, cost(widths), 0.9, base)

    return evaluate


def alone(some: Sequence[FakeUnit], i: int, width: int) -> tuple[int, ...]:
    """The widths of the whole network with one unit narrowed."""
    full = tuple(one.size for one in some)
    return (*full[:i], width, *full[i + 1 :])


def trial(
    some: Sequence[FakeUnit], widths: Sequence[int], outcome: Outcome | None, number: int = 2, kind: str = "agent"
) -> Trial:
    """The trial of an outcome, rewarded by its accuracy; a failed one of None."""
    ratios = {one.name: width / one.size for one, width in zip(some, widths, strict=True)}
    if outcome is None:
        state, reward, why = "failed", None, ("Error: no.", "candidate")
    else:
        state, reward, why = "complete", outcome.accuracy - 1, (None, None)
    return Trial(number, state, kind, tuple(widths), ratios, str(widths), outcome, reward, 1.0, *why)


def measured_table(
    some: Sequence[FakeUnit], evaluate: Callable[[tuple[int, ...]], Outcome], most: int = 3
) -> Sensitivity:
    """The sensitivity table that a search would measure."""
    plans = [alone(some, *sample) for sample in samples_to_measure(some, most)]
    return table_from_trials(some, [trial(some, plan, evaluate(plan), kind="sensitivity") for plan in plans])


def study(
    units: Sequence[FakeUnit],
    cost: Callable[[np.ndarray], float],
    evaluate: Callable[[tuple[int, ...], float | None], Outcome],
    agent: Agent,
    journal: Journal,
    schedule: Schedule | int = 400,
    **arguments,
) -> Study:
    """A Study of flat arguments; a number of episodes stands for the paper's schedule."""
    schedule = schedule if isinstance(schedule, Schedule) else Schedule(schedule, paper=True)
    parts = [
        {name: arguments.pop(name) for name in fields if name in arguments}
        for fields in (SearchProblem.__dataclass_fields__, ProposerSettings.__dataclass_fields__)
    ]
    problem, settings = SearchProblem(units, cost, **parts[0]), ProposerSettings(schedule, **parts[1])
    return Study(problem, settings, evaluate, agent, journal, **arguments)


class FakeAgent:
    """Acts by (episode, step) and by all that it learned, so a lost or repeated episode changes its actions."""

    def __init__(self):
        self.memory = 0.0
        self.last_episode = -1
        self.learned: list[tuple[int, np.ndarray, np.ndarray, float]] = []
        self.acted: list[int] = []  # episode of each action
        self._step = (-1, 0)

    def act(self, state: np.ndarray, episode: int) -> float:
        self.acted.append(episode)
        step = self._step[1] + 1 if self._step[0] == episode else 0
        self._step = (episode, step)
        noise = np.random.default_rng([episode, step]).random()
        return 0.2 + 0.8 * ((noise + 10 * self.memory + float(state.sum())) % 1.0)

    def learn(self, episode: int, states: np.ndarray, actions: np.ndarray, reward: float) -> None:
        if episode <= self.last_episode:
            raise ValueError(f"Episode {episode} was learned before.")
        self.learned.append((episode, states, actions, reward))
        self.memory = 0.9 * self.memory + float(states.sum() * actions.mean()) * reward
        self.last_episode = episode
        self._step = (-1, 0)

    def save(self, path: Path) -> None:
        Path(path).write_text(json.dumps([self.memory, self.last_episode]))

    def load(self, path: Path) -> None:
        self.memory, self.last_episode = json.loads(Path(path).read_text())
        self._step = (-1, 0)


class AgentAtOnce(FakeAgent):
    """In the place of the DdpgAgent of compress(): no process, no wait for TensorFlow Agents."""

    def __init__(self, **_):
        super().__init__()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass
