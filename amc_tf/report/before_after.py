"""The before/after table of a report: one line per network and format, one column per figure, one unit per column."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from amc_tf.report import amounts
from amc_tf.report.run_record import Record
from amc_tf.result import FLOAT, Figures

_COLUMNS = (  # (field of Line, name, target with the unit of the column, factor from the field to the target's unit)
    ("latency_ms", "latency", "latency", 1e3),
    ("size_bytes", "file", "size", 1),
    ("gzip_bytes", "gzipped", "size", 1),
    ("macs", "MACs", "macs", 1),
    ("params", "params", "params", 1),
)


@dataclass(frozen=True)
class Line:
    """One network in one format.

    Attributes:
        name: of the network, with its format where there are several.
        file: its name in the run directory, or "".
        accuracy, latency_ms, size_bytes, gzip_bytes, macs, params: see Figures; None where unknown.
        ships: whether this file is the result of the search.
        reference: whether the line is only there for comparison.
    """

    name: str
    file: str
    accuracy: float | None
    latency_ms: float | None
    size_bytes: int
    gzip_bytes: int | None
    macs: int
    params: int
    ships: bool = False
    reference: bool = False


@dataclass(frozen=True)
class Column:
    """One figure of all lines.

    Attributes:
        name: of the figure.
        unit: of the numbers in the column.
    """

    name: str
    unit: str
    _field: str
    _divisor: float
    _decimals: int

    def value(self, line: Line) -> float | None:
        """The figure of a line, in the unit of Figures."""
        return getattr(line, self._field)

    def text(self, line: Line) -> str:
        """The figure of a line in the unit of the column; a dash where it is unknown."""
        value = self.value(line)
        return "–" if value is None else f"{value / self._divisor:,.{self._decimals}f}"

    def amount(self, line: Line) -> str:
        """`text` with the unit."""
        return f"{self.text(line)} {self.unit}".strip()

    def share(self, line: Line, base: Line) -> str:
        """The figure of a line in percent of the base line's; "" where either is unknown."""
        value, whole = self.value(line), self.value(base)
        return "" if value is None or not whole else f"{value / whole:.1%}"


def lines(record: Record) -> list[Line]:
    """The original, the networks to compare with, then every file that was made."""
    timed = "" if record.latency is None or record.latency.format == FLOAT else f", timed as {record.latency.format}"
    trained = record.untrained is not None
    table = [_line(f"original{timed}", record.base, "base.tflite", reference=True)]
    if record.uniform is not None:
        name = f"uniform{', not fine-tuned' if trained else ''}{timed}"
        table.append(_line(name, record.uniform, reference=True))
    if record.untrained is not None:
        table.append(_line(f"compressed, before fine-tuning{timed}", record.untrained, reference=True))
    name = "compressed, fine-tuned" if trained else "compressed"
    if not record.formats:
        return [*table, _line(name, record.compressed, record.tflite, ships=True)]
    for entry in record.formats:
        figures = {field: getattr(entry, field) for field in ("accuracy", "latency_ms", "size_bytes", "gzip_bytes")}
        title = name if len(record.formats) == 1 else f"{name}, {entry.format}"
        line = _line(title, record.compressed, entry.file, ships=entry.file == record.tflite)
        table.append(replace(line, **figures))
    return table


def columns(table: Sequence[Line]) -> list[Column]:
    """The columns that have numbers. The first known number of a column decides its unit."""
    chosen = []
    for field, name, target, factor in _COLUMNS:
        known = [value for line in table if (value := getattr(line, field)) is not None]
        if known:
            divisor, decimals = amounts.column(target, known[0] * factor)
            unit = amounts.mark(target, known[0] * factor)
            chosen.append(Column(name, unit, field, divisor / factor, decimals))
    return chosen


def _line(name: str, figures: Figures, file: str = "", *, ships: bool = False, reference: bool = False) -> Line:
    return Line(
        name, file, figures.accuracy, figures.latency_ms, figures.size_bytes, figures.gzip_bytes, figures.macs,
        figures.params, ships, reference,
    )  # fmt: skip
