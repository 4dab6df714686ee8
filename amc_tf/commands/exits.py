"""How a command ends: its exit codes, and what it says of an error."""

import contextlib
import dis
import errno
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType

import click

from amc_tf.errors import AmcError

FAILED, USAGE, NO_DEVICE, NOT_MEASURED = 1, 2, 3, 4  # USAGE is click's own
INTERNAL = 70  # EX_SOFTWARE of sysexits.h
STOPPED = 130  # as a shell says of a program that Ctrl-C ended
_TRACEBACK = f"{__name__}.traceback"  # in the meta of click's contexts, which group and command share
_MOST = 300  # letters of an error that was written for nobody


def traceback_option(command):
    """Adds --traceback to a command; of a group and its commands each takes it."""
    return click.option(
        "--traceback", is_flag=True, expose_value=False, help="Show where an error came from.",
        callback=lambda context, _, given: context.meta.update({_TRACEBACK: True} if given else {}),
    )(command)  # fmt: skip


@contextlib.contextmanager
def ending(
    context: click.Context | None = None, failed: int = FAILED, stopped: str = "stopped."
) -> Iterator[None]:
    """Ends the command with one sentence of an error; with --traceback after its stack trace.

    Args:
        context: its name begins the sentence; None for the whole program's.
        failed: exit code where what was asked for could not be done. Wrong usage ends with USAGE, an error that was not
            foreseen with INTERNAL.
        stopped: what to say after Ctrl-C.
    """
    context = context or click.get_current_context().find_root()
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):  # which click itself ends with
        raise
    except KeyboardInterrupt:
        click.echo(f"{context.command_path}: {stopped}", err=True)
        sys.exit(STOPPED)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:  # whoever read the output has left: click knows
            raise
        shown = context.meta.get(_TRACEBACK, False)
        if shown:
            click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
        if foreseen(error):
            click.echo(f"{context.command_path}: {error}", err=True)
            sys.exit(USAGE if isinstance(error, ValueError | TypeError) else failed)
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        said = f"{type(error).__name__}: {said[:_MOST]}" if said else type(error).__name__
        where = "please report it with the trace above" if shown else "give --traceback to see where, and report it"
        click.echo(f"{context.command_path}: internal error ({said}), which is no wrong usage: {where}.", err=True)
        sys.exit(INTERNAL)


def foreseen(error: Exception) -> bool:
    """Whether the sentence of an error was written for the user.

    That of every AmcError was. A ValueError or a TypeError is the user's mistake where a raise statement of amc_tf made
    it: amc_tf writes such statements for arguments at the door and for nothing else (house rule 3). What an operation
    of Python failed with in amc_tf's own code, such as None + 1 or int("x"), or what a library raised under it, is of
    the same classes, but a bug: nobody wrote its sentence for who reads it. Where such a thing is a user's mistake
    after all, the code that knows so is to catch it and to raise its own sentence.
    """
    if isinstance(error, AmcError) or not isinstance(error, ValueError | TypeError):
        return isinstance(error, AmcError)
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    return innermost is not None and _own(innermost) and _stated(innermost)


def _own(place: TracebackType) -> bool:
    package = place.tb_frame.f_globals.get("__package__") or ""  # not __name__, which python -m changes
    return package.partition(".")[0] == __package__.partition(".")[0]


def _stated(place: TracebackType) -> bool:
    """Whether it was a raise statement that failed there."""
    instructions = dis.get_instructions(place.tb_frame.f_code)
    return any(each.offset == place.tb_lasti and each.opname == "RAISE_VARARGS" for each in instructions)
