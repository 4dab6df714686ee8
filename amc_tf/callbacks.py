"""Callbacks of a search, in the manner of Keras's: objects that are told how it goes and may end it.

The training of the result has Keras's own, see `finetune_callbacks` of compress().
"""

import contextlib
import importlib.util
import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from amc_tf.checks import is_number, is_whole
from amc_tf.search.study import Study
from amc_tf.search.trial import Trial

_LOG = logging.getLogger(__name__)


class Callback:
    """Told how a search goes. To be inherited from; methods left out do nothing.

    Attributes:
        search: the Search: its `trials`, its `best`; `search.stop_search = True` ends it after the current episode.
    """

    search: Study

    def set_search(self, search: Study) -> None:
        """Called before all else."""
        self.search = search

    def on_search_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called before the first episode of this call; `search.trials` are those of earlier calls."""

    def on_episode_end(self, episode: int, logs: dict[str, Any] | None = None) -> None:
        """Called after each trial, the original and the uniform network included.

        Args:
            episode: number of the trial, from 0.
            logs: "kind", "state" ("complete" or "failed"), "seconds"; of a complete one "reward", "accuracy", "cost",
                "cost_share" (of the base network's) and "examples" (what it was scored on, where that was a part);
                from the first one within the budget on "best_reward", "best_accuracy", "best_cost_share".
        """

    def on_search_end(self, logs: dict[str, Any] | None = None) -> None:
        """Called after the last episode, or after whatever else ended the search: Ctrl-C, a callback, an error.

        Whoever was told of the beginning, even if that raised, is told of the end. Where there was an error, that one
        is raised, whatever is raised here.

        Args:
            logs: as of the last episode; empty where there was none.
        """


class EarlyStopping(Callback):
    """Ends a search that finds nothing better any more.

    What it knows it takes from the journal, so that a search that goes on ends where it would have.

    Args:
        patience: episodes without a better network after which the search ends; those that measure the units'
            sensitivity do not count.
        min_delta: of the reward, how much better is better; with `max_drop` of the cost's share.

    Raises:
        ValueError: patience is no whole number of at least 1, or min_delta no number of at least 0.
    """

    def __init__(self, patience: int = 100, min_delta: float = 0.0):
        if not is_whole(patience) or patience < 1:
            raise ValueError(f"patience is {patience!r}; a whole number of episodes of 1 or more is expected.")
        if not is_number(min_delta) or not 0 <= min_delta < math.inf:
            raise ValueError(f"min_delta is {min_delta!r}; a number of 0 or more is expected.")
        self.patience, self.min_delta = int(patience), float(min_delta)

    def on_search_begin(self, logs=None):
        self._best: float | None = None
        self._waited = 0
        for count in range(1, len(self.search.trials) + 1):
            self._look(count)

    def on_episode_end(self, episode, logs=None):
        self._look(episode + 1)

    def _look(self, count: int) -> None:
        """After `count` trials."""
        best = self.search.best_of(count)
        if best is None or self.search.trials[count - 1].kind == "sensitivity":
            return
        value = self.search.merit(best)
        if self._best is None or value > self._best + self.min_delta:
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.search.stop_search = True


class TensorBoard(Callback):
    """Writes the search as scalars for TensorBoard: what logs hold of numbers, by episode.

    Args:
        log_dir: folder for the event files.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike):
        check_tensorboard()
        self.log_dir = Path(log_dir)
        self._writer: Any = None

    def on_search_begin(self, logs=None):
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_episode_end(self, episode, logs=None):
        import tensorflow as tf

        with self._writer.as_default(step=episode):
            for name, value in (logs or {}).items():
                if is_number(value):
                    tf.summary.scalar(name, value)
        self._writer.flush()  # so that a search can be watched, and nothing is lost with it

    def on_search_end(self, logs=None):
        if self._writer is not None:  # it may be that it could not be made
            self._writer.close()
            self._writer = None


def check_tensorboard() -> None:
    """Raises ValueError where TensorBoard, which TensorFlow writes scalars with, is not installed."""
    try:  # a folder called tensorboard/, such as one of logs, would pass for the package but not for a module in it
        found = importlib.util.find_spec("tensorboard.summary")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ValueError(
            "Scalars for TensorBoard are asked for, but TensorBoard is not installed (TensorFlow 2.21 no longer brings "
            "it): run `pip install tensorboard`, or leave it out."
        )


class Callbacks:
    """Several callbacks as one, which the search calls.

    Raises:
        TypeError: one of them is no Callback.
    """

    def __init__(self, callbacks: Sequence[Callback]):
        self._all = checked(callbacks)

    @contextlib.contextmanager
    def of(self, search: Study) -> Iterator["Callbacks"]:
        """Tells them of the beginning of a search, and of its end, however that comes."""
        begun: list[Callback] = []
        try:
            for callback in self._all:
                callback.set_search(search)
                begun.append(callback)
                callback.on_search_begin({})
            yield self
        except BaseException:
            if (late := self._end(begun, search)) is not None:
                _LOG.warning("A callback failed as well, when it was told that the search has ended: %r.", late)
            raise
        if (late := self._end(begun, search)) is not None:
            raise late

    def episode(self, trial: Trial, best: Trial | None) -> None:
        """After each trial."""
        for callback in self._all:
            callback.on_episode_end(trial.number, told(trial, best))

    def _end(self, begun: Sequence[Callback], search: Study) -> BaseException | None:
        """Ends them all, and returns the first error that one of them raised."""
        first = None
        for callback in begun:
            try:
                callback.on_search_end(told(search.trials[-1], search.best) if search.trials else {})
            except BaseException as error:
                if first is not None:
                    _LOG.warning("A callback failed when it was told that the search has ended: %r.", error)
                first = first or error
        return first


def checked(callbacks: Any) -> tuple[Callback, ...]:
    """The callbacks as a tuple; TypeError where one is none."""
    given = tuple(callbacks) if isinstance(callbacks, (list, tuple)) else (callbacks,)
    for callback in given:
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks holds {callback!r}; objects of amc_tf.callbacks.Callback are expected: those of Keras, for "
                f"the training, go to finetune_callbacks."
            )
    return given


def told(trial: Trial, best: Trial | None) -> dict[str, Any]:
    """The logs of an episode, see Callback.on_episode_end."""
    logs: dict[str, Any] = {"kind": trial.kind, "state": trial.state, "seconds": trial.seconds}
    if trial.outcome is not None:
        logs |= {
            "reward": trial.reward, "accuracy": trial.outcome.accuracy, "cost": trial.outcome.cost,
            "cost_share": trial.outcome.cost / trial.outcome.base_cost,
        }  # fmt: skip
        if trial.outcome.examples is not None:
            logs["examples"] = trial.outcome.examples
    if best is not None:
        logs |= {
            "best_reward": best.reward, "best_accuracy": best.outcome.accuracy,
            "best_cost_share": best.outcome.cost / best.outcome.base_cost,
        }  # fmt: skip
    return logs
