"""Timing: how long one inference of a .tflite takes on a device, with its spread. RunLength: how long to measure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

_WARMUP_RUNS, _WARMUP_SECONDS = 1, 0.5  # defaults of benchmark_model


@dataclass(frozen=True)
class Operator:
    """One operator in the profile of a model.

    Attributes:
        kind: Node type as the runtime calls it ("CONV_2D", "Convolution (NHWC, F32) GEMM").
        name: What it makes, or "".
        us: Mean time of one inference spent in it, microseconds.
        calls: How often one inference calls it.
    """

    kind: str
    name: str
    us: float
    calls: int = 1


@dataclass(frozen=True)
class RunLength:
    """How long one benchmark process runs.

    Attributes:
        min_runs, min_seconds: The measurement ends when both are reached.
        warmup_runs, warmup_seconds: The warm-up before it ends when both are reached.
    """

    min_runs: int
    min_seconds: float
    warmup_runs: int
    warmup_seconds: float

    @staticmethod
    def usual(min_runs: int, min_seconds: float) -> "RunLength":
        """With the warm-up of the official benchmark_model."""
        return RunLength(min_runs, min_seconds, _WARMUP_RUNS, _WARMUP_SECONDS)

    @staticmethod
    def brief(min_runs: int, min_seconds: float) -> "RunLength":
        """For one of many small models: two warm-up runs, and a quarter of the measurement's seconds."""
        return RunLength(min_runs, min_seconds, 2, min_seconds / 4)


@dataclass(frozen=True)
class Timing:
    """Times of one inference of one model, in one process or in several; all times in microseconds.

    The spread within a process is small and says little. The spread between processes is the one that users meet. So
    median, p90 and MAD are taken over the processes, and each process counts with the median of its inferences.

    Attributes:
        processes: The median inference of each process. It is the mean if a benchmark program prints no median, or one
            below 100 us, since it rounds medians to whole microseconds.
        min_us: Fastest single inference of all.
        runs: Number of inferences measured in all processes.
        p95_us: 95th percentile of single inferences, median over the processes; None where it is not known.
        init_us: Time to load the model, median over the processes; None where it is not known.
        memory_mb: Growth of the process, megabytes, median over the processes; None where it is not known.
        delegated: (operators that the delegate took, all operators); None where it is not known.
        environment: Plain types: device, runtime, flags, heat and clocks before and after.
    """

    processes: tuple[float, ...]
    min_us: float
    runs: int
    p95_us: float | None = None
    init_us: float | None = None
    memory_mb: float | None = None
    delegated: tuple[int, int] | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not self.processes or not all(math.isfinite(us) and us > 0 for us in self.processes):
            raise ValueError(f"A Timing has processes {self.processes}: one positive number each is expected.")

    @property
    def median_us(self) -> float:
        """Median over the processes."""
        return float(np.median(self.processes))

    @property
    def median_ms(self) -> float:
        """Median over the processes, in milliseconds."""
        return self.median_us / 1e3

    @property
    def p90_us(self) -> float:
        """90th percentile over the processes, interpolated."""
        return float(np.percentile(self.processes, 90))

    @property
    def mad_us(self) -> float:
        """Median absolute deviation from the median over the processes."""
        return float(np.median(np.abs(np.array(self.processes) - self.median_us)))

    def to_dict(self) -> dict[str, Any]:
        """Plain types, the derived figures included."""
        derived = {name: getattr(self, name) for name in ("median_us", "p90_us", "mad_us")}
        return derived | asdict(self)

    @staticmethod
    def merged(timings: Sequence["Timing"]) -> "Timing":
        """One Timing of all the processes of several.

        Its environment is the first one's, with the `after` of the last one.

        Raises:
            ValueError: There is none.
        """
        if not timings:
            raise ValueError("There is no Timing to merge: measure at least one process.")
        first, last = timings[0], timings[-1]
        environment = dict(first.environment)
        if "after" in last.environment:
            environment["after"] = last.environment["after"]
        return Timing(
            processes=tuple(us for timing in timings for us in timing.processes),
            min_us=min(timing.min_us for timing in timings),
            runs=sum(timing.runs for timing in timings),
            p95_us=_median([timing.p95_us for timing in timings]),
            init_us=_median([timing.init_us for timing in timings]),
            memory_mb=_median([timing.memory_mb for timing in timings]),
            delegated=first.delegated,
            environment=environment,
        )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
