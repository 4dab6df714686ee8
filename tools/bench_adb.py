"""Measures .tflite models on an Android phone over adb, or on this computer.

\b
python tools/bench_adb.py A.tflite [B.tflite ...]
python tools/bench_adb.py --doctor

Every model runs in several processes of the official benchmark_model, all models in turn, so that a phone that warms up
slows all of them alike. Median, p90 and MAD are of these processes; the speed-up is that against the first model, with
its 95 % confidence interval. A phone that is too hot is waited for; one that stays so is no measurement.

Exit codes: 0 measured, 2 wrong usage, 3 no usable device, 4 a measurement failed.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from amc_tf.cli import end_in_order
from amc_tf.devices import adb_client, binary, phone
from amc_tf.devices.adb import DELEGATES, AdbDevice
from amc_tf.devices.adb_client import Adb
from amc_tf.devices.heat import HeatGate
from amc_tf.devices.host import RUNTIMES, HostDevice
from amc_tf.devices.interleave import Comparison, Ratio, interleave
from amc_tf.devices.timing import Operator, Timing
from amc_tf.errors import DeviceError

EXIT_USAGE, EXIT_NO_DEVICE, EXIT_FAILED, EXIT_STOPPED = 2, 3, 4, 130
LEAST_MB = 100  # of free space on the phone: the program and a few models
PHONE_ONLY = ("serial", "binary", "adb", "fixed_performance", "profile")


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("models", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--serial", help="Which phone, or HOST:PORT; default: ANDROID_SERIAL, else the only one.")
@click.option("--host", is_flag=True, help="Measure on this computer instead.")
@click.option("--runtime", type=click.Choice(list(RUNTIMES)), default="litert", show_default=True, help="With --host.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Processes a model.")
@click.option("--runs", type=click.IntRange(1), default=50, show_default=True, help="Least inferences a process.")
@click.option("--seconds", type=click.FloatRange(0), default=1.0, show_default=True, help="Least seconds a process.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads on the CPU.")
@click.option("--cpu-mask", help="Cores: big, all, or a hex mask as for taskset; default: big, with --host all.")
@click.option(
    "--delegate", type=click.Choice(DELEGATES), default="xnnpack", show_default=True, help="What runs the model."
)
@click.option("--profile", is_flag=True, help="Also list the operators, from a run of its own.")
@click.option(
    "--binary",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The benchmark_model to use; default: the official one, fetched once.",
)
@click.option("--adb", type=click.Path(path_type=Path), help="The adb program; default: ADB, the PATH, adbutils.")
@click.option(
    "--timeout",
    type=click.FloatRange(1),
    default=120.0,
    show_default=True,
    help="Seconds after which a process counts as hung, beside what it is to take.",
)
@click.option("--max-celsius", default=37.0, show_default=True, help="Warmest battery to begin with.")
@click.option(
    "--cool-down", type=click.FloatRange(0), default=300.0, show_default=True, help="Seconds to wait for a hot phone."
)
@click.option("--fixed-performance", is_flag=True, help="Hold the clocks at what the phone can sustain (Android 11+).")
@click.option(
    "--doctor", is_flag=True, help="Check adb, authorisation, processor, program, space and heat, and say what to fix."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@click.pass_context
def main(context, models, host, doctor, as_json, profile, rounds, runs, seconds, **given) -> None:
    end_in_order()
    if doctor and (host or models):
        raise click.UsageError("--doctor looks at the phone alone: give it neither models nor --host.")
    if not doctor and not models:
        raise click.UsageError("There is nothing to measure: give one .tflite or more, or --doctor.")
    if host:
        for name in PHONE_ONLY:
            if context.params.get(name):
                raise click.UsageError(f"--{name.replace('_', '-')} is for phones: leave it or --host out.")
    if doctor:
        sys.exit(examine(given, as_json))
    console = Console(stderr=True)
    with ending(EXIT_NO_DEVICE):
        device = open_host(**given) if host else open_phone(**given)
    waiting = console.status("measuring") if console.is_terminal else contextlib.nullcontext()
    with ending(EXIT_FAILED), device, waiting:
        comparison = interleave(device, models, rounds=rounds, min_runs=runs, min_seconds=seconds)
        operators = [device.profile(path) for path in models] if profile else None
    if as_json:
        click.echo(json.dumps(as_dict(device, models, comparison, operators)))
    else:
        out = Console()
        show(out if out.is_terminal else Console(width=160), device, models, comparison, operators)


@contextlib.contextmanager
def ending(code: int) -> Iterator[None]:
    """Ends the program with the sentence of an error instead of a stack trace."""
    try:
        yield
    except (ValueError, DeviceError) as error:
        click.echo(f"bench_adb: {error}", err=True)
        sys.exit(EXIT_USAGE if isinstance(error, ValueError) else code)
    except KeyboardInterrupt:
        click.echo("bench_adb: stopped.", err=True)
        sys.exit(EXIT_STOPPED)


def open_host(*, runtime, threads, cpu_mask, delegate, timeout, **_) -> HostDevice:
    return HostDevice(runtime, threads, cpu_mask=cpu_mask or "all", delegate=delegate, timeout=timeout)


def open_phone(*, runtime, threads, cpu_mask, **rest) -> AdbDevice:
    return AdbDevice(num_threads=threads, cpu_mask=cpu_mask or "big", **rest)


def as_dict(device: Any, models: tuple[Path, ...], comparison: Comparison, operators) -> dict[str, Any]:
    """Plain types; times in microseconds."""
    rows = []
    for index, (path, timing, ratio) in enumerate(zip(models, comparison.timings, comparison.ratios, strict=True)):
        row = {"model": str(path), **timing.to_dict()}
        low, high = (None, None) if ratio.low is None else (1 / ratio.high, 1 / ratio.low)
        row["speed_up"] = {"value": 1 / ratio.value, "low": low, "high": high}
        if operators is not None:
            row["operators"] = [
                {"kind": each.kind, "name": each.name, "us": each.us, "calls": each.calls} for each in operators[index]
            ]
        rows.append(row)
    return {"device": device.identity, "models": rows}


def show(console: Console, device: Any, models: tuple[Path, ...], comparison: Comparison, operators) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    for name in ("median ms", "p90 ms", "min ms", "speed-up, 95 %", "MB", "delegated", "heat"):
        table.add_column(name, justify="right", no_wrap=True)
    for path, timing, ratio in zip(models, comparison.timings, comparison.ratios, strict=True):
        table.add_row(
            path.name,
            *(f"{us / 1e3:.3f}" for us in (timing.median_us, timing.p90_us, timing.min_us)),
            speed_up(ratio),
            "-" if timing.memory_mb is None else f"{timing.memory_mb:.1f}",
            "-" if timing.delegated is None else "{} of {}".format(*timing.delegated),
            heat(timing),
        )
    console.print(table, highlight=False)
    said = "; ".join(
        f"{name} {value}" for name, value in device.identity.items() if name not in ("binary", "fingerprint")
    )
    runs = sum(timing.runs for timing in comparison.timings)
    console.print(
        f"{said}; {len(comparison.timings[0].processes)} processes a model, {runs} inferences in all",
        highlight=False,
        soft_wrap=True,
    )
    for path, timing in zip(models, comparison.timings, strict=True):
        for remark in remarks(timing):
            console.print(f"{path.name}: {remark}", highlight=False, soft_wrap=True)
    for path, rows in zip(models, operators or (), strict=False):
        console.print(profile_table(path, rows), highlight=False)


def speed_up(ratio: Ratio) -> str:
    """With its interval, where there were rounds enough for one."""
    interval = "" if ratio.low is None else f" [{1 / ratio.high:.2f}, {1 / ratio.low:.2f}]"
    return f"{1 / ratio.value:.2f}{interval}"


def heat(timing: Timing) -> str:
    """Thermal status and battery after the last process; how busy the computer was, where that is all it says."""
    after = timing.environment["after"]
    if "thermal_status" not in after:
        return f"load {after['load']}"
    status = "-" if after["thermal_status"] is None else str(after["thermal_status"])
    return status if after["battery_celsius"] is None else f"{status}, {after['battery_celsius']} °C"


def remarks(timing: Timing) -> Iterator[str]:
    """What a reader of the numbers should know."""
    if timing.mad_us > 0.05 * timing.median_us:
        yield (
            f"processes differ by {timing.mad_us / timing.median_us:.0%} (MAD): let the device rest, close what else "
            f"runs on it, and give more --rounds."
        )
    if timing.environment["before"].get("capped"):
        yield "the phone held its clocks below the processor's own highest ones."
    if timing.environment["before"].get("charging"):
        yield "the phone was charging, which warms it; adb over Wi-Fi does without."


def profile_table(path: Path, operators: tuple[Operator, ...]) -> Table:
    total = sum(each.us for each in operators) or 1.0  # whole microseconds may all be 0
    table = Table(title=f"{path.name}, by operator", title_justify="left", box=None, pad_edge=False)
    for name, justify in (("operator", "left"), ("ms", "right"), ("%", "right"), ("calls", "right"), ("name", "left")):
        table.add_column(name, justify=justify, overflow="fold")
    for each in operators:
        table.add_row(each.kind, f"{each.us / 1e3:.3f}", f"{each.us / total:.1%}", str(each.calls), each.name)
    return table


def examine(given: dict[str, Any], as_json: bool) -> int:
    """Walks the way to the phone step by step, up to what does not work; the exit code."""
    steps: list[dict[str, Any]] = []

    def step(name: str, action: Callable[[], tuple[str, Any]]) -> Any:
        """What the action found; None where it failed, with the error's sentence for what to do."""
        try:
            said, found = action()
        except (DeviceError, ValueError) as error:
            steps.append({"step": name, "ok": False, "said": str(error)})
            return None
        steps.append({"step": name, "ok": True, "said": said})
        return found

    walk(step, given)
    if as_json:
        click.echo(json.dumps(steps))
    else:
        for each in steps:
            click.echo(f"{'ok ' if each['ok'] else 'NO '} {each['step']}: {each['said']}")
    return 0 if all(each["ok"] for each in steps) else EXIT_NO_DEVICE


def walk(step: Callable, given: dict[str, Any]) -> None:
    """The steps of --doctor. What a failed step would be needed for is left out."""
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
    found = step("benchmark_model", lambda: named(binary.find(about.abi, given["binary"])))
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


def described(adb: Adb) -> tuple[str, phone.Phone]:
    about = phone.parse_phone(adb.shell(phone.ASK_PHONE).output)
    return f"{about.model}, {about.soc}, Android API {about.sdk}, {about.abi}", about


def cores(given: dict[str, Any], about: phone.Phone) -> tuple[str, bool]:
    chosen = phone.cores(given["cpu_mask"] or "big", about.clusters)
    clusters = ", ".join(f"{len(each.cores)} at {each.max_khz / 1e6:.2f} GHz" for each in about.clusters)
    return f"{clusters or 'clusters unknown'}; to be used: mask {phone.mask(chosen)}", True


def commands(about: phone.Phone) -> tuple[str, bool]:
    missing = [tool for tool in ("sha256sum", "taskset") if tool not in about.tools]
    if missing:
        raise DeviceError(f"The phone has no {' and no '.join(missing)}: use one with Android 8 or newer.")
    without = "" if "timeout" in about.tools else ", but no timeout: a program that hangs is ended from here"
    return f"sha256sum and taskset are there{without}", True


def space(about: phone.Phone) -> tuple[str, bool]:
    if about.free_mb is not None and about.free_mb < LEAST_MB:
        raise DeviceError(f"/data/local/tmp has {about.free_mb:.0f} MB left, less than {LEAST_MB}: free some.")
    return "unknown" if about.free_mb is None else f"{about.free_mb:.0f} MB free in /data/local/tmp", True


def named(found: binary.Binary) -> tuple[str, binary.Binary]:
    return f"{found.path}, sha256 {found.sha256[:12]}", found


def state(adb: Adb) -> phone.State:
    return phone.parse_state(adb.shell(phone.ASK_STATE).output)


def told(now: phone.State) -> tuple[str, phone.State]:
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


if __name__ == "__main__":
    main()
