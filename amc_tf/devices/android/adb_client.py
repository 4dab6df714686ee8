"""Adb: one phone through the adb program. Every call has a time limit; every failure has a sentence of its own.

The exit status of adb is unreliable: old phones pass none on, `adb connect` always exits with 0, and adb 29 exits with
0 when the cable is pulled. So every remote command ends with a line that carries its own status, and output without
that line counts as cut short.
"""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from amc_tf.devices.android.adb_errors import (
    LinkLost,
    TimedOut,
    explain,
    last_line,
    not_ready,
    port_taken,
    server_error,
)
from amc_tf.errors import DeviceError
from amc_tf.system.processes import OWN_GROUP

_SENTINEL = re.compile(r"(?:\A|\n)__RC__=(\d+)\s*\Z")
_OVER_TCP = re.compile(r".+:\d{1,5}")
_POLL_SECONDS = 0.2
_SLOWEST_PUSH = 500_000  # bytes a second, over a bad Wi-Fi


@dataclass(frozen=True)
class Reply:
    """Output of a command on the phone (stdout and stderr as they came) and its exit status."""

    output: str
    status: int


def find_adb(adb: str | Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """The adb program: the argument, else the variable ADB, else on the PATH, else the one in the package adbutils.

    Raises:
        DeviceError: there is none, or the argument or ADB names none.
    """
    environment = os.environ if environment is None else environment
    for named, source in ((adb, "the argument adb"), (environment.get("ADB"), "the variable ADB")):
        if named:
            program = shutil.which(str(named), path=environment.get("PATH", os.defpath))
            if program is None:
                raise DeviceError(f"{source} names {str(named)!r}, which is no program; give the path of adb itself.")
            return program
    program = shutil.which("adb", path=environment.get("PATH", os.defpath)) or _packaged_adb()
    if program is None:
        raise DeviceError(
            "There is no adb on this computer: install Android's platform-tools (Debian: `apt-get install adb`) or "
            "`pip install adbutils`, which brings one, or name it in the variable ADB."
        )
    return program


def _packaged_adb() -> str | None:
    """The program inside adbutils' wheel. The package is not imported, since that imports Pillow and requests."""
    spec = importlib.util.find_spec("adbutils")
    folders = spec.submodule_search_locations if spec else ()
    # A name and a folder, not a path: before Python 3.12 `which` adds .exe on Windows to a name alone.
    return next(filter(None, (shutil.which("adb", path=str(Path(folder, "binaries"))) for folder in folders)), None)


def devices(adb: str, environment: Mapping[str, str] | None = None, *, timeout: float = 15.0) -> dict[str, str]:
    """Serial -> state of every phone that the adb server knows. Starts the server if none runs.

    Raises:
        DeviceError: the server cannot be started or does not answer.
    """
    _run(adb, ["start-server"], environment, timeout)
    listed = _run(adb, ["devices"], environment, timeout).stdout
    pairs = (line.split("\t", 1) for line in listed.splitlines() if "\t" in line)
    return {serial: state.strip() for serial, state in pairs}


class Adb:
    """One phone.

    Args:
        serial: of the phone; None: ANDROID_SERIAL, else the only phone. A "HOST:PORT" is connected to if necessary.
        adb: the program, see `find_adb`.
        environment: of the program; None: this process's own.
        patience: seconds that a phone may take to become ready.

    Raises:
        DeviceError: there is no adb, no such phone, several to choose from, or it is not ready; says what to do.
    """

    def __init__(
        self,
        serial: str | None = None,
        *,
        adb: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
        patience: float = 5.0,
    ):
        self._environment = environment
        self.program = find_adb(adb, environment)
        self.serial = serial or (os.environ if environment is None else environment).get("ANDROID_SERIAL") or ""
        if not self.serial:
            self.serial = _only(devices(self.program, environment))
        self.wait(patience)

    def wait(self, seconds: float) -> None:
        """Returns as soon as the phone is ready. Connects to a "HOST:PORT" again if necessary.

        Raises:
            DeviceError: the phone is not ready within `seconds`, or will not be without help; says why.
        """
        until = time.monotonic() + seconds
        while True:
            known, trouble = devices(self.program, self._environment), None
            state = known.get(self.serial)
            if state in (None, "offline") and _OVER_TCP.fullmatch(self.serial):
                trouble = self._connect(anew=state is not None)
                state = devices(self.program, self._environment).get(self.serial)
            if state == "device":
                return
            problem = not_ready(self.serial, state, trouble, known)
            hopeless = not isinstance(problem, LinkLost)
            if hopeless or time.monotonic() >= until:
                raise problem
            time.sleep(_POLL_SECONDS)

    def shell(self, command: str | Sequence[str], *, timeout: float = 20.0) -> Reply:
        """Runs one command.

        Args:
            command: a line for the phone's shell, or a list of words, which are quoted for it.
            timeout: seconds.

        Raises:
            LinkLost: the phone dropped off meanwhile.
            TimedOut: the command took longer than `timeout`; it may still run on the phone.
            DeviceError: the phone cannot be reached.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        # The first echo ends the output's last line, so that the sentinel has a line of its own.
        wrapped = f'( {line}\n) 2>&1; rc=$?; echo; echo "__RC__=$rc"'
        done = self._call(["shell", wrapped], timeout)
        sentinel = _SENTINEL.search(done.stdout)
        if sentinel is None:
            raise explain(self.serial, done.stderr, "running a command")
        return Reply(done.stdout[: sentinel.start()].removesuffix("\n"), int(sentinel.group(1)))

    def push(self, local: str | Path, remote: str, *, timeout: float = 30.0) -> None:
        """Copies one file to the phone, always and as a whole.

        Args:
            local: path on this computer.
            remote: path on the phone.
            timeout: seconds, beside those that the size of the file takes over a bad Wi-Fi.

        Raises:
            LinkLost: the phone dropped off meanwhile.
            StorageFull: the phone has no space for the file.
            TimedOut: the copy took too long.
            DeviceError: the file cannot be read, or the phone refused it.
        """
        try:
            size = Path(local).stat().st_size
        except OSError as error:
            raise DeviceError(f"{str(local)!r} cannot be read ({error.strerror}); give a file that can.") from error
        done = self._call(["push", str(local), remote], timeout + size / _SLOWEST_PUSH)
        if done.returncode:
            # Old clients print errors to stdout. All clients print a summary that mentions no error.
            said = [line for line in (done.stderr + done.stdout).splitlines() if " skipped. " not in line]
            raise explain(self.serial, "\n".join(said), f"copying {Path(local).name}")

    def _connect(self, anew: bool) -> str | None:
        """Connects to a HOST:PORT. Returns adb's complaint, None if there is none (adb always exits with 0).

        Args:
            anew: forget the old connection first; a server of 2020 takes half a minute to mend one.
        """
        if anew:
            _run(self.program, ["disconnect", self.serial], self._environment, 15.0, check=False)
        said = _run(self.program, ["connect", self.serial], self._environment, 15.0).stdout.strip()
        return None if said.startswith(("connected to", "already connected to")) else said or "no answer"

    def _call(self, arguments: list[str], timeout: float) -> "subprocess.CompletedProcess[str]":
        try:
            return _run(self.program, ["-s", self.serial, *arguments], self._environment, timeout, check=False)
        except TimedOut:
            raise TimedOut(
                f"{self.serial} did not finish `adb {arguments[0]}` within {timeout:.0f} s; check that the phone "
                f"responds and is not busy, or allow more time."
            ) from None


def _run(
    adb: str, arguments: Sequence[str], environment: Mapping[str, str] | None, timeout: float, check: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Runs adb once.

    Args:
        adb: the program.
        arguments: its arguments.
        environment: its variables; None: this process's own.
        timeout: seconds.
        check: whether an exit status other than 0 is an error.

    Raises:
        TimedOut: adb did not end in time.
        DeviceError: adb cannot be run, or failed.
    """
    try:
        done = subprocess.run(
            [adb, *arguments],
            stdin=subprocess.DEVNULL,  # `adb shell` would swallow the caller's
            capture_output=True,
            env=None if environment is None else dict(environment),
            timeout=timeout,
            **OWN_GROUP,  # Ctrl-C is for the caller, who still needs adb to clean up
            encoding="utf-8",  # this also turns the "\r\n" of old phones into "\n"
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise TimedOut(
            f"adb {arguments[0]} did not end within {timeout:.0f} s: the adb server may hang, or its port be taken by "
            f"another program; run `adb kill-server`, or set ANDROID_ADB_SERVER_PORT to a free port."
        ) from None
    except OSError as error:
        raise DeviceError(f"{adb} cannot be run ({error.strerror}); install adb for this computer.") from error
    if check and done.returncode:
        said = done.stderr + done.stdout
        if "protocol fault" in said:
            raise port_taken(said)
        raise server_error(said) or DeviceError(
            f"adb {arguments[0]} failed ({last_line(said) or done.returncode}): run `adb kill-server` and try again."
        )
    return done


def _only(known: Mapping[str, str]) -> str:
    """The serial to use if the caller names none."""
    ready = [serial for serial, state in known.items() if state == "device"]
    if len(ready) == 1:
        return ready[0]
    if len(ready) > 1:
        raise DeviceError(
            f"{len(ready)} phones are connected ({', '.join(ready)}): say which by serial, or by ANDROID_SERIAL."
        )
    if len(known) == 1:
        return next(iter(known))  # not ready; `wait` says why
    if known:
        listed = ", ".join(f"{serial} is {state}" for serial, state in known.items())
        raise DeviceError(f"No connected phone is ready ({listed}): unlock one and allow USB debugging on its screen.")
    raise DeviceError(
        "adb sees no phone: connect one by a USB cable that carries data, switch on USB debugging in its developer "
        "options and confirm this computer on its screen, or give a serial HOST:PORT for adb over Wi-Fi."
    )
