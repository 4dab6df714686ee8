"""The command amc-tf, with the names of the Python functions and their arguments."""

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from amc_tf.commands.bench import bench, yes_option
from amc_tf.commands.doctor import doctor
from amc_tf.commands.exits import ending, traceback_option
from amc_tf.commands.setup_packages import setup
from amc_tf.devices.android.consent import without_asking
from amc_tf.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="amc-tf")
def main() -> None:
    """Makes trained Keras networks small and fast on phones."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    end_in_order()


def end_in_order() -> None:
    """Makes the signals that end a program raise SystemExit, so that clean-up runs and nothing stays on a phone."""
    names = ("SIGTERM", "SIGHUP", "SIGBREAK")  # Windows has no SIGHUP; it sends SIGBREAK when a window is closed
    for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))


def _surgery_options(command: Callable) -> Callable:
    """Adds the options on what may shrink, and how far."""
    for option in (
        click.option("--frozen", multiple=True, metavar="LAYER", help="Leave this layer alone (may be repeated)."),
        click.option("--min-keep", type=float, metavar="RATIO",
                     help="Least keep ratio of a layer; default: 0.2, for single weights of a Dense layer 0.02."),
        click.option("--round-to", default=8, show_default=True, help="Keep channels in multiples of this."),
        click.option("--method", type=click.Choice(["channel", "magnitude"]), default="channel", show_default=True,
                     help="Remove whole channels, or make single weights zero."),
        click.option("--keras", "which", type=click.Choice(["keras", "tf_keras"]), default="keras", show_default=True,
                     help="The Keras that saved the model."),
    ):  # fmt: skip
        command = option(command)
    return command


@main.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--target", type=click.Choice(["latency", "macs", "flops", "params", "size"]), default="latency",
              show_default=True, help="What the budget limits.")
@click.option("--budget", help="What may be kept: 0.5 (the default without --max-drop), 50%, '30 ms', '280 MMAC', "
                               "'2 MB'; 'none' weighs accuracy against cost.")  # fmt: skip
@click.option("--device", metavar="DEVICE",
              help="Where latency is measured: adb, adb:SERIAL or host; default: the connected phone, else the host.")
@yes_option
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="An .npz with x and y (also x_train, y_train; x_reward, y_reward; x_test, y_test).")
@click.option("--max-drop", type=float, metavar="POINTS",
              help="Instead of a budget: take the cheapest network that loses no more accuracy than this.")
@click.option("--episodes", default=400, show_default=True, help="How many networks are tried.")
@click.option("--seed", default=0, show_default=True)
@click.option("--importance", default="magnitude_in", show_default=True, help="Which channels go first.")
@click.option("--finetune-epochs", default=0, show_default=True, help="Epochs to train the result.")
@click.option("--stage", "stages", type=float, multiple=True, metavar="RATIO",
              help="Prune to this and fine-tune before going on to the budget (may be repeated, falling); default "
                   "with --finetune-epochs: 0.5, 0.25, ... while above the budget.")
@click.option("--one-stage", is_flag=True, help="Prune to the budget in one stage.")
@click.option("--distill/--no-distill", default=True, help="Whether fine-tuning also learns from the original model.")
@click.option("--temperature", default=3.0, show_default=True, help="Temperature of the distillation.")
@click.option("--distill-weight", default=0.5, show_default=True,
              help="Weight of the distillation; the labels have the rest.")
@click.option("--quantize", multiple=True, type=click.Choice(["int8", "fp16", "dynamic"]),
              help="Make this format too (may be repeated); the first one ships.")
@click.option("--integer-io", is_flag=True, help="Use int8 inputs and outputs in the int8 file.")
@click.option("--patience", type=int, metavar="N", help="End the search after N episodes without a better network.")
@click.option("--tensorboard", is_flag=True, help="Write scalars to tensorboard/ in the run directory.")
@click.option("--dry-run", is_flag=True,
              help="Only print what would happen, what can be reached and how long it takes.")
@click.option("--calibration-size", default=256, show_default=True,
              help="Examples for reconstruction and BN recalibration.")
@click.option("--reward-size", default=2000, show_default=True, help="Training examples that score the networks.")
@click.option("--reconstruct/--no-reconstruct", default=True,
              help="Whether least squares adjust the kept weights to make up for the dropped ones.")
@click.option("--sensitivity", type=click.Path(exists=True, dir_okay=False),
              help="Sensitivity table of an earlier search.")
@click.option("--paper", is_flag=True, help="Search with the paper's agent only.")
@click.option("--run-dir", type=click.Path(file_okay=False, path_type=Path), help="Folder for all files.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@_surgery_options
@ending(stopped="stopped; the same command goes on where it was.")
def compress(
    model, which, data, budget, as_json, quiet, stages, one_stage, distill, patience, yes, **arguments
) -> None:
    """Search for the smaller network that loses least accuracy, and write it as a .tflite.

    The same command on the same --run-dir goes on where it stopped. Ctrl-C ends it with the best network so far.

    Exit codes: 0 all is well, 1 it could not be done, 2 wrong usage, 70 an internal error, 130 stopped.
    """  # fmt: skip
    from amc_tf.api.compress import compress as run
    from amc_tf.callbacks import EarlyStopping
    from amc_tf.report.progress import print_result, say

    with without_asking(yes):
        if one_stage and stages:
            raise ValueError("--stage and --one-stage were given; give one of the two.")
        result = run(
            _load(model, which, compiled=arguments["finetune_epochs"] > 0),
            stages=() if one_stage else stages or None,
            teacher="original" if distill else None,
            callbacks=() if patience is None else (EarlyStopping(patience),),
            budget=_budget(budget or ("0.5" if arguments["max_drop"] is None else "none")),
            verbose=not quiet,
            **arguments,
            **(_read(data) if data else {}),
        )
    if arguments["dry_run"]:
        if as_json:
            click.echo(json.dumps(result.as_dict()))
        else:
            say(result.sentences(), console=Console())
    elif as_json:
        click.echo(json.dumps(result.summary() | {"tflite": str(result.tflite), "run_dir": str(result.run_dir)}))
    else:
        print_result(result)


@main.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@_surgery_options
@ending()
def analyze(model, which, method, as_json, **arguments) -> None:
    """Show what can shrink, what cannot and why, and which budgets can be met.

    Exit codes: 0 all is well, 1 it could not be done, 2 wrong usage, 70 an internal error, 130 stopped.
    """
    from amc_tf.api.analyze import analyze as run
    from amc_tf.report.sparse_notes import sparsity_notes
    from amc_tf.tflite.sparse.unsupported_operators import processor_obstacle

    analysis = run(_load(model, which), method=method, **arguments)
    if as_json:
        click.echo(json.dumps(analysis.as_dict()))
        return
    console = Console()
    unit_columns = ("group", "channels") if method == "channel" else ("kernel", "weights")
    table = Table(*unit_columns, "least", "layers", "frozen because", box=None, pad_edge=False)
    for line in analysis.units:
        table.add_row(line.name, str(line.size), str(line.least), str(len(line.layers)), line.frozen or "")
    console.print(table)
    console.print(f"{analysis.model}: {analysis.macs:,} MACs, {analysis.params:,} params", highlight=False)
    for target, (least, _) in analysis.budgets().items():
        console.print(f"budget for target={target}: from {least:.3f} to 1 of the base", highlight=False)
    for sentence in sparsity_notes(analysis.obstacles, processor_obstacle()):
        console.print(sentence, soft_wrap=True, highlight=False)
    for layer, why in analysis.unknown.items():
        console.print(f"not understood: {layer}: {why}", soft_wrap=True, highlight=False)


@main.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@ending()
def report(run_dir) -> None:
    """Write report.html, MODEL_CARD.md and the pictures of a run directory again.

    Prints the path of the page.

    Exit codes: 0 all is well, 1 it could not be done, 2 wrong usage, 70 an internal error, 130 stopped.
    """
    from amc_tf.report import page

    click.echo(page.write(run_dir))


main.add_command(bench)
main.add_command(doctor)
main.add_command(setup)
for command in (main, *main.commands.values()):
    traceback_option(command)


def quiet_keras(which: str) -> ModuleType:
    """Imports keras or tf_keras without TensorFlow's messages about a missing GPU.

    Raises:
        ValueError: it is not installed.
    """
    from amc_tf.tflite.silence import silence

    with silence():
        import tensorflow as tf

        tf.config.list_physical_devices()
        try:
            return importlib.import_module(which)
        except ModuleNotFoundError as error:
            minor = ".".join(tf.__version__.split(".")[:2])
            raise ValueError(
                f"{which} cannot be imported ({error}): run `pip install '{which}=={minor}.*'`, or give the other "
                f"--keras."
            ) from error


def _load(path: Path, which: str, compiled: bool = False) -> Any:  # a Keras model of either Keras
    """Loads a model; Keras's own errors become one sentence.

    Args:
        path: of the file.
        which: "keras" or "tf_keras".
        compiled: whether to load the compile settings too, if that is possible.
    """
    keras = quiet_keras(which)
    if compiled:
        try:
            return keras.models.load_model(path)
        except Exception:  # perhaps a custom loss or optimizer; a wrong file raises again below
            advice = "it is trained as a classifier, if it can be loaded without its compile settings."
            Console(stderr=True).print(f"amc-tf: {path} cannot be loaded as it was compiled; {advice}", soft_wrap=True)
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many types for a wrong file
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        other = "tf_keras" if which == "keras" else "keras"
        raise ValueError(
            f"{path} cannot be loaded as a model of {which} ({reason.strip()[:200]}); if it was saved with the other "
            f"Keras, give --keras {other}."
        ) from error


def _budget(text: str) -> str | None:
    return None if text.strip().lower() == "none" else text


def _read(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """The arrays of an .npz as the arguments of compress()."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an .npz of arrays: {error}.") from error
    if "x" in arrays and "y" not in arrays and len(arrays) > 1:
        raise ValueError(f"{path} holds {sorted(arrays)}, but its labels must be called y (x_train goes with y_train).")
    arguments = {}
    for argument, suffixes in {
        "train_data": ("", "_train"), "reward_data": ("_reward",), "validation_data": ("_test", "_validation")
    }.items():  # fmt: skip
        for suffix in suffixes:
            if "x" + suffix in arrays:
                arguments[argument] = (arrays["x" + suffix], arrays.get("y" + suffix))
    if not arguments:
        raise ValueError(f"{path} holds {sorted(arrays)}; expected x and y, or x_train and y_train.")
    return arguments


if __name__ == "__main__":
    main()
