"""Sensitivity: how accurate the network is with one unit alone narrowed; measured once, used for every budget."""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amc_tf.checks import is_whole
from amc_tf.errors import RunDirError
from amc_tf.search.trial import Trial
from amc_tf.system import files

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

_FORMAT = 2  # 1, of amc_tf 0.1, did not say what a table was made with
_MADE_WITH = ("method", "metric", "round_to", "importance", "reconstruct", "calibration", "reward_data")


@dataclass(frozen=True)
class Sensitivity:
    """How accurate the network is with one unit alone narrowed and all others whole.

    Attributes:
        base: Accuracy of the whole network.
        accuracy: Unit name -> {width: accuracy}, as measured; the full width, which is the base, is not in it.
        made_with: What the accuracies depend on, see `made_with`; empty where that is not known.

    Raises:
        TypeError, ValueError: A width or an accuracy is no number that can be one.
    """

    base: float
    accuracy: Mapping[str, Mapping[int, float]]
    made_with: Mapping[str, Any] = field(default_factory=dict)

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
            return {unit.size: self.base}
        points = {width: value for width, value in self.accuracy.get(unit.name, {}).items() if width < unit.size}
        if not points:
            raise ValueError(
                f"The sensitivity table has no point of unit {unit.name!r}, but of {sorted(self.accuracy)}: measure "
                "the rest, or give the table of this network."
            )
        from scipy.optimize import isotonic_regression  # takes a third of a second to import

        widths = [*points, unit.size]
        values = np.append(np.minimum(isotonic_regression([*points.values()]).x, self.base), self.base)
        slope = (values[1] - values[0]) / (widths[1] - widths[0])
        expected = np.interp(unit.widths, widths, values)
        expected += slope * np.minimum(np.array(unit.widths) - widths[0], 0)
        rising = np.minimum.accumulate(expected[::-1])[::-1]  # rounding may end a hair above the next point
        return dict(zip(unit.widths, rising.tolist(), strict=True))

    def check(self, accuracy: float, made_with: Mapping[str, Any]) -> None:
        """Checks that the table is of the search that is to use it.

        Args:
            accuracy: Of the whole network, on the reward data of the search.
            made_with: Of the search, see `made_with`.

        Raises:
            ValueError: It is of another network, other data or other arguments.
        """
        for name, value in made_with.items():
            if self.made_with and self.made_with.get(name) != value:
                raise ValueError(
                    f"The sensitivity table was measured with {name} {self.made_with.get(name)!r}, this search has "
                    f"{value!r}: give the table of a search on the same model and data with the same arguments, or "
                    f"none."
                )
        if not math.isclose(self.base, accuracy, rel_tol=1e-6, abs_tol=1e-9):
            raise ValueError(
                f"The sensitivity table is of a network with accuracy {self.base}, this one has {accuracy} on the "
                f"reward data: give the table of a search on the same model and data, or none."
            )

    @property
    def digest(self) -> str:
        """Names the table: equal points, equal digest."""
        return hashlib.sha256(self._as_json()).hexdigest()[:16]

    def save(self, path: str | os.PathLike) -> None:
        """Writes the table as JSON.

        Raises:
            RunDirError: It cannot be written.
        """
        files.write(self._as_json(), Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Sensitivity":
        """Reads what `save` wrote.

        Raises:
            RunDirError: The file cannot be read or is no such table.
        """
        try:
            stored = json.loads(Path(path).read_bytes())
            if stored["format"] not in range(1, _FORMAT + 1):
                raise ValueError(f"format {stored['format']!r}, expected 1 to {_FORMAT}")
            accuracy = {name: dict(points) for name, points in stored["accuracy"].items()}
            return cls(stored["base"], accuracy, dict(stored.get("made_with", {})))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise RunDirError(
                f"{os.fspath(path)} is no sensitivity table ({error!r}), expected the JSON that Sensitivity.save "
                "writes: give the file of an earlier search, or none to have it measured."
            ) from error

    def _as_json(self) -> bytes:
        table = {name: list(map(list, points.items())) for name, points in self.accuracy.items()}
        stored = {"format": _FORMAT, "base": self.base, "made_with": dict(self.made_with), "accuracy": table}
        return (json.dumps(stored, indent=1) + "\n").encode()


def made_with(header: Mapping[str, Any]) -> dict[str, Any]:
    """What the points of a table depend on, from the header of a journal; not the budget, nor what is counted."""
    arguments = header["arguments"]
    return {"model": header["model"], **{name: arguments[name] for name in _MADE_WITH}}


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


def tabled(
    units: Sequence["Unit"], trials: Sequence[Trial], made_with: Mapping[str, Any] | None = None
) -> Sensitivity | None:
    """The table that a search has measured so far; None where it has no point of a unit that has a choice.

    A failed trial leaves its point out, and the lines between the others stand for it: a failure does not say how
    accurate the network is (a device was unplugged, a file could not be converted).

    Args:
        units: In the order of the trials' widths.
        trials: Of the search.
        made_with: What it is to say that it was made with.
    """
    table: dict[str, dict[int, float]] = {}
    base = None
    for trial in trials:
        if trial.kind == "sensitivity" and trial.state == "complete":
            base = trial.outcome.base_accuracy
            i = next(i for i, unit in enumerate(units) if trial.widths[i] < unit.size)
            table.setdefault(units[i].name, {})[trial.widths[i]] = trial.outcome.accuracy
    missing = any(len(unit.widths) > 1 and unit.name not in table for unit in units)
    return None if base is None or missing else Sensitivity(base, table, made_with or {})


def _width(name: str, width: int) -> int:
    if not is_whole(width) or width < 1:
        raise ValueError(f"A width of unit {name!r} is {width!r}, expected a whole number of channels, 1 or more.")
    return int(width)


def _accuracy(value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"A sensitivity table has accuracy {value!r}, expected a finite number.")
    return number
