"""Exit codes of the commands, and the sentence that a command prints for an error."""

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
STOPPED = 130  # what a shell reports for a program that Ctrl-C ended
_TRACEBACK = f"{__name__}.traceback"  # key in context.meta, which a click group and its commands share
_MOST = 300  # characters of an unexpected error's message


def traceback_option(command: click.Command) -> click.Command:
    """Adds --traceback to a command. It works before and after the name of a subcommand."""
    return click.option(
        "--traceback", is_flag=True, expose_value=False, help="Show where an error came from.",
        callback=lambda context, _, value: context.meta.update({_TRACEBACK: True} if value else {}),
    )(command)  # fmt: skip


@contextlib.contextmanager
def ending(
    context: click.Context | None = None, failed: int = FAILED, stopped: str = "stopped."
) -> Iterator[None]:
    """Turns an error into one sentence on stderr and an exit code; --traceback prints the stack trace before it.

    Args:
        context: the sentence begins with its name; None for the name of the whole program.
        failed: exit code where the command could not do its work. Wrong usage has USAGE, an unexpected error INTERNAL.
        stopped: the sentence after Ctrl-C.
    """
    context = context or click.get_current_context().find_root()
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):  # click handles its own
        raise
    except KeyboardInterrupt:
        click.echo(f"{context.command_path}: {stopped}", err=True)
        sys.exit(STOPPED)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:  # the reader of a pipe has gone: click handles it
            raise
        shown = context.meta.get(_TRACEBACK, False)
        if shown:
            click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
        if foreseen(error):
            click.echo(f"{context.command_path}: {error}", err=True)
            sys.exit(USAGE if isinstance(error, ValueError | TypeError) else failed)
        message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        message = f"{type(error).__name__}: {message[:_MOST]}" if message else type(error).__name__
        advice = "please report it with the trace above" if shown else "give --traceback to see where, and report it"
        click.echo(f"{context.command_path}: internal error ({message}), which is no wrong usage: {advice}.", err=True)
        sys.exit(INTERNAL)


def foreseen(error: Exception) -> bool:
    """Whether the message of an error was written for the user.

    Every AmcError is. A ValueError or a TypeError is the user's mistake if a raise statement of amc_tf made it, because
    amc_tf raises these two for wrong arguments only (house rule 3). A bug has the same classes, but no raise statement
    of amc_tf: an operation failed, such as None + 1 or int("x"), or a library raised. Where such an error is the user's
    mistake after all, the code that knows it must catch it and raise its own sentence.
    """
    if isinstance(error, AmcError) or not isinstance(error, ValueError | TypeError):
        return isinstance(error, AmcError)
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    return innermost is not None and _own(innermost) and _stated(innermost)


def _own(place: TracebackType) -> bool:
    """Whether the code there belongs to amc_tf."""
    package = place.tb_frame.f_globals.get("__package__") or ""  # python -m changes __name__, but not this
    return package.partition(".")[0] == __package__.partition(".")[0]


def _stated(place: TracebackType) -> bool:
    """Whether a raise statement raised there."""
    instructions = dis.get_instructions(place.tb_frame.f_code)
    return any(each.offset == place.tb_lasti and each.opname == "RAISE_VARARGS" for each in instructions)
