"""The search: its order, its best, its failures, and that killed or interrupted it loses nothing."""

import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from amc_tf.devices.android import adb_device  # noqa: F401 - with all classes of its errors
from amc_tf.errors import (
    AgentError,
    AmcError,
    BadPredictions,
    BudgetError,
    ConversionError,
    DeviceError,
    RunDirError,
    SetupError,
    UnsupportedModel,
)
from amc_tf.search.journal import Journal, header
from amc_tf.search.proposers.greedy import greedy
from amc_tf.search.proposers.handmade import uniform
from amc_tf.search.proposers.refine import refined
from amc_tf.search.proposers.sensitivity import samples_to_measure, table_from_trials
from amc_tf.search.schedule import Schedule
from amc_tf.search.study import Study
from amc_tf.search.trial import Outcome, Trial
from tests.search.fakes import FakeAgent, ProductCost, alone, chain_cost, evaluator, measured_table, study, unit, units

ROOT = Path(__file__).parents[2]
HEADER = header("0123", 0, {"budget": 0.5})
UNITS = units(64, 96, 64, 32)
COST = chain_cost(4)
FULL = (64, 96, 64, 32)
BASE = COST(FULL)
EVALUATE = evaluator(COST, UNITS)
SAMPLES = samples_to_measure(UNITS, 2)[:5]  # one of each unit, and one more
EVERY_KIND = Schedule(13, SAMPLES, greedy=True)
KINDS = {"paper": 6, "every kind": EVERY_KIND}  # of schedules


def search(journal: Journal, agent: FakeAgent | None = None, *, evaluate: Callable = EVALUATE, **changes) -> Study:
    """One proposal at a time, where a test does not say otherwise."""
    arguments = {"limit": 0.5 * BASE, "schedule": 6, "in_flight": 1, **changes}
    return study(UNITS, COST, evaluate, agent or FakeAgent(), journal, **arguments)


def lines(folder: Path) -> list[dict]:
    """The journal but its header and the seconds."""
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()[1:]]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def records(path: Path, count: int) -> list[dict]:
    """The first trials of a journal as they lie there."""
    return [json.loads(line) for line in path.read_text().splitlines()[1 : count + 1]]


@pytest.fixture(scope="module", params=[1, 2])
def in_flight(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, in_flight: int) -> list[dict]:
    """What a search of six episodes writes when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with Journal(folder, HEADER) as journal:
        search(journal, in_flight=in_flight).run()
    return lines(folder)


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def undisturbed_of(
    request, tmp_path_factory: pytest.TempPathFactory, in_flight: int
) -> tuple[Schedule | int, list[dict], list[int]]:
    """A schedule, what a search by it writes when nothing happens to it, and the episodes that it teaches."""
    folder, agent = tmp_path_factory.mktemp("undisturbed"), FakeAgent()
    with Journal(folder, HEADER) as journal:
        search(journal, agent, schedule=request.param, in_flight=in_flight).run()
    return request.param, lines(folder), [episode for episode, *_ in agent.learned]


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
        assert trial.keep_ratios == {u.name: w / u.size for u, w in zip(UNITS, trial.widths, strict=True)}
        assert trial.outcome.cost <= 0.5 * BASE or trial.kind == "base"


def test_every_kind_in_the_schedules_order(journal: Journal, in_flight: int) -> None:
    beats, agent = {}, FakeAgent()

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        beats.setdefault(widths, beat)
        return EVALUATE(widths)

    done = search(journal, agent, evaluate=evaluate, schedule=EVERY_KIND, in_flight=in_flight).run()
    kinds = [t.kind for t in done.trials]
    assert kinds == [EVERY_KIND.kind(number) for number in range(15)]
    assert set(kinds) == {"base", "uniform", "sensitivity", "greedy", "agent", "refined"}
    assert [t.widths for t in done.trials[2:7]] == [alone(UNITS, *sample) for sample in SAMPLES]
    table = table_from_trials(UNITS, done.trials[:7])  # every sample, however many may be in flight
    assert done.trials[7].widths == greedy(UNITS, COST, 0.5 * BASE, table) != done.trials[1].widths
    assert agent.acted == [t.number - 1 for t in done.trials if t.kind == "agent" for _ in UNITS]
    for trial in done.trials:
        assert trial.outcome == EVALUATE(trial.widths)
        assert trial.outcome.cost <= 0.5 * BASE or trial.kind in ("base", "sensitivity")
        if trial.number < 8:
            assert beats[trial.widths] is None  # scored on all examples
        elif trial.widths not in [t.widths for t in done.trials[: trial.number]]:
            known = done.trials[1 : trial.number - in_flight + 1]
            assert beats[trial.widths] == max(t.reward for t in known if t.kind != "sensitivity")


def test_the_seed_decides_the_refinement(tmp_path: Path) -> None:
    def found(folder: str, seed: int) -> list[dict]:
        with Journal(tmp_path / folder, HEADER) as journal:
            search(journal, schedule=EVERY_KIND, seed=seed).run()
        return lines(tmp_path / folder)

    one, same, other = found("one", 3), found("same", 3), found("other", 4)
    assert one == same
    differing = [a["kind"] for a, b in zip(one, other, strict=True) if a["widths"] != b["widths"]]
    assert one[:9] == other[:9] and "refined" in differing


def test_the_refinement_knows_what_the_agent_would_and_has_chance_of_its_own(
    journal: Journal, in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refined(units, cost, limit, trials, rng, wide, avoid, worth) -> tuple[int, ...]:
        assert [worth(t) for t in trials] == [t.reward for t in trials]
        asked.append((limit, len(trials), wide, rng.random()))
        return uniform(units, cost, limit)

    monkeypatch.setattr("amc_tf.search.proposer.refined", refined)
    schedule = Schedule(26, SAMPLES, greedy=True)
    done = search(journal, schedule=schedule, in_flight=in_flight, correction=lambda trials: 1.25).run()
    numbers = [t.number for t in done.trials if t.kind == "refined"]
    warm = [number - schedule.first_learned < schedule.warmup for number in numbers]
    assert [known for _, known, _, _ in asked] == [number - in_flight + 1 for number in numbers]
    assert [wide for _, _, wide, _ in asked] == warm and 0 < sum(warm) < len(warm)
    assert {limit for limit, _, _, _ in asked} == {0.4 * BASE}
    assert len({chance for *_, chance in asked}) == len(asked)


def test_the_agent_learns_uniform_greedy_and_refined_plans_but_no_samples(journal: Journal) -> None:
    agent, fine = FakeAgent(), units(64, 96, 64, 32, step=1)  # so that the uniform plan is one of the bounds'
    arguments = {"limit": 0.5 * BASE, "schedule": EVERY_KIND, "in_flight": 1}
    done = study(fine, COST, EVALUATE, agent, journal, **arguments).run()
    taught = {episode + 1: (states, actions, reward) for episode, states, actions, reward in agent.learned}
    last = max(t.number for t in done.trials if t.kind == "agent")
    expected = [t for t in done.trials[:last] if t.kind not in ("base", "sensitivity")]
    assert list(taught) == [t.number for t in expected]
    assert [t.kind for t in expected[:4]] == ["uniform", "greedy", "agent", "refined"]
    for trial in expected:
        states, actions, reward = taught[trial.number]
        assert states.shape == (4, 11) and reward == trial.reward
        assert actions.tolist() == list(trial.keep_ratios.values())
        np.testing.assert_allclose(states[1:, -1], actions[:-1], rtol=1e-6)


@pytest.mark.parametrize("limit", [0.5 * BASE, None])
def test_the_agent_learns_uniform_and_greedy_plans_outside_the_bounds_but_no_samples(
    journal: Journal, limit: float | None
) -> None:
    agent = FakeAgent()
    done = search(journal, agent, limit=limit, floor=1.0, schedule=EVERY_KIND).run()
    taught = {episode + 1: actions for episode, _, actions, _ in agent.learned}
    assert list(taught)[:3] == [1, 7, 8] and done.trials[7].kind == "greedy"
    for number in (1, 7):
        assert taught[number].tolist() == list(done.trials[number].keep_ratios.values())


WITH_THRESHOLDS = Schedule(15, SAMPLES, greedy=True, thresholds=2)
LEVELS = [(16, 56, 16, 16), (24, 40, 24, 24)]  # what two thresholds leave
THRESHOLDS = [lambda cost, limit, widths=widths: widths for widths in LEVELS]


@pytest.mark.parametrize("limit, correction", [(0.5 * BASE, None), (0.5 * BASE, 1.25), (None, None)])
def test_plans_of_one_threshold_are_tried_third_and_learned(
    journal: Journal, in_flight: int, limit: float | None, correction: float | None
) -> None:
    """They may cost what the uniform plan may."""
    asked, beats, agent = [], {}, FakeAgent()

    def watched(threshold: Callable) -> Callable:
        return lambda cost, affordable: asked.append((cost, affordable)) or threshold(cost, affordable)

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        beats.setdefault(widths, beat)
        return EVALUATE(widths)

    arguments = {} if correction is None else {"correction": lambda trials: correction}
    done = search(
        journal, agent, evaluate=evaluate, limit=limit, thresholds=[watched(one) for one in THRESHOLDS],
        schedule=WITH_THRESHOLDS, in_flight=in_flight, **arguments,
    ).run()  # fmt: skip
    assert [line["kind"] for line in lines(journal.run_dir)][:5] == [
        "base", "uniform", "threshold", "threshold", "sensitivity",
    ]  # fmt: skip
    assert [t.kind for t in done.trials] == [WITH_THRESHOLDS.kind(number) for number in range(17)]
    assert [t.widths for t in done.trials[2:4]] == LEVELS and [beats[widths] for widths in LEVELS] == [None, None]
    assert [t.widths for t in done.trials[4:9]] == [alone(UNITS, *sample) for sample in SAMPLES]
    assert asked == 2 * [(COST, 0.5 * BASE / (correction or 1))]
    taught = {episode + 1: (states, actions, reward) for episode, states, actions, reward in agent.learned}
    assert list(taught)[:4] == [1, 2, 3, 9] and done.trials[9].kind == "greedy"
    for number in (2, 3):
        states, actions, reward = taught[number]
        assert actions.tolist() == list(done.trials[number].keep_ratios.values())
        assert reward == done.trials[number].reward
        np.testing.assert_allclose(states[1:, -1], actions[:-1], rtol=1e-6)


@pytest.mark.parametrize("number", [2, 3, 12])
def test_a_search_with_thresholds_goes_on_as_it_would_have(tmp_path: Path, in_flight: int, number: int) -> None:
    def run(folder: Path, evaluate: Callable) -> bool:
        arguments = {"thresholds": THRESHOLDS, "schedule": WITH_THRESHOLDS, "in_flight": in_flight}
        with Journal(folder, HEADER) as journal:
            return search(journal, evaluate=evaluate, **arguments).run().interrupted

    def interrupted(widths: tuple[int, ...], beat: float | None) -> Outcome:
        if list(widths) == undisturbed[number]["widths"]:
            raise KeyboardInterrupt
        return EVALUATE(widths)

    assert not run(tmp_path / "undisturbed", EVALUATE)
    undisturbed = lines(tmp_path / "undisturbed")
    assert run(tmp_path / "stopped", interrupted) and len(lines(tmp_path / "stopped")) == number
    (tmp_path / "stopped" / "agent.npz").unlink(missing_ok=True)  # all is taught anew
    assert not run(tmp_path / "stopped", EVALUATE)
    assert lines(tmp_path / "stopped") == undisturbed


def test_the_greedy_plan_waits_for_every_sample(journal: Journal) -> None:
    one = search(journal, schedule=EVERY_KIND, in_flight=2)
    while one.schedule.kind(len(one.trials) + len(one.pending)) != "greedy":
        proposal = one.ask()
        if len(one.pending) == 2 or proposal.number == 0:
            one.tell(one.pending[0], EVALUATE(one.pending[0].widths))
    assert one.pending
    with pytest.raises(ValueError, match="are pending"):
        one.ask()
    for pending in one.pending:
        one.tell(pending, EVALUATE(pending.widths))
    assert one.ask().kind == "greedy" and one.ask().kind == "agent"


def test_a_refined_plan_avoids_the_plan_in_flight(journal: Journal, in_flight: int, monkeypatch) -> None:
    def watched(*arguments):
        avoided.append(arguments[6])
        return refined(*arguments)

    avoided: list = []
    monkeypatch.setattr("amc_tf.search.proposer.refined", watched)
    done = search(journal, schedule=EVERY_KIND, in_flight=in_flight).run()
    numbers = [t.number for t in done.trials if t.kind == "refined"]
    assert avoided == [(done.trials[number - 1].widths,) for number in numbers]


def test_samples_are_not_measured(journal: Journal, in_flight: int) -> None:
    measured = []

    def measure(widths: tuple[int, ...], outcome: Outcome) -> Outcome:
        measured.append(widths)
        return Outcome(outcome.accuracy, outcome.cost, 0.9, BASE, outcome.cost)

    done = search(journal, measure=measure, schedule=EVERY_KIND, in_flight=in_flight).run()
    assert not set(measured) & {t.widths for t in done.trials[2:7]}
    assert [t.outcome.predicted is None for t in done.trials] == [t.kind == "sensitivity" for t in done.trials]
    assert measured[:3] == [done.trials[number].widths for number in (0, 1, 7)]


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("limit", [0.97 * BASE, None])
def test_a_sample_is_best_only_without_limit_and_measurement(
    journal: Journal, limit: float | None, measured: bool
) -> None:
    """One may cost less than the limit by chance, and what it costs is not measured."""

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        beats.append(beat)
        return Outcome(0.8 if widths in plans else 0.5, COST(widths), 0.9, BASE)

    beats = []
    schedule = Schedule(9, tuple((i, UNITS[i].widths[-2]) for i in range(4)), greedy=True)
    plans = [alone(UNITS, *sample) for sample in schedule.samples]
    measure = (lambda widths, outcome: None) if measured else None
    done = search(journal, limit=limit, schedule=schedule, evaluate=evaluate, measure=measure).run()
    assert any(t.kind == "sensitivity" and t.outcome.cost <= 0.97 * BASE for t in done.trials)
    assert (done.best.kind == "sensitivity") == (limit is None and not measured)
    if limit is not None:
        assert {beat for beat in beats if beat is not None} <= {
            t.reward for t in done.trials if t.kind != "sensitivity"
        }


def test_the_outcome_of_a_sample_is_not_reused_if_candidates_are_measured(journal: Journal) -> None:
    """As it was not; where nothing is measured it does."""
    table = measured_table(UNITS, EVALUATE)
    planned = greedy(UNITS, COST, 0.5 * BASE, table)
    evaluated, measured = [], []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        evaluated.append(widths)
        return EVALUATE(widths)

    def digest(widths: tuple[int, ...]) -> str:
        return "the same" if widths in (alone(UNITS, *SAMPLES[0]), planned) else str(widths)

    def measure(widths: tuple[int, ...], outcome: Outcome) -> None:
        measured.append(widths)

    same = {"evaluate": evaluate, "digest": digest, "table": table, "schedule": Schedule(2, SAMPLES[:1], greedy=True)}
    search(journal, measure=measure, **same).run()
    assert planned in evaluated and planned in measured
    evaluated.clear()
    with Journal(journal.run_dir / "unmeasured", HEADER) as other:
        done = search(other, **same).run()
    assert done.trials[3].widths == planned and planned not in evaluated


def test_if_all_samples_of_a_unit_failed_greedy_is_uniform(journal: Journal, in_flight: int) -> None:
    failing = [alone(UNITS, *sample) for sample in SAMPLES if sample[0] == 1]
    evaluated = []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        evaluated.append(widths)
        if widths in failing:
            raise ConversionError("no such file")
        return EVALUATE(widths)

    done = search(journal, evaluate=evaluate, schedule=EVERY_KIND, in_flight=in_flight).run()
    assert len(failing) == 1 and [t.number for t in done.trials if t.state == "failed"] == [3]
    assert (done.trials[7].kind, done.trials[7].widths) == ("greedy", done.trials[1].widths)
    assert evaluated.count(done.trials[1].widths) == 1
    assert len(done.trials) == 15


def test_a_known_table_leads_to_the_greedy_plan_at_once(journal: Journal, in_flight: int) -> None:
    table = measured_table(UNITS, EVALUATE)
    schedule = Schedule.of(UNITS, 6, table)
    done = search(journal, schedule=schedule, table=table, in_flight=in_flight).run()
    assert [t.kind for t in done.trials[:3]] == ["base", "uniform", "greedy"] and len(done.trials) == 8
    assert done.trials[2].widths == greedy(UNITS, COST, 0.5 * BASE, table)
    assert "sensitivity" not in {t.kind for t in done.trials}


def test_the_agent_learns_the_executed_actions(journal: Journal) -> None:
    agent = FakeAgent()
    done = search(journal, agent).run()
    assert [episode for episode, *_ in agent.learned] == list(range(5))  # nobody acts on the last
    assert agent.acted == [episode for episode in range(6) for _ in UNITS]
    for trial, (_, states, actions, reward) in zip(done.trials[2:-1], agent.learned, strict=True):
        assert states.shape == (4, 11)
        assert actions.tolist() == list(trial.keep_ratios.values())
        np.testing.assert_allclose(states[1:, -1], actions[:-1], rtol=1e-6)
        assert reward == trial.reward
    assert json.loads((journal.run_dir / "agent.npz").read_text())[1] == 3  # the last episode is never in the file


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
    def measured(widths: tuple[int, ...], beat: float | None) -> Outcome:
        outcome = EVALUATE(widths)
        return Outcome(outcome.accuracy, 1.5 * outcome.cost, 0.9, BASE)

    assert search(journal, evaluate=measured, floor=0.97).run().best is None


def test_without_a_budget_the_reward_weighs_the_cost_and_the_unpruned_network_may_be_best(journal: Journal) -> None:
    done = search(journal, limit=None, schedule=30).run()
    for trial in done.trials:
        assert trial.reward == pytest.approx(-(1 - trial.outcome.accuracy) * math.log(trial.outcome.cost))
    assert done.trials[1].widths == uniform(UNITS, COST, 0.5 * BASE)
    assert done.best.reward == max(t.reward for t in done.trials)
    shares = [t.outcome.cost / BASE for t in done.trials[2:]]
    assert min(shares) < 0.4 and max(shares) > 0.6  # nothing bounds them


def test_without_a_budget_the_uniform_plan_keeps_what_must_be_kept(journal: Journal) -> None:
    some = [unit(64, low=0.9, name="a"), unit(64, low=0.9, name="b")]
    cost = chain_cost(2)
    done = study(some, cost, evaluator(cost, some), FakeAgent(), journal, schedule=0).run()
    assert done.trials[1].widths == (64, 64)


def test_a_failed_evaluation_is_a_failed_trial_and_counts_as_the_worst(journal: Journal) -> None:
    calls = []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
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
    assert agent.learned[2][3] == min(t.reward for t in done.trials[:4])


def test_a_plan_is_not_to_blame_for_a_device_that_fails(journal: Journal) -> None:
    calls = []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        calls.append(widths)
        if len(calls) == 5:
            raise DeviceError("the phone is gone")
        return EVALUATE(widths)

    agent = FakeAgent()
    done = search(journal, agent, evaluate=evaluate).run()
    assert done.trials[4].reason == "DeviceError: the phone is gone"
    assert [episode for episode, *_ in agent.learned] == [0, 1, 3, 4]


def subclasses(kind: type) -> list[type]:
    """A class and all that are derived from it, always in the same order: parallel workers must agree on the tests."""
    found = {kind, *(deeper for each in kind.__subclasses__() for deeper in subclasses(each))}
    return sorted(found, key=lambda each: each.__name__)


BLAMELESS = [*subclasses(DeviceError), AmcError, AgentError, SetupError]  # whatever fails there, it is not the plan
BLAMED = [BadPredictions, BudgetError, ConversionError, UnsupportedModel]


@pytest.mark.parametrize("former", [False, True], ids=["journal of now", "journal of format 1"])
@pytest.mark.parametrize("kind", [*BLAMELESS, *BLAMED], ids=lambda kind: kind.__name__)
def test_only_what_a_plan_is_to_blame_for_is_learned(journal: Journal, kind: type[AmcError], former: bool) -> None:
    calls = []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        calls.append(widths)
        if len(calls) == 5:
            raise kind("it failed")
        return EVALUATE(widths)

    done, agent = search(journal, evaluate=evaluate).run(), FakeAgent()
    failure = {**dict.fromkeys(BLAMELESS, "other"), **dict.fromkeys(subclasses(DeviceError), "device")}
    assert [trial.failure for trial in done.trials] == [None] * 4 + [failure.get(kind, "candidate")] + [None] * 3
    if former:
        for record in records(journal.path, 5):
            del record["failure"]
            journal.trials[record["number"]] = Trial.from_dict(record)
        assert journal.trials == list(done.trials)
    (journal.run_dir / "agent.npz").unlink()
    search(journal, agent, schedule=7).run()  # another agent, which the journal teaches all
    learned = {episode: reward for episode, *_, reward in agent.learned}
    assert learned.get(2) == (min(t.reward for t in done.trials[:4]) if kind in BLAMED else None)
    assert {0, 1, 3, 4} <= set(learned)


def test_where_nothing_was_evaluated_yet_a_failure_teaches_nothing(journal: Journal) -> None:
    calls = []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        calls.append(widths)
        if len(calls) <= 3:
            raise DeviceError("not yet")
        return EVALUATE(widths)

    agent = FakeAgent()
    search(journal, agent, evaluate=evaluate).run()
    assert [episode for episode, *_ in agent.learned] == [1, 2, 3, 4]


def test_ten_failures_in_a_row_end_the_search(journal: Journal) -> None:
    attempts = []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        attempts.append(widths)
        if len(attempts) == 7:
            return EVALUATE(widths)
        raise DeviceError("the phone is gone")

    with pytest.raises(DeviceError, match="the phone is gone"):
        search(journal, evaluate=evaluate, schedule=50).run()
    assert len(attempts) == 17
    assert [record["state"] for record in lines(journal.run_dir)] == ["failed"] * 6 + ["complete"] + ["failed"] * 10


def test_a_bug_in_the_evaluator_raises_and_writes_nothing(journal: Journal) -> None:
    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search(journal, evaluate=evaluate).run()
    assert lines(journal.run_dir) == []


def test_a_reward_that_is_no_number_raises_and_writes_nothing(journal: Journal) -> None:
    with pytest.raises(ValueError, match="returned None"):
        search(journal, reward=lambda outcome: None).run()
    assert lines(journal.run_dir) == []


def test_two_are_evaluated_at_once(journal: Journal, undisturbed: list[dict], in_flight: int) -> None:
    """And the later of two is done first: the trials are the same."""
    done = [threading.Event() for _ in range(8)]
    numbers = {tuple(line["widths"]): line["number"] for line in undisturbed}

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        number = numbers[widths]
        if in_flight == 2 and number % 2 == 0:
            assert done[number + 1].wait(20)
        done[number].set()
        return EVALUATE(widths)

    search(journal, evaluate=evaluate, in_flight=in_flight).run()
    assert lines(journal.run_dir) == undisturbed


def test_two_in_flight_is_not_one_after_the_other(tmp_path: Path) -> None:
    """Or the tests of both would be one."""
    found = []
    for in_flight in (1, 2):
        with Journal(tmp_path / f"{in_flight}", HEADER) as journal:
            search(journal, in_flight=in_flight).run()
        found.append([line["widths"] for line in lines(tmp_path / f"{in_flight}")])
    assert found[0][:3] == found[1][:3] and found[0] != found[1]


@pytest.mark.parametrize("wrong", [0, 3, None])
def test_no_other_number_is_in_flight(journal: Journal, wrong: int | None) -> None:
    with pytest.raises(ValueError, match=f"in_flight is {wrong}, expected 1 or 2"):
        search(journal, in_flight=wrong)


def test_the_limit_is_corrected_by_what_a_proposal_may_know_of(journal: Journal, in_flight: int) -> None:
    asked = []

    def correction(trials) -> float:
        asked.append(len(trials))
        return 1 + 0.01 * len(trials)

    search(journal, schedule=3, in_flight=in_flight, correction=correction).run()
    assert asked == [max(0, number - in_flight + 1) for number in (1, 2, 3, 4)]
    asked.clear()
    (journal.run_dir / "agent.npz").unlink()
    search(journal, schedule=4, in_flight=in_flight, correction=correction).run()
    replayed = range(2, 6 - in_flight)
    assert asked == [number - in_flight + 1 for number in (*replayed, 5)]


def test_at_most_in_flight_are_pending_and_tell_is_in_order(journal: Journal) -> None:
    one = search(journal, in_flight=2)
    first, second = one.ask(), one.ask()
    assert one.pending == (first, second)
    with pytest.raises(ValueError, match="2 proposals are pending.* number 0 first"):
        one.ask()
    with pytest.raises(ValueError, match="Proposal 1 was told; expected number 0"):
        one.tell(second, EVALUATE(second.widths))
    one.tell(first, EVALUATE(first.widths))
    with pytest.raises(ValueError, match="Proposal 0 was told; expected number 1"):
        one.tell(first, EVALUATE(first.widths))
    one.tell(second, EVALUATE(second.widths))
    with pytest.raises(ValueError, match="Proposal 1 was told; none is pending"):
        one.tell(second, EVALUATE(second.widths))
    assert len(lines(journal.run_dir)) == 2 and one.pending == ()


class Clock:
    """Stands still unless it is set."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("amc_tf.search.study.time", clock)
    return clock


def test_seconds_count_from_the_last_tell_or_from_ask(journal: Journal, clock: Clock) -> None:
    one = search(journal, in_flight=2)
    told = []

    def tell(now: float) -> None:
        clock.now = now
        proposal = one.pending[0]
        told.append(one.tell(proposal, EVALUATE(proposal.widths)).seconds)

    for asked, then in [((1, 2), [5]), ((6,), [9, 10]), ((20,), [22])]:
        for clock.now in asked:
            one.ask()
        for now in then:
            tell(now)
    assert told == [4, 4, 1, 2]


def test_the_seconds_of_all_trials_are_those_of_the_search(journal: Journal, clock: Clock, in_flight: int) -> None:
    """Also where it was stopped for a while."""

    def measure(widths: tuple[int, ...], outcome: Outcome) -> None:
        clock.now += 1.5
        if clock.now == 4.5:
            raise KeyboardInterrupt

    one = search(journal, measure=measure, in_flight=in_flight).run()
    assert one.interrupted
    clock.now = 100.0
    assert sum(t.seconds for t in one.run().trials) == 8 * 1.5


def test_ctrl_c_right_after_the_agent_has_acted_costs_nothing(
    journal: Journal, undisturbed: list[dict], in_flight: int
) -> None:
    rang = []

    def digest(widths: tuple[int, ...]) -> str:
        if list(widths) == undisturbed[4]["widths"] and not rang:
            rang.append(widths)
            raise KeyboardInterrupt
        return next(line["plan"] for line in undisturbed if line["widths"] == list(widths))

    one = search(journal, digest=digest, in_flight=in_flight)
    assert one.run().interrupted
    one.run()
    assert lines(journal.run_dir) == undisturbed


def test_where_there_is_no_room_the_search_ends_and_no_plan_is_blamed(journal: Journal, in_flight: int) -> None:
    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        if len(journal.trials) >= 3:
            raise RunDirError("There is no space for candidates.")
        return EVALUATE(widths)

    with pytest.raises(RunDirError, match="no space"):
        search(journal, evaluate=evaluate, in_flight=in_flight).run()
    assert {line["state"] for line in lines(journal.run_dir)} == {"complete"}


def test_what_ends_the_search_begins_nothing_new_and_ends_what_began(journal: Journal) -> None:
    begun, ended, both = [], [], threading.Barrier(2)

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        begun.append(widths)
        both.wait(20)
        if widths == (64, 96, 64, 32):  # trial 0, which is waited for first
            raise ZeroDivisionError
        time.sleep(0.2)
        ended.append(widths)
        return EVALUATE(widths)

    with pytest.raises(ZeroDivisionError):
        search(journal, evaluate=evaluate, in_flight=2).run()
    assert len(begun) == 2 and len(ended) == 1
    assert lines(journal.run_dir) == []


def test_measuring_is_in_order_and_after_the_trials_before_are_told(journal: Journal, in_flight: int) -> None:
    measured = []

    def measure(widths: tuple[int, ...], outcome: Outcome) -> Outcome | None:
        assert threading.current_thread() is threading.main_thread()
        assert outcome == EVALUATE(widths)
        measured.append((len(journal.trials), widths))
        if len(measured) == 4:
            raise DeviceError("the phone is gone")
        return None if len(measured) == 5 else Outcome(outcome.accuracy, 7.0, 0.9, BASE, outcome.cost)

    done = search(journal, measure=measure, in_flight=in_flight).run()
    assert measured == [(t.number, t.widths) for t in done.trials]
    assert [None if t.outcome is None else t.outcome.predicted for t in done.trials] == [
        None if t.number in (3, 4) else COST(t.widths) for t in done.trials
    ]
    assert done.trials[3].reason == "DeviceError: the phone is gone"


def test_what_failed_is_not_measured(journal: Journal) -> None:
    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        raise BadPredictions("all is NaN")

    def measure(widths, outcome):
        raise AssertionError("there is no outcome")

    assert search(journal, evaluate=evaluate, measure=measure).run().trials[7].state == "failed"


def test_a_plan_is_evaluated_and_measured_once(journal: Journal, in_flight: int) -> None:
    """Unless it is proposed again while it is in flight."""
    evaluated, measured = [], []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        evaluated.append(widths)
        return EVALUATE(widths)

    def measure(widths: tuple[int, ...], outcome: Outcome) -> None:
        measured.append(widths)

    def plan(widths: tuple[int, ...]) -> str:
        return "one and all"

    done = search(journal, evaluate=evaluate, measure=measure, digest=plan, in_flight=in_flight).run()
    assert len(evaluated) == len(measured) == in_flight
    assert all(t.outcome == done.trials[0].outcome for t in done.trials[in_flight:])
    search(journal, evaluate=evaluate, measure=measure, digest=plan, in_flight=in_flight, schedule=9).run()
    assert len(evaluated) == in_flight and len(lines(journal.run_dir)) == 11


def test_a_plan_that_failed_is_evaluated_again(journal: Journal) -> None:
    attempts = []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        attempts.append(widths)
        if len(attempts) < 4:
            raise DeviceError("not yet")
        return EVALUATE(widths)

    done = search(journal, evaluate=evaluate, digest=lambda widths: "one and all").run()
    assert len(attempts) == 4 and [t.state for t in done.trials] == ["failed"] * 3 + ["complete"] * 5


def stopped_early(widths: tuple[int, ...]) -> bool:
    return widths[0] % 16 == 0


def evaluate_some_early(widths: tuple[int, ...], beat: float | None) -> Outcome:
    """A lucky estimate of some, which nothing else comes near."""
    outcome = EVALUATE(widths)
    if stopped_early(widths) and beat is not None:
        return Outcome(0.99, outcome.cost, 0.9, BASE, examples=50)
    return outcome


@pytest.mark.parametrize("limit", [0.5 * BASE, None])
def test_what_there_is_to_beat_is_the_best_whole_trial_that_is_known(
    journal: Journal, in_flight: int, limit: float | None
) -> None:
    beats = {}
    for _ in range(22):  # a restart before each, which knows no more although the journal holds more
        one = search(journal, in_flight=in_flight, limit=limit, schedule=20)
        for _ in range(in_flight):
            asked = one.ask()
            assert beats.setdefault(asked.number, asked.beat) == asked.beat
        proposal = one.pending[0]
        one.tell(proposal, evaluate_some_early(proposal.widths, proposal.beat))
    whole = [t.outcome.examples is None for t in one.trials]
    assert all(whole[:2]) and 0 < sum(whole[2:]) < 20
    for number, beat in beats.items():
        known = [t for t in one.trials[: max(0, number - in_flight + 1)] if whole[t.number] and number > 1]
        assert beat == max([t.reward for t in known if limit is None or t.outcome.cost <= limit], default=None)
    assert whole[one.best.number]


def test_the_agent_learns_from_an_estimate(journal: Journal) -> None:
    agent = FakeAgent()
    done = search(journal, agent, evaluate=evaluate_some_early).run()
    rewards = [t.reward for t in done.trials[2:-1]]
    assert [reward for *_, reward in agent.learned] == rewards and -(1 - 0.99) in rewards


@pytest.mark.parametrize("limit", [0.5 * BASE, None])
def test_where_the_cost_that_counts_is_measured_afterwards_there_is_nothing_to_beat(
    journal: Journal, limit: float | None
) -> None:
    beats = []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        beats.append(beat)
        return EVALUATE(widths)

    search(journal, evaluate=evaluate, measure=lambda widths, outcome: None, limit=limit).run()
    assert any(beat is not None for beat in beats) == (limit is not None)


def test_ask_and_tell_do_what_run_does(
    journal: Journal, undisturbed_of: tuple[Schedule | int, list[dict], list[int]], in_flight: int
) -> None:
    schedule, undisturbed, _ = undisturbed_of
    one = search(journal, schedule=schedule, in_flight=in_flight)
    for _ in undisturbed:
        proposal = one.ask()
        one.tell(proposal, EVALUATE(proposal.widths))
    assert lines(journal.run_dir) == undisturbed


def test_the_callers_digest_is_journaled(journal: Journal) -> None:
    done = search(journal, digest=lambda widths: f"plan of {sum(widths)}").run()
    assert [t.plan for t in done.trials] == [f"plan of {sum(t.widths)}" for t in done.trials]


def test_by_default_the_digest_tells_widths_apart(journal: Journal) -> None:
    done = search(journal).run()
    assert len({t.plan for t in done.trials}) == len({t.widths for t in done.trials}) > 2


@pytest.mark.parametrize("number", [0, 1, 4])
def test_ctrl_c_ends_the_run_and_another_run_goes_on(
    journal: Journal,
    undisturbed_of: tuple[Schedule | int, list[dict], list[int]],
    in_flight: int,
    number: int,
) -> None:
    schedule, undisturbed, _ = undisturbed_of
    rang = []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        if list(widths) == undisturbed[number]["widths"] and not rang:
            rang.append(widths)
            raise KeyboardInterrupt
        return EVALUATE(widths)

    one = search(journal, evaluate=evaluate, schedule=schedule, in_flight=in_flight)
    assert one.run() is one
    assert one.interrupted and len(one.trials) == number
    assert not one.run().interrupted
    assert lines(journal.run_dir) == undisturbed


def test_an_agent_that_learned_all_is_not_loaded_again(journal: Journal) -> None:
    class NeverLoaded(FakeAgent):
        def load(self, path):
            raise AssertionError("it has just saved this")

    assert len(search(journal, NeverLoaded()).run().trials) == 8


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("call, episode", [("learn", 2), ("act", 0), ("act", 4)])
def test_ctrl_c_while_the_agent_learns_or_acts_costs_nothing(
    journal: Journal, undisturbed: list[dict], in_flight: int, call: str, episode: int, before: bool
) -> None:
    class Interrupted(FakeAgent):
        rang = False

        def ring(self, where, when, at):
            if (where, when, at) == (call, before, episode) and not self.rang:
                self.rang = True
                raise KeyboardInterrupt

        def learn(self, at, *episode):
            self.ring("learn", True, at)
            super().learn(at, *episode)
            self.ring("learn", False, at)

        def act(self, state, at):
            self.ring("act", True, at)
            action = super().act(state, at)
            self.ring("act", False, at)
            return action

    one = search(journal, Interrupted(), in_flight=in_flight)
    assert one.run().interrupted
    one.run()
    assert lines(journal.run_dir) == undisturbed


def test_a_finished_search_is_not_run_again(journal: Journal, undisturbed: list[dict], in_flight: int) -> None:
    search(journal, in_flight=in_flight).run()

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        raise AssertionError("nothing is left to evaluate")

    agent = FakeAgent()
    again = search(journal, agent, evaluate=evaluate, in_flight=in_flight).run()
    assert (len(again.trials), agent.last_episode) == (8, -1)
    assert again.best is not None
    assert lines(journal.run_dir) == undisturbed


def test_a_search_may_be_prolonged(journal: Journal, undisturbed: list[dict], in_flight: int) -> None:
    search(journal, schedule=2, in_flight=in_flight).run()
    search(journal, schedule=6, in_flight=in_flight).run()
    assert lines(journal.run_dir) == undisturbed


KILLED = """
import json, os, signal, sys
from amc_tf.search.journal import Journal
from tests.search.fakes import FakeAgent, study
from tests.search.test_study import EVALUATE, HEADER, KINDS, search

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
    def learn(self, *episode):
        kill_at("learn")
        super().learn(*episode)
    def save(self, path):
        kill_at("save")
        super().save(path)

def evaluate(widths, beat):
    kill_at("evaluate")
    return EVALUATE(widths)

folder, places = sys.argv[1], json.loads(sys.argv[2])
for kind, schedule in KINDS.items():
    for in_flight in (1, 2):
        for where, count in places:
            process = os.fork()
            if not process:
                with Journal(f"{folder}/{kind}/{in_flight}/{where}{count}", HEADER) as journal:
                    search(journal, Agent(), evaluate=evaluate, in_flight=in_flight, schedule=schedule).run()
                os._exit(0)
            ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            assert ended == -signal.SIGKILL, (kind, in_flight, where, count)
"""
PLACES = [("evaluate", 0), ("evaluate", 5), ("act", 10), ("learn", 2), ("save", 2)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of searches of each kind that were killed at each of PLACES; they share a process's imports."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), json.dumps(PLACES)], cwd=ROOT, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return folder


@pytest.mark.parametrize("where, count", PLACES)
def test_a_killed_search_resumes_as_if_nothing_had_happened(
    killed: Path,
    undisturbed_of: tuple[Schedule | int, list[dict], list[int]],
    in_flight: int,
    where: str,
    count: int,
) -> None:
    schedule, undisturbed, _ = undisturbed_of
    kind = next(kind for kind, one in KINDS.items() if one is schedule)
    folder = killed / kind / f"{in_flight}" / f"{where}{count}"
    finished = lines(folder)
    assert finished == undisturbed[: len(finished)] and len(finished) < len(undisturbed)
    with Journal(folder, HEADER) as journal:
        search(journal, in_flight=in_flight, schedule=schedule).run()
    assert lines(folder) == undisturbed


class Killed(BaseException):
    """What nobody catches."""


class Mortal(FakeAgent):
    """An agent that knows which episodes it must have learned when it acts, and whose search ends at the n-th event."""

    def __init__(self, in_flight: int, ends: int | None = None, learned: Sequence[int] = range(99)):
        super().__init__()
        self.in_flight, self.ends, self.events, self.to_learn = in_flight, ends, 0, learned

    def event(self) -> None:
        self.events += 1
        if self.events == self.ends:
            raise Killed

    def act(self, state, episode):
        may_know = [one for one in self.to_learn if one <= episode - self.in_flight]
        assert self.last_episode == max(may_know, default=-1)
        action = super().act(state, episode)
        if self._step[1] in (0, 3):
            self.event()
        return action

    def learn(self, *episode):
        self.event()
        super().learn(*episode)
        self.event()

    def save(self, path):
        self.event()
        super().save(path)
        self.event()

    def load(self, path):
        super().load(path)
        self.event()


class MortalJournal(Journal):
    """Its events are the agent's."""

    agent: Mortal

    def append(self, trial):
        self.agent.event()
        super().append(trial)
        self.agent.event()


def live(folder: Path, agent: Mortal, schedule: Schedule | int = 6) -> bool:
    """One life of a search; whether it reached its end."""
    with MortalJournal(folder, HEADER) as journal:
        journal.agent = agent
        try:
            search(journal, agent, in_flight=agent.in_flight, schedule=schedule).run()
        except Killed:
            return False
    return True


def test_a_search_killed_anywhere_resumes_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed_of: tuple[Schedule | int, list[dict], list[int]], in_flight: int
) -> None:
    schedule, undisturbed, learned = undisturbed_of
    whole = Mortal(in_flight, learned=learned)
    assert live(tmp_path / "whole", whole, schedule) and whole.events > 40
    for ends in range(1, whole.events + 1):
        folder = tmp_path / f"{ends}"
        assert not live(folder, Mortal(in_flight, ends, learned), schedule)
        live(folder, Mortal(in_flight, 5 + ends % 13, learned), schedule)  # and once more soon after it went on
        assert live(folder, Mortal(in_flight, learned=learned), schedule)
        assert lines(folder) == undisturbed


@pytest.mark.parametrize("left", [2, 3, 5, 7])
def test_a_journal_that_was_cut_behind_the_agents_back_is_replayed(
    tmp_path: Path, undisturbed: list[dict], in_flight: int, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    live(folder, Mortal(in_flight))
    path = folder / "journal.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[: 1 + left]))
    live(folder, Mortal(in_flight))
    assert lines(folder) == undisturbed
    assert ("later than the journal beside it allows" in caplog.text) == (left in (3, 5))  # 2: it is not looked at
    assert sorted(file.name for file in folder.iterdir()) == ["agent.npz", "journal.jsonl", "journal.lock"]


def test_a_search_may_go_on_with_another_number_in_flight(journal: Journal) -> None:
    search(journal, Mortal(1), schedule=3, in_flight=1).run()
    search(journal, Mortal(2), schedule=5, in_flight=2).run()
    assert len(search(journal, Mortal(1), schedule=7, in_flight=1).run().trials) == 9


@pytest.mark.parametrize("agent_file", ["missing", "behind"])
def test_the_journal_is_replayed_to_an_agent_that_lacks_it(
    journal: Journal, undisturbed: list[dict], in_flight: int, agent_file: str
) -> None:
    path = journal.run_dir / "agent.npz"
    search(journal, schedule=3, in_flight=in_flight).run()
    old = path.read_bytes()  # it knows episode 0, or nothing
    search(journal, schedule=5, in_flight=in_flight).run()
    path.unlink()
    if agent_file == "behind":
        path.write_bytes(old)
    agent = FakeAgent()
    search(journal, agent, in_flight=in_flight).run()
    first = 1 if (agent_file, in_flight) == ("behind", 1) else 0
    assert [episode for episode, *_ in agent.learned] == list(range(first, 6 - in_flight))
    assert lines(journal.run_dir) == undisturbed


def test_a_failed_trial_is_replayed_as_it_was_learned(journal: Journal) -> None:
    calls = []

    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        calls.append(widths)
        if len(calls) in (4, 5):
            raise BadPredictions("all is NaN") if len(calls) == 4 else DeviceError("the phone is gone")
        return EVALUATE(widths)

    first, second = FakeAgent(), FakeAgent()
    search(journal, first, evaluate=evaluate).run()
    (journal.run_dir / "agent.npz").unlink()
    search(journal, second, schedule=7).run()
    for (*_, taught), (*_, replayed) in zip(first.learned, second.learned[:4], strict=True):
        assert taught == replayed


def test_an_agents_file_that_does_not_load_is_replaced_by_a_replay(
    journal: Journal, undisturbed: list[dict], in_flight: int, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(FakeAgent):
        def load(self, path):
            raise AgentError("The file is damaged.")

    search(journal, schedule=3, in_flight=in_flight).run()
    search(journal, Refusing(), in_flight=in_flight).run()
    assert "The file is damaged. Its episodes are replayed" in caplog.text
    assert lines(journal.run_dir) == undisturbed


def test_a_search_of_every_kind_is_replayed_to_an_agent_that_lacks_it(journal: Journal, in_flight: int) -> None:
    """All but the table's points, which the bounds do not allow."""
    first, second = FakeAgent(), FakeAgent()
    search(journal, first, schedule=EVERY_KIND, in_flight=in_flight).run()
    (journal.run_dir / "agent.npz").unlink()
    longer = Schedule(15, SAMPLES, greedy=True)
    done = search(journal, second, schedule=longer, in_flight=in_flight).run()
    assert [t.kind for t in done.trials[-2:]] == ["refined"] * 2 and second.learned == []  # nobody acts
    longer = Schedule(25, SAMPLES, greedy=True)
    search(journal, second, schedule=longer, in_flight=in_flight).run()
    for (episode, states, actions, reward), again in zip(first.learned, second.learned, strict=False):
        assert (episode, actions.tolist(), reward) == (again[0], again[2].tolist(), again[3])
        assert np.array_equal(states, again[1])
    assert len(second.learned) > len(first.learned) > 1


def test_an_agents_file_without_a_journal_is_not_loaded(
    journal: Journal, undisturbed: list[dict], in_flight: int
) -> None:
    journal.run_dir.joinpath("agent.npz").write_text("[0.5, 99]")
    search(journal, in_flight=in_flight).run()
    assert lines(journal.run_dir) == undisturbed


def test_an_agent_that_is_not_fresh_is_refused(journal: Journal) -> None:
    search(journal, schedule=2).run()
    (journal.run_dir / "agent.npz").unlink()
    agent = FakeAgent()
    agent.last_episode = 99
    with pytest.raises(RunDirError, match="agent has learned episode 99, but the first 4 trials .* give a fresh agent"):
        search(journal, agent).run()


def test_a_journal_of_other_units_is_refused(journal: Journal) -> None:
    search(journal, schedule=1).run()
    other = [unit(64, name="elsewhere")]
    with pytest.raises(RunDirError, match="of units .*unit0.*this search of .*elsewhere"):
        study(other, chain_cost(1), EVALUATE, FakeAgent(), journal)


def test_a_journal_of_other_bounds_is_refused(journal: Journal) -> None:
    search(journal, schedule=2, limit=0.9 * BASE).run()
    (journal.run_dir / "agent.npz").unlink()
    with pytest.raises(
        RunDirError, match="Trial 2 of .*journal.jsonl kept .*which the bounds of this search turn into"
    ):
        search(journal, limit=0.3 * BASE).run()


def test_units_need_names_of_their_own(journal: Journal) -> None:
    with pytest.raises(ValueError, match="'same', 'same'.*each needs its own"):
        study([unit(64, name="same")] * 2, chain_cost(2), EVALUATE, FakeAgent(), journal)


def test_a_limit_out_of_reach_is_refused_before_anything_is_evaluated(journal: Journal) -> None:
    with pytest.raises(BudgetError, match="less than the narrowest plan"):
        search(journal, limit=1.0)
    assert lines(journal.run_dir) == []


def test_every_trial_of_the_agent_is_within_the_limit_and_uses_it(journal: Journal) -> None:
    fine = units(64, 96, 64, 32, step=1)
    done = study(fine, COST, EVALUATE, FakeAgent(), journal, limit=0.5 * BASE, schedule=60).run()
    shares = np.array([t.outcome.cost / BASE for t in done.trials[2:]])
    assert (shares <= 0.5).all()
    assert (shares >= 0.97 * 0.5).mean() > 0.9


def test_numpy_numbers_of_the_evaluator_reach_the_journal(journal: Journal) -> None:
    def evaluate(widths: tuple[int, ...], beat: float | None) -> Outcome:
        outcome = EVALUATE(widths)
        return Outcome(np.float32(outcome.accuracy), np.int64(outcome.cost), np.float64(0.9), np.float32(BASE))

    done = search(journal, evaluate=evaluate, schedule=1).run()
    assert isinstance(done.best, Trial)
    assert lines(journal.run_dir)[1]["outcome"]["cost"] == int(done.trials[1].outcome.cost)


def test_costs_of_any_number_of_units(journal: Journal) -> None:
    one = [unit(64, name="only")]
    cost = ProductCost([[0, 1], [0, 0]])
    done = study(one, cost, evaluator(cost, one), FakeAgent(), journal, limit=32, schedule=3).run()
    assert [t.widths for t in done.trials] == [(64,), (32,), (32,), (32,), (32,)]
