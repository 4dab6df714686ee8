"""The command doctor: walks the way to a phone step by step, up to what does not work, and says what to mend."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from amc_tf.commands.bench import json_option, open_phone, phone_options
from amc_tf.commands.exits import NO_DEVICE, ending, foreseen
from amc_tf.devices.android import adb_client, benchmark_binary, phone_info
from amc_tf.devices.android.adb_client import Adb
from amc_tf.devices.android.consent import without_asking
from amc_tf.devices.android.readiness import HeatGate
from amc_tf.errors import DeviceError

LEAST_MB = 100  # of free space on the phone: the program and a few models


@click.command()
@phone_options
@json_option
@click.pass_context
def doctor(context, **given) -> None:
    """Check whether a phone can be measured, and say what to mend.

    It looks at adb, authorisation, processor, commands, space, benchmark_model and heat, and starts benchmark_model
    once, with the options that `amc-tf bench` is to measure with. Nothing stays on the phone.

    Exit codes: 0 all is well, 2 wrong usage, 3 something is to be mended, 70 an internal error, 130 stopped.
    """
    examine(context, **given)


def examine(context: click.Context, *, as_json: bool, **given: Any) -> None:
    """What the command does.

    Args:
        context: click's, of whichever program was called: its name begins the messages.
        as_json: print the steps as JSON.
        given: the values of `phone_options`.

    Raises:
        SystemExit: with the exit code.
    """
    steps: list[dict[str, Any]] = []

    def step(name: str, action: Callable[[], tuple[str, Any]]) -> Any:
        """What the action found; None where it failed, with the error's sentence for what to do."""
        try:
            said, found = action()
        except Exception as error:
            if not foreseen(error):
                raise
            steps.append({"step": name, "ok": False, "said": str(error)})
            return None
        steps.append({"step": name, "ok": True, "said": said})
        return found

    with ending(context, NO_DEVICE):
        walk(step, given)
        if as_json:
            click.echo(json.dumps(steps))
        else:
            for each in steps:
                click.echo(f"{'ok ' if each['ok'] else 'NO '} {each['step']}: {each['said']}")
    sys.exit(0 if all(each["ok"] for each in steps) else NO_DEVICE)


def walk(step: Callable, given: dict[str, Any]) -> None:
    """The steps. What a failed step would be needed for is left out."""
    program = step("adb", lambda: adb_program(given["adb"]))
    if program is None:
        return
    listed = step("adb server", lambda: phones(program))
    adb = listed and step("authorisation", lambda: authorised(given["serial"], program))
    if not adb:
        return
    about = step("phone", lambda: described(adb))
    if about is None:
        return
    step("processor", lambda: cores(given, about))
    step("commands", lambda: commands(about))
    step("space", lambda: space(about))
    with without_asking(given["yes"]):
        found = step("benchmark_model", lambda: named(benchmark_binary.find(about.abi, given["binary"])))
    gate = HeatGate(adb.serial, lambda: state(adb), given["max_celsius"], 0.0, 20)
    step("heat, battery and clocks", lambda: told(gate.wait()))
    if found is not None:
        step("running it", lambda: runs(given))


def adb_program(given: Path | None) -> tuple[str, str]:
    found = adb_client.find_adb(given)
    return found, found


def phones(program: str) -> tuple[str, bool]:
    known = adb_client.devices(program)
    return f"running; {', '.join(f'{serial} is {state}' for serial, state in known.items()) or 'no phone yet'}", True


def authorised(serial: str | None, program: str) -> tuple[str, Adb]:
    adb = Adb(serial, adb=program)
    return f"{adb.serial} lets this computer in", adb


def described(adb: Adb) -> tuple[str, phone_info.Phone]:
    about = phone_info.parse_phone(adb.shell(phone_info.ASK_PHONE).output)
    return f"{about.model}, {about.soc}, Android API {about.sdk}, {about.abi}", about


def cores(given: dict[str, Any], about: phone_info.Phone) -> tuple[str, bool]:
    chosen = phone_info.cores(given["cpu_mask"] or "big", about.clusters)
    clusters = ", ".join(f"{len(each.cores)} at {each.max_khz / 1e6:.2f} GHz" for each in about.clusters)
    return f"{clusters or 'clusters unknown'}; to be used: mask {phone_info.mask(chosen)}", True


def commands(about: phone_info.Phone) -> tuple[str, bool]:
    missing = [tool for tool in ("sha256sum", "taskset") if tool not in about.tools]
    if missing:
        raise DeviceError(f"The phone has no {' and no '.join(missing)}: use one with Android 8 or newer.")
    without = "" if "timeout" in about.tools else ", but no timeout: a program that hangs is ended from here"
    return f"sha256sum and taskset are there{without}", True


def space(about: phone_info.Phone) -> tuple[str, bool]:
    if about.free_mb is not None and about.free_mb < LEAST_MB:
        raise DeviceError(f"/data/local/tmp has {about.free_mb:.0f} MB left, less than {LEAST_MB}: free some.")
    return "unknown" if about.free_mb is None else f"{about.free_mb:.0f} MB free in /data/local/tmp", True


def named(found: benchmark_binary.Binary) -> tuple[str, benchmark_binary.Binary]:
    return f"{found.path}, sha256 {found.sha256[:12]}", found


def state(adb: Adb) -> phone_info.State:
    return phone_info.parse_state(adb.shell(phone_info.ASK_STATE).output)


def told(now: phone_info.State) -> tuple[str, phone_info.State]:
    parts = [
        "thermal status not told" if now.thermal_status is None else f"thermal status {now.thermal_status}",
        "battery not told" if now.battery_celsius is None else f"battery {now.battery_celsius} °C",
        *([] if now.battery_percent is None else [f"{now.battery_percent} % charged"]),
        *(["charging, which warms it"] if now.charging else []),
        "clocks held below their highest" if now.capped else "clocks free",
    ]
    return ", ".join(parts), now


def runs(given: dict[str, Any]) -> tuple[str, bool]:
    """Puts the program on the phone and starts it once."""
    with open_phone(**given) as device:
        return f"it is the {device.identity['program']} program; nothing was left behind", True
