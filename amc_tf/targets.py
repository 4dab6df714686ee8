"""The targets of a budget: one table of what each counts, how it is written, and which methods lower it."""

from dataclasses import dataclass
from typing import Any

_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


def _with_prefixes(*words: str) -> dict[str, float]:
    return {prefix + word: factor for prefix, factor in _PREFIXES.items() for word in words}


@dataclass(frozen=True)
class Target:
    """What a budget may bound.

    Attributes:
        name: as callers write it.
        unit: in which costs are counted.
        units: what a caller may write behind a number, in lower case -> how many of `unit` it stands for.
        example: of a budget in such a unit.
        figure: the field of a result's Figures that holds it.
        title: in tables and sentences.
        symbol: behind a number, with a prefix such as M before it; latency has units of its own.
        methods: names of the pruning methods that lower it.
    """

    name: str
    unit: str
    units: dict[str, float]
    example: str
    figure: str
    title: str
    symbol: str
    methods: tuple[str, ...]


_BOTH = ("channel", "magnitude")
_BYTES = _with_prefixes("b", "byte", "bytes") | {"kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_PARAMS = _with_prefixes("", "param", "params", "parameters")
_TIMES = {"us": 1.0, "ms": 1e3, "s": 1e6}

TARGETS = {
    target.name: target
    for target in (
        Target("latency", "us", _TIMES, "30 ms", "latency_ms", "latency", "s", _BOTH),
        Target("macs", "MACs", _with_prefixes("", "mac", "macs"), "280 MMAC", "macs", "MACs", "MAC", ("channel",)),
        Target("params", "params", _PARAMS, "1.5 M", "params", "params", "params", _BOTH),
        Target("size", "bytes", _BYTES, "2 MB", "size_bytes", "size", "B", _BOTH),
    )
}
ALIASES = {"flops": "macs"}  # as the paper calls them
METHODS = ("channel", "magnitude")


def checked_target(target: Any, method: Any) -> str:
    """The name of a target in TARGETS.

    Args:
        target: as a caller wrote it.
        method: name of the pruning method that is to lower it.

    Raises:
        ValueError: there is no such target or method, or the method does not lower the target.
    """
    name = ALIASES.get(target, target) if isinstance(target, str) else None
    if name not in TARGETS:
        raise ValueError(f"target is {target!r}; expected one of {', '.join(TARGETS)} or 'flops'.")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(map(repr, METHODS))}.")
    if method not in TARGETS[name].methods:
        lowered = [repr(each.name) for each in TARGETS.values() if method in each.methods]
        raise ValueError(
            f"target is {name!r}, which method {method!r} does not lower: zeros among the weights count like all "
            f"others there; give target {' or '.join(lowered)}, or method 'channel'."
        )
    return name
