"""Measures how well scores of a candidate predict its accuracy after fine-tuning: rank correlations over random plans.

python tools/compare_reconstructions.py --network plain20_fashion_mnist --plans 24 --steps 150 --run-dir runs/ranks

Each plan is a random one within the budget. It is scored with its weights as they are cut, and with BN recalibration,
reconstruction or both. Then it is trained for a few steps: once from the cut weights, once from the reconstructed and
recalibrated ones. "sequential" reconstructs from the inputs that a layer has in the pruned network, so every plan is
run layer by layer. "biases corrected" has new BatchNorm means, but old variances. Prints Markdown. The same command
resumes a run that was stopped.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools

BATCH, RATE, SHIFT = 128, 0.02, 2  # of the fine-tuning: images per step, highest learning rate, pixels of augmentation
SCORES = (
    "cut", "recalibrated", "reconstructed", "reconstructed, biases corrected", "both", "sequential",
    "sequential, recalibrated",
)  # fmt: skip


@click.command(help=__doc__)
@click.option("--network", default="plain20_fashion_mnist", show_default=True)
@click.option("--plans", default=24, show_default=True)
@click.option("--steps", default=150, show_default=True, help="Of the fine-tuning.")
@click.option("--budget", default=0.5, show_default=True, help="Share of the MACs.")
@click.option("--reward-size", default=2000, show_default=True)
@click.option("--calibration-size", default=256, show_default=True)
@click.option("--run-dir", type=click.Path(path_type=Path), default=Path("runs/ranks"), show_default=True)
def main(network, plans, steps, budget, reward_size, calibration_size, run_dir) -> None:
    import keras

    import models
    from amc_tf.cost import counts
    from amc_tf.pruning.channel import ChannelPruner
    from amc_tf.pruning.plan import Plan
    from amc_tf.pruning.reconstruct import Reconstruction
    from amc_tf.search.agent.environment import Environment
    from amc_tf.search.agent.random_agent import RandomAgent
    from amc_tf.search.budget import Budget
    from amc_tf.search.scoring.metrics import accuracy
    from amc_tf.system.files import write
    from amc_tf.tflite.conversion.keras_to_tflite import convert
    from amc_tf.tflite.runtime.scorer import Scorer, outputs
    from amc_tf.tflite.slicing.bn_recalibration import Statistics
    from amc_tf.tflite.slicing.candidate import Candidates
    from models import datasets
    from models.train import fit

    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / f"{network}-{budget:g}-{steps}-{reward_size}-{calibration_size}.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    data = datasets.load(models.TRAINED[network][2])
    (reward_x, reward_y), (report_x, report_y) = data.halves()
    calibration, examples = data.sample("train", calibration_size)[0], data.sample("train", steps * BATCH)
    model = models.load(network, keras)
    pruner = ChannelPruner(model)
    macs = counts.macs(pruner.groups, pruner.units)
    environment = Environment(pruner.units, macs, Budget(pruner.units, macs, budget * macs(pruner.full)))
    agent, variables = RandomAgent(), pruner.graph.weights
    candidates, reconstruct = Candidates(pruner), Reconstruction(pruner, [calibration])
    sequential = Sequential(pruner, calibration)
    with Scorer() as scorer:
        recalibrate = Statistics(pruner, [calibration], scorer)
        shared = scorer.share([reward_x[:reward_size]]), scorer.share([report_x])

        def score(file: bytes, split: int = 0) -> float:
            labels = (reward_y[:reward_size], report_y)[split]
            return accuracy(labels, outputs(scorer.run(file, shared[split]))[0])

        def train(plan: Plan, weights: Any) -> float:
            smaller = pruner.apply(plan, weights)
            keras.utils.set_random_seed(0)
            fit(keras, smaller, examples, epochs=1, batch=BATCH, rate=RATE, shift=SHIFT, warmup=0)
            return score(convert(smaller), 1)

        for number in range(len(rows), plans):
            environment.run(lambda t, state, number=number: agent.act(state, number))
            plan = pruner.plan(environment.widths)
            cut = pruner.sliced(plan)
            both = recalibrate(plan, better := reconstruct(plan, cut))
            started = time.perf_counter()
            inner = sequential(plan, cut)
            seconds = time.perf_counter() - started
            means = {layer: with_means(variables.get(layer, ()), better[layer], both[layer]) for layer in both}
            versions = cut, recalibrate(plan, cut), better, means, both, inner, recalibrate(plan, inner)  # as SCORES
            scores = [score(candidates(plan, weights)) for weights in versions]
            after = train(plan, cut), train(plan, both)
            rows.append({"scores": scores, "after": after, "sequential_s": seconds, "widths": environment.widths})
            write(json.dumps(rows).encode(), path)
    print(report(network, rows, steps))


def with_means(variables: Sequence[Any], old: Sequence[np.ndarray], new: Sequence[np.ndarray]) -> tuple:
    """The old weights of a layer with the new moving mean."""
    chosen = (b if variable.name == "moving_mean" else a for variable, a, b in zip(variables, old, new, strict=True))
    return tuple(chosen)


class Sequential:
    """Reconstructs layer after layer: least squares from a layer's inputs in the pruned network to its old outputs."""

    def __init__(self, pruner: Any, inputs: np.ndarray):
        from amc_tf.pruning.im2col import im2col_of

        self._pruner, self._inputs = pruner, inputs
        im2cols = {node.layer: im2col_of(node) for node in pruner.graph.nodes}
        self._im2cols = {layer: im2col for layer, im2col in im2cols.items() if im2col is not None}
        self._targets: dict[str, np.ndarray] = {}  # layer -> its outputs in the whole network, without bias
        for layer, rows in self._run(pruner.model, lambda live, rows: None).items():
            kernel = pruner.weights[layer][0]
            self._targets[layer] = rows @ kernel.reshape(-1, kernel.shape[-1])

    def __call__(self, plan: Any, cut: Any) -> dict[str, tuple[np.ndarray, ...]]:
        from amc_tf.graph.rewrite import kept_positions
        from amc_tf.pruning.moments import RIDGE
        from amc_tf.pruning.reconstruct import constant_slot

        groups, kept, names = self._pruner.groups, plan.kept(self._pruner.groups), {}

        def refit(live: Any, rows: np.ndarray) -> None:
            layer = names[id(live)]
            kernel, *bias = live.get_weights()
            outputs = groups.axes.get((layer, 0, kernel.ndim - 1))
            target = self._targets[layer][:, slice(None) if outputs is None else kept_positions(kept, outputs)]
            centred = (rows - rows.mean(axis=0)).astype(np.float64)
            flat = kernel.reshape(-1, kernel.shape[-1])
            gram = centred.T @ centred
            gram[np.diag_indices(len(gram))] += RIDGE * np.trace(gram) / len(gram) + 1e-9
            missing = target - target.mean(axis=0) - centred @ flat
            new = flat + np.linalg.solve(gram, centred.T @ missing)
            missing_mean = target.mean(axis=0) - rows.mean(axis=0) @ new
            live.set_weights([new.reshape(kernel.shape), *(own + missing_mean for own in bias)])
            if not bias and (slot := constant_slot(self._pruner.graph, layer)) is not None:
                norm, index, sign = slot
                values = self._layers[norm].get_weights()
                values[index] = values[index] + sign * missing_mean
                self._layers[norm].set_weights(values)

        smaller = self._pruner.apply(plan, cut)
        self._run(smaller, refit, names)
        return {layer: tuple(live.get_weights()) for layer, live in self._layers.items() if live.weights}

    def _run(
        self, model: Any, before_call: Callable[[Any, np.ndarray], None], names: dict[int, str] | None = None
    ) -> dict[str, np.ndarray]:
        """Runs a model. Returns layer -> its im2col rows, from the same positions in every run.

        Args:
            model: to run.
            before_call: called with a layer and its rows before the layer computes.
            names: gets id(layer) -> name.
        """
        from amc_tf.graph import keras_builder, keras_reader

        rows: dict[str, np.ndarray] = {}

        def watch(layer: str, number: int) -> Callable:
            def call(live, values, *args, **kwargs):
                rng = np.random.default_rng(number)
                rows[layer] = self._im2cols[layer].sample(np.asarray(values), 32, rng)
                before_call(live, rows[layer])
                return type(live).call(live, values, *args, **kwargs)

            return call

        calls = {layer: watch(layer, number) for number, layer in enumerate(self._im2cols)}
        watched = keras_builder.override_calls(model, calls)
        self._layers = keras_reader.layers(watched)
        if names is not None:
            names |= {id(live): layer for layer, live in self._layers.items()}
        watched(self._inputs, training=False)
        return rows


def report(network: str, rows: list[dict], steps: int) -> str:
    """Markdown, one row per score: its mean, and its rank correlations with the accuracy after training."""
    from scipy.stats import spearmanr

    scores, after = np.array([row["scores"] for row in rows]), np.array([row["after"] for row in rows])
    lines = [
        f"| {network}, {len(rows)} plans: score | mean | rank correlation with accuracy after {steps} steps "
        f"from the cut weights (mean {after[:, 0].mean():.3f}) | from both (mean {after[:, 1].mean():.3f}) | "
        f"mean of the two |",
        "|---|---|---|---|---|",
    ]
    for name, values in zip(SCORES, scores.T, strict=True):
        correlations = [spearmanr(values, column).statistic for column in (*after.T, after.mean(axis=1))]
        lines.append(f"| {name} | {values.mean():.3f} | " + " | ".join(f"{value:.2f}" for value in correlations) + " |")
    seconds = np.median([row["sequential_s"] for row in rows])
    return "\n".join(lines) + f"\n\nSequential reconstruction of a plan: {seconds:.2f} s (median)."


if __name__ == "__main__":
    main()
