"""Sensitivity: how accurate the network is with one unit alone narrowed; measured once, used for every budget."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amc_tf import files
from amc_tf.errors import AmcError, RunDirError
from amc_tf.search.outcome import Outcome

if TYPE_CHECKING:
    from amc_tf.pruning.channel import Unit

_FORMAT = 1


@dataclass(frozen=True)
class Sensitivity:
    """How accurate the network is with one unit alone narrowed and all others whole.

    Attributes:
        base: Accuracy of the whole network.
        accuracy: Unit name -> {width: accuracy}, as measured; the full width, which is the base, is not in it.

    Raises:
        TypeError, ValueError: A width or an accuracy is no number that can be one.
    """

    base: float
    accuracy: Mapping[str, Mapping[int, float]]

    def __post_init__(self):
        table = {
            str(name): {_width(name, width): _accuracy(points[width]) for width in sorted(points)}
            for name, points in self.accuracy.items()
        }
        object.__setattr__(self, "base", _accuracy(self.base))
        object.__setattr__(self, "accuracy", table)

    def curve(self, unit: "Unit") -> dict[int, float]:
        """The accuracy to be expected at each of a unit's widths when it alone is narrowed.

        It never falls as the unit grows. Where measured points contradict that, which is noise, they are averaged
        until none does: the least squares fit of such a curve. A running minimum would let one unlucky point pull all
        narrower ones down, and so make the units that matter least look as if they mattered. No point is above the
        base, as narrowing teaches nothing. Between points the curve is a straight line, up to the base at full width.
        Below the narrowest one it goes on as steeply as before: to hold it there would call more pruning free.

        Args:
            unit: Its name, channels and widths are read.

        Returns:
            {width: accuracy}, ascending, for all of the unit's widths.

        Raises:
            ValueError: The table has no point of the unit, which has a choice.
        """
        if len(unit.widths) == 1:
            return {unit.channels: self.base}
        points = {width: value for width, value in self.accuracy.get(unit.name, {}).items() if width < unit.channels}
        if not points:
            raise ValueError(
                f"The sensitivity table has no point of unit {unit.name!r}, but of {sorted(self.accuracy)}: measure "
                "the rest with measure(..., known=table), or give the table of this network."
            )
        widths = [*points, unit.channels]
        values = [*(min(value, self.base) for value in _rising(list(points.values()))), self.base]
        slope = (values[1] - values[0]) / (widths[1] - widths[0])
        expected = np.interp(unit.widths, widths, values)
        expected += slope * np.minimum(np.array(unit.widths) - widths[0], 0)
        rising = np.minimum.accumulate(expected[::-1])[::-1]  # rounding may end a hair above the next point
        return dict(zip(unit.widths, rising.tolist(), strict=True))

    def save(self, path: str | os.PathLike) -> None:
        """Writes the table as JSON.

        Raises:
            RunDirError: It cannot be written.
        """
        table = {name: list(map(list, points.items())) for name, points in self.accuracy.items()}
        stored = {"format": _FORMAT, "base": self.base, "accuracy": table}
        files.write((json.dumps(stored, indent=1) + "\n").encode(), Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Sensitivity":
        """Reads what `save` wrote.

        Raises:
            RunDirError: The file cannot be read or is no such table.
        """
        try:
            stored = json.loads(Path(path).read_bytes())
            if stored["format"] != _FORMAT:
                raise ValueError(f"format {stored['format']!r}, expected {_FORMAT}")
            return cls(stored["base"], {name: dict(points) for name, points in stored["accuracy"].items()})
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise RunDirError(
                f"{os.fspath(path)} is no sensitivity table ({error!r}), expected the JSON that Sensitivity.save "
                "writes: remove the file to have it measured anew."
            ) from error


def points(units: Sequence["Unit"], most: int = 3) -> tuple[tuple[int, int], ...]:
    """Which widths of which units to measure.

    Args:
        units: In any order.
        most: How many widths a unit at most. They lie evenly in its list of widths, the narrowest always among them and
            the full one, which needs no measuring, one such step beyond the widest.

    Returns:
        (unit's index, width) pairs: the narrowest of every unit first, then the next, so that whoever stops early knows
        something of each.

    Raises:
        ValueError: most is less than 1.
    """
    if most < 1:
        raise ValueError(f"most is {most!r}, expected 1 or more widths to measure of each unit.")
    chosen = []
    for i, unit in enumerate(units):
        below = len(unit.widths) - 1
        count = min(most, below)
        chosen += [(j, i, unit.widths[round(j * below / count)]) for j in range(count)]
    return tuple((i, width) for _, i, width in sorted(chosen))


def measure(
    units: Sequence["Unit"],
    evaluate: Callable[[tuple[int, ...]], Outcome],
    most: int = 3,
    known: Sensitivity | None = None,
    on_point: Callable[[Sensitivity], None] | None = None,
) -> Sensitivity:
    """Measures the table, one network at a time.

    A failed evaluation leaves its point out, and the lines between the others stand for it: a failure does not say how
    accurate the network is (a device was unplugged, a file could not be converted), zero is not the worst of every
    metric, and what is left out is tried again when the table is measured on. Where all points of a unit fail there is
    nothing to stand for them, and the last error is raised.

    Args:
        units: Of the network, all of them.
        evaluate: Widths (units,) -> Outcome on all examples, as Evaluator.
        most: See points.
        known: A table of the same network and examples; what it has is not measured again.
        on_point: Called with the table so far after each point, to save it.

    Raises:
        AmcError: All points of a unit failed; the table that on_point got has the others.
        RunDirError: There is no room for what evaluating needs.
        ValueError: `known` is of another network or of other examples; most is less than 1.
    """
    full = tuple(unit.channels for unit in units)
    base = None if known is None else known.base
    table: dict[str, dict[int, float]] = {} if known is None else {n: dict(p) for n, p in known.accuracy.items()}
    todo = [(i, width) for i, width in points(units, most) if width not in table.get(units[i].name, {})]
    failed: dict[str, AmcError] = {}
    for i, width in todo:
        try:
            outcome = evaluate((*full[:i], width, *full[i + 1 :]))
        except RunDirError:
            raise
        except AmcError as error:
            failed[units[i].name] = error
            continue
        base = outcome.base_accuracy if base is None else base
        if not math.isclose(base, outcome.base_accuracy, rel_tol=1e-6, abs_tol=1e-9):
            raise ValueError(
                f"The known sensitivity table is of a network with accuracy {base}, this one has "
                f"{outcome.base_accuracy} on these examples: measure it anew, without the table."
            )
        table.setdefault(units[i].name, {})[width] = outcome.accuracy
        if on_point is not None:
            on_point(Sensitivity(base, table))
    for name, error in failed.items():
        if name not in table:
            raise error
    if base is None:  # of units without a choice there is no point to measure
        base = evaluate(full).base_accuracy
    return Sensitivity(base, table)


def _rising(values: list[float]) -> list[float]:
    """The non-decreasing sequence nearest to the values in least squares: neighbours that fall are averaged."""
    blocks: list[tuple[float, int]] = []  # (mean, how many)
    for value in values:
        blocks.append((value, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (mean, count), (last, more) = blocks[-2:]
            blocks[-2:] = [((mean * count + last * more) / (count + more), count + more)]
    return [mean for mean, count in blocks for _ in range(count)]


def _width(name: str, width: int) -> int:
    if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1:
        raise ValueError(f"A width of unit {name!r} is {width!r}, expected a whole number of channels, 1 or more.")
    return int(width)


def _accuracy(value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"A sensitivity table has accuracy {value!r}, expected a finite number.")
    return number
