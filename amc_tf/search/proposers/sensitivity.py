"""Sensitivity: accuracy of the network when one unit is narrowed and all others are whole; valid for every budget."""

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

_FORMAT = 2  # format 1, of amc_tf 0.1, had no provenance
_PROVENANCE = ("method", "metric", "round_to", "importance", "reconstruct", "calibration", "reward_data")


@dataclass(frozen=True)
class Sensitivity:
    """Accuracy of the network when one unit is narrowed and all others are whole. One measurement is a sample.

    Attributes:
        base: Accuracy of the whole network.
        accuracy: Unit name -> {width: accuracy}, as measured. The full width is left out: its accuracy is the base.
        provenance: What the accuracies depend on, see `provenance`; empty if that is not known.

    Raises:
        TypeError, ValueError: A width or an accuracy is not a valid number.
    """

    base: float
    accuracy: Mapping[str, Mapping[int, float]]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        table = {
            str(name): {_width(name, width): _accuracy(samples[width]) for width in sorted(samples)}
            for name, samples in self.accuracy.items()
        }
        object.__setattr__(self, "base", _accuracy(self.base))
        object.__setattr__(self, "accuracy", table)

    def curve(self, unit: "Unit") -> dict[int, float]:
        """The expected accuracy at each width of a unit that is narrowed alone.

        The curve never falls as the unit grows. Noisy samples that contradict this are averaged by isotonic regression
        (least squares). A running minimum would be worse: one unlucky sample would lower all narrower widths, and a
        unit that matters little would seem to matter. No value is above the base accuracy, since narrowing does not
        improve a network. Between samples the curve is linear, up to the base at full width. Below the narrowest sample
        it continues with the slope above it: a constant would make further pruning seem free.

        Args:
            unit: Its name, size and widths are read.

        Returns:
            {width: accuracy}, ascending, for all widths of the unit.

        Raises:
            ValueError: The unit has more than one width and no sample in the table.
        """
        if len(unit.widths) == 1:
            return {unit.size: self.base}
        samples = {width: value for width, value in self.accuracy.get(unit.name, {}).items() if width < unit.size}
        if not samples:
            raise ValueError(
                f"The sensitivity table has no sample of unit {unit.name!r}, but of {sorted(self.accuracy)}: measure "
                "the rest, or give the table of this network."
            )
        from scipy.optimize import isotonic_regression  # takes a third of a second to import

        widths = [*samples, unit.size]
        values = np.append(np.minimum(isotonic_regression([*samples.values()]).x, self.base), self.base)
        slope = (values[1] - values[0]) / (widths[1] - widths[0])
        expected = np.interp(unit.widths, widths, values)
        expected += slope * np.minimum(np.array(unit.widths) - widths[0], 0)
        rising = np.minimum.accumulate(expected[::-1])[::-1]  # rounding may put a value slightly above the next one
        return dict(zip(unit.widths, rising.tolist(), strict=True))

    def check(self, accuracy: float, provenance: Mapping[str, Any]) -> None:
        """Checks that the table fits a search.

        Args:
            accuracy: Accuracy of the whole network on the reward data of the search.
            provenance: That of the search, see `provenance`.

        Raises:
            ValueError: The table is of another network, other data or other arguments.
        """
        for name, value in provenance.items():
            if self.provenance and self.provenance.get(name) != value:
                raise ValueError(
                    f"The sensitivity table was measured with {name} {self.provenance.get(name)!r}, this search has "
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
        """Digest of the table; equal tables have equal digests."""
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
            stored = json.loads(Path(path).read_text(encoding="utf-8", errors="replace"))
            if stored["format"] not in range(1, _FORMAT + 1):
                raise ValueError(f"format {stored['format']!r}, expected 1 to {_FORMAT}")
            accuracy = {name: dict(samples) for name, samples in stored["accuracy"].items()}
            return cls(stored["base"], accuracy, dict(stored.get("made_with", {})))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            why = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {str(error)[:100]}"
            raise RunDirError(
                f"{os.fspath(path)} is no sensitivity table ({why}), expected the JSON that Sensitivity.save "
                "writes: give the file of an earlier search, or none to have it measured."
            ) from error

    def _as_json(self) -> bytes:
        table = {name: list(map(list, samples.items())) for name, samples in self.accuracy.items()}
        stored = {"format": _FORMAT, "base": self.base, "made_with": dict(self.provenance), "accuracy": table}
        return (json.dumps(stored, indent=1) + "\n").encode()


def provenance(header: Mapping[str, Any]) -> dict[str, Any]:
    """What the samples of a table depend on, from the header of a journal. Budget and target do not matter."""
    arguments = header["arguments"]
    return {"model": header["model"], **{name: arguments[name] for name in _PROVENANCE}}


def samples_to_measure(units: Sequence["Unit"], most: int = 3) -> tuple[tuple[int, int], ...]:
    """The widths of each unit that a sensitivity scan measures.

    Args:
        units: In any order.
        most: Most widths per unit. They are evenly spaced in the unit's list of widths, from the narrowest to one step
            below the full width, which needs no measurement.

    Returns:
        (unit's index, width) pairs: first the narrowest width of every unit, then the next of every unit, so that a
        scan that stops early has samples of all units.

    Raises:
        ValueError: most is less than 1.
    """
    if most < 1:
        raise ValueError(f"most is {most!r}, expected 1 or more widths to measure of each unit.")
    samples = []
    for i, unit in enumerate(units):
        below = len(unit.widths) - 1
        count = min(most, below)
        samples += [(j, i, unit.widths[round(j * below / count)]) for j in range(count)]
    return tuple((i, width) for _, i, width in sorted(samples))


def table_from_trials(
    units: Sequence["Unit"], trials: Sequence[Trial], provenance: Mapping[str, Any] | None = None
) -> Sensitivity | None:
    """The table that a search has measured so far; None if a unit with more than one width has no sample.

    A failed trial gives no sample, and the curve interpolates there: a failure does not tell the accuracy (a device was
    unplugged, a file could not be converted).

    Args:
        units: In the order of the trials' widths.
        trials: Of the search.
        provenance: The provenance that the table gets.
    """
    table: dict[str, dict[int, float]] = {}
    base = None
    for trial in trials:
        if trial.kind == "sensitivity" and trial.state == "complete":
            base = trial.outcome.base_accuracy
            i = next(i for i, unit in enumerate(units) if trial.widths[i] < unit.size)
            table.setdefault(units[i].name, {})[trial.widths[i]] = trial.outcome.accuracy
    missing = any(len(unit.widths) > 1 and unit.name not in table for unit in units)
    return None if base is None or missing else Sensitivity(base, table, provenance or {})


def _width(name: str, width: int) -> int:
    if not is_whole(width) or width < 1:
        raise ValueError(f"A width of unit {name!r} is {width!r}, expected a whole number of channels, 1 or more.")
    return int(width)


def _accuracy(value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"A sensitivity table has accuracy {value!r}, expected a finite number.")
    return number
