"""LatencyTable: what one inference takes at any widths, in microseconds, from operators measured one by one.

Every operator of the .tflite is timed alone, at those of its widths that the grid asks for; a plan costs the sum. That
is off by what operators do to each other (caches, clocks), so the whole network, measured as one, sets the scale, and
candidates that are measured as the search goes correct it further (search.measured).
"""

import contextlib
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.devices.timing import Timing
from amc_tf.errors import RunDirError
from amc_tf.latency import grid
from amc_tf.latency.segments import Segment, model_of, segments
from amc_tf.latency.stopwatch import again
from amc_tf.pruning.lengths import Lengths
from amc_tf.pruning.unit import Unit
from amc_tf.system import cache
from amc_tf.system.files import write
from amc_tf.tflite.slicing.shapes import Shapes

_VERSION = 3  # of the file and of what is measured; another one is measured anew
_PASSES = 2  # a burst of other work on the device seldom hits the same model twice
_MIN_RUNS, _MIN_SECONDS = 10, 0.05
_ON_A_LINE = 5  # points of an operator that follows more than two lengths
_BATCH = 64  # models on disk at once


class LatencyTable:
    """Prices plans in microseconds on one device.

    Args:
        lengths: the lengths that vary, see Shapes.
        axes: for each kind of segment, the lengths it may take, ascending, one sequence an axis, at most two.
        values: for each kind, microseconds at all of them, non-decreasing along each axis.
        rows: for each segment, (its kind, the indices of its lengths); lengths of kinds with one axis are summed up.
        seconds: that measuring it took.

    Attributes:
        unit: "us".
        full: channels of each unit.
        scale: what the sum over the operators is multiplied by.
    """

    unit = "us"

    def __init__(
        self,
        lengths: Lengths,
        axes: Sequence[Sequence[Sequence[int]]],
        values: Sequence[np.ndarray],
        rows: Sequence[tuple[int, Sequence[int]]],
        seconds: float = 0.0,
    ):
        self.lengths, self.full, self.seconds = lengths, lengths.full, seconds
        self.axes = [[np.asarray(axis, float) for axis in of_kind] for of_kind in axes]
        self.values, self.rows = [np.asarray(v, float) for v in values], [(kind, list(own)) for kind, own in rows]
        self.scale = 1.0

    def __call__(self, widths: Sequence[int]) -> float:
        """Microseconds of one inference when unit i keeps `widths[i]` channels; non-decreasing in each width."""
        lengths = self.lengths(widths)
        return self.scale * float(sum(self._segment(kind, lengths[rows]) for kind, rows in self.rows))

    def fit(self, base_us: float) -> None:
        """Scales all prices so that the whole network costs what was measured of it."""
        self.scale *= base_us / self(self.full)

    def _segment(self, kind: int, lengths: np.ndarray) -> float:
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
        """Plain types, without the scale, which belongs to one search; `from_dict` is its inverse."""
        return {
            "version": _VERSION,
            "seconds": self.seconds,
            "fixed": self.lengths.fixed.tolist(),
            "copies": self.lengths.copies.tolist(),
            "full": self.full.tolist(),
            "axes": [[axis.tolist() for axis in of_kind] for of_kind in self.axes],
            "values": [values.tolist() for values in self.values],
            "rows": [[kind, list(rows)] for kind, rows in self.rows],
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "LatencyTable":
        """The table of `to_dict`.

        Raises:
            LookupError, TypeError, ValueError: that is no table of this version.
        """
        if stored["version"] != _VERSION:
            raise ValueError(f"The table is of version {stored['version']!r}, expected {_VERSION}.")
        lengths = Lengths.from_arrays(*(np.array(stored[name], dtype=np.int64) for name in ("full", "fixed", "copies")))
        table = cls(lengths, stored["axes"], stored["values"], stored["rows"], stored["seconds"])
        if not math.isfinite(table(table.full)):
            raise ValueError("The table does not price the whole network.")
        return table


def key(device: Any, shapes: Shapes, units: Sequence[Unit]) -> str:
    """What a table belongs to: a device with its runtime and settings, a network's shapes, the allowed widths."""
    whose = {
        "version": _VERSION,
        "device": dict(device.identity),
        "network": [repr(segment) for segment in segments(shapes)],
        "units": [[unit.name, *unit.widths] for unit in units],
    }
    return hashlib.sha256(json.dumps(whose, sort_keys=True).encode()).hexdigest()[:16]


def load_or_measure(
    device: Any,
    shapes: Shapes,
    units: Sequence[Unit],
    on_progress: Callable[[int, int], None] | None = None,
    folder: str | Path | None = None,
) -> LatencyTable:
    """The table from the user's cache, else measured and left there. Weights do not matter.

    Args:
        device, shapes, units, on_progress: as for `measure`.
        folder: default: the user's cache folder.

    Raises:
        DeviceError: a measurement failed.
    """
    folder = Path(folder) if folder is not None else cache.folder() / "latency"
    path = folder / f"{key(device, shapes, units)}.json"
    with contextlib.suppress(OSError, LookupError, TypeError, ValueError):  # a missing or damaged one is measured anew
        return LatencyTable.from_dict(json.loads(path.read_text()))
    table = measure(device, shapes, units, on_progress)
    # A cache that cannot be written costs minutes next time, not this search.
    with contextlib.suppress(OSError, RunDirError):
        folder.mkdir(parents=True, exist_ok=True)
        write(json.dumps({**table.to_dict(), "device": dict(device.identity)}).encode(), path)
    return table


def measure(
    device: Any, shapes: Shapes, units: Sequence[Unit], on_progress: Callable[[int, int], None] | None = None
) -> LatencyTable:
    """Measures the table of a network on a device.

    Args:
        device: see devices.
        shapes: of the network.
        units: of the network, whose allowed widths are what the table covers.
        on_progress: called with (small models measured, all of them).

    Raises:
        DeviceError: a measurement failed.
    """
    started = time.monotonic()
    kinds: dict[tuple, int] = {}
    examples: list[tuple[Segment, list[list[int]], list[list[int]] | None]] = []
    rows = []
    for segment in segments(shapes):
        axes, points = _plane(shapes.lengths, segment.rows, units)
        kind = (segment.kind, repr((axes, points)))
        if kind not in kinds:
            kinds[kind] = len(examples)
            examples.append((segment, axes, points))
        rows.append((kinds[kind], segment.rows))
    wanted = [(kind, index) for kind, (_, axes, _) in enumerate(examples) for index in grid.wanted(axes)]
    taken = _timed(device, shapes, examples, wanted, on_progress)
    values = [
        grid.filled(axes, lambda index, kind=kind: taken[kind, index]) for kind, (_, axes, _) in enumerate(examples)
    ]
    axes = [axes for _, axes, _ in examples]
    return LatencyTable(shapes.lengths, axes, values, rows, round(time.monotonic() - started, 1))


def _allowed(lengths: Lengths, row: int, units: Sequence[Unit]) -> list[int]:
    """The values that a length may take, ascending."""
    copies, fixed = lengths.copies[row], int(lengths.fixed[row])
    owners = np.flatnonzero(copies)
    if len(owners) == 1:
        return [fixed + int(copies[owners[0]]) * width for width in units[owners[0]].widths]
    least, most = (fixed + int(copies @ [unit.widths[end] for unit in units]) for end in (0, -1))
    steps = [int(copies[o]) * (b - a) for o in owners for a, b in pairwise(units[o].widths)]
    return [*range(least, most, max(1, int(np.gcd.reduce(steps)))), most]


def _plane(
    lengths: Lengths, rows: Sequence[int], units: Sequence[Unit]
) -> tuple[list[list[int]], list[list[int]] | None]:
    """At most two axes for the lengths of a segment.

    Two lengths that go each their own way have an axis each. Those that are tied, like the channels before and after a
    Flatten, have one, their sum; so have more than two, with a line through all that they can be.

    Returns:
        The axes; and, where all lengths are on one, what they are at each of its points.
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
        line = np.unique([lengths(chosen)[list(rows)] for chosen in widths], axis=0)
    else:
        return [_allowed(lengths, row, units) for row in rows], None
    return [line.sum(axis=1).tolist()], line.tolist()


def _timed(device, shapes, examples, wanted, on_progress) -> dict[tuple[int, tuple[int, ...]], float]:
    """Microseconds of each wanted point: the least of its passes."""
    taken: dict[tuple[int, tuple[int, ...]], float] = {}
    done = 0
    with tempfile.TemporaryDirectory(prefix="amc_tf-") as folder:
        for _ in range(_PASSES):
            for start in range(0, len(wanted), _BATCH):
                batch = wanted[start : start + _BATCH]
                paths, copies = [], []
                for number, (kind, index) in enumerate(batch):
                    segment, axes, points = examples[kind]
                    apart = [axis[i] for axis, i in zip(axes, index, strict=True)]
                    values = apart if points is None else points[index[0]]
                    file, count = model_of(shapes, segment, values)
                    paths.append(Path(folder) / f"{number}.tflite")
                    paths[-1].write_bytes(file)
                    copies.append(count)
                timings = again(lambda paths=paths: _benchmark_many(device, paths))
                for point, timing, count in zip(batch, timings, copies, strict=True):
                    taken[point] = min(timing.median_us / count, taken.get(point, np.inf))
                done += len(batch)
                if on_progress is not None:
                    on_progress(done, _PASSES * len(wanted))
    return taken


def _between(points: np.ndarray, value: float) -> tuple[int, float]:
    """Between which two points, of at least two, a value lies, and how far on the way."""
    index = int(np.clip(np.searchsorted(points, value, side="right") - 1, 0, len(points) - 2))
    return index, float((value - points[index]) / (points[index + 1] - points[index]))


def _benchmark_many(device: Any, paths: Sequence[Path]) -> list[Timing]:
    many = getattr(device, "benchmark_many", None)  # a device of the caller's own may only know `benchmark`
    if many is not None:
        return many(paths, min_runs=_MIN_RUNS, min_seconds=_MIN_SECONDS)
    return [device.benchmark(path, min_runs=_MIN_RUNS, min_seconds=_MIN_SECONDS) for path in paths]
