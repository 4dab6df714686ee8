"""The command `amc-tf bench`: times .tflite models in turns, on a phone or on this computer."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from amc_tf.commands.bench_output import as_dict, show
from amc_tf.commands.device_options import DeviceOptions, combined, json_option, open_host, open_phone, phone_options
from amc_tf.commands.exits import NO_DEVICE, NOT_MEASURED, ending
from amc_tf.devices.host.computer import RUNTIMES
from amc_tf.devices.interleave import interleave

PHONE_ONLY = ("serial", "binary", "yes", "adb", "fixed_performance", "profile")  # options that do not go with --host

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
