"""Golden runs: six small searches, whose plans, rewards and files a change of the code's form must leave as they are.

python -m tests.golden RECORD.json            runs the six and records them
python -m tests.golden RECORD.json --check    runs the six and compares; exit code 1 where they differ from the record

A record belongs to one computer and one set of packages: with another TensorFlow the files differ, and rightly so. The
searches are by the real agent, so these take minutes; they are for whoever moves code, not for the suite.
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
    return compress(*_given("keras"), target="macs", budget=0.5, episodes=40, run_dir=run_dir)


def magnitude(compress: Callable, run_dir: Path) -> Any:
    return compress(*_given("keras"), target="params", method="magnitude", budget=0.3, episodes=20, run_dir=run_dir)


def latency(compress: Callable, run_dir: Path) -> Any:
    from tests.latency.test_search import Computed

    return compress(
        *_given("keras"), target="latency", budget=0.6, episodes=20, device=Computed(share=1.1), quantize="int8",
        run_dir=run_dir,
    )  # fmt: skip


def max_drop(compress: Callable, run_dir: Path) -> Any:
    return compress(*_given("keras"), target="macs", budget=None, max_drop=5, episodes=30, run_dir=run_dir)


def stages(compress: Callable, run_dir: Path) -> Any:
    return compress(
        *_given("keras"), target="macs", budget=0.25, stages=(0.5,), episodes=10, finetune_epochs=1, run_dir=run_dir
    )


def tf_keras(compress: Callable, run_dir: Path) -> Any:
    return compress(*_given("tf_keras"), target="size", budget=0.6, episodes=20, run_dir=run_dir)


RUNS = (channel, magnitude, latency, max_drop, stages, tf_keras)


def _given(keras: str) -> tuple[Any]:
    from tests import small

    model = small.settled(small.network(importlib.import_module(keras)))
    _given.data = small.labelled(model, 768, seed=3)
    return (model,)


def told(result: Any) -> dict[str, Any]:
    """What must stay as it is."""
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

    def compress(model: Any, **arguments: Any) -> Any:
        return amc_tf.compress(model, train_data=_given.data, verbose=False, report=False, **arguments)

    found = {}
    with tempfile.TemporaryDirectory(prefix="amc_tf-golden-") as folder:
        for run in RUNS:
            if not only or run.__name__ in only:
                found[run.__name__] = told(run(compress, Path(folder) / run.__name__))
                click.echo(f"{run.__name__}: {found[run.__name__]['plan'][:12]}")
    if not check:
        record.write_text(json.dumps(found, indent=1))
        return
    wanted = json.loads(record.read_text())
    differing = [f"{name}.{key}" for name, run in found.items() for key in run if run[key] != wanted[name][key]]
    click.echo(f"different: {', '.join(differing)}" if differing else f"{len(found)} runs are as they were.")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
