"""Accuracy by importance, with old and with new BatchNorm statistics, at the same keep ratio everywhere.

python tools/compare_importances.py --network resnet56_cifar10

Prints Markdown. No search, no fine-tuning.
"""

import os

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@click.command(help=__doc__)
@click.option("--network", default="resnet56_cifar10", show_default=True)
@click.option("--keep", multiple=True, type=float, default=(0.7, 0.8), show_default=True)
@click.option("--images", default=2000, show_default=True, help="Test images to score on.")
@click.option("--calibration", multiple=True, type=int, default=(128, 512, 1024), show_default=True)
def main(network, keep, images, calibration) -> None:
    import keras

    import models
    from amc_tf.cost import counts
    from amc_tf.graph.rewrite import masked
    from amc_tf.pruning.batchnorm import Network
    from amc_tf.pruning.channel import ChannelPruning
    from amc_tf.pruning.importance import NAMED
    from amc_tf.pruning.plan import Plan
    from amc_tf.search.metrics import accuracy
    from models import datasets

    data = datasets.load(models.TRAINED[network][2])
    x, y = data.sample("test", images)
    calibration_x, _ = data.sample("train", max(calibration))
    model = models.load(network, keras)
    copy = Network(model)

    def scored() -> float:
        return accuracy(y, copy.predict([x])[0])

    print("| importance | keep ratio (MACs kept) | old statistics |" + "".join(f" n = {n:,} |" for n in calibration))
    print("|---" * (3 + len(calibration)) + "|")
    for ratio in keep:
        for importance in NAMED:
            pruning = ChannelPruning(model, importance=importance)
            macs = counts.macs(pruning.groups, pruning.units)
            plan = Plan({unit.name: pruning.mask(unit, ratio) for unit in pruning.units})
            kept = macs([plan[unit.name].sum() for unit in pruning.units]) / macs(macs.full)
            copy.weights = masked(pruning.groups, plan.kept(pruning.groups), pruning.weights)
            cells = [f"{scored():.3f}"]
            for count in calibration:
                copy.recalibrate([calibration_x[:count]])
                cells.append(f"{scored():.3f}")
            print(f"| {importance} | {ratio} ({kept:.3f}) | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
