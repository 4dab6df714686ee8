"""Formats numbers for people: a unit that fits, four significant digits."""

import math

from amc_tf.targets import TARGETS

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_DIGITS = 4  # of the largest number of a column
NAMES = {target.name: target.title for target in TARGETS.values()}


def unit(target: str, largest: float) -> tuple[float, str]:
    """(divisor, unit) for costs up to `largest`.

    Args:
        target: "latency" (microseconds), "macs", "params" or "size" (bytes).
        largest: the largest cost to be written.
    """
    if target == "latency":
        return (1e3, "ms") if largest >= 1e3 else (1.0, "µs")
    divisor, prefix = next(((size, prefix) for size, prefix in _PREFIXES if largest >= size), (1.0, ""))
    space = " " if target == "params" and prefix else ""
    return divisor, f"{prefix}{space}{TARGETS[target].symbol}"


def mark(target: str, largest: float) -> str:
    """The unit for a table head or an axis, without the word MAC or params: "M", "MB", "ms" or ""."""
    divisor, name = unit(target, largest)
    return name if target not in ("macs", "params") else name[: int(divisor > 1)]


def column(target: str, largest: float) -> tuple[float, int]:
    """(divisor, decimals) for a column of costs, so that its numbers align."""
    divisor, _ = unit(target, largest)
    if divisor == 1 and target != "latency":
        return divisor, 0  # counts are whole numbers
    whole_digits = math.floor(math.log10(max(largest / divisor, 1))) + 1
    return divisor, max(0, _DIGITS - whole_digits)


def amount(target: str, value: float) -> str:
    """A cost with its unit: "62.52 MMAC", "1.937 MB", "5.5 ms"."""
    divisor, name = unit(target, value)
    return f"{digits(value / divisor)} {name}"


def digits(value: float) -> str:
    """Four significant digits as a plain decimal, never in scientific notation."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.4g}"
    return f"{value:.7f}".rstrip("0") if "e" in text else text


def score(value: float, scored_by: str) -> str:
    """An accuracy in percent, or the caller's own metric as a plain number."""
    return digits(value) if scored_by == "metric" else f"{value:.2%}"


def change(value: float, base: float, scored_by: str) -> str:
    """The accuracy less that of the base network: in points, or as a plain number for the caller's own metric."""
    if scored_by == "metric":
        text = digits(value - base)
        return text.replace("-", "−") if value < base else f"+{text}"
    return f"{(value - base) * 100:+.2f} points".replace("-", "−")


def duration(seconds: float) -> str:
    """ "42 s", "4 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
