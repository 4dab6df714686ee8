"""Measures .tflite models on an Android phone over adb, or on this computer, from a checkout.

\b
python tools/bench_adb.py A.tflite [B.tflite ...]     amc-tf bench
python tools/bench_adb.py --doctor                    amc-tf doctor

The same as the commands of the package on the right; see their --help.

Exit codes: 0 measured, 2 wrong usage, 3 no usable device, 4 a measurement failed, 70 an internal error,
130 stopped.
"""

import sys
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from amc_tf.cli import end_in_order
from amc_tf.commands.bench import BenchOptions, bench_options, measure
from amc_tf.commands.doctor import doctor, examine
from amc_tf.commands.exits import traceback_option


@click.command(
    "bench_adb",
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@bench_options
@click.option("--doctor", "run_doctor", is_flag=True, help="Check whether a phone can be measured.")
@traceback_option
@click.pass_context
def main(context: click.Context, run_doctor: bool, **values: Any) -> None:
    end_in_order()
    if not run_doctor:
        measure(context, BenchOptions.from_click(values))
    elif values["host"] or values["models"]:
        raise click.UsageError("--doctor looks at the phone alone: give it neither models nor --host.")
    else:
        examine(context, **{option.name: values[option.name] for option in doctor.params if option.expose_value})


if __name__ == "__main__":
    main(prog_name="bench_adb")
