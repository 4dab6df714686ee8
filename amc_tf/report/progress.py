"""Progress of a search on stderr, and its result on stdout. A terminal gets a live line, a log gets plain lines."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from amc_tf.report.limits import stopped
from amc_tf.report.sparse_notes import sparsity_notes
from amc_tf.result import Result
from amc_tf.search.trial import Trial

SHOWN_IDENTITY = ("device", "model", "cpu", "runtime", "program", "threads", "cpu_mask", "delegate")  # of a device
PLAIN_EVERY_S = 10.0  # between two lines in a log


class SearchProgress(contextlib.AbstractContextManager):
    """Shows trials as they end: one live line on a terminal, else a plain line every 10 seconds.

    Args:
        total: number of trials.
        done: number of trials that an earlier call has done.
        verbose: False shows nothing.
        console: to write to; default: stderr.
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
        """Shows that a trial has ended.

        Args:
            trial: the trial that ended.
            best: the best trial so far, if there is one.
        """
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
    """Shows how many operators of a network have been timed for its latency table.

    Args:
        device: that times them.
        verbose: False shows nothing.
        console: to write to; default: stderr.
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
def preparing(step: str, verbose: bool = True, console: Console | None = None) -> Iterator[None]:
    """Names a step before the search that takes a while; on a terminal the line goes when the step is done."""
    console = console or Console(file=sys.stderr)
    if verbose and console.is_terminal:
        with console.status(step):
            yield
    else:
        if verbose:
            console.print(step, soft_wrap=True, highlight=False)
        yield


def say(sentences: Sequence[str], verbose: bool = True, console: Console | None = None) -> None:
    """Prints sentences on stderr, one a line."""
    for sentence in sentences if verbose else ():
        (console or Console(file=sys.stderr)).print(sentence, soft_wrap=True, highlight=False)


def print_result(result: Result, console: Console | None = None) -> None:
    """Prints the tables of a result, what they were measured on, and where the files are."""
    console = console or Console()
    for line in _result_lines(result):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _result_lines(result: Result) -> Iterator[str]:
    yield str(result)
    when = "before fine-tuning"
    if result.untrained is not None:
        untrained = result.format_score(result.untrained.accuracy)
        when = f"compressed: after fine-tuning, {untrained} before it as all others are"
    yield f"{result.scored_by} on {result.scored_on}, {when}"
    yield from sparsity_notes(result.obstacles)
    if result.latency is not None:
        device = result.latency["device"]
        yield f"latency on {', '.join(f'{name} {device[name]}' for name in SHOWN_IDENTITY if name in device)}"
    if result.stopped is not None:
        yield stopped(result.stopped, result.summary()["episodes"])
    yield f"tflite   {result.tflite}"
    yield f"run_dir  {result.run_dir}"


def _state(trial: Trial, best: Trial | None) -> str:
    if trial.outcome is None:
        now = f"failed: {trial.reason}"
    else:
        share = trial.outcome.cost / trial.outcome.base_cost
        examples = trial.outcome.examples  # not None: the race ended after these
        part = "" if examples is None else f" of the first {examples}"
        now = f"{trial.kind} {trial.number}: accuracy {trial.outcome.accuracy:.3f}{part}, cost {share:.3f} of base"
    return now if best is None else f"{now}; best {best.outcome.accuracy:.3f} (trial {best.number})"
