"""Shows whether the paper's agent learns: one search a seed, and the mean reward of every 30 episodes.

python tools/learning_curve.py --network resnet56_cifar10 --episodes 150 --seeds 3 --run-dir runs/learning

Prints Markdown. Rewards are of test images that the report never uses; the accuracies at the end are of the others.
A run that was stopped goes on where it was when the same command is given again.
"""

import os
import sys
from pathlib import Path

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools


@click.command(help=__doc__)
@click.option("--network", default="resnet56_cifar10", show_default=True)
@click.option("--episodes", default=150, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="How many, counted from 0.")
@click.option("--target", default="macs", show_default=True)
@click.option("--device", help="For target latency: adb, adb:SERIAL or host.")
@click.option("--budget", default=0.5, show_default=True)
@click.option("--block", default=30, show_default=True, help="Episodes a mean is taken over.")
@click.option("--reward-size", default=1000, show_default=True)
@click.option("--calibration-size", default=256, show_default=True)
@click.option("--run-dir", type=click.Path(path_type=Path), default=Path("runs/learning"), show_default=True)
def main(network, episodes, seeds, target, device, budget, block, reward_size, calibration_size, run_dir) -> None:
    asked_for = {"target": target, "device": device, "budget": budget, "episodes": episodes}
    results = [
        search(network, seed, reward_size, calibration_size, run_dir=run_dir / f"{network}-{seed}", **asked_for)
        for seed in range(seeds)
    ]
    print(report(network, results, block))


def search(network: str, seed: int, reward_size: int, calibration: int, **asked_for):
    """One search on the network and data of the benchmarks: a Result."""
    import keras

    import amc_tf
    import models
    from models import datasets

    data = datasets.load(models.TRAINED[network][2])
    if network == "mobilenet_v1_imagenet":  # its sample has two parts only: even images and odd ones
        reward_data, validation_data = data.sample("test", reward_size), data.test
    else:
        (x, y), validation_data = data.halves()
        reward_data = x[:reward_size], y[:reward_size]
    return amc_tf.compress(
        models.load(network, keras),
        train_data=data.sample("train", calibration),
        reward_data=reward_data,
        validation_data=validation_data,
        calibration_size=calibration,
        seed=seed,
        paper=True,
        **asked_for,
    )


def report(network: str, results: list, block: int) -> str:
    """Markdown: mean accuracy of every block of episodes, the uniform plan's and the best, one row a seed."""
    rewards = [[t.outcome.accuracy for t in _episodes(result)] for result in results]
    starts = range(0, min(map(len, rewards)), block)
    head = [f"{s + 1}-{min(s + block, min(map(len, rewards)))}" for s in starts]
    lines = [
        f"| {network}, seed | " + " | ".join(head) + " | uniform | best | kept | reporting split | s/episode |",
        "|---" * (len(head) + 6) + "|",
    ]
    for seed, (result, values) in enumerate(zip(results, rewards, strict=True)):
        uniform = next(t.outcome.accuracy for t in result.trials if t.kind == "uniform")
        episodes = _episodes(result)
        kept = [t.outcome.cost / t.outcome.base_cost for t in episodes]
        means = [f"{np.mean(values[s : s + block]):.3f}" for s in starts]
        lines.append(
            f"| {seed} | " + " | ".join(means) + f" | {uniform:.3f} | {max(values):.3f} | "
            f"{_kept(result):.3f} (all: {min(kept):.3f} to {max(kept):.3f}) | "
            f"{result.compressed.accuracy:.3f} of {result.base.accuracy:.3f} | "
            f"{np.median([t.seconds for t in episodes]):.1f} |"
        )
    return "\n".join(lines)


def _episodes(result) -> list:
    """The finished trials of plans that were made for the budget."""
    return [t for t in result.trials if t.kind not in ("base", "uniform", "sensitivity") and t.outcome]


def _kept(result) -> float:
    """The share of the base network that is left of what the target counts."""
    figure = {"macs": "macs", "params": "params", "size": "size_bytes", "latency": "latency_ms"}[result.target]
    return getattr(result.compressed, figure) / getattr(result.base, figure)


if __name__ == "__main__":
    main()
