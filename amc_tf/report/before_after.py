"""The before/after table: a line a network, a column a figure, each column in one unit so that its numbers align."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from amc_tf.report import amounts
from amc_tf.report.record import Record
from amc_tf.result import FLOAT, Figures

_COLUMNS = (  # (field of Line, what it is called, the target whose unit it has, its own unit in that of the target)
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
        name: what it is.
        file: in the run directory, or "".
        ships: whether it is what the search is for.
        given: whether it is there to be compared with.
        accuracy, latency_ms, size_bytes, gzip_bytes, macs, params: see Figures; None where not known.
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
    given: bool = False


@dataclass(frozen=True)
class Column:
    """One figure of all lines.

    Attributes:
        name: of the figure.
        unit: that its numbers are in.
    """

    name: str
    unit: str
    _field: str
    _divisor: float
    _decimals: int

    def value(self, line: Line) -> float | None:
        """The figure of a line, in no matter which unit."""
        return getattr(line, self._field)

    def text(self, line: Line) -> str:
        """The figure of a line in the column's unit; a dash where it is not known."""
        value = self.value(line)
        return "–" if value is None else f"{value / self._divisor:,.{self._decimals}f}"

    def amount(self, line: Line) -> str:
        """The same with its unit."""
        return f"{self.text(line)} {self.unit}".strip()

    def share(self, line: Line, of: Line) -> str:
        """The figure of a line in percent of another's; empty where either is not known."""
        value, base = self.value(line), self.value(of)
        return "" if value is None or not base else f"{value / base:.1%}"


def lines(record: Record) -> list[Line]:
    """The original, what it is compared with, and every file that was made, in this order."""
    timed = "" if record.latency is None or record.latency.format == FLOAT else f", timed as {record.latency.format}"
    trained = record.untrained is not None
    found = [_line(f"original{timed}", record.base, "base.tflite", given=True)]
    if record.uniform is not None:
        found.append(_line(f"uniform{', not fine-tuned' if trained else ''}{timed}", record.uniform, given=True))
    if trained:
        found.append(_line(f"compressed, before fine-tuning{timed}", record.untrained, given=True))
    name = "compressed, fine-tuned" if trained else "compressed"
    if not record.formats:
        return [*found, _line(name, record.compressed, record.tflite, ships=True)]
    for made in record.formats:
        figures = {field: getattr(made, field) for field in ("accuracy", "latency_ms", "size_bytes", "gzip_bytes")}
        title = name if len(record.formats) == 1 else f"{name}, {made.format}"
        found.append(
            replace(_line(title, record.compressed, made.file, ships=made.file == record.tflite), **figures)
        )
    return found


def columns(found: Sequence[Line]) -> list[Column]:
    """The columns that have numbers, in the units of the first line's."""
    made = []
    for field, name, target, scale in _COLUMNS:
        known = [value for line in found if (value := getattr(line, field)) is not None]
        if known:
            divisor, decimals = amounts.column(target, known[0] * scale)
            made.append(Column(name, amounts.mark(target, known[0] * scale), field, divisor / scale, decimals))
    return made


def _line(name: str, figures: Figures, file: str = "", *, ships: bool = False, given: bool = False) -> Line:
    return Line(
        name, file, figures.accuracy, figures.latency_ms, figures.size_bytes, figures.gzip_bytes, figures.macs,
        figures.params, ships, given,
    )  # fmt: skip
