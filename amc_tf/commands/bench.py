"""The command bench: measures .tflite models in turns, on a phone or on this computer, and shows what they took."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from amc_tf.commands.exits import NO_DEVICE, NOT_MEASURED, ending
from amc_tf.devices.android.adb_device import AdbDevice
from amc_tf.devices.android.consent import without_asking
from amc_tf.devices.android.settings import DELEGATES
from amc_tf.devices.host.computer import RUNTIMES, HostDevice
from amc_tf.devices.interleave import Comparison, Ratio, interleave
from amc_tf.devices.timing import Operator, Timing

PHONE_ONLY = ("serial", "binary", "yes", "adb", "fixed_performance", "profile")


def together(*options: Callable) -> Callable:
    """One decorator of several; the help lists them in this order."""

    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


yes_option = click.option("--yes", is_flag=True, help="Let the fetched benchmark_model run without being asked.")
phone_options = together(
    click.option("--serial", help="Which phone, or HOST:PORT; default: ANDROID_SERIAL, else the only one."),
    click.option("--adb", type=click.Path(path_type=Path), help="The adb program; default: ADB, the PATH, adbutils."),
    click.option("--binary", type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 help="The benchmark_model to use; default: the official one, fetched once."),
    yes_option,
    click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads on the CPU."),
    click.option("--cpu-mask", help="Cores: big, all, or a hex mask as for taskset; default: big on a phone, all on "
                                    "this computer."),
    click.option("--delegate", type=click.Choice(DELEGATES), default="xnnpack", show_default=True,
                 help="What runs the model."),
    click.option("--timeout", type=click.FloatRange(1), default=120.0, show_default=True,
                 help="Seconds after which a process counts as hung, beside what it is to take."),
    click.option("--max-celsius", default=37.0, show_default=True, help="Warmest battery to begin with."),
    click.option("--fixed-performance", is_flag=True,
                 help="Hold the clocks at what the phone can sustain (Android 11+)."),
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
bench_options = together(
    click.argument("models", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    click.option("--host", is_flag=True, help="Measure on this computer instead."),
    click.option("--runtime", type=click.Choice(list(RUNTIMES)), default="litert", show_default=True,
                 help="With --host."),
    click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Processes a model."),
    click.option("--runs", type=click.IntRange(1), default=50, show_default=True, help="Least inferences a process."),
    click.option("--seconds", type=click.FloatRange(0), default=1.0, show_default=True,
                 help="Least seconds a process."),
    click.option("--profile", is_flag=True, help="Also list the operators, from a run of its own."),
    click.option("--cool-down", type=click.FloatRange(0), default=300.0, show_default=True,
                 help="Seconds to wait for a hot phone."),
    phone_options,
    json_option,
)  # fmt: skip


@click.command()
@bench_options
@click.pass_context
def bench(context, **given) -> None:
    """Measure .tflite models on a phone, or on this computer.

    Every model runs in several processes of the official benchmark_model, all models in turn, so that a phone that
    warms up slows all of them alike. Median, p90 and MAD are of these processes; the speed-up is that against the first
    model, with its 95 % confidence interval. A phone that is too hot is waited for; one that stays so is no
    measurement.

    Exit codes: 0 measured, 2 wrong usage, 3 no usable device, 4 a measurement failed, 70 an internal
    error, 130 stopped.
    """
    measure(context, **given)


def measure(context, *, models, host, runtime, profile, rounds, runs, seconds, cool_down, as_json, **given) -> None:
    """What the command does.

    Args:
        context: click's, of whichever program was called: its name begins the messages.
        others: the values of `bench_options`.

    Raises:
        click.UsageError: there is no model, or an option does not go with --host.
        SystemExit: with an exit code, after a sentence on stderr.
    """
    if not models:
        raise click.UsageError("There is nothing to measure: give one .tflite or more.")
    if host:
        for name in PHONE_ONLY:
            if context.params.get(name):
                raise click.UsageError(f"--{name.replace('_', '-')} is for phones: leave it or --host out.")
    console = Console(stderr=True)
    with ending(context, NO_DEVICE):
        device = open_host(runtime, **given) if host else open_phone(cool_down=cool_down, **given)
    waiting = console.status("measuring") if console.is_terminal else contextlib.nullcontext()
    with ending(context, NOT_MEASURED):
        with device, waiting:
            comparison = interleave(device, models, rounds=rounds, min_runs=runs, min_seconds=seconds)
            operators = [device.profile(path) for path in models] if profile else None
        if as_json:
            click.echo(json.dumps(as_dict(device, models, comparison, operators)))
        else:
            out = Console()
            show(out if out.is_terminal else Console(width=160), device, models, comparison, operators)


def open_host(runtime: str, *, threads, cpu_mask, delegate, timeout, **_) -> HostDevice:
    return HostDevice(runtime, threads, cpu_mask=cpu_mask or "all", delegate=delegate, timeout=timeout)


def open_phone(*, threads, cpu_mask, yes, **rest) -> AdbDevice:
    with without_asking(yes):
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
