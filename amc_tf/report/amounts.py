"""How numbers are written for people: with the unit that suits them, and no digit that says nothing."""

import math

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_DIGITS = 4  # of the largest number of a column
_OF = {"macs": "MAC", "params": "params", "size": "B"}  # microseconds go their own way
NAMES = {"latency": "latency", "macs": "MACs", "params": "params", "size": "size"}  # of targets, in sentences


def unit(target: str, largest: float) -> tuple[float, str]:
    """(what to divide a cost by, its unit then), for costs up to `largest`.

    Args:
        target: "latency" (microseconds), "macs", "params" or "size" (bytes).
        largest: of the costs that are to be written.
    """
    if target == "latency":
        return (1e3, "ms") if largest >= 1e3 else (1.0, "µs")
    divisor, prefix = next(((size, prefix) for size, prefix in _PREFIXES if largest >= size), (1.0, ""))
    space = " " if target == "params" and prefix else ""
    return divisor, f"{prefix}{space}{_OF[target]}"


def mark(target: str, largest: float) -> str:
    """The unit without what is counted, for the head of a column or the name of an axis: "M", "MB", "ms" or ""."""
    divisor, name = unit(target, largest)
    return name if target not in ("macs", "params") else name[: int(divisor > 1)]


def column(target: str, largest: float) -> tuple[float, int]:
    """(what to divide costs by, how many decimals they have then), so that numbers below each other align."""
    divisor, _ = unit(target, largest)
    if divisor == 1 and target != "latency":
        return divisor, 0  # nothing is counted in halves
    before = math.floor(math.log10(max(largest / divisor, 1))) + 1
    return divisor, max(0, _DIGITS - before)


def amount(target: str, value: float) -> str:
    """A cost with its unit: "62.52 MMAC", "1.937 MB", "5.5 ms"."""
    divisor, name = unit(target, value)
    return f"{digits(value / divisor)} {name}"


def digits(value: float) -> str:
    """Four significant digits, as a plain decimal."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.4g}"
    return f"{value:.7f}".rstrip("0") if "e" in text else text


def score(value: float, scored_by: str) -> str:
    """An accuracy: in percent, unless it is the caller's own metric."""
    return digits(value) if scored_by == "metric" else f"{value:.2%}"


def change(value: float, base: float, scored_by: str) -> str:
    """How far an accuracy is from the base network's: in points, unless it is the caller's own metric."""
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
