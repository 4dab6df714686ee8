"""The command `amc-tf bench`: times .tflite models in turns, on a phone or on this computer."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
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

PHONE_ONLY = ("serial", "binary", "yes", "adb", "fixed_performance", "profile")  # options that do not go with --host
_NOISY = 0.05  # MAD over median from which on a remark says that the processes differ

Operators = Sequence[Sequence[Operator]]  # of each model, as profiled


def combined(*options: Callable) -> Callable:
    """Combines decorators into one; the help lists their options in this order."""

    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


yes_option = click.option("--yes", is_flag=True, help="Let the fetched benchmark_model run without being asked.")
phone_options = combined(
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
                 help="Seconds until a process counts as hung, on top of its measuring time."),
    click.option("--max-celsius", default=37.0, show_default=True, help="Highest battery temperature at the start."),
    click.option("--fixed-performance", is_flag=True,
                 help="Fix the clocks at a level that the phone can sustain (Android 11+)."),
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
bench_options = combined(
    click.argument("models", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    click.option("--host", is_flag=True, help="Measure on this computer instead."),
    click.option("--runtime", type=click.Choice(list(RUNTIMES)), default="litert", show_default=True,
                 help="With --host."),
    click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Processes per model."),
    click.option("--runs", type=click.IntRange(1), default=50, show_default=True, help="Least inferences per process."),
    click.option("--seconds", type=click.FloatRange(0), default=1.0, show_default=True,
                 help="Least seconds per process."),
    click.option("--profile", is_flag=True, help="Also list the operators, from a separate run."),
    click.option("--cool-down", type=click.FloatRange(0), default=300.0, show_default=True,
                 help="Seconds to wait for a hot phone."),
    phone_options,
    json_option,
)  # fmt: skip


@dataclass(frozen=True)
class DeviceOptions:
    """The values of `phone_options`."""

    serial: str | None
    adb: Path | None
    binary: Path | None
    yes: bool
    threads: int
    cpu_mask: str | None
    delegate: str
    timeout: float
    max_celsius: float
    fixed_performance: bool


@dataclass(frozen=True)
class BenchOptions:
    """The values of `bench_options`."""

    device: DeviceOptions
    models: tuple[Path, ...]
    host: bool
    runtime: str
    rounds: int
    runs: int
    seconds: float
    profile: bool
    cool_down: float
    as_json: bool

    @classmethod
    def from_click(cls, values: Mapping[str, Any]) -> "BenchOptions":
        """Groups the values that click passes to a command with `bench_options`."""
        names = {field.name for field in fields(DeviceOptions)}
        device = {name: value for name, value in values.items() if name in names}
        others = {name: value for name, value in values.items() if name not in names}
        return cls(device=DeviceOptions(**device), **others)


@click.command()
@bench_options
@click.pass_context
def bench(context: click.Context, **values: Any) -> None:
    """Measure .tflite models on a phone, or on this computer.

    Every model runs in several processes of the official benchmark_model. The models take turns, so that a phone that
    warms up slows all of them alike. Median, p90 and MAD are taken over these processes. The speed-up is relative to
    the first model and has a 95 % confidence interval. A phone that is too hot gets time to cool; if it stays hot, the
    command fails.

    Exit codes: 0 measured, 2 wrong usage, 3 no usable device, 4 a measurement failed, 70 an internal
    error, 130 stopped.
    """
    measure(context, BenchOptions.from_click(values))


def measure(context: click.Context, options: BenchOptions) -> None:
    """Runs the command.

    Args:
        context: of the program that was called: messages begin with its name.
        options: see `bench_options`.

    Raises:
        click.UsageError: there is no model, or an option does not go with --host.
        SystemExit: with an exit code, after a sentence on stderr.
    """
    if not options.models:
        raise click.UsageError("There is nothing to measure: give one .tflite or more.")
    if options.host:
        for name in PHONE_ONLY:
            if context.params.get(name):
                raise click.UsageError(f"--{name.replace('_', '-')} is for phones: leave it or --host out.")
    console = Console(stderr=True)
    with ending(context, NO_DEVICE):
        if options.host:
            device = open_host(options.runtime, options.device)
        else:
            device = open_phone(options.device, cool_down=options.cool_down)
    spinner = console.status("measuring") if console.is_terminal else contextlib.nullcontext()
    with ending(context, NOT_MEASURED):
        with device, spinner:
            comparison = interleave(
                device, options.models, rounds=options.rounds, min_runs=options.runs, min_seconds=options.seconds
            )
            operators = [device.profile(path) for path in options.models] if options.profile else None
        if options.as_json:
            click.echo(json.dumps(as_dict(device.identity, options.models, comparison, operators)))
        else:
            out = Console()
            show(
                out if out.is_terminal else Console(width=160), device.identity, options.models, comparison, operators
            )


def open_host(runtime: str, options: DeviceOptions) -> HostDevice:
    """This computer as a device.

    Args:
        runtime: one of RUNTIMES.
        options: those that also apply to a phone.
    """
    return HostDevice(
        runtime,
        options.threads,
        cpu_mask=options.cpu_mask or "all",
        delegate=options.delegate,
        timeout=options.timeout,
    )


def open_phone(options: DeviceOptions, **settings: Any) -> AdbDevice:
    """The phone as a device.

    Args:
        options: see `phone_options`.
        **settings: other arguments of AdbDevice.
    """
    with without_asking(options.yes):
        return AdbDevice(
            options.serial,
            options.binary,
            options.threads,
            cpu_mask=options.cpu_mask or "big",
            delegate=options.delegate,
            adb=options.adb,
            timeout=options.timeout,
            max_celsius=options.max_celsius,
            fixed_performance=options.fixed_performance,
            **settings,
        )


def as_dict(
    identity: Mapping[str, str], models: Sequence[Path], comparison: Comparison, operators: Operators | None
) -> dict[str, Any]:
    """The measurement as plain types; times in microseconds."""
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
    return {"device": identity, "models": rows}


def show(
    console: Console,
    identity: Mapping[str, str],
    models: Sequence[Path],
    comparison: Comparison,
    operators: Operators | None,
) -> None:
    """Prints the measurement as tables and remarks."""
    console.print(timing_table(models, comparison), highlight=False)
    device = "; ".join(f"{name} {value}" for name, value in identity.items() if name not in ("binary", "fingerprint"))
    runs = sum(timing.runs for timing in comparison.timings)
    console.print(
        f"{device}; {len(comparison.timings[0].processes)} processes per model, {runs} inferences in all",
        highlight=False,
        soft_wrap=True,
    )
    for path, timing in zip(models, comparison.timings, strict=True):
        for remark in remarks(timing):
            console.print(f"{path.name}: {remark}", highlight=False, soft_wrap=True)
    for path, rows in zip(models, operators or (), strict=False):
        console.print(profile_table(path, rows), highlight=False)


def timing_table(models: Sequence[Path], comparison: Comparison) -> Table:
    """One row per model."""
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
    return table


def speed_up(ratio: Ratio) -> str:
    """The speed-up, with its interval where there were enough rounds for one."""
    interval = "" if ratio.low is None else f" [{1 / ratio.high:.2f}, {1 / ratio.low:.2f}]"
    return f"{1 / ratio.value:.2f}{interval}"


def heat(timing: Timing) -> str:
    """Thermal status and battery temperature after the last process. A computer only has its load."""
    after = timing.environment["after"]
    if "thermal_status" not in after:
        return f"load {after['load']}"
    status = "-" if after["thermal_status"] is None else str(after["thermal_status"])
    return status if after["battery_celsius"] is None else f"{status}, {after['battery_celsius']} °C"


def remarks(timing: Timing) -> Iterator[str]:
    """Sentences for a reader of the numbers."""
    if timing.mad_us > _NOISY * timing.median_us:
        yield (
            f"processes differ by {timing.mad_us / timing.median_us:.0%} (MAD): let the device rest, close other "
            f"programs on it, and give more --rounds."
        )
    if timing.environment["before"].get("capped"):
        yield "the phone held its clocks below the processor's own highest ones."
    if timing.environment["before"].get("charging"):
        yield "the phone was charging, which warms it; with adb over Wi-Fi it need not be."


def profile_table(path: Path, operators: Sequence[Operator]) -> Table:
    """One row per operator of a model."""
    total = sum(each.us for each in operators) or 1.0  # all can be 0, since they are whole microseconds
    table = Table(title=f"{path.name}, by operator", title_justify="left", box=None, pad_edge=False)
    for name, justify in (("operator", "left"), ("ms", "right"), ("%", "right"), ("calls", "right"), ("name", "left")):
        table.add_column(name, justify=justify, overflow="fold")
    for each in operators:
        table.add_row(each.kind, f"{each.us / 1e3:.3f}", f"{each.us / total:.1%}", str(each.calls), each.name)
    return table
