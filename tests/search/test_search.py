"""The search: its order, its best, its failures, and that killed or interrupted it loses nothing."""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amc_tf.errors import AgentError, BudgetError, DeviceError, RunDirError
from amc_tf.search.budget import uniform
from amc_tf.search.journal import Journal, header
from amc_tf.search.metrics import BadPredictions
from amc_tf.search.outcome import Outcome, Trial
from amc_tf.search.search import Search
from tests.search.fakes import FakeAgent, ProductCost, chain_cost, evaluator, unit, units

ROOT = Path(__file__).parents[2]
HEADER = header("0123", 0, {"budget": 0.5})
UNITS = units(64, 96, 64, 32)
COST = chain_cost(4)
BASE = COST([64, 96, 64, 32])
EVALUATE = evaluator(COST, UNITS)


def search(journal: Journal, agent: FakeAgent | None = None, *, evaluate: Callable = EVALUATE, **changes) -> Search:
    arguments = {"limit": 0.5 * BASE, "episodes": 6, **changes}
    return Search(UNITS, COST, evaluate, agent or FakeAgent(), journal, **arguments)


def lines(folder: Path) -> list[dict]:
    """The journal but its header and the seconds."""
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()[1:]]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What a search of six episodes writes when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with Journal(folder, HEADER) as journal:
        search(journal).run()
    return lines(folder)


@pytest.fixture
def journal(tmp_path: Path):
    with Journal(tmp_path / "run", HEADER) as opened:
        yield opened


def test_the_unpruned_network_comes_first_then_the_uniform_plan_then_the_agent(journal: Journal) -> None:
    done = search(journal).run()
    assert [t.kind for t in done.trials] == ["base", "uniform", *["agent"] * 6]
    assert [t.number for t in done.trials] == list(range(8))
    assert done.trials[0].widths == (64, 96, 64, 32)
    assert done.trials[1].widths == uniform(UNITS, COST, 0.5 * BASE)
    assert not done.interrupted
    for trial in done.trials:
        assert trial.outcome == EVALUATE(trial.widths)
        assert trial.reward == -(1 - trial.outcome.accuracy)
        assert trial.keep_ratios == {u.name: w / u.channels for u, w in zip(UNITS, trial.widths, strict=True)}
        assert trial.outcome.cost <= 0.5 * BASE or trial.kind == "base"


def test_the_agent_is_taught_what_was_executed(journal: Journal) -> None:
    agent = FakeAgent()
    done = search(journal, agent).run()
    assert [episode for episode, *_ in agent.lessons] == list(range(6))
    assert agent.asked == [episode for episode in range(6) for _ in UNITS]
    for trial, (_, states, actions, reward) in zip(done.trials[2:], agent.lessons, strict=True):
        assert states.shape == (4, 11)
        assert actions.tolist() == list(trial.keep_ratios.values())
        np.testing.assert_allclose(states[1:, -1], actions[:-1], rtol=1e-6)
        assert reward == trial.reward
    assert json.loads((journal.run_dir / "agent.npz").read_text())[1] == 5


def test_the_journal_is_written_before_the_agent_learns(journal: Journal) -> None:
    class Watching(FakeAgent):
        def learn(self, episode, states, actions, reward):
            assert lines(journal.run_dir)[-1]["number"] == episode + 2
            super().learn(episode, states, actions, reward)

    assert len(search(journal, Watching()).run().trials) == 8


def test_best_is_the_best_reward_within_the_budget(journal: Journal) -> None:
    told = []
    done = search(journal, on_episode_end=lambda trial, best: told.append((trial.number, best))).run()
    assert told[0] == (0, None)  # the unpruned network is above the budget
    assert told[1] == (1, done.trials[1])
    for number, best in told[1:]:
        assert best.reward == max(t.reward for t in done.trials[1 : number + 1])
    assert done.best == told[-1][1]
    assert done.trials[0].reward > done.best.reward


def test_of_equal_rewards_the_cheaper_is_best(journal: Journal) -> None:
    done = search(journal, reward=lambda outcome: 0.0).run()
    assert done.best.outcome.cost == min(t.outcome.cost for t in done.trials)


def test_a_measured_cost_above_the_limit_is_not_best(journal: Journal) -> None:
    def measured(widths: tuple[int, ...]) -> Outcome:
        outcome = EVALUATE(widths)
        return Outcome(outcome.accuracy, 1.5 * outcome.cost, 0.9, BASE)

    assert search(journal, evaluate=measured, floor=0.97).run().best is None


def test_without_a_budget_the_reward_weighs_the_cost_and_the_unpruned_network_may_be_best(journal: Journal) -> None:
    done = search(journal, limit=None, episodes=30).run()
    for trial in done.trials:
        assert trial.reward == pytest.approx(-(1 - trial.outcome.accuracy) * math.log(trial.outcome.cost))
    assert done.trials[1].widths == uniform(UNITS, COST, 0.5 * BASE)
    assert done.best.reward == max(t.reward for t in done.trials)
    shares = [t.outcome.cost / BASE for t in done.trials[2:]]
    assert min(shares) < 0.4 and max(shares) > 0.6  # nothing bounds them


def test_without_a_budget_the_uniform_plan_keeps_what_must_be_kept(journal: Journal) -> None:
    some = [unit(64, low=0.9, name="a"), unit(64, low=0.9, name="b")]
    cost = chain_cost(2)
    done = Search(some, cost, evaluator(cost, some), FakeAgent(), journal, episodes=0).run()
    assert done.trials[1].widths == (64, 64)


def test_a_failed_evaluation_is_a_failed_trial_and_counts_as_the_worst(journal: Journal) -> None:
    calls = []

    def evaluate(widths: tuple[int, ...]) -> Outcome:
        calls.append(widths)
        if len(calls) == 5:
            raise BadPredictions("all is NaN")
        return EVALUATE(widths)

    agent = FakeAgent()
    done = search(journal, agent, evaluate=evaluate).run()
    failure = done.trials[4]
    assert (failure.state, failure.outcome, failure.reward) == ("failed", None, None)
    assert failure.reason == "BadPredictions: all is NaN"
    assert failure.widths == calls[4]
    assert len(done.trials) == 8 and done.trials[5].state == "complete"
    assert done.best.reward == max(t.reward for t in done.trials[1:] if t is not failure)
    assert agent.lessons[2][3] == min(t.reward for t in done.trials[:4])


def test_a_plan_is_not_to_blame_for_a_device_that_fails(journal: Journal) -> None:
    calls = []

    def evaluate(widths: tuple[int, ...]) -> Outcome:
        calls.append(widths)
        if len(calls) == 5:
            raise DeviceError("the phone is gone")
        return EVALUATE(widths)

    agent = FakeAgent()
    done = search(journal, agent, evaluate=evaluate).run()
    assert done.trials[4].reason == "DeviceError: the phone is gone"
    assert [episode for episode, *_ in agent.lessons] == [0, 1, 3, 4, 5]


def test_where_nothing_was_evaluated_yet_a_failure_teaches_nothing(journal: Journal) -> None:
    calls = []

    def evaluate(widths: tuple[int, ...]) -> Outcome:
        calls.append(widths)
        if len(calls) <= 3:
            raise DeviceError("not yet")
        return EVALUATE(widths)

    agent = FakeAgent()
    search(journal, agent, evaluate=evaluate).run()
    assert [episode for episode, *_ in agent.lessons] == [1, 2, 3, 4, 5]


def test_ten_failures_in_a_row_end_the_search(journal: Journal) -> None:
    attempts = []

    def evaluate(widths: tuple[int, ...]) -> Outcome:
        attempts.append(widths)
        if len(attempts) == 7:
            return EVALUATE(widths)
        raise DeviceError("the phone is gone")

    with pytest.raises(DeviceError, match="the phone is gone"):
        search(journal, evaluate=evaluate, episodes=50).run()
    assert len(attempts) == 17
    assert [record["state"] for record in lines(journal.run_dir)] == ["failed"] * 6 + ["complete"] + ["failed"] * 10


def test_a_bug_in_the_evaluator_raises_and_writes_nothing(journal: Journal) -> None:
    def evaluate(widths: tuple[int, ...]) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search(journal, evaluate=evaluate).run()
    assert lines(journal.run_dir) == []


def test_a_reward_that_is_no_number_raises_and_writes_nothing(journal: Journal) -> None:
    with pytest.raises(ValueError, match="returned None"):
        search(journal, reward=lambda outcome: None).run()
    assert lines(journal.run_dir) == []


def test_ask_and_tell_do_what_run_does(journal: Journal, undisturbed: list[dict]) -> None:
    one = search(journal)
    for _ in range(8):
        proposal = one.ask()
        one.tell(proposal, EVALUATE(proposal.widths))
    assert lines(journal.run_dir) == undisturbed


def test_the_callers_digest_is_journaled(journal: Journal) -> None:
    done = search(journal, digest=lambda widths: f"plan of {sum(widths)}").run()
    assert [t.plan for t in done.trials] == [f"plan of {sum(t.widths)}" for t in done.trials]


def test_by_default_the_digest_tells_widths_apart(journal: Journal) -> None:
    done = search(journal).run()
    assert len({t.plan for t in done.trials}) == len({t.widths for t in done.trials}) > 2


@pytest.mark.parametrize("call", [0, 1, 4])
def test_ctrl_c_ends_the_run_and_another_run_goes_on(journal: Journal, undisturbed: list[dict], call: int) -> None:
    calls = []

    def evaluate(widths: tuple[int, ...]) -> Outcome:
        calls.append(widths)
        if len(calls) == call + 1:
            raise KeyboardInterrupt
        return EVALUATE(widths)

    one = search(journal, evaluate=evaluate)
    assert one.run() is one
    assert one.interrupted and len(one.trials) == call
    assert not one.run().interrupted
    assert lines(journal.run_dir) == undisturbed


def test_an_agent_that_learned_all_is_not_loaded_again(journal: Journal) -> None:
    class NeverLoaded(FakeAgent):
        def load(self, path):
            raise AssertionError("it has just saved this")

    assert len(search(journal, NeverLoaded()).run().trials) == 8


@pytest.mark.parametrize("before", [True, False])
def test_ctrl_c_while_the_agent_learns_costs_no_lesson(journal: Journal, undisturbed: list[dict], before: bool) -> None:
    class Interrupted(FakeAgent):
        rang = False

        def learn(self, episode, states, actions, reward):
            ring = episode == 2 and not self.rang
            if ring and before:
                self.rang = True
                raise KeyboardInterrupt
            super().learn(episode, states, actions, reward)
            if ring:
                self.rang = True
                raise KeyboardInterrupt

    one = search(journal, Interrupted())
    assert one.run().interrupted
    one.run()
    assert lines(journal.run_dir) == undisturbed


def test_a_finished_search_is_not_run_again(journal: Journal, undisturbed: list[dict]) -> None:
    search(journal).run()

    def evaluate(widths: tuple[int, ...]) -> Outcome:
        raise AssertionError("nothing is left to evaluate")

    agent = FakeAgent()
    again = search(journal, agent, evaluate=evaluate).run()
    assert (len(again.trials), agent.last_episode) == (8, -1)
    assert again.best is not None
    assert lines(journal.run_dir) == undisturbed


def test_a_search_may_be_prolonged(journal: Journal, undisturbed: list[dict]) -> None:
    search(journal, episodes=2).run()
    search(journal, episodes=6).run()
    assert lines(journal.run_dir) == undisturbed


KILLED = """
import os, signal, sys
from pathlib import Path
from amc_tf.errors import DeviceError
from amc_tf.search.journal import Journal
from tests.search.fakes import FakeAgent
from tests.search.test_search import EVALUATE, HEADER, search

folder, where, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def kill_at(place):
    global count
    if place == where:
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)

class Agent(FakeAgent):
    def act(self, state, episode):
        kill_at("act")
        return super().act(state, episode)
    def learn(self, *lesson):
        kill_at("learn")
        super().learn(*lesson)
    def save(self, path):
        kill_at("save")
        super().save(path)

def evaluate(widths):
    kill_at("evaluate")
    return EVALUATE(widths)

with Journal(folder, HEADER) as journal:
    search(journal, Agent(), evaluate=evaluate).run()
print("was not killed")
"""


def kill(folder: Path, where: str, count: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), where, str(count)], cwd=ROOT, capture_output=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.parametrize(
    "where, count, finished",
    [("evaluate", 0, 0), ("evaluate", 1, 1), ("evaluate", 5, 5), ("act", 10, 4), ("learn", 3, 6), ("save", 3, 6)],
)
def test_a_killed_search_resumes_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: list[dict], where: str, count: int, finished: int
) -> None:
    folder = tmp_path / "run"
    kill(folder, where, count)
    assert lines(folder) == undisturbed[:finished]
    with Journal(folder, HEADER) as journal:
        search(journal).run()
    assert lines(folder) == undisturbed


@pytest.mark.parametrize("agent_file", ["missing", "behind"])
def test_the_journal_is_replayed_to_an_agent_that_lacks_it(
    journal: Journal, undisturbed: list[dict], agent_file: str
) -> None:
    path = journal.run_dir / "agent.npz"
    search(journal, episodes=2).run()
    old = path.read_bytes()
    search(journal, episodes=4).run()
    path.unlink()
    if agent_file == "behind":
        path.write_bytes(old)
    agent = FakeAgent()
    search(journal, agent).run()
    assert [episode for episode, *_ in agent.lessons] == (
        [0, 1, 2, 3, 4, 5] if agent_file == "missing" else [2, 3, 4, 5]
    )
    assert lines(journal.run_dir) == undisturbed


def test_a_failed_trial_is_replayed_as_it_was_taught(journal: Journal) -> None:
    calls = []

    def evaluate(widths: tuple[int, ...]) -> Outcome:
        calls.append(widths)
        if len(calls) in (4, 5):
            raise BadPredictions("all is NaN") if len(calls) == 4 else DeviceError("the phone is gone")
        return EVALUATE(widths)

    first, second = FakeAgent(), FakeAgent()
    search(journal, first, evaluate=evaluate).run()
    (journal.run_dir / "agent.npz").unlink()
    search(journal, second, episodes=7).run()
    for (*_, taught), (*_, replayed) in zip(first.lessons, second.lessons[:5], strict=True):
        assert taught == replayed


def test_an_agents_file_that_does_not_load_is_replaced_by_a_replay(
    journal: Journal, undisturbed: list[dict], caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(FakeAgent):
        def load(self, path):
            raise AgentError("The file is damaged.")

    search(journal, episodes=3).run()
    search(journal, Refusing()).run()
    assert "The file is damaged. Its episodes are replayed" in caplog.text
    assert lines(journal.run_dir) == undisturbed


def test_an_agents_file_without_a_journal_is_not_loaded(journal: Journal, undisturbed: list[dict]) -> None:
    journal.run_dir.joinpath("agent.npz").write_text("[0.5, 99]")
    search(journal).run()
    assert lines(journal.run_dir) == undisturbed


def test_an_agents_file_ahead_of_the_journal_is_refused(journal: Journal) -> None:
    search(journal, episodes=1).run()
    path = journal.run_dir / "agent.npz"
    path.write_text("[0.5, 99]")
    with pytest.raises(RunDirError, match="agent.npz has learned episode 99, but .* holds 1 episodes: delete"):
        search(journal).run()


def test_a_journal_of_other_units_is_refused(journal: Journal) -> None:
    search(journal, episodes=1).run()
    other = [unit(64, name="elsewhere")]
    with pytest.raises(RunDirError, match="of units .*unit0.*this search of .*elsewhere"):
        Search(other, chain_cost(1), EVALUATE, FakeAgent(), journal)


def test_a_journal_of_other_bounds_is_refused(journal: Journal) -> None:
    search(journal, episodes=2, limit=0.9 * BASE).run()
    (journal.run_dir / "agent.npz").unlink()
    with pytest.raises(
        RunDirError, match="Trial 2 of .*journal.jsonl kept .*which the bounds of this search turn into"
    ):
        search(journal, limit=0.3 * BASE).run()


def test_units_need_names_of_their_own(journal: Journal) -> None:
    with pytest.raises(ValueError, match="'same', 'same'.*each needs its own"):
        Search([unit(64, name="same")] * 2, chain_cost(2), EVALUATE, FakeAgent(), journal)


def test_a_limit_out_of_reach_is_refused_before_anything_is_evaluated(journal: Journal) -> None:
    with pytest.raises(BudgetError, match="less than the narrowest plan"):
        search(journal, limit=1.0)
    assert lines(journal.run_dir) == []


def test_every_trial_of_the_agent_is_within_the_limit_and_uses_it(journal: Journal) -> None:
    fine = units(64, 96, 64, 32, step=1)
    done = Search(fine, COST, EVALUATE, FakeAgent(), journal, limit=0.5 * BASE, episodes=60).run()
    shares = np.array([t.outcome.cost / BASE for t in done.trials[2:]])
    assert (shares <= 0.5).all()
    assert (shares >= 0.97 * 0.5).mean() > 0.9


def test_numpy_numbers_of_the_evaluator_reach_the_journal(journal: Journal) -> None:
    def evaluate(widths: tuple[int, ...]) -> Outcome:
        outcome = EVALUATE(widths)
        return Outcome(np.float32(outcome.accuracy), np.int64(outcome.cost), np.float64(0.9), np.float32(BASE))

    done = search(journal, evaluate=evaluate, episodes=1).run()
    assert isinstance(done.best, Trial)
    assert lines(journal.run_dir)[1]["outcome"]["cost"] == int(done.trials[1].outcome.cost)


def test_costs_of_any_number_of_units(journal: Journal) -> None:
    one = [unit(64, name="only")]
    cost = ProductCost([[0, 1], [0, 0]])
    done = Search(one, cost, evaluator(cost, one), FakeAgent(), journal, limit=32, episodes=3).run()
    assert [t.widths for t in done.trials] == [(64,), (32,), (32,), (32,), (32,)]
