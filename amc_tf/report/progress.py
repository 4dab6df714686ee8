"""How the search is doing: a live line on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from amc_tf.report.limits import stopped
from amc_tf.report.sparse_notes import told
from amc_tf.result import Result
from amc_tf.search.trial import Trial

TOLD = ("device", "model", "cpu", "runtime", "program", "threads", "cpu_mask", "delegate")  # of a device's identity
PLAIN_EVERY_S = 10.0  # a log wants a line now and then, not one an episode


class SearchProgress(contextlib.AbstractContextManager):
    """Shows trials as they end. On a terminal one live line, elsewhere a plain line every ten seconds.

    Args:
        total: number of trials.
        done: how many were done in an earlier call.
        verbose: False shows nothing.
    """

    def __init__(self, total: int, done: int = 0, verbose: bool = True, console: Console | None = None):
        self._console = console or Console(file=sys.stderr)
        self._total, self._done, self._verbose = total, done, verbose
        self._live = verbose and self._console.is_terminal
        self._last_line = float("-inf")
        self._started = time.monotonic()
        self._resumed = done
        self._bar = Progress(
            TextColumn("search"), BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(), console=self._console,
        )  # fmt: skip

    def __enter__(self):
        if self._live:
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, completed=self._done, state="")
        return self

    def __exit__(self, *_):
        if self._live:
            self._bar.stop()

    def update(self, trial: Trial, best: Trial | None) -> None:
        """Shows that `trial` has ended."""
        self._done += 1
        if not self._verbose:
            return
        state = _state(trial, best)
        if self._live:
            self._bar.update(self._task, completed=self._done, state=state)
        elif time.monotonic() - self._last_line >= PLAIN_EVERY_S or self._done == self._total:
            self._last_line = time.monotonic()
            self._console.print(
                f"search {self._done}/{self._total}  {state}  {self._left()}", soft_wrap=True, highlight=False
            )

    def _left(self) -> str:
        seconds = (time.monotonic() - self._started) / max(1, self._done - self._resumed) * (self._total - self._done)
        return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02} left"


class TableProgress(contextlib.AbstractContextManager):
    """Shows how far the operators of a network have been measured.

    Args:
        device: that measures them.
        verbose: False shows nothing.
    """

    def __init__(self, device: Any, verbose: bool = True, console: Console | None = None):
        console = console or Console(file=sys.stderr)
        self._where = f"operators on {getattr(device, 'name', 'the device')}"
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, disable=not (verbose and console.is_terminal),
        )  # fmt: skip
        self._plain = console if verbose and not console.is_terminal else None
        self._task = None

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Shows that `done` of `total` small models have been timed."""
        if self._task is None:
            self._task = self._bar.add_task(self._where, total=total)
            if self._plain is not None:
                self._plain.print(f"timing {total} {self._where}", soft_wrap=True, highlight=False)
        self._bar.update(self._task, completed=done)


@contextlib.contextmanager
def preparing(what: str, verbose: bool = True, console: Console | None = None) -> Iterator[None]:
    """Says what is done before the search that takes its time; on a terminal until it is done."""
    console = console or Console(file=sys.stderr)
    if verbose and console.is_terminal:
        with console.status(what):
            yield
    else:
        if verbose:
            console.print(what, soft_wrap=True, highlight=False)
        yield


def say(sentences: Sequence[str], verbose: bool = True, console: Console | None = None) -> None:
    """Prints sentences on stderr, one a line."""
    for sentence in sentences if verbose else ():
        (console or Console(file=sys.stderr)).print(sentence, soft_wrap=True, highlight=False)


def print_result(result: Result, console: Console | None = None) -> None:
    """Prints the before/after table and where the files are."""
    console = console or Console()
    table = Table("", "base", "uniform", "compressed", "", box=None, pad_edge=False)
    for row in result.rows():
        table.add_row(*row)
    console.print(table)
    when, score = "before fine-tuning", "{:.4g}" if result.scored_by == "metric" else "{:.2%}"
    if result.untrained is not None:
        when = f"compressed: after fine-tuning, {score.format(result.untrained.accuracy)} before it as all others are"
    if len(result.formats) > 1:
        table = Table("compressed as", result.scored_by, "latency", "size", "gzipped", "", box=None, pad_edge=False)
        for row in result.format_rows():
            table.add_row(*row)
        console.print(table)
    console.print(f"{result.scored_by} on {result.scored_on}, {when}", highlight=False)
    for sentence in told(result.obstacles):
        console.print(sentence, soft_wrap=True, highlight=False)
    if result.latency is not None:
        device = result.latency["device"]
        where = ", ".join(f"{name} {device[name]}" for name in TOLD if name in device)
        console.print(f"latency on {where}", highlight=False, soft_wrap=True)
    if result.stopped is not None:
        console.print(stopped(result.stopped, result.summary()["episodes"]), soft_wrap=True, highlight=False)
    console.print(f"tflite   {result.tflite}", soft_wrap=True, highlight=False)
    console.print(f"run_dir  {result.run_dir}", soft_wrap=True, highlight=False)


def _state(trial: Trial, best: Trial | None) -> str:
    if trial.outcome is None:
        now = f"failed: {trial.reason}"
    else:
        share = trial.outcome.cost / trial.outcome.base_cost
        seen = trial.outcome.examples  # it had lost by then
        part = "" if seen is None else f" of the first {seen}"
        now = f"{trial.kind} {trial.number}: accuracy {trial.outcome.accuracy:.3f}{part}, cost {share:.3f} of base"
    return now if best is None else f"{now}; best {best.outcome.accuracy:.3f} (trial {best.number})"
