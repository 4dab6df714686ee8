"""Shows what a search spends its time on, beside the bare inference of the same candidates.

python tools/benchmark_search.py --network mobilenet_v1_imagenet --images 500 --calibration 64 --budget 0.5

Prints Markdown. The episodes are those of a real search with agent, learning and journal. Every candidate is scored on
all images, unless `--race` stops hopeless ones early, as compress() does. Parts are seconds of the threads that wait
for them: two candidates are in flight, so that they add up to more than the time that passes. Bare inference is what
the runtime takes for candidates that are loaded, in as many processes at once as score candidates, in the same run. Run
it on an idle machine.
"""

import contextlib
import io
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout: amc_tf, models, tools

BARE = 4  # candidates whose bare inference is measured


@click.command(help=__doc__)
@click.option("--network", default="mobilenet_v1_imagenet", show_default=True)
@click.option("--images", default=500, show_default=True, help="To score candidates on.")
@click.option("--calibration", default=64, show_default=True, help="Images that BatchNorm statistics are measured on.")
@click.option("--budget", default=0.5, show_default=True, help="Of the MACs.")
@click.option("--episodes", default=40, show_default=True)
@click.option("--race", is_flag=True, help="Stop hopeless candidates early.")
@click.option("--conversions", default=3, show_default=True, help="Of candidates, by the converter.")
@click.option("--check", default=1000, show_default=True, help="Images to compare predictions with Keras on.")
@click.option("--seed", default=0, show_default=True)
def main(network, images, calibration, budget, episodes, race, conversions, check, seed) -> None:
    import keras

    import models
    from amc_tf.cost import counts
    from amc_tf.data.splits import Split
    from amc_tf.pruning.channel import ChannelPruner
    from amc_tf.search.agent.ddpg_client import DdpgAgent
    from amc_tf.search.journal import Journal, header
    from amc_tf.search.problem import SearchProblem
    from amc_tf.search.proposer import ProposerSettings
    from amc_tf.search.rewards import negative_error
    from amc_tf.search.schedule import Schedule
    from amc_tf.search.scoring.evaluator import Evaluator, Scoring
    from amc_tf.search.study import Study
    from amc_tf.tflite.conversion.keras_to_tflite import convert
    from amc_tf.tflite.runtime.scorer import Scorer
    from models import datasets

    model = models.load(network, keras)
    data = datasets.load(models.TRAINED[network][2])
    (x, y), (calibrating, _) = data.sample("test", images), data.sample("train", calibration)
    pruning = ChannelPruner(model)
    macs = counts.macs(pruning.groups, pruning.units)
    spent, memory = Spent(), Memory()
    with contextlib.ExitStack() as stack:
        stack.enter_context(memory)
        started = time.perf_counter()
        scorer, base = stack.enter_context(Scorer()), convert(model)
        reward = negative_error if race else None
        scoring = Scoring(Split((x,), y), reward=reward)
        evaluator = Evaluator(pruning, macs, base, scorer, Split((calibrating,), None), scoring)
        set_up = time.perf_counter() - started
        agent = stack.enter_context(DdpgAgent(episodes=episodes, seed=seed))
        agent.act(np.zeros(agent.num_features), 0, explore=False)  # waits for its process
        for owner, call, part in (
            (agent, "act", "agent: act"),
            (agent, "learn", "agent: learn"),
            (agent, "save", "agent: save"),
            (pruning, "plan", "pruning"),
            (pruning, "sliced", "pruning"),
            (evaluator, "weights", "BatchNorm statistics"),
            (evaluator, "candidates", "candidate"),
            (evaluator, "cost", "cost"),
        ):
            setattr(owner, call, spent.on(part, getattr(owner, call)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        journal = stack.enter_context(Journal(folder, header("benchmark", seed, {"network": network})))
        limit = budget * macs(pruning.full)
        problem, settings = SearchProblem(pruning.units, macs, limit), ProposerSettings(Schedule(episodes, paper=True))
        search = Study(problem, settings, spent.on("scoring", evaluator), agent, journal)
        search.ask = spent.on("features and bounds", search.ask)
        begun = time.perf_counter()
        search.run()
        wall, held = time.perf_counter() - begun, memory.peaks()
        distinct = list({trial.widths: None for trial in search.trials if trial.kind != "base"})
        parts = dict(spent.seconds)

        some = [distinct[k] for k in np.linspace(0, len(distinct) - 1, min(BARE, len(distinct))).astype(int)]
        files = [evaluator.tflite(widths) for widths in some]
        bare = np.mean([bare_seconds(file, scorer.workers, images, folder) for file in files])
        ours, theirs, without = conversion_seconds(evaluator, some[:conversions])
        checked = data.sample("test", min(check, len(data.test[0])))[0]
        equal, closest = agreement(model, base, scorer, checked)
    seen = sum(trial.outcome.examples or images for trial in search.trials if trial.widths in distinct) / max(
        1, sum(trial.widths in distinct for trial in search.trials)
    )
    learned = [trial for trial in search.trials if trial.kind == "agent"]
    agents = sum(seconds for part, seconds in parts.items() if part.startswith("agent")) / len(learned)
    episode = wall / len(distinct)
    print(f"{network}: {images} images, {calibration} for BatchNorm statistics, {budget:g} of the MACs, "
          f"{len(learned)} episodes with {len(distinct)} distinct plans, {scorer.workers} processes\n")  # fmt: skip
    rows = [
        ("set-up, s", f"{set_up:.1f}"),
        ("search, s", f"{wall:.0f}"),
        ("one episode, s (plans proposed again, which are not scored again, taken out)", f"{episode:.2f}"),
        ("bare inference of its images, s", f"{bare:.2f}"),
        ("episode / bare inference of the images that it is scored on", f"{episode / bare:.2f}"),
        ("images a candidate is scored on, mean", f"{seen:.0f}"),
        ("images a second, scoring and BatchNorm statistics / bare",
         f"{(seen + calibration) / episode:.0f} / {images / bare:.0f}"),
        ("agent, s an episode (learning included; while candidates are scored)", f"{agents:.2f}"),
        *((f"{part}, s an episode", f"{seconds / (len(learned) if 'agent' in part else len(distinct)):.3f}")
          for part, seconds in sorted(parts.items())),
        ("candidate (pruning included), s", f"{ours:.3f}"),
        ("from_keras_model of the pruned model, s", f"{theirs:.2f} ({theirs / ours:.0f} times)"),
        ("convert() of the pruned model, s", f"{without:.2f} ({without / ours:.0f} times)"),
        ("predictions of the base as in Keras", f"{equal} of {len(checked)}; closest tie that differs: {closest:.1g}"),
        ("peak memory of the search, GB: this process, the agent's, all", " / ".join(f"{gb:.2f}" for gb in held)),
    ]  # fmt: skip
    print("| what | |\n|---|---|")
    print("\n".join(f"| {what} | {value} |" for what, value in rows))


class Spent:
    """Seconds by part; what a part spends in another one inside counts for that one only."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = threading.local()
        self._turn = threading.Lock()

    def on(self, part: str, function: Callable) -> Callable:
        """The function, its time noted."""

        def timed(*args, **kwargs):
            outer, self._inside.seconds = getattr(self._inside, "seconds", 0.0), 0.0
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                taken = time.perf_counter() - started
                with self._turn:
                    self.seconds[part] += taken - self._inside.seconds
                self._inside.seconds = outer + taken

        return timed


class Memory(contextlib.AbstractContextManager):
    """The largest memory that this process and its children held, looked at every second.

    Pages that several of them share count for each in part (Linux's PSS).
    """

    def __init__(self):
        self._most = [0.0, 0.0, 0.0]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def peaks(self) -> list[float]:
        """GB: of this process, of the agent's, of all together."""
        return self._most

    def _watch(self) -> None:
        own = os.getpid()
        while not self._over.wait(1.0):
            held = {pid: _pss(pid) for pid in [own, *_children(own)]}
            agents = sum(gb for pid, gb in held.items() if "ddpg_process" in _command(pid))
            now = [held[own], agents, sum(held.values())]
            self._most = [max(pair) for pair in zip(self._most, now, strict=True)]


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                child = int(stat.parent.name)
                found += [child, *_children(child)]
    return found


def _pss(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1e6
    return 0.0


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def bare_seconds(tflite: bytes, processes: int, images: int, folder: Path) -> float:
    """What the runtime alone takes for so many images in so many processes at once, one thread each."""
    from amc_tf.devices.host.computer import HostDevice

    path = folder / "bare.tflite"
    path.write_bytes(tflite)
    device, share = HostDevice(), images / processes
    with ThreadPoolExecutor(processes) as pool:
        one = [pool.submit(device.benchmark, path, min_runs=int(np.ceil(share))) for _ in range(processes)]
        return share * float(np.mean([timing.result().median_us for timing in one])) / 1e6


def conversion_seconds(evaluator: Any, some: Sequence[tuple[int, ...]]) -> tuple[float, float, float]:
    """Median seconds of making a candidate, of TensorFlow's usual conversion of the pruned model, and of convert()."""
    import tensorflow as tf

    from amc_tf.tflite.conversion.keras_to_tflite import convert
    from amc_tf.tflite.silence import silence

    pruning = evaluator.pruner
    ours, theirs, without = [], [], []
    for widths in some:
        plan = pruning.plan(widths)
        started = time.perf_counter()
        evaluator.candidates(plan, pruning.sliced(plan))
        ours.append(time.perf_counter() - started)
        pruned = pruning.apply(plan)
        started = time.perf_counter()
        with silence(), contextlib.redirect_stdout(io.StringIO()):  # Keras tells where it put its files
            tf.lite.TFLiteConverter.from_keras_model(pruned).convert()
        theirs.append(time.perf_counter() - started)
        started = time.perf_counter()
        convert(pruned)
        without.append(time.perf_counter() - started)
    return tuple(float(np.median(seconds)) for seconds in (ours, theirs, without))


def agreement(model: Any, base: bytes, scorer: Any, x: np.ndarray) -> tuple[int, float]:
    """How many predictions are those of Keras, and how far the two best classes of the others are apart in Keras."""
    from amc_tf.tflite.runtime.scorer import outputs

    with scorer.share([x]) as held:
        found = outputs(scorer.run(base, held))[0].argmax(-1)
    expected = model.predict(x, batch_size=32, verbose=0)
    other = np.flatnonzero(found != expected.argmax(-1))
    ties = [expected[k].max() - expected[k][found[k]] for k in other]
    return len(x) - len(other), float(max(ties, default=0))


if __name__ == "__main__":
    main()
