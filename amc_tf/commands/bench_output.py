"""What `amc-tf bench` prints of its timings: tables with remarks, or JSON."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from amc_tf.devices.interleave import Comparison, Ratio
from amc_tf.devices.timing import Operator, Timing

_NOISY = 0.05  # MAD over median from which on a remark says that the processes differ

Operators = Sequence[Sequence[Operator]]  # of each model, as profiled


def as_dict(
    identity: Mapping[str, str], models: Sequence[Path], comparison: Comparison, operators: Operators | None
) -> dict[str, Any]:
    """The measurement as plain types; times in microseconds."""
    rows = []
    for index, (path, timing, ratio) in enumerate(zip(models, comparison.timings, comparison.ratios, strict=True)):
        row = {"model": str(path), **timing.to_dict()}
        low, high = (None, None) if ratio.low is None else (1 / ratio.high, 1 / ratio.low)
        row["speed_up"] = {"value": 1 / ratio.value, "low": low, "high": high}
        if operators is not None:
            row["operators"] = [
                {"kind": each.kind, "name": each.name, "us": each.us, "calls": each.calls} for each in operators[index]
            ]
        rows.append(row)
    return {"device": identity, "models": rows}


def show(
    console: Console,
    identity: Mapping[str, str],
    models: Sequence[Path],
    comparison: Comparison,
    operators: Operators | None,
) -> None:
    """Prints the measurement as tables and remarks."""
    console.print(timing_table(models, comparison), highlight=False)
    device = "; ".join(f"{name} {value}" for name, value in identity.items() if name not in ("binary", "fingerprint"))
    runs = sum(timing.runs for timing in comparison.timings)
    console.print(
        f"{device}; {len(comparison.timings[0].processes)} processes per model, {runs} inferences in all",
        highlight=False,
        soft_wrap=True,
    )
    for path, timing in zip(models, comparison.timings, strict=True):
        for remark in remarks(timing):
            console.print(f"{path.name}: {remark}", highlight=False, soft_wrap=True)
    for path, rows in zip(models, operators or (), strict=False):
        console.print(profile_table(path, rows), highlight=False)


def timing_table(models: Sequence[Path], comparison: Comparison) -> Table:
    """One row per model."""
    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    for name in ("median ms", "p90 ms", "min ms", "speed-up, 95 %", "MB", "delegated", "heat"):
        table.add_column(name, justify="right", no_wrap=True)
    for path, timing, ratio in zip(models, comparison.timings, comparison.ratios, strict=True):
        table.add_row(
            path.name,
            *(f"{us / 1e3:.3f}" for us in (timing.median_us, timing.p90_us, timing.min_us)),
            speed_up(ratio),
            "-" if timing.memory_mb is None else f"{timing.memory_mb:.1f}",
            "-" if timing.delegated is None else "{} of {}".format(*timing.delegated),
            heat(timing),
        )
    return table


def speed_up(ratio: Ratio) -> str:
    """The speed-up, with its interval where there were enough rounds for one."""
    interval = "" if ratio.low is None else f" [{1 / ratio.high:.2f}, {1 / ratio.low:.2f}]"
    return f"{1 / ratio.value:.2f}{interval}"


def heat(timing: Timing) -> str:
    """Thermal status and battery temperature after the last process. A computer only has its load."""
    after = timing.environment["after"]
    if "thermal_status" not in after:
        return f"load {after['load']}"
    status = "-" if after["thermal_status"] is None else str(after["thermal_status"])
    return status if after["battery_celsius"] is None else f"{status}, {after['battery_celsius']} °C"


def remarks(timing: Timing) -> Iterator[str]:
    """Sentences for a reader of the numbers."""
    if timing.mad_us > _NOISY * timing.median_us:
        yield (
            f"processes differ by {timing.mad_us / timing.median_us:.0%} (MAD): let the device rest, close other "
            f"programs on it, and give more --rounds."
        )
    if timing.environment["before"].get("capped"):
        yield "the phone held its clocks below the processor's own highest ones."
    if timing.environment["before"].get("charging"):
        yield "the phone was charging, which warms it; with adb over Wi-Fi it need not be."


def profile_table(path: Path, operators: Sequence[Operator]) -> Table:
    """One row per operator of a model."""
    total = sum(each.us for each in operators) or 1.0  # all can be 0, since they are whole microseconds
    table = Table(title=f"{path.name}, by operator", title_justify="left", box=None, pad_edge=False)
    for name, justify in (("operator", "left"), ("ms", "right"), ("%", "right"), ("calls", "right"), ("name", "left")):
        table.add_column(name, justify=justify, overflow="fold")
    for each in operators:
        table.add_row(each.kind, f"{each.us / 1e3:.3f}", f"{each.us / total:.1%}", str(each.calls), each.name)
    return table
