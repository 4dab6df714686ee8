"""Interleaved measurement: several models in turn, again and again, so that drift of the device hits them alike.

Repeating one model and then the other takes a phone that warms up in between for a faster or slower model; turns in
random order do not (Abedi & Brecht, ICPE 2017, doi 10.1145/3030207.3030229).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.devices.timing import Timing

_RESAMPLES = 2000
_LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Ratio:
    """Time of one model over that of another: median over rounds, with its 95 % bootstrap interval.

    Of fewer than five rounds the interval is None: it would promise more than so few can tell.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """What several models took, measured in turns.

    Attributes:
        timings: one a model, in the order in which they were given.
        ratios: the same of their time over the first one's; the first is 1.
    """

    timings: tuple[Timing, ...]
    ratios: tuple[Ratio, ...]


def interleave(
    device: Any,
    paths: Sequence[str | Path],
    *,
    rounds: int = 5,
    min_runs: int = 50,
    min_seconds: float = 1.0,
    seed: int | None = None,
) -> Comparison:
    """Measures every model once a round, in random order within the round, in every second round the other way round.

    Args:
        device: see devices.
        paths: .tflite files; the first is what the others are compared with.
        rounds: processes a model.
        min_runs, min_seconds: of each process.
        seed: of the order; None for another one each time, since whoever always comes second meets a warmer device.

    Raises:
        ValueError: there is no path or no round.
        DeviceError: a measurement failed.
    """
    if not paths or rounds < 1:
        raise ValueError(f"{len(paths)} models in {rounds} rounds cannot be compared: one of each is the least.")
    rng = np.random.default_rng(seed)
    order = np.arange(len(paths))
    taken: list[list[Timing]] = [[] for _ in paths]
    for turn in range(rounds):
        order = rng.permutation(len(paths)) if turn % 2 == 0 else order[::-1]
        for index in order:
            taken[index].append(device.benchmark(paths[index], min_runs=min_runs, min_seconds=min_seconds))
    timings = tuple(Timing.merged(of_one) for of_one in taken)
    return Comparison(timings, tuple(ratio(timing, timings[0]) for timing in timings))


def ratio(timing: Timing, reference: Timing) -> Ratio:
    """The median over rounds of one model's time over the other's in the same round.

    Raises:
        ValueError: the two were not measured in the same number of rounds.
    """
    if len(timing.processes) != len(reference.processes):
        raise ValueError(
            f"One model was measured in {len(timing.processes)} rounds, the other in {len(reference.processes)}: their "
            f"ratio takes the same number of both."
        )
    ratios = np.divide(timing.processes, reference.processes)
    if len(ratios) < _LEAST_ROUNDS:
        return Ratio(float(np.median(ratios)), None, None)
    drawn = np.random.default_rng(0).integers(len(ratios), size=(_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), (2.5, 97.5))
    return Ratio(float(np.median(ratios)), float(low), float(high))
