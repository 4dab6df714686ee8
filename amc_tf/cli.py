"""The command amc-tf, with the names of the Python functions and their arguments."""

import importlib
import json
import os
import signal
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from amc_tf.commands.bench import bench
from amc_tf.commands.device_options import yes_option
from amc_tf.commands.doctor import doctor
from amc_tf.commands.exits import ending, traceback_option
from amc_tf.commands.setup_packages import setup
from amc_tf.devices.android.consent import without_asking
from amc_tf.options import default_of, help_of
from amc_tf.result import FLOAT
from amc_tf.targets import ALIASES, METHODS, TARGETS
from amc_tf.tflite.conversion.quantize import FORMATS
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


def _option(name: str, *flags: str, **settings: Any):
    """An option of compress() as one of the command line: its default and its help are those of Options."""
    default = default_of(name)
    if isinstance(default, bool):
        settings.setdefault("is_flag", True)
    elif default is not None:
        settings.setdefault("show_default", True)
    arguments = {"default": default, "help": help_of(name)} | settings
    return click.option(*(flags or [f"--{name.replace('_', '-')}"]), name, **arguments)


def _surgery_options(command: Callable) -> Callable:
    """Adds the options on what may shrink, and how far."""
    for option in (
        _option("frozen", multiple=True, metavar="LAYER"),
        _option("min_keep", type=float, metavar="RATIO"),
        _option("round_to"),
        _option("method", type=click.Choice(METHODS)),
        click.option("--keras", "which", type=click.Choice(["keras", "tf_keras"]), default="keras", show_default=True,
                     help="The Keras that saved the model."),
    ):  # fmt: skip
        command = option(command)
    return command


@main.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@_option("target", type=click.Choice([*TARGETS, *ALIASES]))
@_option("budget", default=None, show_default="0.5, or none with --max-drop")
@_option("device", metavar="DEVICE")
@yes_option
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="An .npz with x and y (also x_train, y_train; x_reward, y_reward; x_test, y_test).")
@_option("max_drop", type=float, metavar="POINTS")
@_option("episodes")
@_option("seed")
@_option("importance")
@_option("finetune_epochs")
@_option("stages", "--stage", type=float, multiple=True, default=(), metavar="RATIO")
@click.option("--one-stage", is_flag=True, help="Prune to the budget at once.")
@click.option("--distill/--no-distill", default=True, help="Whether fine-tuning learns from the original model too.")
@_option("temperature")
@_option("distill_weight")
@_option("quantize", multiple=True, default=(), type=click.Choice([name for name in FORMATS if name != FLOAT]))
@_option("integer_io")
@click.option("--patience", type=int, metavar="N", help="End the search after N episodes without a better network.")
@_option("tensorboard")
@_option("dry_run")
@_option("calibration_size")
@_option("reward_size")
@_option("reconstruct", "--reconstruct/--no-reconstruct")
@_option("sensitivity", type=click.Path(exists=True, dir_okay=False))
@_option("paper")
@_option("run_dir", type=click.Path(file_okay=False, path_type=Path))
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

    if one_stage and stages:
        raise ValueError("--stage and --one-stage were given; give one of the two.")
    given = _read(data) if data else {}  # before the model, which takes seconds: TensorFlow is imported for it
    with without_asking(yes):
        result = run(
            _load(model, which, compiled=arguments["finetune_epochs"] > 0),
            stages=() if one_stage else stages or None,
            teacher="original" if distill else None,
            callbacks=() if patience is None else (EarlyStopping(patience),),
            budget=_budget(budget or ("0.5" if arguments["max_drop"] is None else "none")),
            verbose=not quiet,
            **arguments,
            **given,
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
    from amc_tf.report.reach_notes import reach_notes
    from amc_tf.report.sparse_notes import sparsity_notes
    from amc_tf.tflite.sparse.unsupported_operators import unsupported_processor

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
    for sentence in reach_notes(analysis.reach):
        console.print(sentence, soft_wrap=True, highlight=False, markup=False)
    if analysis.unmade is not None:
        what = "The MACs of layers that are not understood are missing, since they are counted in the .tflite. "
        console.print(what + analysis.unmade, soft_wrap=True, highlight=False, markup=False)
    for target, (least, _) in analysis.budgets().items():
        console.print(f"budget for target={target}: from {least:.3f} to 1 of the base", highlight=False)
    for sentence in sparsity_notes(analysis.obstacles, unsupported_processor()):
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
    if Path(path).is_file() and Path(path).suffix == ".keras" and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} cannot be loaded: it is no .keras file; write one with model.save(path).")
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
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no whole .npz; write one with numpy.savez(path, x=..., y=...).") from error
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
