"""Measures single-weight pruning on one network: accuracy, and bytes with and without the zeros in the file.

python tools/magnitude_table.py --network resnet56_cifar10 --keep 0.4 --episodes 60 --finetune-epochs 2
python tools/magnitude_table.py --network resnet56_cifar10 --max-drop 0.5 --episodes 60

The search chooses keep ratios of kernels on reward images. The table compares its choice with the same ratio everywhere
and with one threshold for all kernels, all made and scored in the same way on the reporting images. These images chose
nothing, except for MobileNetV1: its sample has no third part, so they are its reward images. Prints Markdown. The same
command resumes a run that was stopped.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools

BATCH, SHIFT = 128, 4  # of the fine-tuning: images per step, pixels of augmentation


@click.command(help=__doc__)
@click.option("--network", default="resnet56_cifar10", show_default=True)
@click.option("--keep", "budgets", multiple=True, type=float, default=(0.5, 0.2), show_default=True,
              help="Share of the params that is kept.")  # fmt: skip
@click.option("--max-drop", type=float, help="Instead: points of accuracy that may be lost on the reward images.")
@click.option("--episodes", default=100, show_default=True, help="Networks that the search may try.")
@click.option("--seed", default=0, show_default=True)
@click.option("--reward-size", default=5000, show_default=True)
@click.option("--calibration-size", default=256, show_default=True)
@click.option("--min-keep", type=float, help="Least keep ratio of a kernel; default: the paper's.")
@click.option("--finetune-epochs", default=0, show_default=True, help="Epochs to train the search's choice.")
@click.option("--run-dir", type=click.Path(path_type=Path), default=Path("runs/magnitude"), show_default=True)
def main(network, budgets, max_drop, episodes, seed, reward_size, calibration_size, min_keep, finetune_epochs, run_dir):
    import keras

    import models
    from amc_tf.pipeline.pruning_methods import without_zeros
    from amc_tf.result import packed
    from amc_tf.system.files import write
    from amc_tf.tflite.conversion.keras_to_tflite import convert
    from amc_tf.tflite.runtime.scorer import Scorer
    from models import datasets

    model, data = models.load(network, keras), datasets.load(models.TRAINED[network][2])
    (x, y), reporting = (data.test, data.test) if network == "mobilenet_v1_imagenet" else data.halves()
    base = convert(model)
    with Scorer() as scorer:
        calibration, _ = data.sample("train", calibration_size)
        experiment = Experiment(model, calibration, reporting, base, min_keep, scorer)
        print(f"| {network} | kept | before fine-tune | after | file | gzip | gzip with zeros |")
        print("|---|---|---|---|---|---|---|")
        print(row("base", 1, experiment.base, "", base, base, packed))
        for budget in budgets if max_drop is None else (None,):
            goal = f"drop{max_drop:g}" if budget is None else f"{budget:g}"
            folder = run_dir / f"{network}-{goal}-{episodes}-{reward_size}-{calibration_size}-{min_keep}-{seed}"

            def stored(name: str, make: Callable[[], dict], folder: Path = folder) -> dict:
                path = folder / f"{name}.json"
                if not path.exists():
                    write(json.dumps(make()).encode(), path)
                return json.loads(path.read_text())

            result = experiment.search((x[:reward_size], y[:reward_size]), budget, max_drop, episodes, seed, folder)
            chosen = experiment.pruner.widths(result.plan)
            limit = experiment.params(chosen) if budget is None else budget * experiment.params(experiment.pruner.full)
            uniform, threshold = experiment.uniform(limit), experiment.threshold(limit)
            plans = {"uniform": uniform, "one threshold": threshold, "search": chosen}
            for name, widths in plans.items():
                dense = experiment.evaluator.tflite(widths)
                accuracy = stored(name, lambda d=dense: {"accuracy": experiment.accuracy(d)})["accuracy"]
                after = ""
                if name == "search" and finetune_epochs:
                    tuned = stored(
                        f"{name}-{finetune_epochs}-epochs",
                        lambda r=result: {"accuracy": experiment.tuned(r, data.train, finetune_epochs)},
                    )
                    after = f"{tuned['accuracy']:.2%}"
                kept = experiment.params(widths) / experiment.params(experiment.pruner.full)
                print(row(name, kept, accuracy, after, without_zeros(dense), dense, packed), flush=True)
            if budget is None:
                outcome = next(t.outcome for t in result.trials if t.widths == chosen and t.outcome is not None)
                drop = outcome.base_accuracy - outcome.accuracy
                print(f"drop on the reward images: {drop:.2%}, of {max_drop:g} % allowed")


class Experiment:
    """One network, its evaluator and its reporting images.

    Attributes:
        base: accuracy of the whole network on the reporting images.
    """

    def __init__(
        self, model: Any, calibration: Any, reporting: tuple, base: bytes, min_keep: float | None, scorer: Any
    ):
        from amc_tf.cost import nonzero
        from amc_tf.data.splits import Split
        from amc_tf.pruning.magnitude import MagnitudePruner
        from amc_tf.search.scoring.evaluator import Evaluator, Scoring

        self._model, self._calibration, self._reporting, self._min_keep = model, calibration, reporting, min_keep
        self.pruner = MagnitudePruner(model, min_keep=min_keep)
        self.params = nonzero.params(self.pruner)
        scoring = Scoring(Split((reporting[0],), reporting[1]))
        self.evaluator = Evaluator(self.pruner, self.params, base, scorer, Split((calibration,), None), scoring)
        self.base = self.evaluator.eval_set.base_accuracy

    def accuracy(self, tflite: bytes) -> float:
        """The accuracy on the reporting images."""
        return self.evaluator.eval_set.accuracy(tflite)

    def uniform(self, limit: float) -> tuple[int, ...]:
        """The plan that keeps the same ratio of every kernel."""
        from amc_tf.search.proposers.handmade import uniform

        return uniform(self.pruner.units, self.params, limit)

    def threshold(self, limit: float) -> tuple[int, ...]:
        """The plan of one threshold for all kernels, without bounds."""
        return self.pruner.threshold_widths(self.params, limit, bounded=False)

    def search(
        self, reward: tuple, budget: float | None, max_drop: float | None, episodes: int, seed: int, folder: Path
    ) -> Any:
        """The Result of compress()."""
        import amc_tf

        return amc_tf.compress(
            self._model, method="magnitude", target="params", budget=budget, max_drop=max_drop,
            train_data=self._calibration, calibration_size=len(self._calibration), reward_data=reward,
            validation_data=self._reporting, episodes=episodes, seed=seed, min_keep=self._min_keep, run_dir=folder,
        )  # fmt: skip

    def tuned(self, result: Any, train: tuple, epochs: int) -> float:
        """Fine-tunes a result. Returns the accuracy on the reporting images."""
        import keras

        import amc_tf
        from amc_tf.tflite.conversion.keras_to_tflite import convert
        from models.train import augmented_data

        images = augmented_data(keras, *train, BATCH, SHIFT, 0)
        model = amc_tf.finetune(result.model, images, plan=result.plan, epochs=epochs, verbose=2)
        model.save(result.run_dir / f"tuned-{epochs}-epochs.keras")
        return self.accuracy(convert(model))


def row(name: str, kept: float, before: float, after: str, file: bytes, dense: bytes, packed: Callable) -> str:
    """A line of the table; bytes in kB."""
    sizes = (len(file), packed(file), packed(dense))
    return f"| {name} | {kept:.1%} | {before:.2%} | {after} | " + " | ".join(f"{n / 1e3:,.0f} kB" for n in sizes) + " |"


if __name__ == "__main__":
    main()
