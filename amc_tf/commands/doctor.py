"""The command `amc-tf doctor`: checks, step by step, whether a phone can be measured, and says what to fix."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from amc_tf.commands.device_options import DeviceOptions, json_option, open_phone, phone_options
from amc_tf.commands.exits import NO_DEVICE, ending, foreseen
from amc_tf.devices.android import adb_client, benchmark_binary, phone_info
from amc_tf.devices.android.adb_client import Adb
from amc_tf.devices.android.consent import without_asking
from amc_tf.devices.android.readiness import HeatGate
from amc_tf.errors import DeviceError

LEAST_MB = 100  # of free space on the phone: benchmark_model and a few models
LEAST_BATTERY = 20  # percent

_Found = TypeVar("_Found")
Check = Callable[[], tuple[str, _Found]]  # returns (what to print, what later checks need), or raises


@click.command()
@phone_options
@json_option
@click.pass_context
def doctor(context: click.Context, **values: Any) -> None:
    """Check whether a phone can be measured, and say what to fix.

    It looks at adb, authorisation, processor, commands, space, benchmark_model and heat. Then it starts benchmark_model
    once, with the options of `amc-tf bench`. Nothing stays on the phone.

    Exit codes: 0 all is well, 2 wrong usage, 3 something is to be fixed, 70 an internal error, 130 stopped.
    """
    examine(context, **values)


def examine(context: click.Context, *, as_json: bool, **values: Any) -> None:
    """Runs the command.

    Args:
        context: of the program that was called: messages begin with its name.
        as_json: print the checks as JSON.
        **values: of `phone_options`.

    Raises:
        SystemExit: with the exit code.
    """
    checks = Checks()
    with ending(context, NO_DEVICE):
        run_checks(checks, DeviceOptions(**values))
        if as_json:
            click.echo(json.dumps(checks.results))
        else:
            for result in checks.results:
                click.echo(f"{'ok ' if result['ok'] else 'NO '} {result['step']}: {result['said']}")
    sys.exit(0 if all(result["ok"] for result in checks.results) else NO_DEVICE)


class Checks:
    """Runs checks and collects their results.

    Attributes:
        results: one dict per check: "step" (its name), "ok" and "said" (a sentence).
    """

    def __init__(self):
        self.results: list[dict[str, Any]] = []

    def run(self, name: str, check: Check[_Found]) -> _Found | None:
        """Runs a check. Returns what it found; None if it failed, and then its error says what to fix."""
        try:
            sentence, found = check()
        except Exception as error:
            if not foreseen(error):
                raise
            self.results.append({"step": name, "ok": False, "said": str(error)})
            return None
        self.results.append({"step": name, "ok": True, "said": sentence})
        return found


def run_checks(checks: Checks, options: DeviceOptions) -> None:
    """Runs all checks, except those that need the result of a failed one."""
    program = checks.run("adb", lambda: find_adb(options.adb))
    if program is None:
        return
    listed = checks.run("adb server", lambda: list_phones(program))
    adb = listed and checks.run("authorisation", lambda: connect(options.serial, program))
    if not adb:
        return
    phone = checks.run("phone", lambda: describe(adb))
    if phone is None:
        return
    checks.run("processor", lambda: check_cores(options.cpu_mask, phone))
    checks.run("commands", lambda: check_commands(phone))
    checks.run("space", lambda: check_space(phone))
    with without_asking(options.yes):
        binary = checks.run("benchmark_model", lambda: find_binary(phone.abi, options.binary))
    gate = HeatGate(adb.serial, lambda: read_state(adb), options.max_celsius, 0.0, LEAST_BATTERY)
    checks.run("heat, battery and clocks", lambda: describe_state(gate.wait()))
    if binary is not None:
        checks.run("running it", lambda: start_program(options))


def find_adb(path: Path | None) -> tuple[str, str]:
    program = adb_client.find_adb(path)
    return program, program


def list_phones(program: str) -> tuple[str, bool]:
    phones = adb_client.devices(program)
    return f"running; {', '.join(f'{serial} is {state}' for serial, state in phones.items()) or 'no phone yet'}", True


def connect(serial: str | None, program: str) -> tuple[str, Adb]:
    adb = Adb(serial, adb=program)
    return f"{adb.serial} lets this computer in", adb


def describe(adb: Adb) -> tuple[str, phone_info.Phone]:
    phone = phone_info.parse_phone(adb.shell(phone_info.ASK_PHONE).output)
    return f"{phone.model}, {phone.soc}, Android API {phone.sdk}, {phone.abi}", phone


def check_cores(cpu_mask: str | None, phone: phone_info.Phone) -> tuple[str, bool]:
    chosen = phone_info.cores(cpu_mask or "big", phone.clusters)
    clusters = ", ".join(f"{len(each.cores)} at {each.max_khz / 1e6:.2f} GHz" for each in phone.clusters)
    return f"{clusters or 'clusters unknown'}; to be used: mask {phone_info.mask(chosen)}", True


def check_commands(phone: phone_info.Phone) -> tuple[str, bool]:
    missing = [tool for tool in ("sha256sum", "taskset") if tool not in phone.tools]
    if missing:
        raise DeviceError(f"The phone has no {' and no '.join(missing)}: use one with Android 8 or newer.")
    without = "" if "timeout" in phone.tools else ", but no timeout: this computer ends a program that hangs"
    return f"sha256sum and taskset are there{without}", True


def check_space(phone: phone_info.Phone) -> tuple[str, bool]:
    if phone.free_mb is not None and phone.free_mb < LEAST_MB:
        raise DeviceError(f"/data/local/tmp has {phone.free_mb:.0f} MB left, less than {LEAST_MB}: free some.")
    return "unknown" if phone.free_mb is None else f"{phone.free_mb:.0f} MB free in /data/local/tmp", True


def find_binary(abi: str, path: Path | None) -> tuple[str, benchmark_binary.Binary]:
    binary = benchmark_binary.find(abi, path)
    return f"{binary.path}, sha256 {binary.sha256[:12]}", binary


def read_state(adb: Adb) -> phone_info.State:
    return phone_info.parse_state(adb.shell(phone_info.ASK_STATE).output)


def describe_state(state: phone_info.State) -> tuple[str, phone_info.State]:
    parts = [
        "thermal status unknown" if state.thermal_status is None else f"thermal status {state.thermal_status}",
        "battery temperature unknown" if state.battery_celsius is None else f"battery {state.battery_celsius} °C",
        *([] if state.battery_percent is None else [f"{state.battery_percent} % charged"]),
        *(["charging, which warms it"] if state.charging else []),
        "clocks held below their highest" if state.capped else "clocks free",
    ]
    return ", ".join(parts), state


def start_program(options: DeviceOptions) -> tuple[str, bool]:
    """Puts benchmark_model on the phone and starts it once."""
    with open_phone(options) as device:
        return f"it is the {device.identity['program']} program; nothing was left behind", True
