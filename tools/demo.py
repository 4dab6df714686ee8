"""Compresses the small trained network in models/ with the images beside it.

python tools/demo.py [--episodes N] [--run-dir DIR] [--keras keras|tf_keras]
"""

import os
import sys
from pathlib import Path

import click

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools


@click.command(help=__doc__)
@click.option("--episodes", default=40, show_default=True, help="Number of networks to try.")
@click.option("--run-dir", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True)
@click.option("--keras", "which", type=click.Choice(["keras", "tf_keras"]), default="keras", show_default=True)
def main(episodes: int, run_dir: Path, which: str) -> None:
    import amc_tf
    import models
    from amc_tf.cli import quiet_keras
    from amc_tf.report.progress import print_result
    from models import datasets

    data = datasets.load("fashion_mnist", full=False)  # the images that ship: the same demo on every machine
    result = amc_tf.compress(
        models.load("plain20_fashion_mnist", quiet_keras(which)),
        target="macs",
        budget=0.5,
        train_data=data.train,
        validation_data=data.test,
        calibration_size=256,
        reward_size=1000,
        episodes=episodes,
        run_dir=run_dir,
    )
    print_result(result)


if __name__ == "__main__":
    main()
