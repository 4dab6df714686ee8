"""Compresses one network, trains the result with and without distillation, and quantises what came of it.

python tools/finetune_table.py --network resnet56_cifar10 --epochs 2 --run-dir runs/finetune

Every row is scored on the reporting images as a .tflite, by the same scorer. Training takes all training images,
shifted and mirrored, in the same order for both. A run that was stopped goes on where it was when the same command is
given again; --epochs 0 only compresses and quantises.
"""

import os
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

BATCH, RATE, SHIFT = 128, 0.02, 4  # images a step, highest learning rate, pixels of augmentation


@click.command(help=__doc__)
@click.option("--network", default="resnet56_cifar10", show_default=True)
@click.option("--budget", default=0.5, show_default=True, help="Share of the MACs.")
@click.option("--episodes", default=120, show_default=True)
@click.option("--reward-size", default=2000, show_default=True)
@click.option("--epochs", default=2, show_default=True, help="Of each training.")
@click.option("--run-dir", type=click.Path(path_type=Path), default=Path("runs/finetune"), show_default=True)
def main(network, budget, episodes, reward_size, epochs, run_dir):
    import keras

    import amc_tf
    import models
    from models import datasets

    data = datasets.load(models.TRAINED[network][2])
    if network.startswith("mobilenet"):  # its sample of ImageNet has no third part
        reward, reporting = data.sample("test", reward_size), data.test
    else:
        reward, reporting = data.halves()
        reward = tuple(part[:reward_size] for part in reward)
    base = models.load(network, keras)
    result = amc_tf.compress(
        base, target="macs", budget=budget, train_data=data.sample("train", 256), reward_data=reward,
        validation_data=reporting, episodes=episodes, run_dir=run_dir / network,
    )  # fmt: skip
    rows = {"base": base, "compressed": result.model}
    for name, teacher in (("with distillation", base), ("without", None)) if epochs else ():
        path = run_dir / f"{network}-{epochs}-{name.replace(' ', '-')}.keras"
        rows[f"{epochs} epochs {name}"] = trained(keras, result.model, teacher, data.train, epochs, path)
    print(f"| {network} | accuracy |\n|---|---|")
    for name, model in rows.items():
        print(f"| {name} | {accuracy(model, reporting):.2%} |", flush=True)


def trained(keras: Any, model: Any, teacher: Any, images: tuple, epochs: int, path: Path) -> Any:
    """The model trained on, or what an earlier start left of it."""
    import amc_tf
    from models.train import augmented_data

    if not path.exists():
        batches = augmented_data(keras, *images, BATCH, SHIFT, seed=0)
        tuned = amc_tf.finetune(model, batches, epochs=epochs, learning_rate=RATE, teacher=teacher, verbose=2)
        path.parent.mkdir(parents=True, exist_ok=True)
        tuned.save(path.with_suffix(".part.keras"))
        path.with_suffix(".part.keras").replace(path)
    return keras.saving.load_model(path)


def accuracy(model: Any, images: tuple) -> float:
    """Of the model's .tflite on images with labels."""
    from amc_tf.search.metrics import accuracy as score
    from amc_tf.tflite.convert import convert
    from amc_tf.tflite.score import Scorer

    with Scorer() as scorer:
        return score(images[1], scorer.run(convert(model), scorer.hold((images[0],)))[0])


if __name__ == "__main__":
    main()
