"""The tables that op profiling prints, in the official layout.

Source: TensorFlow's stats_calculator.cc and tflite/profiling/profile_summary_formatter.cc.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One operator: its type, its name in the table, microseconds in the first run and on average."""

    kind: str
    name: str
    first: float
    mean: float


def tables(rows: Sequence[Row], runs: int, old: bool, csv: bool = False) -> str:
    """Run order, top ten, by node type, and the line of sums."""
    total = sum(row.mean for row in rows)
    ranked = sorted(rows, key=lambda row: -row.mean)[:10]
    parts = [
        _table("Run Order", rows, total, old, csv),
        _table("Top by Computation Time", ranked, total, old, csv),
        f"Number of nodes executed: {len(rows)}\n" + _by_kind(rows, total, csv),
    ]
    first = round(sum(row.first for row in rows))
    sums = f"first={first} curr={round(total)} min={round(total)} max={max(first, round(total))} avg={total:g} std=0"
    end = f"Timings (microseconds): count={runs} {sums}\nMemory (bytes): count=0\n{len(rows)} nodes observed\n"
    return "\n".join([*parts, end])


def _table(title: str, rows: Sequence[Row], total: float, old: bool, csv: bool) -> str:
    heads = ["node type", *(["start"] if old else []), "first", "avg_ms", "%", "cdf%", "mem KB", "times called", "name"]
    widths = [24 if old else 40, *([9] if old else []), 9, 9, 8, 8, 10, 9, 0]
    lines = [f"============================== {title} =============================="]
    if csv:
        lines.append(", ".join(heads))
    else:
        shown = [f"[{head}]" for head in heads]
        shown[-1] = "[Name]"
        shown[shown.index("[avg_ms]")] = "[avg ms]"
        lines.append(_padded(shown, widths))
    start = so_far = 0.0
    for row in rows:
        so_far += row.mean
        fields = [
            row.kind,
            *([f"{start / 1e3:.3f}"] if old else []),
            f"{row.first / 1e3:.3f}",
            f"{row.mean / 1e3:.3f}",
            f"{100 * row.mean / total:.3f}%",
            f"{100 * so_far / total:.3f}%",
            "0.000",
            "1",
            row.name,
        ]
        start += row.mean
        lines.append(", ".join(field.replace(",", "\t") if field is row.name else field for field in fields) if csv
                     else _padded(fields, widths))  # fmt: skip
    return "\n".join(lines) + "\n"


def _by_kind(rows: Sequence[Row], total: float, csv: bool) -> str:
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    lines = ["============================== Summary by node type =============================="]
    heads = ["Node type", "count", "avg ms", "avg %", "cdf %", "mem KB", "times called"]
    widths = [40, 9, 10, 11, 11, 10, 10]
    lines.append(
        "node type, count, avg_ms, avg %, cdf %, mem KB, times called"
        if csv
        else _padded([f"[{head}]" for head in heads], widths)
    )
    so_far = 0.0
    for kind, members in sorted(kinds.items(), key=lambda item: -sum(row.mean for row in item[1])):
        time = sum(row.mean for row in members)
        so_far += time
        fields = [
            kind,
            str(len(members)),
            f"{time / 1e3:.3f}",
            f"{100 * time / total:.3f}%",
            f"{100 * so_far / total:.3f}%",
            "0.000",
            str(len(members)),
        ]
        lines.append(", ".join(fields) if csv else _padded(fields, widths))
    return "\n".join(lines) + "\n"


def _padded(fields: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"\t{field:>{width}}" for field, width in zip(fields, widths, strict=True))
