"""Compares the search with simpler ways to choose widths, at equal numbers of evaluations, on one network.

python tools/compare_methods.py --network resnet56_cifar10 --episodes 200 --seeds 3 --run-dir runs/compare

All methods use the same evaluator and the same reward images. Each choice is scored on reporting images that no method
has seen (except for MobileNetV1, whose sample has no third part). Prints Markdown, and draws the best accuracy against
the number of evaluations into methods.png, in a folder of the run directory. With --finetune-epochs the networks of
--finetune are trained too, all in the same way. The same command resumes a run that was stopped.
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

FIXED = ("uniform", "shallow", "deep")  # plans that need no search
METHODS = (*FIXED, "greedy", "random", "paper", "agent")
SEEDED = ("random", "paper", "agent")
BATCH, RATE, SHIFT = 128, 0.02, 4  # of the fine-tuning: images a step, highest learning rate, pixels of augmentation


Run = tuple[str, int]  # method, seed


@dataclass(frozen=True)
class Choice:
    """The network that a method chose.

    Attributes:
        widths: that it keeps.
        reward: accuracy on the reward images.
        reporting: accuracy on the reporting images.
        kept: share of the base network's MACs.
        evaluations: number of networks that were tried.
        best: the best reward so far, after each evaluation.
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
@click.option("--only", multiple=True, type=click.Choice(METHODS), help="Run only these.")
@click.option("--finetune-epochs", default=0, show_default=True)
@click.option("--finetune", multiple=True, type=click.Choice(METHODS), default=("uniform", "agent"), show_default=True)
@click.option("--run-dir", type=click.Path(path_type=Path), default=Path("runs/compare"), show_default=True)
def main(network, episodes, seeds, budget, reward_size, calibration_size, only, finetune_epochs, finetune, run_dir):
    folder = run_dir / f"{network}-{budget:g}-{episodes}-{reward_size}-{calibration_size}"
    folder.mkdir(parents=True, exist_ok=True)
    runs = [(method, seed) for method in METHODS for seed in range(seeds if method in SEEDED else 1)]
    requested = [run for run in runs if not only or run[0] in only]
    with contextlib.ExitStack() as stack:
        experiment = Experiment(network, budget, reward_size, calibration_size, stack)
        for method, seed in requested:
            run = method, seed, episodes, folder
            stored(folder / f"{method}-{seed}.json", lambda run=run: vars(experiment.choice(*run)))
        for method, seed in requested if finetune_epochs else ():
            if method in finetune:
                widths = json.loads((folder / f"{method}-{seed}.json").read_text())["widths"]
                path = folder / f"{method}-{seed}-{finetune_epochs}-epochs.json"
                stored(path, lambda w=widths: experiment.finetuned(w, finetune_epochs))
        choices = {
            run: json.loads(path.read_text()) for run in runs if (path := folder / f"{run[0]}-{run[1]}.json").exists()
        }
        tuned = {
            run: json.loads(path.read_text())["reporting"]
            for run in runs
            if (path := folder / f"{run[0]}-{run[1]}-{finetune_epochs}-epochs.json").exists()
        }
        print(report(network, experiment.base, choices, tuned, finetune_epochs))
    draw(network, choices, folder / "methods.png")


def stored(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Reads a JSON file; if it is missing, makes its contents and writes it first."""
    from amc_tf.system.files import write

    if not path.exists():
        write(json.dumps(make()).encode(), path)
    return json.loads(path.read_text())


class Experiment:
    """One network with its data and its evaluator.

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
        if network == "mobilenet_v1_imagenet":  # its sample has only two parts: even and odd images
            (x, y), reporting = self._data.test, self._data.test
        else:
            (x, y), reporting = self._data.halves()
        self._pruner = ChannelPruner(model)
        self._macs = counts.macs(self._pruner.groups, self._pruner.units)
        self._limit = budget * self._macs(self._pruner.full)
        scorer, base = stack.enter_context(Scorer()), convert(model)
        calibration_data = Split((self._data.sample("train", calibration)[0],), None)
        scoring = Scoring(Split((x[:reward_size],), y[:reward_size]), reward=negative_error)
        self._evaluator = Evaluator(self._pruner, self._macs, base, scorer, calibration_data, scoring)
        self._reporting = EvalSet.of(Split((reporting[0],), reporting[1]), base, scorer)
        self.base = self._reporting.base_accuracy

    def choice(self, method: str, seed: int, episodes: int, folder: Path) -> Choice:
        """Runs a method and scores its network."""
        if method in FIXED:
            widths, trials = self._fixed(method), []
            reward = self._evaluator(widths).accuracy
        else:
            best, trials = self._search(method, seed, episodes, folder / f"{method}-{seed}")
            widths, reward = best.widths, best.outcome.accuracy
        whole = [t.outcome.accuracy if self._counts(t) else 0.0 for t in trials] or [reward]
        return Choice(
            widths=widths,
            reward=reward,
            reporting=self._reporting.accuracy(self._evaluator.tflite(widths)),
            kept=self._macs(widths) / self._macs(self._pruner.full),
            evaluations=max(1, len(trials) - 2),  # every search begins with the base network and the uniform plan
            best=tuple(np.maximum.accumulate(whole).tolist()),
        )

    def _counts(self, trial: Any) -> bool:
        whole = trial.outcome is not None and trial.outcome.examples is None
        return whole and trial.kind != "sensitivity" and trial.outcome.cost <= self._limit

    def _fixed(self, method: str) -> tuple[int, ...]:
        from amc_tf.search.proposers.handmade import deep, shallow, uniform

        plan = {"uniform": uniform, "shallow": shallow, "deep": deep}[method]
        return plan(self._pruner.units, self._macs, self._limit)

    def _search(self, method: str, seed: int, episodes: int, run_dir: Path) -> tuple[Any, list]:
        """Runs a search. Returns its best trial and all trials."""
        from amc_tf.search.agent.ddpg_client import DdpgAgent
        from amc_tf.search.agent.random_agent import RandomAgent
        from amc_tf.search.journal import Journal, header
        from amc_tf.search.problem import SearchProblem
        from amc_tf.search.proposer import ProposerSettings
        from amc_tf.search.proposers.sensitivity import samples_to_measure
        from amc_tf.search.schedule import Schedule
        from amc_tf.search.study import Study

        units = self._pruner.units
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
            settings = ProposerSettings(schedule, seed=seed, digest=lambda widths: self._pruner.plan(widths).digest)
            study = Study(problem, settings, self._evaluator, agent, journal).run()
            if study.interrupted:
                raise KeyboardInterrupt
        if method == "greedy":  # even if the uniform plan is better
            return next(trial for trial in study.trials if trial.kind == "greedy"), list(study.trials)
        return study.best, list(study.trials)

    def finetuned(self, widths: list[int], epochs: int) -> dict:
        """Trains a network from the weights that were scored. Returns its accuracy on the reporting images."""
        import keras

        from amc_tf.tflite.conversion.keras_to_tflite import convert
        from models.train import fit

        plan = self._pruner.plan(widths)
        model = self._pruner.apply(plan, self._evaluator.weights(plan))
        keras.utils.set_random_seed(0)
        fit(keras, model, self._data.train, epochs=epochs, batch=BATCH, rate=RATE, shift=SHIFT, warmup=0)
        return {"reporting": self._reporting.accuracy(convert(model))}


def report(network: str, base: float, choices: dict[Run, dict[str, Any]], tuned: dict[Run, float], epochs: int) -> str:
    """Markdown, one row per method: mean and range over its seeds."""
    head = f"| {network} (base {base:.1%}) | evaluations | MACs kept | reward images | reporting images"
    lines = [head + " | less uniform |" + (f" after {epochs} epochs | less base |" if tuned else "")]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    uniform = choices.get(("uniform", 0), {}).get("reporting")
    for method in METHODS:
        chosen = [choice for (name, _), choice in choices.items() if name == method]
        if not chosen:
            continue
        reporting = [choice["reporting"] for choice in chosen]
        gain = "" if uniform is None else spread([100 * (value - uniform) for value in reporting], "{:+.2f}")
        cells = [
            method,
            str(max(choice["evaluations"] for choice in chosen)),
            f"{max(choice['kept'] for choice in chosen):.4f}",
            spread([100 * choice["reward"] for choice in chosen]),
            spread([100 * value for value in reporting]),
            gain,
        ]
        if tuned:
            after = [value for (name, _), value in tuned.items() if name == method]
            cells += [spread([100 * v for v in after]), spread([100 * (v - base) for v in after], "{:+.2f}")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: list[float], form: str = "{:.2f}") -> str:
    """The mean, with the range if there are several values."""
    if not values:
        return ""
    mean = form.format(np.mean(values))
    return mean if len(values) == 1 else f"{mean} ({form.format(min(values))} to {form.format(max(values))})"


def draw(network: str, choices: dict[Run, dict[str, Any]], path: Path) -> None:
    """Draws the best reward so far against evaluations: a line for the mean of a method, a band for its range."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for method in METHODS:
        chosen = [choice for (name, _), choice in choices.items() if name == method]
        if not chosen:
            continue
        if method not in SEEDED:
            axes.axhline(chosen[0]["reward"], linestyle="--", linewidth=1, color="grey")
            axes.annotate(method, (1, chosen[0]["reward"]), xycoords=("axes fraction", "data"), fontsize=8)
            continue
        lines = np.array([choice["best"][1:] for choice in chosen])  # without the base network
        axes.plot(lines.mean(axis=0), label=f"{method}, {len(chosen)} seeds")
        axes.fill_between(range(lines.shape[1]), lines.min(axis=0), lines.max(axis=0), alpha=0.2)
    axes.set(xlabel="networks tried", ylabel="best accuracy on the reward images", title=network)
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
