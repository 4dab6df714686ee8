"""Accuracy by importance at the same keep ratio everywhere, with and without BN recalibration.

python tools/compare_importances.py --network resnet56_cifar10

Prints Markdown. No search, no fine-tuning.
"""

import os
import sys
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools


@click.command(help=__doc__)
@click.option("--network", default="resnet56_cifar10", show_default=True)
@click.option("--keep", multiple=True, type=float, default=(0.7, 0.8), show_default=True)
@click.option("--images", default=2000, show_default=True, help="Test images that score a network.")
@click.option("--calibration", multiple=True, type=int, default=(128, 512, 1024), show_default=True)
def main(network, keep, images, calibration) -> None:
    import keras

    import models
    from amc_tf.cost import counts
    from amc_tf.pruning.channel import ChannelPruner
    from amc_tf.pruning.importance import NAMED
    from amc_tf.pruning.plan import Plan
    from amc_tf.search.scoring.metrics import accuracy
    from amc_tf.tflite.runtime.scorer import Scorer, outputs
    from amc_tf.tflite.slicing.bn_recalibration import Statistics
    from amc_tf.tflite.slicing.candidate import Candidates
    from models import datasets

    data = datasets.load(models.TRAINED[network][2])
    x, y = data.sample("test", images)
    calibration_x, _ = data.sample("train", max(calibration))
    model = models.load(network, keras)
    pruners = {importance: ChannelPruner(model, importance=importance) for importance in NAMED}
    pruner = next(iter(pruners.values()))  # they differ in their masks only
    macs = counts.macs(pruner.groups, pruner.units)
    candidates = Candidates(pruner)
    with Scorer() as scorer:
        dataset = scorer.share([x])
        statistics = [Statistics(pruner, [calibration_x[:count]], scorer) for count in calibration]

        def score(plan: Plan, weights: Any) -> str:
            return f"{accuracy(y, outputs(scorer.run(candidates(plan, weights), dataset))[0]):.3f}"

        print(
            "| importance | keep ratio (MACs kept) | old statistics |" + "".join(f" n = {n:,} |" for n in calibration)
        )
        print("|---" * (3 + len(calibration)) + "|")
        for ratio in keep:
            for importance, ranked in pruners.items():
                plan = Plan({unit.name: ranked.mask(unit, ratio) for unit in ranked.units})
                kept = macs(pruner.widths(plan)) / macs(macs.full)
                sliced = pruner.sliced(plan)
                cells = [
                    score(plan, weights) for weights in (sliced, *(measure(plan, sliced) for measure in statistics))
                ]
                print(f"| {importance} | {ratio} ({kept:.3f}) | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
