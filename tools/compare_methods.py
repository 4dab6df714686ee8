"""Compares the search with every simpler way to choose widths, at equal evaluations, on one network.

python tools/compare_methods.py --network resnet56_cifar10 --episodes 200 --seeds 3 --run-dir runs/compare

Each method chooses by the same evaluator on the same reward images, and its choice is scored on the reporting images,
which no method has seen (but on MobileNetV1, whose sample has no third part). Prints Markdown and draws the best so far
by evaluations, methods.png in a folder of the run directory. With --finetune-epochs the networks of --finetune are
trained as well, all in the same way. A run that was stopped goes on where it was when the same command is given again.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools

GIVEN = ("uniform", "shallow", "deep")
METHODS = (*GIVEN, "greedy", "random", "paper", "agent")
SEEDED = ("random", "paper", "agent")
BATCH, RATE, SHIFT = 128, 0.02, 4  # of the fine-tuning: images a step, highest learning rate, pixels of augmentation


@dataclass(frozen=True)
class Choice:
    """The network that a method chose.

    Attributes:
        widths: that it keeps.
        reward: accuracy on the reward images.
        reporting: accuracy on the reporting images.
        kept: share of the base network's MACs.
        evaluations: networks that were tried.
        best: the best reward so far after each of them.
    """

    widths: tuple[int, ...]
    reward: float
    reporting: float
    kept: float
    evaluations: int
    best: tuple[float, ...] = field(repr=False)


@click.command(help=__doc__)
@click.option("--network", default="resnet56_cifar10", show_default=True)
@click.option("--episodes", default=200, show_default=True, help="Networks that a search may try.")
@click.option("--seeds", default=3, show_default=True, help="How many, counted from 0.")
@click.option("--budget", default=0.5, show_default=True, help="Share of the MACs.")
@click.option("--reward-size", default=5000, show_default=True)
@click.option("--calibration-size", default=256, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(METHODS), help="Run only these; show what is there.")
@click.option("--finetune-epochs", default=0, show_default=True)
@click.option("--finetune", multiple=True, type=click.Choice(METHODS), default=("uniform", "agent"), show_default=True)
@click.option("--run-dir", type=click.Path(path_type=Path), default=Path("runs/compare"), show_default=True)
def main(network, episodes, seeds, budget, reward_size, calibration_size, only, finetune_epochs, finetune, run_dir):
    folder = run_dir / f"{network}-{budget:g}-{episodes}-{reward_size}-{calibration_size}"
    folder.mkdir(parents=True, exist_ok=True)
    runs = [(method, seed) for method in METHODS for seed in range(seeds if method in SEEDED else 1)]
    mine = [run for run in runs if not only or run[0] in only]
    with contextlib.ExitStack() as stack:
        bench = MeasurementSession(network, budget, reward_size, calibration_size, stack)
        for method, seed in mine:
            run = method, seed, episodes, folder
            stored(folder / f"{method}-{seed}.json", lambda run=run: vars(bench.choice(*run)))
        for method, seed in mine if finetune_epochs else ():
            if method in finetune:
                widths = json.loads((folder / f"{method}-{seed}.json").read_text())["widths"]
                path = folder / f"{method}-{seed}-{finetune_epochs}-epochs.json"
                stored(path, lambda w=widths: bench.finetuned(w, finetune_epochs))
        choices = {
            run: json.loads(path.read_text()) for run in runs if (path := folder / f"{run[0]}-{run[1]}.json").exists()
        }
        tuned = {
            run: json.loads(path.read_text())["reporting"]
            for run in runs
            if (path := folder / f"{run[0]}-{run[1]}-{finetune_epochs}-epochs.json").exists()
        }
        print(report(network, bench.base, choices, tuned, finetune_epochs))
    draw(network, choices, folder / "methods.png")


def stored(path: Path, make: Callable[[], dict]) -> dict:
    """What was made before, else what is made now."""
    from amc_tf.system.files import write

    if not path.exists():
        write(json.dumps(make()).encode(), path)
    return json.loads(path.read_text())


class MeasurementSession:
    """One network with its data and evaluator.

    Attributes:
        base: accuracy of the whole network on the reporting images.
    """

    def __init__(self, network: str, budget: float, reward_size: int, calibration: int, stack: contextlib.ExitStack):
        import keras

        import models
        from amc_tf.cost import counts
        from amc_tf.data.splits import Split
        from amc_tf.pruning.channel import ChannelPruner
        from amc_tf.search.rewards import negative_error
        from amc_tf.search.scoring.evalset import EvalSet
        from amc_tf.search.scoring.evaluator import Evaluator, Scoring
        from amc_tf.tflite.conversion.keras_to_tflite import convert
        from amc_tf.tflite.runtime.scorer import Scorer
        from models import datasets

        self._network, model = network, models.load(network, keras)
        self._data = datasets.load(models.TRAINED[network][2])
        if network == "mobilenet_v1_imagenet":  # its sample has two parts only: even images and odd ones
            (x, y), reporting = self._data.test, self._data.test
        else:
            (x, y), reporting = self._data.halves()
        self._pruning = ChannelPruner(model)
        self._macs = counts.macs(self._pruning.groups, self._pruning.units)
        self._limit = budget * self._macs(self._pruning.full)
        scorer, base = stack.enter_context(Scorer()), convert(model)
        self._evaluator = Evaluator(
            self._pruning, self._macs, base, scorer, Split((self._data.sample("train", calibration)[0],), None),
            Scoring(Split((x[:reward_size],), y[:reward_size]), reward=negative_error),
        )  # fmt: skip
        self._reporting = EvalSet.of(Split((reporting[0],), reporting[1]), base, scorer)
        self.base = self._reporting.base_accuracy

    def choice(self, method: str, seed: int, episodes: int, folder: Path) -> Choice:
        """Runs a method."""
        if method in GIVEN:
            widths, trials = self._given(method), []
            reward = self._evaluator(widths).accuracy
        else:
            best, trials = self._search(method, seed, episodes, folder / f"{method}-{seed}")
            widths, reward = best.widths, best.outcome.accuracy
        whole = [t.outcome.accuracy if self._counts(t) else 0.0 for t in trials] or [reward]
        return Choice(
            widths=widths,
            reward=reward,
            reporting=self._reporting.accuracy(self._evaluator.tflite(widths)),
            kept=self._macs(widths) / self._macs(self._pruning.full),
            evaluations=max(1, len(trials) - 2),  # the base network and the uniform plan come first in all of them
            best=tuple(np.maximum.accumulate(whole).tolist()),
        )

    def _counts(self, trial: Any) -> bool:
        whole = trial.outcome is not None and trial.outcome.examples is None
        return whole and trial.kind != "sensitivity" and trial.outcome.cost <= self._limit

    def _given(self, method: str) -> tuple[int, ...]:
        from amc_tf.search.budget import uniform
        from amc_tf.search.proposers.baselines import deep, shallow

        plan = {"uniform": uniform, "shallow": shallow, "deep": deep}[method]
        return plan(self._pruning.units, self._macs, self._limit)

    def _search(self, method: str, seed: int, episodes: int, run_dir: Path) -> tuple[Any, list]:
        """The best trial of a search, and all trials."""
        from amc_tf.search.agent.ddpg_client import DdpgAgent
        from amc_tf.search.journal import Journal, header
        from amc_tf.search.problem import SearchProblem
        from amc_tf.search.proposer import ProposerSettings
        from amc_tf.search.proposers.baselines import RandomAgent
        from amc_tf.search.proposers.sensitivity import samples_to_measure
        from amc_tf.search.schedule import Schedule
        from amc_tf.search.study import Study

        units = self._pruning.units
        if method == "greedy":
            samples = samples_to_measure(units)
            schedule = Schedule(len(samples) + 1, samples, greedy=True)
        else:
            schedule = Schedule.of(units, episodes, paper=method != "agent")
        with contextlib.ExitStack() as stack:
            journal = stack.enter_context(Journal(run_dir, header(self._network, seed, {"method": method})))
            if method in ("greedy", "random"):
                agent: Any = RandomAgent(seed=seed)
            else:
                agent = stack.enter_context(
                    DdpgAgent(
                        episodes=schedule.acting,
                        warmup_episodes=schedule.warmup,
                        seed=seed,
                        paper=schedule.paper,
                    )
                )
            problem = SearchProblem(units, self._macs, self._limit)
            settings = ProposerSettings(schedule, seed=seed, digest=lambda widths: self._pruning.plan(widths).digest)
            search = Study(problem, settings, self._evaluator, agent, journal).run()
            if search.interrupted:
                raise KeyboardInterrupt
        if method == "greedy":  # not the uniform plan, should that be better
            return next(trial for trial in search.trials if trial.kind == "greedy"), list(search.trials)
        return search.best, list(search.trials)

    def finetuned(self, widths: list[int], epochs: int) -> dict:
        """Trains a network from where its score was taken: accuracy on the reporting images afterwards."""
        import keras

        from amc_tf.tflite.conversion.keras_to_tflite import convert
        from models.train import fit

        plan = self._pruning.plan(widths)
        model = self._pruning.apply(plan, self._evaluator.weights(plan))
        keras.utils.set_random_seed(0)
        fit(keras, model, self._data.train, epochs=epochs, batch=BATCH, rate=RATE, shift=SHIFT, rise=0)
        return {"reporting": self._reporting.accuracy(convert(model))}


def report(network: str, base: float, choices: dict, tuned: dict, epochs: int) -> str:
    """Markdown: one row a method, mean and spread over its seeds."""
    head = f"| {network} (base {base:.1%}) | evaluations | MACs kept | reward images | reporting images"
    lines = [head + " | less uniform |" + (f" after {epochs} epochs | less base |" if tuned else "")]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    even = choices.get(("uniform", 0), {}).get("reporting")
    for method in METHODS:
        found = [choice for (name, _), choice in choices.items() if name == method]
        if not found:
            continue
        reporting = [choice["reporting"] for choice in found]
        gain = "" if even is None else spread([100 * (value - even) for value in reporting], "{:+.2f}")
        cells = [
            method,
            str(max(choice["evaluations"] for choice in found)),
            f"{max(choice['kept'] for choice in found):.4f}",
            spread([100 * choice["reward"] for choice in found]),
            spread([100 * value for value in reporting]),
            gain,
        ]
        if tuned:
            after = [value for (name, _), value in tuned.items() if name == method]
            cells += [spread([100 * v for v in after]), spread([100 * (v - base) for v in after], "{:+.2f}")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: list[float], form: str = "{:.2f}") -> str:
    """Mean, and the least and greatest where there are several."""
    if not values:
        return ""
    mean = form.format(np.mean(values))
    return mean if len(values) == 1 else f"{mean} ({form.format(min(values))} to {form.format(max(values))})"


def draw(network: str, choices: dict, path: Path) -> None:
    """The best so far by evaluations: a line for each method's mean, a band from its worst seed to its best."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for method in METHODS:
        found = [choice for (name, _), choice in choices.items() if name == method]
        if not found:
            continue
        if method not in SEEDED:
            axes.axhline(found[0]["reward"], linestyle="--", linewidth=1, color="grey")
            axes.annotate(method, (1, found[0]["reward"]), xycoords=("axes fraction", "data"), fontsize=8)
            continue
        lines = np.array([choice["best"][1:] for choice in found])  # without the base network
        axes.plot(lines.mean(axis=0), label=f"{method}, {len(found)} seeds")
        axes.fill_between(range(lines.shape[1]), lines.min(axis=0), lines.max(axis=0), alpha=0.2)
    axes.set(xlabel="networks tried", ylabel="best accuracy on the reward images", title=network)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
