"""The options of the commands that measure, and the device that they name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from amc_tf.devices.android.adb_device import AdbDevice
from amc_tf.devices.android.consent import without_asking
from amc_tf.devices.android.settings import DELEGATES
from amc_tf.devices.host.computer import HostDevice


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
