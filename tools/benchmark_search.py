"""Measures where a search spends its time, and compares an episode with the bare inference of its candidates.

python tools/benchmark_search.py --network mobilenet_v1_imagenet --images 500 --calibration 64 --budget 0.5

Prints Markdown. It is a real search with agent, learning and journal. Every candidate is scored on all images; with
`--race` hopeless candidates are stopped early, as in compress(). The parts are seconds of the threads that wait for
them. Two candidates are in flight, so the parts add up to more than the elapsed time. Bare inference is the runtime
alone on loaded candidates, in the same run, in as many processes as score candidates. Run it on an idle machine.
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
@click.option("--images", default=500, show_default=True, help="That score a candidate.")
@click.option("--calibration", default=64, show_default=True, help="Images for BN recalibration.")
@click.option("--budget", default=0.5, show_default=True, help="Share of the MACs.")
@click.option("--episodes", default=40, show_default=True)
@click.option("--race", is_flag=True, help="Stop hopeless candidates early.")
@click.option("--conversions", default=3, show_default=True, help="Candidates that the converter makes too.")
@click.option("--check", default=1000, show_default=True, help="Images whose predictions are compared with Keras.")
@click.option("--seed", default=0, show_default=True)
def main(network, images, calibration, budget, episodes, race, conversions, check, seed) -> None:
    import keras

    import models
    from amc_tf.cost import counts
    from amc_tf.data.splits import Split
    from amc_tf.pruning.channel import ChannelPruner
    from amc_tf.search.rewards import negative_error
    from amc_tf.search.scoring.evaluator import Evaluator, Scoring
    from amc_tf.tflite.conversion.keras_to_tflite import convert
    from amc_tf.tflite.runtime.scorer import Scorer
    from models import datasets

    model = models.load(network, keras)
    data = datasets.load(models.TRAINED[network][2])
    (x, y), (calibration_x, _) = data.sample("test", images), data.sample("train", calibration)
    pruner = ChannelPruner(model)
    macs = counts.macs(pruner.groups, pruner.units)
    seconds = Stopwatch()
    with Memory() as memory, Scorer() as scorer, tempfile.TemporaryDirectory() as temporary:
        started = time.perf_counter()
        base = convert(model)
        reward = negative_error if race else None
        scoring = Scoring(Split((x,), y), reward=reward)
        evaluator = Evaluator(pruner, macs, base, scorer, Split((calibration_x,), None), scoring)
        set_up = time.perf_counter() - started
        study, wall = timed_search(network, evaluator, budget, episodes, seed, Path(temporary), seconds)
        peaks = memory.peaks()
        distinct = list({trial.widths: None for trial in study.trials if trial.kind != "base"})
        parts = dict(seconds.of_part)

        some = [distinct[k] for k in np.linspace(0, len(distinct) - 1, min(BARE, len(distinct))).astype(int)]
        files = [evaluator.tflite(widths) for widths in some]
        bare = float(np.mean([bare_seconds(file, scorer.workers, images, Path(temporary)) for file in files]))
        converted = conversion_seconds(evaluator, some[:conversions])
        checked = data.sample("test", min(check, len(data.test[0])))[0]
        equal, closest = agreement(model, base, scorer, checked)
    trials = [trial for trial in study.trials if trial.widths in distinct]
    scored = sum(trial.outcome.examples or images for trial in trials) / max(1, len(trials))
    learned = sum(trial.kind == "agent" for trial in study.trials)
    print(f"{network}: {images} images, {calibration} for BatchNorm statistics, {budget:g} of the MACs, "
          f"{learned} episodes with {len(distinct)} distinct plans, {scorer.workers} processes\n")  # fmt: skip
    rows = [
        *episode_rows(set_up, wall, len(distinct), bare, scored, calibration, images),
        *part_rows(parts, learned, len(distinct)),
        *conversion_rows(*converted),
        ("predictions of the base as in Keras", f"{equal} of {len(checked)}; closest tie that differs: {closest:.1g}"),
        ("peak memory of the search, GB: this process, the agent's, all", " / ".join(f"{gb:.2f}" for gb in peaks)),
    ]
    print("| what | |\n|---|---|")
    print("\n".join(f"| {name} | {value} |" for name, value in rows))


def timed_search(
    network: str, evaluator: Any, budget: float, episodes: int, seed: int, run_dir: Path, seconds: "Stopwatch"
) -> tuple[Any, float]:
    """Runs a search whose parts are timed.

    Args:
        network: name for the journal.
        evaluator: of the candidates; its methods and those of its pruner are replaced by timed ones.
        budget: share of the MACs.
        episodes, seed: of the search.
        run_dir: gets the journal.
        seconds: gets the times of the parts.

    Returns:
        The study, and the elapsed seconds.
    """
    from amc_tf.search.agent.ddpg_client import DdpgAgent
    from amc_tf.search.journal import Journal, header
    from amc_tf.search.problem import SearchProblem
    from amc_tf.search.proposer import ProposerSettings
    from amc_tf.search.schedule import Schedule
    from amc_tf.search.study import Study

    pruner, macs = evaluator.pruner, evaluator.cost
    with (
        DdpgAgent(episodes=episodes, seed=seed) as agent,
        Journal(run_dir, header("benchmark", seed, {"network": network})) as journal,
    ):
        agent.act(np.zeros(agent.num_features), 0, explore=False)  # waits until its process has started
        for owner, method, part in (
            (agent, "act", "agent: act"),
            (agent, "learn", "agent: learn"),
            (agent, "save", "agent: save"),
            (pruner, "plan", "pruning"),
            (pruner, "sliced", "pruning"),
            (evaluator, "weights", "BatchNorm statistics"),
            (evaluator, "candidates", "candidate"),
            (evaluator, "cost", "cost"),
        ):
            setattr(owner, method, seconds.timed(part, getattr(owner, method)))
        problem = SearchProblem(pruner.units, macs, budget * macs(pruner.full))
        settings = ProposerSettings(Schedule(episodes, paper=True))
        study = Study(problem, settings, seconds.timed("scoring", evaluator), agent, journal)
        study.ask = seconds.timed("features and bounds", study.ask)
        started = time.perf_counter()
        study.run()
        return study, time.perf_counter() - started


def episode_rows(
    set_up: float, wall: float, plans: int, bare: float, scored: float, calibration: int, images: int
) -> list[tuple[str, str]]:
    """The rows on whole episodes.

    Args:
        set_up, wall: seconds of the set-up and of the search.
        plans: number of distinct plans.
        bare: seconds of the bare inference of one plan.
        scored: images that score a candidate, on average.
        calibration: images for BN recalibration.
        images: images of the bare inference.
    """
    episode = wall / plans
    return [
        ("set-up, s", f"{set_up:.1f}"),
        ("search, s", f"{wall:.0f}"),
        ("one episode, s (without repeated plans, which are not scored again)", f"{episode:.2f}"),
        ("bare inference of its images, s", f"{bare:.2f}"),
        ("episode / bare inference of its images", f"{episode / bare:.2f}"),
        ("images that score a candidate, mean", f"{scored:.0f}"),
        ("images per second, scoring and BatchNorm statistics / bare",
         f"{(scored + calibration) / episode:.0f} / {images / bare:.0f}"),
    ]  # fmt: skip


def part_rows(parts: dict[str, float], learned: int, plans: int) -> list[tuple[str, str]]:
    """The rows on the parts of an episode: those of the agent per episode, the others per distinct plan."""
    agent = sum(seconds for part, seconds in parts.items() if part.startswith("agent")) / learned
    return [
        ("agent, s per episode (learning included; while candidates are scored)", f"{agent:.2f}"),
        *((f"{part}, s per episode", f"{seconds / (learned if 'agent' in part else plans):.3f}")
          for part, seconds in sorted(parts.items())),
    ]  # fmt: skip


def conversion_rows(candidate: float, usual: float, own: float) -> list[tuple[str, str]]:
    """The rows on `conversion_seconds`."""
    return [
        ("candidate (pruning included), s", f"{candidate:.3f}"),
        ("from_keras_model of the pruned model, s", f"{usual:.2f} ({usual / candidate:.0f} times)"),
        ("convert() of the pruned model, s", f"{own:.2f} ({own / candidate:.0f} times)"),
    ]


class Stopwatch:
    """Adds up seconds by part. Time that a part spends in a nested part counts for the nested part only.

    Attributes:
        of_part: part -> seconds.
    """

    def __init__(self):
        self.of_part: dict[str, float] = defaultdict(float)
        self._nested = threading.local()
        self._lock = threading.Lock()

    def timed(self, part: str, function: Callable) -> Callable:
        """Wraps a function so that its time is added to a part."""

        def wrapper(*args, **kwargs):
            outer, self._nested.seconds = getattr(self._nested, "seconds", 0.0), 0.0
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = time.perf_counter() - started
                with self._lock:
                    self.of_part[part] += elapsed - self._nested.seconds
                self._nested.seconds = outer + elapsed

        return wrapper


class Memory(contextlib.AbstractContextManager):
    """Records the peak memory of this process and its children, sampled every second.

    Shared pages count in part for each process (Linux's PSS).
    """

    def __init__(self):
        self._peaks = [0.0, 0.0, 0.0]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    def peaks(self) -> list[float]:
        """GB: of this process, of the agent's, of all together."""
        return self._peaks

    def _watch(self) -> None:
        own = os.getpid()
        while not self._ended.wait(1.0):
            memory = {pid: _pss(pid) for pid in [own, *_children(own)]}
            agent = sum(gb for pid, gb in memory.items() if "ddpg_process" in _command(pid))
            now = [memory[own], agent, sum(memory.values())]
            self._peaks = [max(pair) for pair in zip(self._peaks, now, strict=True)]


def _children(pid: int) -> list[int]:
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                child = int(stat.parent.name)
                children += [child, *_children(child)]
    return children


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
    """Seconds of the runtime alone for a number of images, split over concurrent processes of one thread each."""
    from amc_tf.devices.host.computer import HostDevice

    path = folder / "bare.tflite"
    path.write_bytes(tflite)
    device, share = HostDevice(), images / processes
    with ThreadPoolExecutor(processes) as pool:
        timings = [pool.submit(device.benchmark, path, min_runs=int(np.ceil(share))) for _ in range(processes)]
        return share * float(np.mean([timing.result().median_us for timing in timings])) / 1e6


def conversion_seconds(evaluator: Any, some: Sequence[tuple[int, ...]]) -> tuple[float, float, float]:
    """Median seconds of a candidate, of TensorFlow's usual conversion of the pruned model, and of convert()."""
    import tensorflow as tf

    from amc_tf.tflite.conversion.keras_to_tflite import convert
    from amc_tf.tflite.silence import silence

    pruner = evaluator.pruner
    candidate, usual, own = [], [], []
    for widths in some:
        plan = pruner.plan(widths)
        started = time.perf_counter()
        evaluator.candidates(plan, pruner.sliced(plan))
        candidate.append(time.perf_counter() - started)
        pruned = pruner.apply(plan)
        started = time.perf_counter()
        with silence(), contextlib.redirect_stdout(io.StringIO()):  # Keras prints paths
            tf.lite.TFLiteConverter.from_keras_model(pruned).convert()
        usual.append(time.perf_counter() - started)
        started = time.perf_counter()
        convert(pruned)
        own.append(time.perf_counter() - started)
    return tuple(float(np.median(seconds)) for seconds in (candidate, usual, own))


def agreement(model: Any, base: bytes, scorer: Any, x: np.ndarray) -> tuple[int, float]:
    """Compares predictions with those of Keras.

    Returns:
        The number of equal predictions, and for the others the largest gap in Keras between the two classes.
    """
    from amc_tf.tflite.runtime.scorer import outputs

    with scorer.share([x]) as dataset:
        predicted = outputs(scorer.run(base, dataset))[0].argmax(-1)
    expected = model.predict(x, batch_size=32, verbose=0)
    different = np.flatnonzero(predicted != expected.argmax(-1))
    gaps = [expected[k].max() - expected[k][predicted[k]] for k in different]
    return len(x) - len(different), float(max(gaps, default=0))


if __name__ == "__main__":
    main()
