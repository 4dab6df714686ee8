"""Golden runs: six small searches with recorded plans, rewards and files, which a refactoring must not change.

python -m tests.golden RECORD.json            runs the six and records them
python -m tests.golden RECORD.json --check    runs the six and compares; exit code 1 if they differ from the record

A record is valid for one computer and one set of packages: another TensorFlow writes other files. The searches use the
real agent and take minutes, so they are not part of the test suite.
"""

import hashlib
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import click


def channel(compress: Callable, run_dir: Path) -> Any:
    return compress(_model("keras"), target="macs", budget=0.5, episodes=40, run_dir=run_dir)


def magnitude(compress: Callable, run_dir: Path) -> Any:
    return compress(_model("keras"), target="params", method="magnitude", budget=0.3, episodes=20, run_dir=run_dir)


def latency(compress: Callable, run_dir: Path) -> Any:
    from tests.latency.test_search import Computed

    return compress(
        _model("keras"), target="latency", budget=0.6, episodes=20, device=Computed(share=1.1), quantize="int8",
        run_dir=run_dir,
    )  # fmt: skip


def max_drop(compress: Callable, run_dir: Path) -> Any:
    return compress(_model("keras"), target="macs", budget=None, max_drop=5, episodes=30, run_dir=run_dir)


def stages(compress: Callable, run_dir: Path) -> Any:
    return compress(
        _model("keras"), target="macs", budget=0.25, stages=(0.5,), episodes=10, finetune_epochs=1, run_dir=run_dir
    )


def tf_keras(compress: Callable, run_dir: Path) -> Any:
    return compress(_model("tf_keras"), target="size", budget=0.6, episodes=20, run_dir=run_dir)


RUNS = (channel, magnitude, latency, max_drop, stages, tf_keras)


def _model(keras: str) -> Any:
    """The network that all runs compress, of one of the two Keras."""
    from tests import small

    return small.settled(small.network(importlib.import_module(keras)))


def figures(result: Any) -> dict[str, Any]:
    """What a refactoring must not change."""
    files = sorted(result.run_dir.rglob("*.tflite"))
    return {
        "plan": result.plan.digest,
        "trials": [[trial.kind, list(trial.widths), trial.reward] for trial in result.trials],
        "accuracy": [result.base.accuracy, result.compressed.accuracy],
        "files": {
            path.relative_to(result.run_dir).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        },
    }


@click.command(help=__doc__)
@click.argument("record", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Compare with the record.")
@click.option("--only", multiple=True, help="Names of runs.")
def main(record: Path, check: bool, only: tuple[str, ...]) -> None:
    import amc_tf
    from tests import small

    def compress(model: Any, **arguments: Any) -> Any:
        data = small.labelled(model, 768, seed=3)
        return amc_tf.compress(model, train_data=data, verbose=False, report=False, **arguments)

    runs = {}
    with tempfile.TemporaryDirectory(prefix="amc_tf-golden-") as folder:
        for run in RUNS:
            if not only or run.__name__ in only:
                runs[run.__name__] = figures(run(compress, Path(folder) / run.__name__))
                click.echo(f"{run.__name__}: {runs[run.__name__]['plan'][:12]}")
    if not check:
        record.write_text(json.dumps(runs, indent=1))
        return
    recorded = json.loads(record.read_text())
    differing = [f"{name}.{key}" for name, run in runs.items() for key in run if run[key] != recorded[name][key]]
    click.echo(f"different: {', '.join(differing)}" if differing else f"{len(runs)} runs are as they were.")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
