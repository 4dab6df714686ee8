"""An Android phone as a device: the official benchmark program on it, told what to do over adb.

Nothing but the program runs on the phone while it measures: its output goes to files there and is fetched afterwards,
and the state of the phone is asked for before and after, never during.
"""

import atexit
import contextlib
import math
import os
import re
import shlex
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from amc_tf.checks import is_whole
from amc_tf.devices import benchmark_model
from amc_tf.devices.android import benchmark_binary, phone_info
from amc_tf.devices.android.adb_client import Adb, LinkLost, TimedOut
from amc_tf.devices.android.phone_folder import PhoneFolder
from amc_tf.devices.android.readiness import HeatGate, Throttled, throttled
from amc_tf.devices.timing import Operator, Timing
from amc_tf.errors import DeviceError

DELEGATES = ("xnnpack", "gpu", "nnapi", "none")
_KILL_SECONDS = 2  # between asking a program that is over its time to end and killing it
_ANSWER_SECONDS = 20.0  # what a phone may take to answer a short command
_WARMUP_RUNS, _WARMUP_SECONDS = 1, 0.5  # benchmark_model's own; many small models want less
_KILLED = (124, 137, 143)  # exit status of `timeout`, by version of toybox; 137 also of what Android killed itself
# What killed processes left behind; a folder in use is younger. Older phones without `find` keep it.
_SWEEP = "find /data/local/tmp -maxdepth 1 -name 'amc_tf-*' -mmin +720 -exec rm -rf {} + 2>/dev/null; true"
_FIXED = "cmd power set-fixed-performance-mode-enabled"

_T = TypeVar("_T")


class AdbDevice:
    """Measures on an Android phone. Close it, or use it as a context manager: that removes its files from the phone.

    Args:
        serial: which phone; None: ANDROID_SERIAL, else the only one. A "HOST:PORT" is connected to where it is not.
        binary: the benchmark_model to use; None: the official one, fetched once into the user's cache, and run only
            once it was confirmed: asked for at a terminal, else AMC_TF_ACCEPT_BINARY in the environment has its sha256.
            LiteRT's own obeys num_threads from its version 2.1.0 on; older ones take the flag and ignore it.
        num_threads: threads on the CPU.
        cpu_mask: cores to run on: "big", "all" or a hex mask, as for taskset.
        delegate: "xnnpack", "gpu", "nnapi" or "none" (the runtime's own kernels).
        adb: the adb program; None: ADB, else on the PATH, else the one in the package adbutils.
        environment: of adb; None: this process's own.
        timeout: seconds after which a process counts as hung, beside what the measurement itself is to take.
        max_celsius: a measurement starts only while the battery is no warmer; 37 is what others allow
            (react-native-executorch).
        cool_down: seconds to wait for that, and for a phone that throttles, before giving up.
        retries: how often a measurement during which the phone throttled is made again.
        reconnect: seconds to wait for a phone that dropped off; what it was doing is tried once more.
        min_battery: least charge in percent; below it phones save power.
        fixed_performance: hold the clocks at what the maker thinks sustainable (Android 11 and newer, not all phones)
            until `close`. Times are longer then, and steadier.

    Attributes:
        name: "adb:SERIAL".
        identity: what a latency belongs to, plain strings.

    Raises:
        ValueError: an argument is out of range, or the program lacks the delegate.
        DeviceError: there is no adb, no such phone, or it cannot run the program; says what to do.
    """

    def __init__(
        self,
        serial: str | None = None,
        binary: str | Path | None = None,
        num_threads: int = 1,
        *,
        cpu_mask: str = "big",
        delegate: str = "xnnpack",
        adb: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = 120.0,
        max_celsius: float = 37.0,
        cool_down: float = 300.0,
        retries: int = 2,
        reconnect: float = 30.0,
        min_battery: int = 20,
        fixed_performance: bool = False,
    ):
        if not is_whole(num_threads) or num_threads < 1:
            raise ValueError(f"num_threads is {num_threads!r}; a whole number of 1 or more is expected.")
        if delegate not in DELEGATES:
            raise ValueError(f"delegate is {delegate!r}; on a phone it is one of {', '.join(DELEGATES)}.")
        if timeout <= 0:
            raise ValueError(f"timeout is {timeout!r}; a positive number of seconds is expected.")
        if not is_whole(retries) or retries < 0:
            raise ValueError(f"retries is {retries!r}; a whole number of 0 or more is expected.")
        for name, value in (("reconnect", reconnect), ("cool_down", cool_down)):
            if not value >= 0:
                raise ValueError(f"{name} is {value!r}; a number of 0 or more is expected.")
        if not 0 <= min_battery <= 100:
            raise ValueError(f"min_battery is {min_battery!r}; a percentage from 0 to 100 is expected.")
        if not max_celsius > 0:
            raise ValueError(f"max_celsius is {max_celsius!r}; a number of degrees above 0 is expected.")
        self._threads, self._delegate, self._timeout = int(num_threads), delegate, timeout
        self._retries, self._reconnect = retries, reconnect
        self._answer = min(_ANSWER_SECONDS, timeout)
        self._unfinished = self._closed = self._fixed = False
        self._runs = 0
        self._process_id = os.getpid()
        self._adb = Adb(serial, adb=adb, environment=environment, patience=min(reconnect, 5.0))
        self.name = f"adb:{self._adb.serial}"
        self._heat = HeatGate(self.name, self._ask_state, max_celsius, cool_down, min_battery)
        self._folder = PhoneFolder(self._adb, timeout=self._answer)
        atexit.register(self.close)
        try:
            self._open(binary, cpu_mask, fixed_performance)
        except BaseException:
            self.close()
            raise

    def benchmark(self, path: str | Path, *, min_runs: int = 50, min_seconds: float = 1.0) -> Timing:
        """Times one model in one new process, on a phone that is cool before and does not throttle meanwhile.

        Raises:
            Throttled: it was too hot for too long, or throttled every time.
            DeviceError: the file is missing, the phone cannot run it, hung or is gone.
        """
        return self._timed([path], min_runs, min_seconds, _WARMUP_RUNS, _WARMUP_SECONDS)[0]

    def benchmark_many(
        self, paths: Sequence[str | Path], *, min_runs: int = 10, min_seconds: float = 0.1
    ) -> list[Timing]:
        """Times many small models briefly, each in a new process, with one look at the heat before and one after.

        Raises:
            DeviceError: as `benchmark`.
        """
        return self._timed(paths, min_runs, min_seconds, 2, min_seconds / 4) if paths else []

    def profile(self, path: str | Path) -> tuple[Operator, ...]:
        """Mean time of each operator, in execution order. Profiling costs time, so they add up to more than a latency.

        The heat is looked at before, not after: what counts here are shares.

        Raises:
            DeviceError: as `benchmark`, or the program has no profiler.
        """
        self._ready()

        def process() -> str:
            flags, limit = self._flags(self._folder.put(path), 50, 1.0, _WARMUP_RUNS, _WARMUP_SECONDS, profile=True)
            with _about(path):
                output, status, _ = self._run(flags, limit, "")
                benchmark_model.parse(output, status, self._delegate)
            return output

        return benchmark_model.operators(self._persist(process))

    def close(self) -> None:
        """Ends what still runs on the phone, removes the files and switches fixed performance off."""
        if self._closed or os.getpid() != self._process_id:  # the phone is not a forked process's to clean
            return
        undo = "; ".join([self._stop(), *([f"{_FIXED} false"] if self._fixed else []), self._folder.remove()])
        try:
            try:
                self._adb.shell(undo, timeout=self._answer)
            except LinkLost:
                self._adb.wait(min(self._reconnect, 10.0))
                self._adb.shell(undo, timeout=self._answer)
        except DeviceError as error:
            warnings.warn(
                f"{self.name} could not be tidied up ({error}) Once it is back, run `adb -s {self._adb.serial} shell "
                f"{shlex.quote(undo)}`.",
                stacklevel=2,
            )
        self._closed = True
        atexit.unregister(self.close)

    def __enter__(self) -> "AdbDevice":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _open(self, given: str | Path | None, cpu_mask: str, fixed_performance: bool) -> None:
        """Learns what phone and what program this is, and puts the program in place."""
        about = phone_info.parse_phone(self._shell(phone_info.ASK_PHONE))
        self._shell(_SWEEP)
        cores = phone_info.cores(cpu_mask, about.clusters)
        if cores and self._threads > len(cores):
            raise ValueError(
                f"num_threads is {self._threads}, but cpu_mask {cpu_mask!r} has {len(cores)} cores on this phone "
                f"({phone_info.mask(cores)}): threads would wait for each other; use fewer, or more cores."
            )
        for tool in ["sha256sum", *(["taskset"] if cpu_mask != "all" else [])]:
            if tool not in about.tools:
                raise DeviceError(
                    f"{self.name} has no {tool} (API level {about.sdk or 'unknown'}): use a phone with Android 8 or "
                    f"newer{', or cpu_mask all' if tool == 'taskset' else ''}."
                )
        self._pin = ["taskset", phone_info.mask(cores)] if cpu_mask != "all" else []
        self._has_timeout = "timeout" in about.tools
        self._binary = benchmark_binary.find(about.abi, given)
        self._program = self._persist(self._probe)
        if self._delegate not in benchmark_model.DELEGATES[self._program]:
            self._flags("", 1, 0.0, 1, 0.0)  # raises
        if fixed_performance:
            self._fix_performance()
        self.identity = {
            "device": self.name,
            "model": about.model,
            "soc": about.soc,
            "fingerprint": about.fingerprint,
            "abi": about.abi,
            "program": self._program,
            "binary": self._binary.sha256,
            "threads": str(self._threads),
            "cpu_mask": phone_info.mask(cores) if cores else cpu_mask,
            "delegate": self._delegate,
            "fixed_performance": str(fixed_performance).lower(),
        }

    def _probe(self) -> str:
        """Which of the two programs it is."""
        output, status, _ = self._run(benchmark_model.PROBE, _ANSWER_SECONDS, "")
        return benchmark_model.program(output, status)

    def _timed(self, paths, min_runs, min_seconds, warmup_runs, warmup_seconds) -> list[Timing]:
        """One process each; all again if the phone throttled meanwhile."""

        def process(path: str | Path, after: str) -> tuple[dict[str, Any], list[str], phone_info.State]:
            flags, limit = self._flags(self._folder.put(path), min_runs, min_seconds, warmup_runs, warmup_seconds)
            with _about(path):
                output, status, state = self._run(flags, limit, after)
                return benchmark_model.parse(output, status, self._delegate), flags, state

        heat = None
        for _ in range(self._retries + 1):
            before = self._ready()
            asked = ["" for _ in paths[1:]] + [phone_info.ASK_STATE]
            done = [
                self._persist(lambda p=path, a=after: process(p, a)) for path, after in zip(paths, asked, strict=True)
            ]
            after = done[-1][2]
            heat = throttled(after, before.caps or {})
            if heat is None:
                return [self._timing(measured, flags, before, after) for measured, flags, _ in done]
        raise Throttled(
            f"{self.name} throttled during each of {self._retries + 1} measurements ({heat}): put it where it is "
            f"cooler, take it out of its case, or allow a longer cool_down or fixed_performance."
        )

    def _timing(self, measured, flags, before: phone_info.State, after: phone_info.State) -> Timing:
        return Timing(
            processes=(measured.median_us,),
            min_us=measured.min_us,
            runs=measured.runs,
            p95_us=measured.p95_us,
            init_us=measured.init_us,
            memory_mb=measured.memory_mb,
            delegated=measured.delegated,
            environment={**self.identity, "flags": flags, "before": before.to_dict(), "after": after.to_dict()},
        )

    def _flags(self, graph, min_runs, min_seconds, warmup_runs, warmup_seconds, profile=False) -> tuple[list[str], int]:
        """The program's arguments and the seconds it may take."""
        flags = benchmark_model.flags(
            self._program,
            graph,
            num_threads=self._threads,
            delegate=self._delegate,
            min_runs=min_runs,
            min_seconds=min_seconds,
            max_seconds=min_seconds + self._timeout / 2,  # a slow model runs less often, rather than be killed
            warmup_runs=warmup_runs,
            warmup_seconds=warmup_seconds,
            profile=profile,
        )
        return flags, math.ceil(self._timeout + min_seconds + warmup_seconds)

    def _run(self, flags: Sequence[str], limit: float, after: str) -> tuple[str, int, phone_info.State]:
        """One process of the program: its output, its exit status, and what the command `after` says of the phone.

        The limit is the phone's to keep: a local one alone would leave the program running and heating it.
        """
        program = self._folder.put(self._binary.path, program=True)
        if not self._binary.sha256.startswith(program.partition(".")[0]):
            raise DeviceError(f"{self._binary.path} was exchanged since {self.name} was opened: make a new AdbDevice.")
        self._end_unfinished()
        self._runs += 1
        # Names of this run alone: a shell that outlived a lost link may still remove its own.
        pid, out, err = (f"{name}{self._runs}" for name in ("pid", "out", "err"))
        inner = f"echo $$ >{pid}; exec {shlex.join([*self._pin, f'./{program}', *flags])} >{out} 2>{err} </dev/null"
        guard = f"timeout -k {_KILL_SECONDS} {math.ceil(limit)} " if self._has_timeout else ""
        line = (
            f"cd {self._folder.path} || exit 9; {guard}sh -c {shlex.quote(inner)}; rc=$?; "
            f'echo "@@ran $rc"; cat {out}; echo; cat {err}; echo; rm -f {pid} {out} {err}; echo @@after; '
            f"{after or 'true'}"
        )
        started, self._unfinished = time.monotonic(), True
        try:
            reply = self._adb.shell(line, timeout=limit + _KILL_SECONDS + self._answer)
        except LinkLost:
            raise  # it is stopped once the phone is back
        except BaseException:
            with contextlib.suppress(DeviceError):
                self._end_unfinished()
            raise
        self._unfinished = False
        found = re.search(r"(?ms)^@@ran (\d+)$(.*)^@@after$(.*)\Z", reply.output)
        if found is None:
            raise LinkLost(
                f"{self.name} has lost the folder {self._folder.path} or part of an answer "
                f"({' '.join(reply.output.split())[-200:]!r}): see that nothing clears /data/local/tmp."
            )
        status, output = int(found.group(1)), found.group(2).strip("\n")
        if status in _KILLED:
            raise self._killed(status, time.monotonic() - started, limit)
        return output, status, phone_info.parse_state(found.group(3))

    def _killed(self, status: int, seconds: float, limit: float) -> DeviceError:
        if seconds >= limit:
            return TimedOut(
                f"benchmark_model ran for more than {limit:.0f} s on {self.name} and was killed there: the model or "
                f"the delegate hangs, or is slower than that; allow a larger timeout."
            )
        return DeviceError(
            f"benchmark_model was killed on {self.name} after {seconds:.0f} s (exit status {status}): the phone may be "
            f"out of memory; close its apps or try a smaller model."
        )

    def _end_unfinished(self) -> None:
        """Ends a process whose end was not seen."""
        if self._unfinished:
            self._shell(self._stop())
            self._unfinished = False

    def _stop(self) -> str:
        """The command that does."""
        return f"for p in {self._folder.path}/pid*; do [ -f $p ] && kill -9 $(cat $p); rm -f $p; done"

    def _persist(self, action: Callable[[], _T]) -> _T:
        """Does it once more if the phone drops off meanwhile and comes back; its files are compared again before."""
        try:
            return action()
        except LinkLost:
            self._adb.wait(self._reconnect)
            self._folder.distrust()
            if self._fixed:
                self._fix_performance()  # it may have restarted
            return action()

    def _fix_performance(self) -> None:
        self._fixed = True  # before it is, so that it is undone even if the answer is lost
        reply = self._adb.shell(f"{_FIXED} true", timeout=self._answer)
        if reply.status or re.search(r"Unknown command|Exception|Error|not supported", reply.output):
            said = " ".join(reply.output.split())[:200]
            raise DeviceError(
                f"{self.name} has no fixed-performance mode ({said or reply.status}): Android 11 or newer is needed, "
                f"and not every phone has it; leave fixed_performance off."
            )

    def _ready(self) -> phone_info.State:
        """The phone's state, once it can be measured."""
        if self._closed:
            raise DeviceError(f"{self.name} was closed: make a new AdbDevice.")
        self._persist(self._end_unfinished)
        return self._heat.wait()

    def _ask_state(self) -> phone_info.State:
        return phone_info.parse_state(self._persist(lambda: self._shell(phone_info.ASK_STATE)))

    def _shell(self, line: str) -> str:
        return self._adb.shell(line, timeout=self._answer).output


@contextlib.contextmanager
def _about(path: str | Path) -> Iterator[None]:
    """Has errors name the model, since several may be measured at once."""
    try:
        yield
    except LinkLost:
        raise  # about the phone alone
    except DeviceError as error:
        raise type(error)(f"{Path(path).name}: {error}") from error
