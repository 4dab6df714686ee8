"""LatencyTable: predicted microseconds of one inference at any widths, from operators measured one by one.

Every operator of the .tflite is timed alone, at the widths of a grid; the price of a plan is the sum. Operators also
influence each other (caches, clocks). Two corrections account for that: the table is scaled to the measured latency of
the whole network, and candidates that are measured during the search correct it (latency/candidate_timing.py).
"""

import contextlib
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.devices.timing import Timing
from amc_tf.errors import RunDirError
from amc_tf.latency import grid
from amc_tf.latency.segments import Segment, model_of, segments
from amc_tf.latency.stopwatch import retry_once
from amc_tf.pruning.lengths import Lengths
from amc_tf.pruning.unit import Unit
from amc_tf.system import cache
from amc_tf.system.files import write
from amc_tf.tflite.slicing.shapes import Shapes

_VERSION = 3  # of the file and of the measurement; a table of another version is measured again
_PASSES = 2  # other work on the device seldom disturbs the same model twice
_MIN_RUNS, _MIN_SECONDS = 10, 0.05
_ON_A_LINE = 5  # measured points of an operator that depends on more than two lengths
_BATCH = 64  # models on disk at once

Axes = Sequence[Sequence[int]]  # ascending lengths, one sequence per axis, at most two
Point = tuple[int, grid.Index]  # kind of segment, and the grid point of its lengths


class LatencyTable:
    """Predicts the microseconds of plans on one device. It is a Cost.

    Args:
        lengths: The lengths that vary with the widths, see Shapes.
        axes: For each kind of segment the lengths that it may take.
        values: For each kind microseconds at all grid points, non-decreasing along each axis.
        rows: For each segment (its kind, indices of its lengths). A kind with one axis takes the sum of its lengths.
        seconds: Time that the measurement took.

    Attributes:
        unit: "us".
        full: Channels of each unit.
        scale: Factor of the sum over the operators.
    """

    unit = "us"

    def __init__(
        self,
        lengths: Lengths,
        axes: Sequence[Axes],
        values: Sequence[np.ndarray],
        rows: Sequence[tuple[int, Sequence[int]]],
        seconds: float = 0.0,
    ):
        self.lengths, self.full, self.seconds = lengths, lengths.full, seconds
        self.axes = [[np.asarray(axis, float) for axis in kind_axes] for kind_axes in axes]
        self.values, self.rows = [np.asarray(v, float) for v in values], [(kind, list(own)) for kind, own in rows]
        self.scale = 1.0

    def __call__(self, widths: Sequence[int]) -> float:
        """Microseconds of one inference when unit i keeps `widths[i]` channels; non-decreasing in each width."""
        lengths = self.lengths(widths)
        return self.scale * float(sum(self._segment(kind, lengths[rows]) for kind, rows in self.rows))

    def fit(self, base_us: float) -> None:
        """Scales all prices so that the whole network costs its measured latency."""
        self.scale *= base_us / self(self.full)

    def _segment(self, kind: int, lengths: np.ndarray) -> float:
        """Microseconds of a segment, by linear or bilinear interpolation."""
        axes, values = self.axes[kind], self.values[kind]
        if values.ndim == 0:
            return float(values)
        if values.ndim == 1:
            return float(np.interp(lengths.sum(), axes[0], values))
        row, share = _between(axes[0], lengths[0])
        column, part = _between(axes[1], lengths[1])
        corner = values[row : row + 2, column : column + 2]
        return float(np.array([1 - share, share]) @ corner @ np.array([1 - part, part]))

    def to_dict(self) -> dict[str, Any]:
        """The table in plain types, without the scale, which belongs to one search; `from_dict` is its inverse."""
        return {
            "version": _VERSION,
            "seconds": self.seconds,
            "fixed": self.lengths.fixed.tolist(),
            "copies": self.lengths.copies.tolist(),
            "full": self.full.tolist(),
            "axes": [[axis.tolist() for axis in kind_axes] for kind_axes in self.axes],
            "values": [values.tolist() for values in self.values],
            "rows": [[kind, list(rows)] for kind, rows in self.rows],
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "LatencyTable":
        """The table of `to_dict`.

        Raises:
            LookupError, TypeError, ValueError: It is not a table of this version.
        """
        if stored["version"] != _VERSION:
            raise ValueError(f"The table is of version {stored['version']!r}, expected {_VERSION}.")
        lengths = Lengths.from_arrays(*(np.array(stored[name], dtype=np.int64) for name in ("full", "fixed", "copies")))
        table = cls(lengths, stored["axes"], stored["values"], stored["rows"], stored["seconds"])
        if not math.isfinite(table(table.full)):
            raise ValueError("The table does not price the whole network.")
        return table


def key(device: Any, shapes: Shapes, units: Sequence[Unit]) -> str:
    """Digest of what a table belongs to: a device with its runtime and settings, a network's shapes, allowed widths."""
    identity = {
        "version": _VERSION,
        "device": dict(device.identity),
        "network": [repr(segment) for segment in segments(shapes)],
        "units": [[unit.name, *unit.widths] for unit in units],
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def load_or_measure(
    device: Any,
    shapes: Shapes,
    units: Sequence[Unit],
    on_progress: Callable[[int, int], None] | None = None,
    folder: str | Path | None = None,
) -> LatencyTable:
    """The table from the user's cache; if it is not there, it is measured and stored. Weights do not matter.

    Args:
        device, shapes, units, on_progress: See `measure`.
        folder: Default: the user's cache folder.

    Raises:
        DeviceError: A measurement failed.
    """
    folder = Path(folder) if folder is not None else cache.folder() / "latency"
    path = folder / f"{key(device, shapes, units)}.json"
    with contextlib.suppress(OSError, LookupError, TypeError, ValueError):  # missing or damaged: it is measured
        return LatencyTable.from_dict(json.loads(path.read_text()))
    table = measure(device, shapes, units, on_progress)
    # If the cache cannot be written, this search goes on and the next one measures again.
    with contextlib.suppress(OSError, RunDirError):
        folder.mkdir(parents=True, exist_ok=True)
        write(json.dumps({**table.to_dict(), "device": dict(device.identity)}).encode(), path)
    return table


def measure(
    device: Any, shapes: Shapes, units: Sequence[Unit], on_progress: Callable[[int, int], None] | None = None
) -> LatencyTable:
    """Measures the table of a network on a device.

    Args:
        device: See devices.
        shapes: Those of the network.
        units: Those of the network; the table covers their allowed widths.
        on_progress: Called with (number of small models measured, number of all).

    Raises:
        DeviceError: A measurement failed.
    """
    started = time.monotonic()
    kinds: dict[tuple, int] = {}  # kind of segment and its axes -> index in examples
    examples: list[_Example] = []
    rows = []
    for segment in segments(shapes):
        axes, line = _axes(shapes.lengths, segment.rows, units)
        kind = (segment.kind, repr((axes, line)))
        if kind not in kinds:
            kinds[kind] = len(examples)
            examples.append(_Example(segment, axes, line))
        rows.append((kinds[kind], segment.rows))
    points = [(kind, index) for kind, one in enumerate(examples) for index in grid.indices_to_measure(one.axes)]
    times = _measure_points(device, shapes, examples, points, on_progress)
    values = [
        grid.interpolated(one.axes, lambda index, kind=kind: times[kind, index]) for kind, one in enumerate(examples)
    ]
    axes = [one.axes for one in examples]
    return LatencyTable(shapes.lengths, axes, values, rows, round(time.monotonic() - started, 1))


@dataclass(frozen=True)
class _Example:
    """One segment that stands for all of its kind.

    Attributes:
        segment: That is measured.
        axes: Lengths that it may take.
        line: If all lengths are on one axis, their values at each of its points; else None.
    """

    segment: Segment
    axes: list[list[int]]
    line: list[list[int]] | None

    def lengths(self, index: grid.Index) -> list[int]:
        """The lengths `segment.rows` at a grid point."""
        if self.line is not None:
            return self.line[index[0]]
        return [axis[i] for axis, i in zip(self.axes, index, strict=True)]


def _allowed(lengths: Lengths, row: int, units: Sequence[Unit]) -> list[int]:
    """The values that a length may take, ascending."""
    copies, fixed = lengths.copies[row], int(lengths.fixed[row])
    owners = np.flatnonzero(copies)
    if len(owners) == 1:
        return [fixed + int(copies[owners[0]]) * width for width in units[owners[0]].widths]
    least, most = (fixed + int(copies @ [unit.widths[end] for unit in units]) for end in (0, -1))
    steps = [int(copies[o]) * (b - a) for o in owners for a, b in pairwise(units[o].widths)]
    return [*range(least, most, max(1, int(np.gcd.reduce(steps)))), most]


def _axes(
    lengths: Lengths, rows: Sequence[int], units: Sequence[Unit]
) -> tuple[list[list[int]], list[list[int]] | None]:
    """At most two axes for the lengths of a segment.

    Two independent lengths have one axis each. Dependent lengths, like the channels before and after a Flatten, share
    one axis: their sum. More than two lengths also share one axis, along a line from their least to their largest.

    Returns:
        The axes; and, if all lengths share one axis, their values at each of its points, else None.
    """
    copies, fixed = lengths.copies[list(rows)], lengths.fixed[list(rows)]
    if len(rows) > 1 and np.linalg.matrix_rank(copies) == 1:
        least = int(copies.sum(axis=1).argmin())
        owner = int(np.flatnonzero(copies[least])[0])
        values = np.array(_allowed(lengths, rows[least], units))[:, None]
        line = fixed + (values - fixed[least]) * copies[:, owner] // copies[least, owner]
    elif len(rows) > 2:
        shares = np.linspace(0, 1, _ON_A_LINE)
        widths = [[unit.widths[round(share * (len(unit.widths) - 1))] for unit in units] for share in shares]
        line = np.unique([lengths(plan)[list(rows)] for plan in widths], axis=0)
    else:
        return [_allowed(lengths, row, units) for row in rows], None
    return [line.sum(axis=1).tolist()], line.tolist()


def _measure_points(
    device: Any,
    shapes: Shapes,
    examples: Sequence[_Example],
    points: Sequence[Point],
    on_progress: Callable[[int, int], None] | None,
) -> dict[Point, float]:
    """Microseconds of one copy of the segment at each point: the least of its passes."""
    times: dict[Point, float] = {}
    done = 0
    with tempfile.TemporaryDirectory(prefix="amc_tf-") as folder:
        for _ in range(_PASSES):
            for start in range(0, len(points), _BATCH):
                batch = points[start : start + _BATCH]
                paths, copies = [], []
                for number, (kind, index) in enumerate(batch):
                    file, count = model_of(shapes, examples[kind].segment, examples[kind].lengths(index))
                    paths.append(Path(folder) / f"{number}.tflite")
                    paths[-1].write_bytes(file)
                    copies.append(count)
                timings = retry_once(lambda paths=paths: _benchmark_many(device, paths))
                for point, timing, count in zip(batch, timings, copies, strict=True):
                    times[point] = min(timing.median_us / count, times.get(point, np.inf))
                done += len(batch)
                if on_progress is not None:
                    on_progress(done, _PASSES * len(points))
    return times


def _between(lengths: np.ndarray, value: float) -> tuple[int, float]:
    """Index of the last of two or more lengths below a value, and the value's position up to the next, 0 to 1."""
    index = int(np.clip(np.searchsorted(lengths, value, side="right") - 1, 0, len(lengths) - 2))
    return index, float((value - lengths[index]) / (lengths[index + 1] - lengths[index]))


def _benchmark_many(device: Any, paths: Sequence[Path]) -> list[Timing]:
    many = getattr(device, "benchmark_many", None)  # a caller's own device may only have `benchmark`
    if many is not None:
        return many(paths, min_runs=_MIN_RUNS, min_seconds=_MIN_SECONDS)
    return [device.benchmark(path, min_runs=_MIN_RUNS, min_seconds=_MIN_SECONDS) for path in paths]
