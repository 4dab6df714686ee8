"""Compares searches with the same network and arguments on several Pythons.

python tools/compare_searches.py RUN_DIR RUN_DIR [...]

Prints for each run its versions, the digest and accuracy of its winner, and the first trial that differs from the
first run. "proposal": other widths were tried, so the agent or the refinement decided differently. "outcome": the same
network has another score.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools

PACKAGES = ("python", "tensorflow", "keras", "numpy", "ai-edge-litert")


@click.command(help=__doc__)
@click.argument("run_dirs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(run_dirs: tuple[Path, ...]) -> None:
    from amc_tf.pruning.plan import Plan
    from amc_tf.search import journal

    _, first = journal.read(run_dirs[0])
    click.echo(f"| {' | '.join(PACKAGES)} | winner | accuracy | first trial that differs |")
    click.echo("|---" * (len(PACKAGES) + 3) + "|")
    for run_dir in run_dirs:
        if not (run_dir / "result.json").is_file():
            raise click.UsageError(f"{run_dir} holds no result.json: its search has not ended.")
        header, trials = journal.read(run_dir)
        versions = " | ".join(header["versions"].get(package, "-") for package in PACKAGES)
        accuracy = json.loads((run_dir / "result.json").read_text())["compressed"]["accuracy"]
        digest = Plan.load(run_dir / "plan.json").digest
        click.echo(f"| {versions} | {digest[:12]} | {100 * accuracy:.2f} % | {difference(first, trials)} |")


def difference(one: list[Any], other: list[Any]) -> str:
    """The first trial that is not the same in both searches, and what differs; "none" if there is none."""
    for a, b in zip(one, other, strict=False):
        if a.plan != b.plan:
            return f"{a.number}, proposal"
        if a.outcome != b.outcome:
            return f"{a.number}, outcome: accuracy {_accuracy(b)} for {_accuracy(a)}"
    return "none" if len(one) == len(other) else f"{min(len(one), len(other))}, which one of them lacks"


def _accuracy(trial: Any) -> str:
    return trial.state if trial.outcome is None else f"{trial.outcome.accuracy:.4f}"


if __name__ == "__main__":
    main()
