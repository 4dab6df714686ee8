"""Measures what sparse encoding gains: size, gzipped size and latency, dense against sparse, as Markdown.

python tools/benchmark_sparse.py --zeros 0.8 --zeros 0.9 --device host

The network is models/mobilenet_v1_sparse.py with random weights. The smallest weights of each 1x1 kernel and of the
dense layer at the end are zero. Files are measured in turns. If this processor prevents XNNPACK's sparse kernels, a
line above the table says so; if a layer does, a line on stderr.
"""

import gzip
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools

if TYPE_CHECKING:
    from amc_tf.devices.interleave import Comparison


@click.command(help=__doc__)
@click.option("--zeros", multiple=True, default=(0.8, 0.9), show_default=True, type=click.FloatRange(0, 0.99))
@click.option("--input", "sizes", multiple=True, default=(224,), show_default=True, help="Height and width of images.")
@click.option("--alpha", default=1.0, show_default=True)
@click.option("--rounds", default=9, show_default=True)
@click.option("--seconds", default=0.5, show_default=True, help="Least measuring time of a process.")
@click.option("--runtime", default=("litert",), multiple=True, show_default=True, help="On the host: litert or tflite.")
@click.option("--device", default="host", show_default=True, help="adb, adb:SERIAL or host.")
@click.option("--seed", default=0, show_default=True)
def main(zeros, sizes, alpha, rounds, seconds, runtime, device, seed) -> None:
    import keras

    import models
    from amc_tf.devices.choose import choose
    from amc_tf.devices.host.computer import HostDevice
    from amc_tf.devices.interleave import interleave
    from amc_tf.tflite.conversion.keras_to_tflite import convert
    from amc_tf.tflite.sparse.encoding import encoded
    from amc_tf.tflite.sparse.unsupported_operators import find_unsupported, unsupported_processor

    devices = [HostDevice(name) for name in runtime] if device == "host" else [choose(device)[0]]
    if device == "host" and unsupported_processor():
        click.echo(f"{unsupported_processor()}\n")
    header = "runtime | input | zeros | dense bytes | sparse bytes | dense gzip | sparse gzip | dense ms | sparse ms"
    click.echo(f"| {header} | dense/sparse (95 %) |\n|{'---|' * 10}")
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            model = models.build("mobilenet_v1_sparse", keras, input_shape=(size, size, 3), alpha=alpha)
            _randomize(model, np.random.default_rng(seed))
            for share in sorted(zeros):
                _prune(model, share)
                dense = convert(model)
                paths = [Path(folder) / "dense.tflite", Path(folder) / "sparse.tflite"]
                for path, contents in zip(paths, (dense, encoded(dense)), strict=True):
                    path.write_bytes(contents)
                for obstacle in find_unsupported(dense, [layer.name for layer in model.layers]):
                    click.echo(f"{size}: {obstacle}", err=True)
                for opened in devices:
                    comparison = interleave(opened, paths[::-1], rounds=rounds, min_seconds=seconds)
                    _print(opened, size, share, paths, comparison)
    for opened in devices:
        opened.close()


def _randomize(model: Any, rng: np.random.Generator) -> None:
    """Gives every kernel random weights with the variance of He initialisation."""
    for layer in model.layers:
        weights = layer.get_weights()
        if weights and weights[0].ndim > 1:
            weights[0] = rng.standard_normal(weights[0].shape) * np.sqrt(2 / np.prod(weights[0].shape[:-1]))
            layer.set_weights(weights)


def _prune(model: Any, share: float) -> None:
    """Sets the smallest weights of each 1x1 kernel and of the last layer to zero."""
    for layer in model.layers:
        if re.fullmatch(r"conv_pw_\d+|predictions", layer.name):
            weights = layer.get_weights()
            smallest = np.argsort(np.abs(weights[0]), axis=None, kind="stable")[: round(share * weights[0].size)]
            np.put(weights[0], smallest, 0)
            layer.set_weights(weights)


def _print(device: Any, size: int, share: float, paths: list[Path], comparison: "Comparison") -> None:
    ratio = comparison.ratios[1]
    bounds = f" ({ratio.low:.2f} to {ratio.high:.2f})" if ratio.low is not None else ""
    sizes = [f"{path.stat().st_size:,}" for path in paths]
    packed = [f"{len(gzip.compress(path.read_bytes(), mtime=0)):,}" for path in paths]
    milliseconds = [f"{timing.median_us / 1000:.2f}" for timing in comparison.timings[::-1]]
    name = device.identity.get("runtime", device.name)
    cells = [name, str(size), f"{share:.0%}", *sizes, *packed, *milliseconds, f"{ratio.value:.2f}{bounds}"]
    click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
