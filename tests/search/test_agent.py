"""The DDPG agent: what it learns, that it can be stopped anywhere, and that nobody notices its process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from amc_tf.errors import AgentError
from amc_tf.search.agent.ddpg_client import DdpgAgent
from tests.contracts.agent import EPISODES, FEATURES, STEPS, AgentContract, act_out, states

ROOT = Path(__file__).parents[2]
WARMUP = 3  # before the middle, so that what the contract saves has been trained
FIRST_UPDATES = 1000  # of the critic alone
STATE = states(0)[0]


def build(**changes) -> DdpgAgent:
    """The paper's agent, where a test does not say otherwise."""
    arguments = {"num_features": FEATURES, "episodes": EPISODES, "warmup_episodes": WARMUP, "paper": True}
    return DdpgAgent(**arguments | changes)


@pytest.fixture(scope="module")
def started() -> Iterator[DdpgAgent]:
    """All tests share its process, which takes seconds to start."""
    with build() as agent:
        yield agent


@pytest.fixture(scope="module")
def imitator_started() -> Iterator[DdpgAgent]:
    """One with what is ours beyond the paper, and of another seed."""
    with build(paper=False, seed=1) as agent:
        yield agent


@pytest.fixture(scope="module")
def newborn(started: DdpgAgent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What it saves before anything has happened."""
    return as_born(started, tmp_path_factory)


@pytest.fixture(scope="module")
def of_another_seed(imitator_started: DdpgAgent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return as_born(imitator_started, tmp_path_factory)


def as_born(agent: DdpgAgent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("newborn") / "agent.npz"
    agent.save(path)
    return path


def as_new(agent: DdpgAgent, newborn: Path) -> Callable[[], DdpgAgent]:
    """Gives the same process each time: a new agent is what it has loaded."""

    def make() -> DdpgAgent:
        agent.load(newborn)
        return agent

    return make


@pytest.fixture
def make_agent(started: DdpgAgent, newborn: Path) -> Callable[[], DdpgAgent]:
    return as_new(started, newborn)


@pytest.fixture
def make_imitator(imitator_started: DdpgAgent, of_another_seed: Path, newborn: Path) -> Callable[[], DdpgAgent]:
    """`of_another_seed` must have been saved before anything is loaded."""
    return as_new(imitator_started, newborn)


@pytest.fixture
def agent(make_agent: Callable) -> DdpgAgent:
    return make_agent()


@pytest.fixture
def imitator(make_imitator: Callable) -> DdpgAgent:
    return make_imitator()


def contents(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def saved(agent: DdpgAgent, folder: Path) -> dict[str, np.ndarray]:
    agent.save(folder / "saved.npz")
    return contents(folder / "saved.npz")


def altered(newborn: Path, folder: Path, **changes) -> Path:
    """The newborn's file with other arrays; slashes of their names written as double underscores."""
    arrays = {**contents(newborn), **{name.replace("__", "/"): value for name, value in changes.items()}}
    np.savez(folder / "altered.npz", **{name: value for name, value in arrays.items() if value is not None})
    return folder / "altered.npz"


# A script without `if __name__ == "__main__"`, whose path has modules that print; it says what became of it, lets a
# forked process hold all its pipes, and waits to be killed.
SCRIPT = """
import json, os, sys, time
sys.path.insert(0, ROOT)
sys.path.insert(0, NOISY)
before = dict(os.environ)
from amc_tf.search.agent.ddpg_client import DdpgAgent
agent = DdpgAgent(episodes=EPISODES, warmup_episodes=WARMUP, paper=True)
agent.save(SAVED)
actions = [agent.act(STATE, episode) for episode in range(EPISODES)]
strangers = {"tensorflow", "keras", "tf_agents", "tf_keras", "tensorflow_probability"} & set(sys.modules)
if os.fork():
    print(json.dumps([agent._process.pid, os.environ == before, sorted(strangers), actions]), flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@dataclass(frozen=True)
class Caller:
    """A process that has an agent.

    Attributes:
        process: the caller's.
        agent: the number of its agent's process.
        is_untouched: whether the caller's environment variables are as before.
        strangers: modules that the caller has loaded and should not have.
        actions: the agent's, in STATE.
        saved: by the agent before it acted.
    """

    process: subprocess.Popen
    agent: int
    is_untouched: bool
    strangers: list[str]
    actions: list[float]
    saved: Path


@pytest.fixture(scope="module")
def caller(tmp_path_factory) -> Iterator[Caller]:
    folder = tmp_path_factory.mktemp("caller")
    hidden, noisy = folder / "hidden", folder / "noisy"  # working directory, and a place on the path
    hidden.mkdir()
    noisy.mkdir()
    for name in ("amc_tf", "tensorflow", "json"):
        (hidden / f"{name}.py").write_text("raise ImportError('of the working directory')\n")
    (noisy / "sitecustomize.py").write_text("print('noise at the start of every process', flush=True)\n")
    saved = folder / "saved.npz"
    names = {"ROOT": str(ROOT), "NOISY": str(noisy), "SAVED": str(saved), "STATE": STATE.tolist()}
    names |= {"EPISODES": EPISODES, "WARMUP": WARMUP}
    script = folder / "script.py"
    script.write_text("".join(f"{name} = {value!r}\n" for name, value in names.items()) + SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    process = subprocess.Popen(
        [sys.executable, script], cwd=hidden, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield Caller(process, *json.loads(process.stdout.readline()), saved)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


class TestContract(AgentContract):
    """With the fixtures above."""

    @pytest.fixture
    def agent(self, make_agent: Callable) -> DdpgAgent:
        return make_agent()


class TestContractOfAnImitator(AgentContract):
    """With the fixtures above."""

    @pytest.fixture
    def make_agent(self, make_imitator: Callable) -> Callable[[], DdpgAgent]:
        return make_imitator


def test_same_seed_same_agent(agent: DdpgAgent, newborn: Path, of_another_seed: Path, caller: Caller) -> None:
    """Both have started by themselves and from nothing but the seed."""
    one, other, stranger = map(contents, (newborn, caller.saved, of_another_seed))
    assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in {*one, *other})
    assert [agent.act(STATE, episode) for episode in range(EPISODES)] == caller.actions
    assert not np.array_equal(stranger["actor/0"], one["actor/0"])


def test_warm_up_acts_uniformly_between_low_and_one(agent: DdpgAgent) -> None:
    actions = np.sort([agent.act(STATE, WARMUP - 1) for _ in range(1000)])
    distance = np.abs(actions - np.linspace(0.2, 1.0, 1000)).max() / 0.8  # Kolmogorov and Smirnov's
    assert distance < 0.052  # 1 % of uniform samples lie further off


@pytest.mark.parametrize(("episode", "sigma"), [(WARMUP, 0.5), (EPISODES - 1, 0.05)])
def test_noise_is_a_truncated_normal_around_the_actors_action(agent: DdpgAgent, episode: int, sigma: float) -> None:
    mean = agent.act(STATE, episode, explore=False)
    actions = np.array([agent.act(STATE, episode) for _ in range(1000)])
    assert actions.min() >= 0.2 and actions.max() <= 1
    normal = np.random.default_rng(0).normal(mean, sigma, 100_000)
    expected = normal[(normal > 0.2) & (normal < 1)]
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert abs(np.quantile(actions, quantile) - np.quantile(expected, quantile)) < 0.1 * sigma + 0.01


def test_acting_without_exploring_uses_up_no_random_number(make_agent: Callable) -> None:
    agent = make_agent()
    first = [agent.act(STATE, WARMUP), agent.act(STATE, WARMUP)]
    agent = make_agent()
    second = [agent.act(STATE, WARMUP)]
    assert agent.act(STATE, WARMUP, explore=False) == agent.act(STATE, WARMUP, explore=False)
    assert [*second, agent.act(STATE, WARMUP)] == first


def test_replay_keeps_final_reward_next_state_and_mask(agent: DdpgAgent, tmp_path: Path) -> None:
    rows = states(0)[:3]
    agent.learn(0, rows, [0.3, 0.6, 0.05], -0.25)  # 0.05 is below low: what was executed counts
    replay = saved(agent, tmp_path)
    assert np.array_equal(replay["replay/states"], rows.astype(np.float32))
    assert np.array_equal(replay["replay/actions"][:, 0], np.float32([0.3, 0.6, 0.05]))
    assert replay["replay/rewards"].tolist() == [-0.25] * 3
    assert replay["replay/discounts"].tolist() == [1, 1, 0]
    assert np.array_equal(replay["replay/next_states"][:2], rows[1:].astype(np.float32))


def test_replay_forgets_the_oldest_of_more_than_2000_transitions(agent: DdpgAgent, tmp_path: Path) -> None:
    for episode in range(3):
        agent.learn(episode, np.zeros((900, FEATURES)), np.full(900, 0.5), -float(episode))
    rewards = saved(agent, tmp_path)["replay/rewards"]
    assert np.array_equal(rewards, np.repeat([0.0, -1.0, -2.0], [200, 900, 900]))


def test_baseline_is_a_moving_average_of_the_rewards(agent: DdpgAgent, tmp_path: Path) -> None:
    for episode, reward in enumerate([-1.0, -0.5]):
        agent.learn(episode, states(episode), np.full(STEPS, 0.5), reward)
    assert saved(agent, tmp_path)["baseline"] == pytest.approx(0.95 * -1.0 + 0.05 * -0.5)


def test_no_update_in_warm_up(agent: DdpgAgent, newborn: Path, tmp_path: Path) -> None:
    """How many there are afterwards is asked where it learns to use the state."""
    for episode in range(WARMUP):
        act_out(agent, episode)
    before, after = contents(newborn), saved(agent, tmp_path)
    names = [name for name in before if name.startswith(("actor", "critic", "target", "imitation"))]
    assert all(np.array_equal(before[name], after[name]) for name in names)
    assert after["critic_adam/0"] == after["imitation_adam/0"] == 0


def test_losses_and_targets_as_computed_by_hand(agent: DdpgAgent, newborn: Path, tmp_path: Path) -> None:
    """Critic and its target say 0.75 and 0.5 everywhere, so that targets are known: R - b, + 0.5 but for last steps."""
    flat = np.zeros((300, 1), np.float32)
    path = altered(
        newborn,
        tmp_path,
        last_episode=np.int64(WARMUP),
        baseline=np.float64(-0.6),
        critic__4=flat,
        critic__5=np.float32([0.75]),
        target_critic__4=flat,
        target_critic__5=np.float32([0.5]),
    )
    agent.load(path)
    agent.learn(WARMUP + 1, states(1)[:1], [0.5], -0.4)  # one update, whose batch is last steps only
    after = saved(agent, tmp_path)
    target = -0.4 - -0.6
    gradient = 2 * (0.75 - target)  # of the mean squared error by the last bias
    assert after["critic_adam/11"] == pytest.approx(0.1 * gradient, rel=1e-4)  # Adam's first moment, beta 0.9
    assert after["critic/5"] == pytest.approx(0.75 - 1e-3, abs=1e-6)  # Adam's first step is its rate
    assert after["target_critic/5"] == pytest.approx(0.99 * 0.5 + 0.01 * after["critic/5"][0], abs=1e-6)

    agent.load(path)
    agent.learn(WARMUP + 1, states(1)[:2], [0.5, 0.5], -0.4)  # two updates of batches that are half last steps
    after = saved(agent, tmp_path)
    gradients = [2 * (0.75 - target - 0.5 * share) for share in (0.3, 0.7)]  # all but one in 1000 batches lie within
    low, high = (0.1 * (0.9 + 1) * gradient for gradient in sorted(gradients))
    assert low < after["critic_adam/11"] < high


def test_an_imitator_takes_the_reward_for_the_value_of_every_step(
    imitator: DdpgAgent, newborn: Path, tmp_path: Path
) -> None:
    """The target critic's 0.5 is in no target: R - b."""
    flat = np.zeros((300, 1), np.float32)
    said = {"critic__4": flat, "critic__5": np.float32([0.75]), "target_critic__4": flat, "target_critic__5": [0.5]}
    at = {"last_episode": np.int64(WARMUP), "baseline": np.float64(-0.6)}
    imitator.load(altered(newborn, tmp_path, **said, **at))
    imitator.learn(WARMUP + 1, states(1)[:2], [0.5, 0.5], -0.4)  # two updates of batches that are half last steps
    gradients = [2 * (0.75 - 0.2), 2 * (0.75 - 1e-3 - 0.2)]  # the first step is Adam's rate
    after = saved(imitator, tmp_path)["critic_adam/11"]
    assert after == pytest.approx(0.1 * (0.9 * gradients[0] + gradients[1]), rel=0.02)


def test_an_imitator_comes_close_to_the_best_episodes(imitator: DdpgAgent, tmp_path: Path) -> None:
    """Of 40 random ones, where each state tells the best action. It imitates as often as it updates."""
    layers = np.random.default_rng(5).random((10, FEATURES))
    best = 0.3 + 0.6 * layers[:, 3]
    tried = np.random.default_rng(6).uniform(0.2, 1, (40, 10))
    rewards = -((tried - best) ** 2).sum(axis=1)
    imitated = tried[np.argsort(rewards)[-4:]].mean(axis=0)  # a tenth
    for episode, (actions, reward) in enumerate(zip(tried, rewards, strict=True)):
        imitator.learn(episode, layers, actions, reward)
        if episode in (WARMUP - 1, WARMUP, 39):
            after = saved(imitator, tmp_path)
            updates = 0 if episode < WARMUP else FIRST_UPDATES + 10 * (episode - WARMUP + 1)
            assert after["imitation_adam/0"] == after["critic_adam/0"] == updates
    acted = np.array([imitator.act(state, 0, explore=False) for state in layers])
    distance, at_random = (float(np.abs(some - imitated).mean()) for some in (acted, tried))
    assert distance < 0.05 < 0.25 * at_random


def test_learns_to_use_the_state(agent: DdpgAgent, newborn: Path, tmp_path: Path) -> None:
    """Each state tells the best action. The replay begins with 25 random episodes, as after a longer warm-up.

    There is one update for each transition after warm-up.
    """
    steps, random_ones = 6, 25
    layers = np.random.default_rng([3, 99]).random((steps, FEATURES)).astype(np.float32)
    best = 0.3 + 0.6 * layers[:, 3]

    def acted(episode: int) -> tuple[np.ndarray, float]:
        actions = np.array([agent.act(state, episode) for state in layers])
        return actions, -float(((actions - best) ** 2).sum())

    actions, warmup = zip(*[acted(0) for _ in range(random_ones)], strict=True)
    path = altered(
        newborn,
        tmp_path,
        last_episode=np.int64(WARMUP - 1),
        baseline=np.float64(np.mean(warmup)),
        replay__states=np.tile(layers, (random_ones, 1)),
        replay__actions=np.concatenate(actions)[:, None].astype(np.float32),
        replay__rewards=np.repeat(warmup, steps).astype(np.float32),
        replay__discounts=np.tile(np.float32([*[1] * (steps - 1), 0]), random_ones),
        replay__next_states=np.tile([*layers[1:], 0 * layers[0]], (random_ones, 1)),
    )
    agent.load(path)
    rewards = []
    for episode in range(WARMUP, WARMUP + 40):
        chosen, reward = acted(episode)
        agent.learn(episode, layers, chosen, reward)
        rewards.append(reward)
        if episode < WARMUP + 2:
            after = saved(agent, tmp_path)
            assert after["critic_adam/0"] == FIRST_UPDATES + steps * (episode - WARMUP + 1)
            assert after["imitation_adam/0"] == 0
            if episode == WARMUP:
                moved = max(np.abs(after[f"actor/{i}"] - contents(newborn)[f"actor/{i}"]).max() for i in range(6))
                assert 0 < moved < 10 * steps * 1e-4  # Adam steps by about its rate: FIRST_UPDATES would show
    assert np.mean(rewards[-10:]) > 0.5 * np.mean(warmup)  # rewards are negative: half of the error at most
    own = [agent.act(state, 0, explore=False) for state in layers]
    assert np.corrcoef(own, best)[0, 1] > 0.3  # one action for all states has none


def test_warm_up_is_a_quarter_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "exit 1")
    assert DdpgAgent(episodes=400).warmup_episodes == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actor__0": np.zeros((10, 300), np.float32)}, r"actor/0 is \(10, 300\), expected was \(11, 300\)"),
        ({"critic_adam__3": None}, "critic_adam/3 is None"),
        ({"replay__states": np.zeros((7, FEATURES), np.float32)}, "replay/states"),
        ({"format": np.int64(1)}, "format is 1, this agent's is 2; load a file that was saved by .* same .* version."),
        ({"num_features": np.int64(10)}, "num_features is 10"),
        ({"low": np.float64(0.3)}, "low is 0.3"),
        ({"baseline": None}, "baseline is None"),
    ],
)
def test_loads_nothing_of_a_file_that_does_not_fit(
    agent: DdpgAgent, newborn: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    act_out(agent, 0)
    before = saved(agent, tmp_path)
    with pytest.raises(AgentError, match=message):
        agent.load(altered(newborn, tmp_path, **changes))
    after = saved(agent, tmp_path)
    assert all(np.array_equal(before[name], after[name], equal_nan=True) for name in before)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nonsense", b"\x93NUMPY", None])
def test_tells_what_is_no_file_of_its_own(agent: DdpgAgent, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "agent.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AgentError, match=f"cannot be loaded from {path}"):
        agent.load(path)


def test_a_save_that_fails_leaves_the_old_file(
    agent: DdpgAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a relative path is the caller's, whose process has another working directory
    agent.save("agent.npz")
    before = (tmp_path / "agent.npz").read_bytes()
    assert os.listdir(tmp_path) == ["agent.npz"]
    (tmp_path / "agent.npz.unfinished").mkdir()
    act_out(agent, 0)
    with pytest.raises(AgentError, match="cannot be saved"):
        agent.save("agent.npz")
    assert (tmp_path / "agent.npz").read_bytes() == before


def test_ctrl_c_loses_nothing(agent: DdpgAgent, newborn: Path, tmp_path: Path) -> None:
    """Ctrl-C while the agent learns: the call ends at once, the next ones get their own replies."""
    its = agent._process.pid
    assert os.getsid(its) != os.getsid(0)  # the terminal's Ctrl-C reaches this process alone
    agent.load(altered(newborn, tmp_path, last_episode=np.int64(WARMUP)))
    os.kill(its, signal.SIGSTOP)  # so that it cannot be too quick
    main = threading.main_thread().ident
    threading.Timer(1.0, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        agent.learn(WARMUP + 1, states(1), np.full(STEPS, 0.5), -1.0)
    os.kill(its, signal.SIGINT)
    os.kill(its, signal.SIGCONT)
    assert 0.2 <= agent.act(STATE, WARMUP + 2) <= 1
    assert agent.last_episode == WARMUP + 1
    assert saved(agent, tmp_path)["critic_adam/0"] == STEPS


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Lets agents start a shell script in place of their process."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_a_process_that_ends_tells_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "echo no module named tf_agents >&2; exit 3")
    agent = build()
    with pytest.raises(AgentError, match="ended with exit status 3 when asked to act.*no module named tf_agents"):
        agent.act(STATE, 0)
    with pytest.raises(AgentError, match="closed"):
        agent.act(STATE, 0)


def test_a_process_that_is_stuck_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "exec sleep 100")
    agent = build(time_limit_s=0.2)
    with pytest.raises(AgentError, match="did not answer within 0.2 s and was killed when asked to act"):
        agent.act(STATE, 0)
    assert agent._process.returncode == -signal.SIGKILL


def test_a_python_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(AgentError, match="could not be started with '/nowhere/python'"):
        build()


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"num_features": 0}, ValueError, "num_features is 0"),
        ({"episodes": 0}, ValueError, "episodes is 0"),
        ({"episodes": 2.5}, TypeError, "episodes is 2.5"),
        ({"warmup_episodes": -1}, ValueError, "warmup_episodes is -1"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"low": 0}, ValueError, "low is 0"),
        ({"low": 1.0}, ValueError, "low is 1.0"),
    ],
)
def test_refuses_arguments_out_of_range(changes: dict, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        build(**changes)


def test_the_caller_is_untouched_and_its_death_ends_the_agent(caller: Caller) -> None:
    assert caller.is_untouched and caller.strangers == []
    assert all(0.2 <= action <= 1 for action in caller.actions)
    assert alive(caller.agent)
    caller.process.kill()
    caller.process.wait()
    deadline = time.monotonic() + 20
    while alive(caller.agent) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(caller.agent)


def test_an_agent_that_is_let_go_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "exec cat >/dev/null")
    agent = build()
    pid = agent._process.pid
    assert alive(pid)
    del agent
    assert not alive(pid)
