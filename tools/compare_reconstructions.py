"""Which score of a candidate foretells its accuracy after fine-tuning? Rank correlations over random plans.

python tools/compare_reconstructions.py --network plain20_fashion_mnist --plans 24 --steps 150 --run-dir runs/ranks

Each plan is a random one within the budget. It is scored as its weights are cut, and with BatchNorm recalibration,
reconstruction or both; then it is trained for a few steps, once from the cut weights and once from the reconstructed
and recalibrated ones. "sequential" reconstructs from the inputs that a layer gets in the pruned network, which has to
be run layer by layer for every plan; "biases corrected" has new means in BatchNorm, but not new variances. Prints
Markdown. A run that was stopped goes on where it was.
"""

import json
import os
import sys
import time
from pathlib import Path

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools

BATCH, RATE, SHIFT = 128, 0.02, 2  # of the fine-tuning: images a step, highest learning rate, pixels of augmentation
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
    from amc_tf.pruning.reconstruct import Reconstruction
    from amc_tf.search.agent.environment import Environment
    from amc_tf.search.budget import Budget
    from amc_tf.search.proposers.baselines import RandomAgent
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
    pruning = ChannelPruner(model)
    macs = counts.macs(pruning.groups, pruning.units)
    environment = Environment(pruning.units, macs, Budget(pruning.units, macs, budget * macs(pruning.full)))
    agent, described = RandomAgent(), pruning.graph.weights
    candidates, reconstruct = Candidates(pruning), Reconstruction(pruning, [calibration])
    sequential = Sequential(pruning, calibration)
    with Scorer() as scorer:
        recalibrate = Statistics(pruning, [calibration], scorer)
        held = scorer.hold([reward_x[:reward_size]]), scorer.hold([report_x])

        def scored(file: bytes, which: int = 0) -> float:
            labels = (reward_y[:reward_size], report_y)[which]
            return accuracy(labels, outputs(scorer.run(file, held[which]))[0])

        def trained(plan, weights) -> float:
            smaller = pruning.apply(plan, weights)
            keras.utils.set_random_seed(0)
            fit(keras, smaller, examples, epochs=1, batch=BATCH, rate=RATE, shift=SHIFT, rise=0)
            return scored(convert(smaller), 1)

        for number in range(len(rows), plans):
            environment.run(lambda t, state, number=number: agent.act(state, number))
            plan = pruning.plan(environment.widths)
            cut = pruning.sliced(plan)
            both = recalibrate(plan, better := reconstruct(plan, cut))
            began = time.perf_counter()
            inner = sequential(plan, cut)
            seconds = time.perf_counter() - began
            means = {layer: with_means(described.get(layer, ()), better[layer], both[layer]) for layer in both}
            made = cut, recalibrate(plan, cut), better, means, both, inner, recalibrate(plan, inner)
            scores = [scored(candidates(plan, weights)) for weights in made]
            after = trained(plan, cut), trained(plan, both)
            rows.append({"scores": scores, "after": after, "sequential_s": seconds, "widths": environment.widths})
            write(json.dumps(rows).encode(), path)
    print(report(network, rows, steps))


def with_means(described, old, new) -> tuple:
    """The weights of a layer with the moving mean of others."""
    chosen = (b if weight.name == "moving_mean" else a for weight, a, b in zip(described, old, new, strict=True))
    return tuple(chosen)


class Sequential:
    """Least squares from what each layer reads in the pruned network, layer after layer, towards what it put out."""

    def __init__(self, pruning, inputs: np.ndarray):
        from amc_tf.graph import keras_reader
        from amc_tf.pruning.im2col import reader

        self._pruning, self._inputs, self._graph = pruning, inputs, keras_reader
        found = {node.layer: reader(node) for node in pruning.graph.nodes}
        self._readers = {layer: reading for layer, reading in found.items() if reading is not None}
        self._wanted: dict[str, np.ndarray] = {}
        for layer, patches in self._run(pruning.model, lambda live, patches: None).items():
            kernel = pruning.weights[layer][0]
            self._wanted[layer] = patches @ kernel.reshape(-1, kernel.shape[-1])

    def __call__(self, plan, cut) -> dict:
        from amc_tf.graph.rewrite import stays
        from amc_tf.pruning.reconstruct import RIDGE, constant_place

        groups, kept, names = self._pruning.groups, plan.kept(self._pruning.groups), {}

        def refit(live, patches) -> None:
            layer = names[id(live)]
            kernel, *bias = live.get_weights()
            made = groups.axes.get((layer, 0, kernel.ndim - 1))
            wanted = self._wanted[layer][:, slice(None) if made is None else stays(kept, made)]
            centred = (patches - patches.mean(axis=0)).astype(np.float64)
            flat = kernel.reshape(-1, kernel.shape[-1])
            gram = centred.T @ centred
            gram[np.diag_indices(len(gram))] += RIDGE * np.trace(gram) / len(gram) + 1e-9
            missing = wanted - wanted.mean(axis=0) - centred @ flat
            new = flat + np.linalg.solve(gram, centred.T @ missing)
            missing_mean = wanted.mean(axis=0) - patches.mean(axis=0) @ new
            live.set_weights([new.reshape(kernel.shape), *(own + missing_mean for own in bias)])
            if not bias and (place := constant_place(self._pruning.graph, layer)) is not None:
                norm, index, sign = place
                values = self._done[norm].get_weights()
                values[index] = values[index] + sign * missing_mean
                self._done[norm].set_weights(values)

        smaller = self._pruning.apply(plan, cut)
        self._run(smaller, refit, names)
        return {layer: tuple(live.get_weights()) for layer, live in self._done.items() if live.weights}

    def _run(self, model, see, names: dict | None = None) -> dict[str, np.ndarray]:
        """Runs a model and shows each layer's patches to `see` before the layer computes; at the same places always."""
        found: dict[str, np.ndarray] = {}

        def watching(layer: str, number: int):
            def call(live, values, *args, **kwargs):
                rng = np.random.default_rng(number)
                found[layer] = self._readers[layer].sample(np.asarray(values), 32, rng)
                see(live, found[layer])
                return type(live).call(live, values, *args, **kwargs)

            return call

        calls = {layer: watching(layer, number) for number, layer in enumerate(self._readers)}
        watched = self._graph.overridden(model, calls)
        self._done = self._graph.layers(watched)
        if names is not None:
            names |= {id(live): layer for layer, live in self._done.items()}
        watched(self._inputs, training=False)
        return found


def report(network: str, rows: list[dict], steps: int) -> str:
    """Markdown: for each score its level and its rank correlations with the accuracy after training."""
    from scipy.stats import spearmanr

    scores, after = np.array([row["scores"] for row in rows]), np.array([row["after"] for row in rows])
    lines = [
        f"| {network}, {len(rows)} plans: score | mean | rank correlation with accuracy after {steps} steps "
        f"from the cut weights (mean {after[:, 0].mean():.3f}) | from both (mean {after[:, 1].mean():.3f}) | "
        f"mean of the two |",
        "|---|---|---|---|---|",
    ]
    for name, values in zip(SCORES, scores.T, strict=True):
        found = [spearmanr(values, column).statistic for column in (*after.T, after.mean(axis=1))]
        lines.append(f"| {name} | {values.mean():.3f} | " + " | ".join(f"{value:.2f}" for value in found) + " |")
    seconds = np.median([row["sequential_s"] for row in rows])
    return "\n".join(lines) + f"\n\nSequential reconstruction of a plan: {seconds:.2f} s (median)."


if __name__ == "__main__":
    main()
