"""ProgramRunner: runs benchmark_model on a phone, one process at a time, and ends each within its limit.

Only the program runs on the phone during a measurement: its output goes to files there and is fetched afterwards.
"""

import contextlib
import math
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass

from amc_tf.devices.android import phone_info
from amc_tf.devices.android.adb_client import Adb
from amc_tf.devices.android.adb_errors import LinkLost, TimedOut
from amc_tf.devices.android.benchmark_binary import Binary
from amc_tf.devices.android.phone_folder import PhoneFolder
from amc_tf.errors import DeviceError

_KILL_SECONDS = 2  # from the signal that asks a late program to end, to the one that kills it
_KILLED = (124, 137, 143)  # exit status of `timeout`, by version of toybox; 137 also after a kill by Android itself


@dataclass(frozen=True)
class ProgramRun:
    """One process of the program that has ended.

    Attributes:
        output: all that it printed, stdout before stderr.
        status: its exit status.
        state: of the phone right after it; empty unless `run` asked for it.
    """

    output: str
    status: int
    state: phone_info.State


class ProgramRunner:
    """Runs one program in one folder of one phone.

    Args:
        adb: the phone.
        folder: on the phone.
        binary: the program on this computer.
        name: of the phone, for messages.
        pin: the command that ties a process to cores, which goes before the program's own; empty for all cores.
        has_timeout: whether the phone has the command `timeout`.
        answer_seconds: limit of a short command on the phone.
    """

    def __init__(
        self,
        adb: Adb,
        folder: PhoneFolder,
        binary: Binary,
        *,
        name: str,
        pin: Sequence[str],
        has_timeout: bool,
        answer_seconds: float,
    ):
        self.binary = binary
        self._adb, self._folder, self._name = adb, folder, name
        self._pin, self._has_timeout, self._answer_seconds = pin, has_timeout, answer_seconds
        self._unfinished = False  # a process may still run, since its end was not seen
        self._runs = 0

    def run(self, flags: Sequence[str], limit: float, *, ask_state: bool = False) -> ProgramRun:
        """Runs one process of the program.

        The phone keeps the limit. A limit on this computer alone would leave the program running and heating the phone.

        Args:
            flags: of the program.
            limit: seconds.
            ask_state: whether to ask for the phone's state right after the process.

        Raises:
            LinkLost: the phone dropped off.
            TimedOut: the process took longer than the limit.
            DeviceError: the process was killed, or the program on this computer is another one now.
        """
        program = self._folder.put(self.binary.path, program=True)
        if not self.binary.sha256.startswith(program.partition(".")[0]):
            raise DeviceError(f"{self.binary.path} was exchanged since {self._name} was opened: make a new AdbDevice.")
        self.end_unfinished()
        line = self._line(program, flags, limit, phone_info.ASK_STATE if ask_state else "true")
        started, self._unfinished = time.monotonic(), True
        try:
            reply = self._adb.shell(line, timeout=limit + _KILL_SECONDS + self._answer_seconds)
        except LinkLost:
            raise  # the process is ended once the phone is back
        except BaseException:
            with contextlib.suppress(DeviceError):
                self.end_unfinished()
            raise
        self._unfinished = False
        match = re.search(r"(?ms)^@@ran (\d+)$(.*)^@@after$(.*)\Z", reply.output)
        if match is None:
            raise LinkLost(
                f"{self._name} has lost the folder {self._folder.path} or part of an answer "
                f"({' '.join(reply.output.split())[-200:]!r}): see that nothing clears /data/local/tmp."
            )
        status, output = int(match.group(1)), match.group(2).strip("\n")
        if status in _KILLED:
            raise self._killed(status, time.monotonic() - started, limit)
        return ProgramRun(output, status, phone_info.parse_state(match.group(3)))

    def end_unfinished(self) -> None:
        """Ends a process on the phone if its end was not seen."""
        if self._unfinished:
            self._adb.shell(self.stop_command(), timeout=self._answer_seconds)
            self._unfinished = False

    def stop_command(self) -> str:
        """The command that ends every process of this runner on the phone."""
        return f"for p in {self._folder.path}/pid*; do [ -f $p ] && kill -9 $(cat $p); rm -f $p; done"

    def _line(self, program: str, flags: Sequence[str], limit: float, after: str) -> str:
        """The shell line for one process on the phone. Marks enclose its exit status and output; `after` comes last."""
        self._runs += 1
        # Names of this run alone: a shell that outlived a lost link may still remove its own.
        pid, out, err = (f"{name}{self._runs}" for name in ("pid", "out", "err"))
        inner = f"echo $$ >{pid}; exec {shlex.join([*self._pin, f'./{program}', *flags])} >{out} 2>{err} </dev/null"
        guard = f"timeout -k {_KILL_SECONDS} {math.ceil(limit)} " if self._has_timeout else ""
        return (
            f"cd {self._folder.path} || exit 9; {guard}sh -c {shlex.quote(inner)}; rc=$?; "
            f'echo "@@ran $rc"; cat {out}; echo; cat {err}; echo; rm -f {pid} {out} {err}; echo @@after; {after}'
        )

    def _killed(self, status: int, seconds: float, limit: float) -> DeviceError:
        if seconds >= limit:
            return TimedOut(
                f"benchmark_model ran for more than {limit:.0f} s on {self._name} and was killed there: the model or "
                f"the delegate hangs, or is slower than that; allow a larger timeout."
            )
        return DeviceError(
            f"benchmark_model was killed on {self._name} after {seconds:.0f} s (exit status {status}): the phone may "
            f"be out of memory; close its apps or try a smaller model."
        )
