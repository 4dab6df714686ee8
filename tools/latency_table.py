"""Checks the latency table: prices random plans by the table and measures them as whole networks.

python tools/latency_table.py --network mobilenet_v1_imagenet --device host

Prints Markdown. Each unit of a plan has one of its allowed widths at random. All networks are measured in turns.
"""

import os
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools


@click.command(help=__doc__)
@click.option("--network", default="mobilenet_v1_imagenet", show_default=True)
@click.option("--plans", default=40, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=0.5, show_default=True, help="Least measuring time of a process.")
@click.option("--device", default="host", show_default=True, help="adb, adb:SERIAL or host.")
@click.option("--seed", default=0, show_default=True)
def main(network, plans, rounds, seconds, device, seed) -> None:
    import keras

    import models
    from amc_tf.devices.choose import choose
    from amc_tf.devices.interleave import interleave
    from amc_tf.latency.table import measure
    from amc_tf.pruning.channel import ChannelPruner
    from amc_tf.tflite.slicing.candidate import Candidates

    pruner = ChannelPruner(models.load(network, keras))
    candidates = Candidates(pruner)
    rng = np.random.default_rng(seed)
    drawn = [tuple(int(rng.choice(unit.widths)) for unit in pruner.units) for _ in range(plans)]
    opened, _ = choose(device)
    with opened, tempfile.TemporaryDirectory() as folder:
        table = measure(opened, candidates.shapes, pruner.units)
        paths = [Path(folder) / f"{number}.tflite" for number in range(plans + 1)]
        for path, widths in zip(paths, [pruner.full, *drawn], strict=True):
            plan = pruner.plan(widths)
            path.write_bytes(candidates(plan, pruner.sliced(plan)))
        comparison = interleave(opened, paths, rounds=rounds, min_seconds=seconds)
    base_us = comparison.timings[0].median_us
    table.fit(base_us)
    measured = np.array([ratio.value * base_us for ratio in comparison.ratios[1:]])
    priced = np.array([table(widths) for widths in drawn])
    print(report(network, table.seconds, base_us, measured, priced))


def report(network: str, seconds: float, base_us: float, measured: np.ndarray, priced: np.ndarray) -> str:
    """Markdown: the errors of the prices, from the table alone and with the correction that a search makes."""
    from scipy.stats import kendalltau

    share = float(np.median(measured / priced))
    raw, corrected = (np.abs(p / measured - 1) for p in (priced, priced * share))
    return "\n".join(
        [
            "| network | table built in | base | plans | mean error | corrected | largest, corrected | Kendall tau |",
            "|---" * 8 + "|",
            f"| {network} | {seconds:.0f} s | {base_us / 1e3:.2f} ms | {measured.min() / base_us:.2f} to "
            f"{measured.max() / base_us:.2f} of the base | {raw.mean():.1%} | {corrected.mean():.1%} | "
            f"{corrected.max():.1%} | {kendalltau(priced, measured).statistic:.3f} |",
        ]
    )


if __name__ == "__main__":
    main()
