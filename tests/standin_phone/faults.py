"""Faults: what may be wrong with the stand-in phone, settable at any time, for good or for the next few services."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Next:
    """A fault of the next few services only: `phone.faults.hot = Next(Hot(status=2), times=3, when="thermalservice")`.

    Attributes:
        value: What the fault would be set to for good.
        times: How many services it holds for.
        when: Text that a service must contain to count: part of a shell command, or "push /data/...".
        after: How many such services go well first.
    """

    value: Any
    times: int = 1
    when: str = ""
    after: int = 0


@dataclass(frozen=True)
class Hot:
    """How hot the phone is, and whether that holds its clocks down.

    Attributes:
        status: Android's thermal status: 0 none, 1 light, 2 moderate, 3 severe, ... 6 shutdown.
        celsius: Of the battery; the skin is 2 warmer, the processor 9.
        capped: Fraction of their highest clock that the big and the prime cores may run at.
    """

    status: int = 0
    celsius: float = 31.0
    capped: float = 1.0


@dataclass(frozen=True)
class Vanish:
    """The phone drops off in the middle of a service.

    Attributes:
        seconds: After the service began, but at the latest when the command has ended or the first bytes of a push or
            pull were taken.
        away: Seconds until it listens again; infinite: until `faults.offline` is set to False.
    """

    seconds: float = 0.3
    away: float = math.inf


@dataclass(frozen=True)
class Truncate:
    """The output ends early; the command itself goes on to its end and its exit code still comes.

    Attributes:
        lines: How many lines get through.
        size: How many bytes get through.
        program: Only what the benchmark program prints is cut, so that what the shell prints after it is there.
    """

    lines: float = math.inf
    size: float = math.inf
    program: bool = False


@dataclass(frozen=True)
class Crash:
    """The benchmark program ends at once.

    Attributes:
        code: Exit code; above 128: dies of the signal `code - 128`.
        stdout: What it prints before.
        stderr: Likewise.
    """

    code: int = 134
    stdout: str = ""
    stderr: str = ""


class Faults:
    """Every fault, by default absent. Each may be a value, which then holds, or a `Next`.

    Of the phone (a `Next` makes no sense for the first three):
        unauthorized: bool. The user has not allowed this computer; set to False, he has.
        offline: bool. Not reachable; open connections are dropped.
        old: bool. Android 6: no shell_v2, hence no exit codes, stderr mixed in, "\\r\\n"; no thermalservice, no
            timeout.
        slow: seconds before any service is answered.
        hang: bool. The service is never answered.
        refuse: bool. The service is refused ("error: closed").
        vanish: Vanish.
        truncate: Truncate.
        full: bytes that still fit on /data when this is set; removing files makes room. A `Next` makes no sense.
        hot: Hot.
        capped: fraction of their highest clock that the big and the prime cores may run at.
        low_power: bool. Battery saver is on.
        battery: its charge, per cent.
        no_timeout_tool: bool. The phone has no `timeout` command.
    Of the benchmark program:
        heats: Hot. What the phone is like once the program has run, as read by the rest of the same shell command.
        fallback: bool. GPU and NNAPI are unsupported: it warns and goes on on the CPU.
        stuck: bool. It ignores SIGTERM, and never ends once it has begun the measured runs.
        crash: Crash.
        fails: bool. An inference of the measured runs fails: results are printed all the same, the exit code is 1.
    """

    _NAMES = frozenset(
        "unauthorized offline old slow hang refuse vanish truncate full hot capped low_power battery no_timeout_tool "
        "heats fallback stuck crash fails".split()
    )

    def __init__(self, changed: Callable[[str], None]):
        """
        Args:
            changed: Called with the name of a fault after it was set.
        """
        self._changed, self._lock = changed, threading.Lock()
        self._set: dict[str, Any] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
            return
        if name not in self._NAMES:
            raise AttributeError(f"There is no fault {name!r}, only {', '.join(sorted(self._NAMES))}.")
        with self._lock:
            self._set[name] = value
        self._changed(name)

    def __getattr__(self, name: str) -> Any:
        if name not in self._NAMES:
            raise AttributeError(f"There is no fault {name!r}, only {', '.join(sorted(self._NAMES))}.")
        with self._lock:
            return self._set.get(name)

    def clear(self) -> None:
        """Takes every fault away."""
        for name in [name for name, value in self._set.items() if value is not None]:
            setattr(self, name, None)

    def take(self, name: str, service: str) -> Any:
        """The fault's value if it strikes this service, else None; a `Next` is used up by that."""
        with self._lock:
            fault = self._set.get(name)
            if not isinstance(fault, Next):
                return fault
            if fault.times < 1 or fault.when not in service:
                return None
            if fault.after > 0:
                fault.after -= 1
                return None
            fault.times -= 1
            return fault.value
