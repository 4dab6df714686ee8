"""How commands end: mistakes of the user and bugs told apart, exit codes, one sentence, the stack trace on request."""

import errno
from concurrent.futures import ThreadPoolExecutor

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from amc_tf import cli
from amc_tf.callbacks import EarlyStopping
from amc_tf.commands import bench, doctor, exits
from amc_tf.commands import setup_packages as setup
from amc_tf.commands.exits import FAILED, INTERNAL, NOT_MEASURED, STOPPED, USAGE, ending, foreseen, traceback_option
from amc_tf.devices.choose import choose
from amc_tf.errors import BudgetError, ConversionError, DeviceError
from amc_tf.report import page
from amc_tf.search.budget import fraction, nearest_width, parse_budget
from tests.search.fakes import unit
from tools import bench_adb


def raised(action) -> Exception:
    with pytest.raises(Exception) as found:
        action()
    return found.value


def in_a_thread(action):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action).result()


def raised_later(action):
    try:
        action()
    except Exception as error:
        kept = error
    raise kept


@pytest.mark.parametrize(
    "action",
    [
        lambda: EarlyStopping("many"),
        lambda: choose("toaster"),
        lambda: parse_budget([], 1.0, "MACs", "macs"),
        lambda: in_a_thread(lambda: EarlyStopping(-1)),
        lambda: raised_later(lambda: EarlyStopping(-1)),
        lambda: nearest_width(unit(8), 2.0, 8, 8),
    ],
)
def test_an_error_that_amc_tf_raises_is_foreseen(action) -> None:
    assert foreseen(raised(action))


@pytest.mark.parametrize(
    "action",
    [
        lambda: fraction(np.array([object()])) or parse_budget("0.5", None, "MACs", "macs"),  # 0.5 * None, in amc_tf
        lambda: nearest_width(unit(8), None, 8, 8),  # 0 < None
        lambda: page.write(3),  # in pathlib
        lambda: in_a_thread(lambda: nearest_width(unit(8), None, 8, 8)),
        lambda: int("x"),
        lambda: (_ for _ in ()).throw(ValueError("not amc_tf's")),
        lambda: {}["x"],
    ],
)
def test_an_error_of_an_operation_is_not_foreseen(action) -> None:
    assert not foreseen(raised(action))


def run(error, *words, traceback: bool = False, failed: int = FAILED) -> Result:
    @click.group()
    def main():
        pass

    @main.command()
    @click.pass_context
    def work(context):
        with ending(context, failed):
            if error is not None:
                raise error

    traceback_option(main), traceback_option(work)
    return CliRunner().invoke(main, [*words, "work"] if "work" not in words else [*words], prog_name="prog")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (None, 0, ""),
        (DeviceError("The phone is gone."), NOT_MEASURED, "prog work: The phone is gone.\n"),
        (ConversionError("It cannot be made."), NOT_MEASURED, "prog work: It cannot be made.\n"),
        (BudgetError("It is too small."), USAGE, "prog work: It is too small.\n"),
        (ValueError("not from amc_tf"), INTERNAL, "prog work: internal error (ValueError: not from amc_tf), which"),
        (RuntimeError("\n one\n two"), INTERNAL, "prog work: internal error (RuntimeError: one), which"),
        (ZeroDivisionError(), INTERNAL, "prog work: internal error (ZeroDivisionError), which is no wrong usage: give"),
        (KeyboardInterrupt(), STOPPED, "prog work: stopped.\n"),
        (click.UsageError("Not so."), 2, "Usage: prog work"),
        (SystemExit(9), 9, ""),
        (OSError(errno.EPIPE, "gone"), 1, ""),
    ],
    ids=repr,
)
def test_each_error_has_its_exit_code_and_one_sentence(error, code, says) -> None:
    done = run(error, failed=NOT_MEASURED)
    assert done.exit_code == code and done.stderr.startswith(says) and "Traceback" not in done.stderr
    if code == INTERNAL:
        assert "--traceback" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["--traceback", "work"], ["work", "--traceback"]], ids=" ".join)
@pytest.mark.parametrize("error", [BudgetError("small"), DeviceError("gone"), ZeroDivisionError("bug")], ids=repr)
def test_the_stack_trace_is_printed_on_request(words, error) -> None:
    without, done = run(error), run(error, *words)
    assert done.exit_code == without.exit_code
    assert done.stderr.startswith("Traceback") and "raise error" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("prog work: ")


@pytest.mark.parametrize("main", [cli.main, *cli.main.commands.values(), bench_adb.main], ids=lambda each: each.name)
def test_every_command_can_print_its_stack_trace(main) -> None:
    assert "--traceback" in CliRunner().invoke(main, ["--help"]).stdout


def bug(*_, **__):
    return None + 1


@pytest.mark.parametrize(
    ("where", "what", "words"),
    [
        (page, "write", ["report", "."]),
        (bench, "open_host", ["bench", "--host", __file__]),
        (bench, "interleave", ["bench", "--host", __file__]),
        (bench, "show", ["bench", "--host", __file__]),
        (doctor.adb_client, "find_adb", ["doctor"]),
        (setup, "_install", ["setup", "tf-agents"]),
        (cli, "_load", ["analyze", __file__]),
        (cli, "_load", ["compress", __file__]),
    ],
    ids=lambda given: given if isinstance(given, str) else None,
)
def test_a_bug_in_a_command_is_no_wrong_usage(where, what, words, monkeypatch) -> None:
    if what == "show":
        monkeypatch.setattr(bench, "interleave", lambda *_, **__: None)
    monkeypatch.setattr(where, what, bug)
    done = CliRunner().invoke(cli.main, words, prog_name="amc-tf")
    assert done.exit_code == INTERNAL, done.stderr
    name = "amc-tf" if words[0] in ("compress", "analyze", "report") else f"amc-tf {words[0]}"
    assert done.stderr.splitlines()[-1].startswith(f"{name}: internal error (TypeError: unsupported operand")
    shown = CliRunner().invoke(cli.main, ["--traceback", *words], prog_name="amc-tf")
    assert shown.exit_code == INTERNAL and "return None + 1" in shown.stderr


@pytest.mark.parametrize(("name", "goes_on"), [("compress", True), ("analyze", False)])
def test_only_a_search_goes_on_after_ctrl_c(name, goes_on, monkeypatch) -> None:
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_load", stopped)
    done = CliRunner().invoke(cli.main, [name, __file__], prog_name="amc-tf")
    assert done.exit_code == STOPPED and ("goes on where it was" in done.stderr) == goes_on


def test_the_help_has_the_exit_codes_of_the_program() -> None:
    for each in cli.main.commands.values():
        text = " ".join((each.help or "").split())
        assert f"{INTERNAL} an internal error" in text and f"{STOPPED} stopped" in text, each.name
    assert len({exits.FAILED, exits.USAGE, exits.NO_DEVICE, exits.NOT_MEASURED, exits.INTERNAL, exits.STOPPED}) == 6
    assert click.UsageError("").exit_code == exits.USAGE
