"""Compresses one network, trains the result with and without distillation, and quantises all of them.

python tools/finetune_table.py --network resnet56_cifar10 --epochs 2 --run-dir runs/finetune

Every row is a .tflite, scored on the reporting images by the same scorer and timed on this computer, all in turns.
Training uses all training images, shifted and mirrored, in the same order for both. --epochs 0 only compresses and
quantises. The same command resumes a run that was stopped.
"""

import os
import sys
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools

ROUNDS = 7  # of the timing


@click.command(help=__doc__)
@click.option("--network", default="resnet56_cifar10", show_default=True)
@click.option("--budget", default=0.5, show_default=True, help="Share of the MACs.")
@click.option("--episodes", default=120, show_default=True)
@click.option("--reward-size", default=2000, show_default=True)
@click.option("--calibration-size", default=256, show_default=True)
@click.option("--epochs", default=2, show_default=True, help="Of each training.")
@click.option("--batch", default=128, show_default=True, help="Images per step.")
@click.option("--rate", default=0.02, show_default=True, help="Highest learning rate.")
@click.option("--shift", default=4, show_default=True, help="Most pixels that an image is shifted by.")
@click.option("--no-labels", is_flag=True, help="Learn from the teacher only, for images with poor labels.")
@click.option("--draws", default=1, show_default=True, help="Number of calibration sets, each with int8 files.")
@click.option("--run-dir", type=click.Path(path_type=Path), default=Path("runs/finetune"), show_default=True)
def main(
    network, budget, episodes, reward_size, calibration_size, epochs, batch, rate, shift, no_labels, draws, run_dir
):  # fmt: skip
    import keras

    import amc_tf
    import models
    from models import datasets
    from models.train import augmented_data

    data = datasets.load(models.TRAINED[network][2])
    if network.startswith("mobilenet"):  # its sample of ImageNet has no third part
        reward, reporting = data.sample("test", reward_size), data.test
    else:
        reward, reporting = data.halves()
        reward = tuple(part[:reward_size] for part in reward)
    base = models.load(network, keras)
    result = amc_tf.compress(
        base, target="macs", budget=budget, train_data=data.sample("train", calibration_size), reward_data=reward,
        validation_data=reporting, episodes=episodes, run_dir=run_dir / network,
    )  # fmt: skip
    rows = {"base": base, "compressed": result.model}
    settings = {"epochs": epochs, "learning_rate": rate, "verbose": 2}
    trainings = {
        "with distillation": {"teacher": base},
        "without": {},
    }
    if no_labels:
        trainings = {"of distillation alone": {"teacher": base, "distill_weight": 1.0, "temperature": 1.0}}
    for name, distillation in trainings.items() if epochs else ():
        batches = augmented_data(keras, *data.train, batch, shift, seed=0)
        path = run_dir / f"{network}-{epochs}-{rate:g}-{name.replace(' ', '-')}.keras"
        rows[f"{epochs} epochs {name}"] = trained(keras, result.model, batches, settings | distillation, path)
    calibrations = [data.sample("train", calibration_size, seed=seed)[0] for seed in range(draws)]
    print(table(network, rows, calibrations, reporting), flush=True)


def trained(keras: Any, model: Any, batches: Any, settings: dict[str, Any], path: Path) -> Any:
    """Trains a model, or loads what an earlier run trained."""
    import amc_tf

    if not path.exists():
        tuned = amc_tf.finetune(model, batches, **settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        tuned.save(path.with_suffix(".part.keras"))
        path.with_suffix(".part.keras").replace(path)
    return keras.saving.load_model(path)


def table(network: str, rows: dict[str, Any], calibrations: list[Any], reporting: tuple) -> str:
    """Markdown, one row per network and format: accuracy, bytes, and time in turns with the float base.

    The accuracy of int8 is the mean over the calibrations; bytes and time are those of the first calibration.
    """
    import tempfile

    from amc_tf.devices import HostDevice
    from amc_tf.devices.interleave import interleave
    from amc_tf.search.scoring.metrics import score
    from amc_tf.tflite.conversion.keras_to_tflite import convert
    from amc_tf.tflite.conversion.quantize import quantized
    from amc_tf.tflite.runtime.scorer import Scorer, outputs

    files = {}
    for name, model in rows.items():
        files[name, "float"] = [convert(model)]
        files[name, "int8"] = [quantized(model, "int8", [calibration]) for calibration in calibrations]
    with Scorer() as scorer:
        dataset = scorer.share((reporting[0],))
        accuracies = {
            key: [score(None, reporting[1], outputs(scorer.run(file, dataset))) for file in versions]
            for key, versions in files.items()
        }
    with HostDevice() as device, tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, (file, *_) in enumerate(files.values()):
            paths.append(Path(folder) / f"{number}.tflite")
            paths[-1].write_bytes(file)
        ratios = interleave(device, paths, rounds=ROUNDS, min_runs=50, min_seconds=0.5).ratios
    lines = [f"| {network} | format | accuracy | bytes | time, of the float base |", "|---|---|---|---|---|"]
    for (name, format), ratio in zip(files, ratios, strict=True):
        time = "1" if ratio.low is None else f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
        values, size = accuracies[name, format], len(files[name, format][0])
        accuracy = f"{sum(values) / len(values):.2%}"
        if len(values) > 1:
            accuracy += f" ({min(values):.2%} to {max(values):.2%})"
        lines.append(f"| {name} | {format} | {accuracy} | {size:,} | {time} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
