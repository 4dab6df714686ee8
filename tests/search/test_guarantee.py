"""The accuracy guarantee: what holds it, what is best then, and that a search finds the cheapest sooner with it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from amc_tf.errors import BudgetError, ConversionError
from amc_tf.search.guarantee import Guarantee, negative_cost, negative_error_of, unheld
from amc_tf.search.journal import Journal, header
from amc_tf.search.rewards import NAMED, negative_error_log_cost
from amc_tf.search.schedule import Schedule
from amc_tf.search.scoring.racing import right_to_win
from amc_tf.search.study import Study
from amc_tf.search.trial import Outcome, Trial
from tests.search.fakes import FakeAgent, chain_cost, study, units

UNITS = units(64, 96, 64, 32, step=4)
COST = chain_cost(4)
FULL = tuple(one.size for one in UNITS)
BASE = COST(FULL)
HEADER = header("0123", 0, {"max_drop": 2.0})
GUARANTEE = Guarantee(0.02)
LEAST = 0.9 - 0.02
SENSITIVE = np.array([0.2, 0.01, 0.05, 0.3])  # what a unit costs of the accuracy when all of it goes
SCHEDULE = Schedule(36)


def evaluate(widths: tuple[int, ...], beat: float | None = None) -> Outcome:
    lost = SENSITIVE @ np.square(1 - np.divide(widths, FULL))
    return Outcome(0.9 - float(lost), COST(widths), 0.9, BASE)


def evaluate_in_parts(widths: tuple[int, ...], beat: float | None) -> Outcome:
    """As an Evaluator does it: what earns no more than `beat` is scored on a part, here with much luck."""
    outcome = evaluate(widths)
    stopped = beat is not None and negative_error_log_cost(outcome) <= beat
    return replace(outcome, accuracy=outcome.accuracy + 0.05, examples=50) if stopped else outcome


def search(journal: Journal, evaluate: Callable = evaluate, **changes) -> Study:
    arguments = {"schedule": SCHEDULE, "in_flight": 1, "guarantee": GUARANTEE, **changes}
    return study(UNITS, COST, evaluate, FakeAgent(), journal, **arguments)


def lines(folder: Path) -> list[dict]:
    """The journal but its header and the seconds."""
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()[1:]]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def trial(number: int, accuracy: float, cost: float, examples: int | None = None, kind: str = "agent") -> Trial:
    outcome = Outcome(accuracy, cost, 0.9, 1000.0, examples=examples)
    return Trial(number, "complete", kind, (8,), {"a": 0.5}, str(number), outcome, accuracy - 1, 1.0)


@pytest.fixture
def journal(tmp_path: Path):
    with Journal(tmp_path / "run", HEADER) as opened:
        yield opened


@pytest.fixture(scope="module", params=[1, 2])
def in_flight(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, in_flight: int) -> list[dict]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with Journal(folder, HEADER) as journal:
        search(journal, evaluate_in_parts, in_flight=in_flight).run()
    return lines(folder)


# ------------------------------------------------------------------------------------------------------ what is best


def test_best_is_the_cheapest_that_holds() -> None:
    trials = [trial(1, 0.91, 500), trial(2, 0.881, 300), trial(3, 0.879, 100), trial(4, 0.90, 400)]
    assert GUARANTEE.best(trials).number == 2
    assert [one.number for one in GUARANTEE.holding(trials)] == [1, 2, 4]
    assert GUARANTEE.best(trials[2:3]) is None and GUARANTEE.best([]) is None


def test_of_equal_costs_the_most_accurate_is_best() -> None:
    assert GUARANTEE.best([trial(1, 0.88, 300), trial(2, 0.89, 300), trial(3, 0.885, 300)]).number == 2


def test_what_was_scored_on_a_part_holds_nothing() -> None:
    assert GUARANTEE.best([trial(1, 0.89, 500), trial(2, 0.95, 100, examples=64)]).number == 1


@pytest.mark.parametrize("right", range(870, 900, 3))
def test_a_drop_of_exactly_so_much_holds(right: int) -> None:
    """Whatever floating point makes of the difference."""
    base = Outcome(0.9, 1000.0, 0.9, 1000.0)
    guarantee = Guarantee((900 - right) / 1000)
    held = [replace(base, accuracy=count / 1000) for count in (right - 1, right)]
    assert [one.accuracy >= guarantee.required_accuracy(one) for one in held] == [False, True]


@pytest.mark.parametrize("reward", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("max_drop, right", [(0.02, 880), (0.0, 900), (0.0205, 880), (0.5, 400), (0.95, 0)])
def test_what_there_is_to_beat_is_beaten_by_just_what_holds(reward, max_drop: float, right: int) -> None:
    """At whatever cost: it stops what cannot hold, and nothing else."""
    base = Outcome(0.9, 5e6, 0.9, 5e6)
    for cost in (2e3, 3e6):
        beat = reward(Guarantee(max_drop).outcome_to_beat(base, cost))
        assert right_to_win(reward, beat, cost, 0.9, 5e6, examples=1000) == right


def test_the_next_plan_is_cheaper_than_the_best_by_little_or_much() -> None:
    costs = [Guarantee.next_cost_limit(1000.0, np.random.default_rng(seed)) for seed in range(200)]
    assert 690 < min(costs) < 720 and 970 < max(costs) < 1000
    one, other = (Guarantee.next_cost_limit(1000.0, np.random.default_rng(3)) for _ in range(2))
    assert one == other


def test_plans_are_compared_with_those_of_about_their_cost() -> None:
    near = [trial(number, 0.5, cost) for number, cost in enumerate(np.linspace(500, 700, 30))]
    far = [trial(number, 0.5, cost) for number, cost in enumerate(np.geomspace(1000, 10**6, 30), 30)]
    mixed = [one for pair in zip(near, far, strict=True) for one in pair]
    assert Guarantee.of_similar_cost(mixed, 600.0) == near  # in their order
    few = Guarantee.of_similar_cost(far, 600.0)
    assert few == far[:16]  # the nearest ones, where none is near
    assert Guarantee.of_similar_cost([], 600.0) == [] and Guarantee.of_similar_cost(far[:3], 600.0) == far[:3]


def test_what_refinement_and_finalists_are_ranked_by() -> None:
    one, other = trial(1, 0.8, 300), trial(2, 0.85, 400)
    assert negative_error_of(one) == pytest.approx(-0.2) and negative_error_of(one) < negative_error_of(other)
    assert negative_cost(one.outcome) > negative_cost(other.outcome)


def test_where_none_holds_it_the_sentence_says_how_far_it_is() -> None:
    error = unheld(Guarantee(0.005), [trial(1, 0.85, 500), trial(2, 0.8912, 300), trial(3, 0.7, 100)])
    assert isinstance(error, BudgetError)
    assert str(error) == (
        "None of 3 smaller networks keeps the accuracy within 0.5 points of the original's 90.00%; the best has "
        "89.12%: give a larger max_drop or more episodes."
    )


# ------------------------------------------------------------------------------------------------------- the search


def test_a_search_ends_with_the_cheapest_that_holds(journal: Journal, in_flight: int) -> None:
    bests = []
    done = search(
        journal, evaluate_in_parts, in_flight=in_flight, on_episode_end=lambda trial, best: bests.append(best)
    ).run()
    whole = [t for t in done.trials if t.outcome.examples is None]
    assert 4 < len(whole) < len(done.trials) - 10
    best = min((t for t in whole if t.outcome.accuracy >= LEAST), key=lambda t: t.outcome.cost)
    assert done.best == best == bests[-1] and bests[0] == done.trials[0]  # the unpruned network holds
    costs = [one.outcome.cost for one in bests]
    assert costs == sorted(costs, reverse=True)
    assert any(t.outcome.accuracy >= LEAST and t.outcome.cost < best.outcome.cost for t in done.trials)  # by luck


def test_it_is_cheaper_than_what_the_papers_reward_alone_finds(tmp_path: Path) -> None:
    found = []
    for name, guarantee in (("with", GUARANTEE), ("without", None)):
        costs = []
        for seed in range(2):
            with Journal(tmp_path / f"{name}{seed}", HEADER) as journal:
                trials = search(journal, guarantee=guarantee, seed=seed).run().trials
            costs.append(GUARANTEE.best(trials).outcome.cost / BASE)
        found.append(costs)
    assert np.mean(found[0]) < 0.9 * np.mean(found[1]) and max(found[0]) < min(found[1])


def test_refined_plans_are_cheaper_than_the_best_that_is_known(journal: Journal, in_flight: int) -> None:
    done = search(journal, in_flight=in_flight).run()
    shares = []
    for one in done.trials:
        if one.kind == "refined":
            best = GUARANTEE.best(done.trials[: one.number - in_flight + 1])
            shares.append(one.outcome.cost / best.outcome.cost)
    assert max(shares) < 0.99 and min(shares) < 0.8 and len(shares) > 20


def test_what_cannot_hold_is_to_be_stopped(journal: Journal, in_flight: int) -> None:
    """All that the agent and the refinement propose, whatever the best is worth; not what is given."""
    beats = {}

    def watched(widths: tuple[int, ...], beat: float | None) -> Outcome:
        beats.setdefault(widths, beat)
        return evaluate(widths)

    done = search(journal, watched, in_flight=in_flight).run()
    seen = set()
    for one in done.trials:
        expected = None
        if one.number > 1:
            assert one.kind in ("agent", "refined")
            expected = negative_error_log_cost(Outcome(LEAST, one.outcome.cost, 0.9, BASE))
        if one.widths not in seen:
            assert beats[one.widths] == (expected if expected is None else pytest.approx(expected, rel=1e-6))
        seen.add(one.widths)
    assert len(seen) > 25


def test_nothing_is_stopped_where_the_cost_is_measured_afterwards(journal: Journal) -> None:
    beats = []

    def watched(widths: tuple[int, ...], beat: float | None) -> Outcome:
        beats.append(beat)
        return evaluate(widths)

    search(journal, watched, schedule=Schedule(8), measure=lambda widths, outcome: None).run()
    assert beats == [None] * len(beats)


def test_a_predicted_cost_is_corrected(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device takes a third more than was foretold: plans must cost less than the best as it was measured."""

    def refined(units, cost, limit, trials, *others) -> tuple[int, ...]:
        best = GUARANTEE.best(journal.trials)
        asked.append(1.33 * limit / best.outcome.cost)
        return FULL

    asked = []
    monkeypatch.setattr("amc_tf.search.proposer.refined", refined)
    search(
        journal,
        measure=lambda widths, outcome: replace(
            outcome, cost=outcome.cost * (1 if widths == FULL else 1.33), predicted=outcome.cost
        ),
        correction=lambda trials: 1.33,
        schedule=Schedule(20),
    ).run()
    assert len(asked) > 8 and min(asked) > 0.65 and max(asked) < 1


def test_the_refinement_learns_from_plans_of_that_cost_and_repeats_no_failure(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from the unpruned network, nor from points of the sensitivity table: there are enough of them to drown it."""

    def failing(widths: tuple[int, ...], beat: float | None) -> Outcome:
        if sum(widths) % 5 == 0:
            raise ConversionError("It cannot be made.")
        return evaluate(widths)

    def refined(units, cost, limit, trials, rng, wide, avoid, worth) -> tuple[int, ...]:
        asked.append((limit, trials, worth, list(journal.trials)))
        return tuple(int(rng.choice(one.widths)) for one in units)

    asked = []
    monkeypatch.setattr("amc_tf.search.proposer.refined", refined)
    points = tuple((i, width) for i, one in enumerate(UNITS) for width in one.widths[-5:-1])
    search(journal, failing, schedule=Schedule(60, points, greedy=True)).run()
    assert asked
    for limit, trials, worth, before in asked:
        made = [t for t in before if t.kind not in ("base", "sensitivity")]
        alike = [t for t in made if t.outcome is not None]
        assert worth is negative_error_of
        assert [t for t in trials if t.outcome is not None] == Guarantee.of_similar_cost(alike, limit) != []
        assert [t for t in trials if t.outcome is None] == [t for t in made if t.outcome is None]
    assert any(t.outcome is None for t in asked[-1][1])


@pytest.mark.parametrize("number", [1, 20])
def test_a_search_that_was_stopped_goes_on_as_it_would_have(
    journal: Journal, undisturbed: list[dict], in_flight: int, number: int
) -> None:
    rang = []

    def interrupted(widths: tuple[int, ...], beat: float | None) -> Outcome:
        if list(widths) == undisturbed[number]["widths"] and not rang:
            rang.append(widths)
            raise KeyboardInterrupt
        return evaluate_in_parts(widths, beat)

    assert search(journal, interrupted, in_flight=in_flight).run().interrupted
    assert len(lines(journal.run_dir)) == number
    search(journal, evaluate_in_parts, in_flight=in_flight).run()  # with an agent that knows nothing
    assert lines(journal.run_dir) == undisturbed


def test_where_nothing_but_the_original_holds_that_is_best(journal: Journal) -> None:
    done = search(journal, guarantee=Guarantee(0.0), schedule=Schedule(12)).run()
    assert done.best.number == 0 and GUARANTEE.holding(done.trials[1:]) != []
