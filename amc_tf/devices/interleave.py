"""interleave: measures several models in turns, so that drift of the device affects all of them alike.

If all measurements of one model came before those of the next, a phone that warms up meanwhile would look like a
difference between the models. Turns in random order avoid that (Abedi & Brecht, ICPE 2017, doi
10.1145/3030207.3030229).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amc_tf.devices.device import Device
from amc_tf.devices.timing import Timing

_RESAMPLES = 2000
_LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Ratio:
    """Time of one model divided by the time of another: median over rounds, with its 95 % bootstrap interval.

    Attributes:
        value: the median.
        low, high: the interval; None for fewer than five rounds, which are too few for one.
    """

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """Times of several models, measured in turns.

    Attributes:
        timings: one for each model, in the order of the paths.
        ratios: each model's time divided by the first model's; the first ratio is 1.
    """

    timings: tuple[Timing, ...]
    ratios: tuple[Ratio, ...]


def interleave(
    device: Device,
    paths: Sequence[str | Path],
    *,
    rounds: int = 5,
    min_runs: int = 50,
    min_seconds: float = 1.0,
    seed: int | None = None,
) -> Comparison:
    """Measures every model once a round.

    Each odd round has a random order; the round after it has the reverse order.

    Args:
        device: measures.
        paths: .tflite files; the others are compared with the first.
        rounds: processes for each model.
        min_runs, min_seconds: of each process.
        seed: of the orders; None for other ones each time, since the model that always comes second meets a warmer
            device.

    Raises:
        ValueError: there is no path or no round.
        DeviceError: a measurement failed.
    """
    if not paths or rounds < 1:
        raise ValueError(f"{len(paths)} models in {rounds} rounds cannot be compared: one of each is the least.")
    rng = np.random.default_rng(seed)
    order = np.arange(len(paths))
    measured: list[list[Timing]] = [[] for _ in paths]
    for number in range(rounds):
        order = rng.permutation(len(paths)) if number % 2 == 0 else order[::-1]
        for index in map(int, order):
            measured[index].append(device.benchmark(paths[index], min_runs=min_runs, min_seconds=min_seconds))
    timings = tuple(Timing.merged(rounds_of_one) for rounds_of_one in measured)
    return Comparison(timings, tuple(ratio(timing, timings[0]) for timing in timings))


def ratio(timing: Timing, reference: Timing) -> Ratio:
    """The median over rounds of one model's time divided by the other's in the same round.

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
    resamples = np.random.default_rng(0).integers(len(ratios), size=(_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[resamples], axis=1), (2.5, 97.5))
    return Ratio(float(np.median(ratios)), float(low), float(high))
