"""AdbDevice: an Android phone as a device. The official benchmark program runs there; adb carries commands and files.

Nothing but the program runs on the phone during a measurement. The state of the phone is asked for before and after.
"""

import atexit
import contextlib
import math
import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from amc_tf.devices import benchmark_model
from amc_tf.devices.android import benchmark_binary, phone_info
from amc_tf.devices.android.adb_client import Adb
from amc_tf.devices.android.adb_errors import LinkLost
from amc_tf.devices.android.phone_folder import PhoneFolder
from amc_tf.devices.android.program_runner import ProgramRun, ProgramRunner
from amc_tf.devices.android.readiness import HeatGate, Throttled, throttled
from amc_tf.devices.android.settings import ANSWER_SECONDS, AdbSettings
from amc_tf.devices.timing import Operator, RunLength, Timing
from amc_tf.errors import DeviceError

# What killed processes left behind; a folder in use is younger. Older phones without `find` keep it.
_SWEEP = "find /data/local/tmp -maxdepth 1 -name 'amc_tf-*' -mmin +720 -exec rm -rf {} + 2>/dev/null; true"
_FIXED = "cmd power set-fixed-performance-mode-enabled"

_T = TypeVar("_T")


class AdbDevice:
    """Measures on an Android phone. Close it, or use it as a context manager: that removes its files from the phone.

    Args:
        serial: which phone; None: ANDROID_SERIAL, else the only one. The device connects to a "HOST:PORT".
        binary: the benchmark_model to use; None: the official one, fetched once into the user's cache. That one runs
            only after a confirmation: at the terminal, or by its sha256 in the environment's AMC_TF_ACCEPT_BINARY.
            LiteRT's own program obeys num_threads from its version 2.1.0 on; older ones take the flag and ignore it.
        num_threads: threads on the CPU.
        cpu_mask: cores to run on: "big", "all" or a hex mask, as for taskset.
        delegate: "xnnpack", "gpu", "nnapi" or "none" (the runtime's own kernels).
        adb: the adb program; None: ADB, else on the PATH, else the one in the package adbutils.
        environment: of adb; None: this process's own.
        timeout: seconds after which a process counts as hung, beside the seconds of the measurement itself.
        max_celsius: a measurement starts only if the battery is no warmer; 37 is the limit of others
            (react-native-executorch).
        cool_down: seconds to wait for a phone that is too warm or throttles, before giving up.
        retries: how often to repeat a measurement during which the phone throttled.
        reconnect: seconds to wait for a phone that dropped off; then its last action is tried once more.
        min_battery: least charge in percent; below it phones save power.
        fixed_performance: hold the clocks at the maker's sustainable level until `close` (Android 11 and newer, not all
            phones). Times are longer then, and steadier.

    Attributes:
        name: "adb:SERIAL".
        identity: what a latency depends on besides the model, plain strings.

    Raises:
        ValueError: an argument is out of range, or the program lacks the delegate.
        DeviceError: there is no adb, no such phone, or it cannot run the program; says what to do.
    """

    name: str
    identity: Mapping[str, str]

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
        self._settings = settings = AdbSettings(
            num_threads=num_threads,
            cpu_mask=cpu_mask,
            delegate=delegate,
            timeout=timeout,
            max_celsius=max_celsius,
            cool_down=cool_down,
            retries=retries,
            reconnect=reconnect,
            min_battery=min_battery,
            fixed_performance=fixed_performance,
        )
        self._runner: ProgramRunner | None = None  # None until the phone is known
        self._closed = self._fixed = False
        self._process_id = os.getpid()
        self._adb = Adb(serial, adb=adb, environment=environment, patience=min(reconnect, 5.0))
        self.name = f"adb:{self._adb.serial}"
        self._heat = HeatGate(self.name, self._ask_state, max_celsius, cool_down, min_battery)
        self._folder = PhoneFolder(self._adb, timeout=settings.answer_seconds)
        atexit.register(self.close)
        try:
            self._open(binary)
        except BaseException:
            self.close()
            raise

    def benchmark(self, path: str | Path, *, min_runs: int = 50, min_seconds: float = 1.0) -> Timing:
        """Times one model in one new process, on a phone that is cool before and does not throttle meanwhile.

        Raises:
            Throttled: the phone was too hot for too long, or throttled every time.
            DeviceError: the file is missing, or the phone cannot run it, hung or is gone.
        """
        return self._measure([path], RunLength.usual(min_runs, min_seconds))[0]

    def benchmark_many(
        self, paths: Sequence[str | Path], *, min_runs: int = 10, min_seconds: float = 0.1
    ) -> list[Timing]:
        """Times many small models briefly, each in a new process. The heat is checked before the first, after the last.

        Raises:
            DeviceError: as `benchmark`.
        """
        return self._measure(paths, RunLength.brief(min_runs, min_seconds)) if paths else []

    def profile(self, path: str | Path) -> tuple[Operator, ...]:
        """Mean time of each operator, in execution order. Profiling costs time, so they add up to more than a latency.

        The heat is checked before and not after, since a profile is about shares.

        Raises:
            DeviceError: as `benchmark`, or the program has no profiler.
        """
        self._wait_until_ready()
        length = RunLength.usual(50, 1.0)
        done = self._persist(lambda: self._run(path, length, profile=True)[0])
        return benchmark_model.operators(done.output)

    def close(self) -> None:
        """Ends what still runs on the phone, removes the files and switches fixed performance off."""
        if self._closed or os.getpid() != self._process_id:  # a fork must not clean the phone of its parent
            return
        steps = [self._runner.stop_command()] if self._runner else []
        undo = "; ".join([*steps, *([f"{_FIXED} false"] if self._fixed else []), self._folder.remove()])
        try:
            try:
                self._shell(undo)
            except LinkLost:
                self._adb.wait(min(self._settings.reconnect, 10.0))
                self._shell(undo)
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, binary: str | Path | None) -> None:
        """Learns which phone and which program this is, and puts the program in place.

        Args:
            binary: the benchmark_model of the caller, None for the official one.
        """
        settings = self._settings
        phone = phone_info.parse_phone(self._shell(phone_info.ASK_PHONE))
        self._shell(_SWEEP)
        cores = self._cores(phone)
        mask = phone_info.mask(cores) if cores else settings.cpu_mask
        self._runner = ProgramRunner(
            self._adb,
            self._folder,
            benchmark_binary.find(phone.abi, binary),
            name=self.name,
            pin=["taskset", mask] if settings.cpu_mask != "all" else [],
            has_timeout="timeout" in phone.tools,
            answer_seconds=settings.answer_seconds,
        )
        self._program = self._persist(self._probe)
        benchmark_model.check_delegate(self._program, settings.delegate)
        if settings.fixed_performance:
            self._fix_performance()
        self.identity = {
            "device": self.name,
            "model": phone.model,
            "soc": phone.soc,
            "fingerprint": phone.fingerprint,
            "abi": phone.abi,
            "program": self._program,
            "binary": self._runner.binary.sha256,
            "threads": str(int(settings.num_threads)),
            "cpu_mask": mask,
            "delegate": settings.delegate,
            "fixed_performance": str(settings.fixed_performance).lower(),
        }

    def _cores(self, phone: phone_info.Phone) -> tuple[int, ...]:
        """The cores to run on, empty if all are allowed and the phone does not list them.

        Raises:
            ValueError: there are fewer cores than threads.
            DeviceError: the phone lacks a tool.
        """
        threads, cpu_mask = self._settings.num_threads, self._settings.cpu_mask
        cores = phone_info.cores(cpu_mask, phone.clusters)
        if cores and threads > len(cores):
            raise ValueError(
                f"num_threads is {threads}, but cpu_mask {cpu_mask!r} has {len(cores)} cores on this phone "
                f"({phone_info.mask(cores)}): threads would wait for each other; use fewer, or more cores."
            )
        for tool in ["sha256sum", *(["taskset"] if cpu_mask != "all" else [])]:
            if tool not in phone.tools:
                raise DeviceError(
                    f"{self.name} has no {tool} (API level {phone.sdk or 'unknown'}): use a phone with Android 8 or "
                    f"newer{', or cpu_mask all' if tool == 'taskset' else ''}."
                )
        return cores

    def _probe(self) -> str:
        """Which of the two programs called benchmark_model it is."""
        done = self._runner.run(benchmark_model.PROBE, ANSWER_SECONDS)
        return benchmark_model.program(done.output, done.status)

    def _measure(self, paths: Sequence[str | Path], length: RunLength) -> list[Timing]:
        """Times each model in one process. If the phone throttled meanwhile, all are timed again."""
        heat = None
        for _ in range(self._settings.retries + 1):
            before = self._wait_until_ready()
            done = []
            for number, path in enumerate(paths, 1):
                last = number == len(paths)
                done.append(self._persist(lambda p=path, s=last: self._run(p, length, ask_state=s)))
            after = done[-1][0].state
            heat = throttled(after, before.caps or {})
            if heat is None:
                return [self._timing(measured, flags, before, after) for _, measured, flags in done]
        raise Throttled(
            f"{self.name} throttled during each of {self._settings.retries + 1} measurements ({heat}): put it where it "
            f"is cooler, take it out of its case, or allow a longer cool_down or fixed_performance."
        )

    def _run(
        self, path: str | Path, length: RunLength, *, profile: bool = False, ask_state: bool = False
    ) -> tuple[ProgramRun, benchmark_model.Measured, list[str]]:
        """One process of the program on one model, what it measured, and its flags."""
        settings = self._settings
        flags = benchmark_model.flags(
            self._program,
            self._folder.put(path),
            num_threads=int(settings.num_threads),
            delegate=settings.delegate,
            length=length,
            max_seconds=length.min_seconds + settings.timeout / 2,  # a slow model runs less often and is not killed
            profile=profile,
        )
        limit = math.ceil(settings.timeout + length.min_seconds + length.warmup_seconds)
        with _naming(path):
            done = self._runner.run(flags, limit, ask_state=ask_state)
            return done, benchmark_model.parse(done.output, done.status, settings.delegate), flags

    def _timing(
        self,
        measured: benchmark_model.Measured,
        flags: list[str],
        before: phone_info.State,
        after: phone_info.State,
    ) -> Timing:
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

    def _persist(self, action: Callable[[], _T]) -> _T:
        """Does an action; if the phone drops off meanwhile and comes back, does it once more.

        The phone's files are compared again before the second time.
        """
        try:
            return action()
        except LinkLost:
            self._adb.wait(self._settings.reconnect)
            self._folder.distrust()
            if self._fixed:
                self._fix_performance()  # the phone may have restarted
            return action()

    def _fix_performance(self) -> None:
        self._fixed = True  # before the command, so that `close` undoes it even if its answer is lost
        reply = self._adb.shell(f"{_FIXED} true", timeout=self._settings.answer_seconds)
        if reply.status or re.search(r"Unknown command|Exception|Error|not supported", reply.output):
            said = " ".join(reply.output.split())[:200]
            raise DeviceError(
                f"{self.name} has no fixed-performance mode ({said or reply.status}): Android 11 or newer is needed, "
                f"and not every phone has it; leave fixed_performance off."
            )

    def _wait_until_ready(self) -> phone_info.State:
        """The phone's state, once it is fit for a measurement."""
        if self._closed:
            raise DeviceError(f"{self.name} was closed: make a new AdbDevice.")
        self._persist(self._runner.end_unfinished)
        return self._heat.wait()

    def _ask_state(self) -> phone_info.State:
        return phone_info.parse_state(self._persist(lambda: self._shell(phone_info.ASK_STATE)))

    def _shell(self, line: str) -> str:
        return self._adb.shell(line, timeout=self._settings.answer_seconds).output


@contextlib.contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Puts the name of the model in front of errors, since several models may be measured at once."""
    try:
        yield
    except LinkLost:
        raise  # about the phone alone
    except DeviceError as error:
        raise type(error)(f"{Path(path).name}: {error}") from error
