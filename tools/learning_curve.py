"""Checks that the paper's agent learns: one search per seed, and the mean reward of every 30 episodes.

python tools/learning_curve.py --network resnet56_cifar10 --episodes 150 --seeds 3 --run-dir runs/learning

Prints Markdown. Rewards come from one half of the test images, the accuracies at the end from the other half. The same
command resumes a run that was stopped.
"""

import os
import sys
from pathlib import Path
from typing import Any

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
@click.option("--block", default=30, show_default=True, help="Episodes per mean.")
@click.option("--reward-size", default=1000, show_default=True)
@click.option("--calibration-size", default=256, show_default=True)
@click.option("--run-dir", type=click.Path(path_type=Path), default=Path("runs/learning"), show_default=True)
def main(network, episodes, seeds, target, device, budget, block, reward_size, calibration_size, run_dir) -> None:
    arguments = {"target": target, "device": device, "budget": budget, "episodes": episodes}
    results = [
        search(network, seed, reward_size, calibration_size, run_dir=run_dir / f"{network}-{seed}", **arguments)
        for seed in range(seeds)
    ]
    print(report(network, results, block))


def search(network: str, seed: int, reward_size: int, calibration: int, **arguments: Any) -> Any:
    """Runs one search. Returns its Result."""
    import keras

    import amc_tf
    import models
    from models import datasets

    data = datasets.load(models.TRAINED[network][2])
    if network == "mobilenet_v1_imagenet":  # its sample has only two parts: even and odd images
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
        **arguments,
    )


def report(network: str, results: list, block: int) -> str:
    """Markdown, one row per seed: mean accuracy of every block of episodes, of the uniform plan, and the best."""
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


def _episodes(result: Any) -> list[Any]:
    """The trials that ended with an outcome and whose plan was made for the budget."""
    return [t for t in result.trials if t.kind not in ("base", "uniform", "sensitivity") and t.outcome]


def _kept(result: Any) -> float:
    """The cost by the target, as a share of the base network's."""
    figure = {"macs": "macs", "params": "params", "size": "size_bytes", "latency": "latency_ms"}[result.target]
    return getattr(result.compressed, figure) / getattr(result.base, figure)


if __name__ == "__main__":
    main()
