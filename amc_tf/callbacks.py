"""Callbacks of a search, as Keras has for training: they observe every episode and may end the search.

Fine-tuning takes Keras callbacks, see `finetune_callbacks` of compress().
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

Logs = dict[str, Any]  # plain values of an episode, see Callback.on_episode_end


class Callback:
    """Base class of callbacks. Methods that are not overridden do nothing.

    Attributes:
        search: The Study with its `trials` and `best`; `search.stop_search = True` ends it after the current episode.
    """

    search: Study

    def set_search(self, search: Study) -> None:
        """Called before all other methods."""
        self.search = search

    def on_search_begin(self, logs: Logs | None = None) -> None:
        """Called before the first episode of this call; `search.trials` are those of earlier calls."""

    def on_episode_end(self, episode: int, logs: Logs | None = None) -> None:
        """Called after each trial, the original and the uniform network included.

        Args:
            episode: Number of the trial, from 0.
            logs: "kind", "state" ("complete" or "failed"), "seconds". If the trial is complete also "reward",
                "accuracy", "cost", "cost_share" (of the base network's cost) and, if it was scored on a part of the
                examples, "examples" (their number). Once a trial is within the budget also "best_reward",
                "best_accuracy", "best_cost_share".
        """

    def on_search_end(self, logs: Logs | None = None) -> None:
        """Called when the search has ended: after the last episode, by Ctrl-C, by a callback or by an error.

        It is called if `on_search_begin` was called, even if that raised. If an error ended the search, that error is
        raised and one from here is only logged.

        Args:
            logs: Those of the last episode; empty if there was none.
        """


class EarlyStopping(Callback):
    """Ends a search that no longer improves.

    It counts from the journal, so a resumed search ends at the same episode.

    Args:
        patience: Episodes without a better network after which the search ends. Sensitivity samples do not count.
        min_delta: Least increase of the reward that counts as better; with `max_drop`, least decrease of the share of
            the base cost.

    Raises:
        ValueError: patience is not a whole number of at least 1, or min_delta not a number of at least 0.
    """

    def __init__(self, patience: int = 100, min_delta: float = 0.0):
        if not is_whole(patience) or patience < 1:
            raise ValueError(f"patience is {patience!r}; a whole number of episodes of 1 or more is expected.")
        if not is_number(min_delta) or not 0 <= min_delta < math.inf:
            raise ValueError(f"min_delta is {min_delta!r}; a number of 0 or more is expected.")
        self.patience, self.min_delta = int(patience), float(min_delta)

    def on_search_begin(self, logs: Logs | None = None) -> None:
        self._best: float | None = None
        self._waited = 0
        for count in range(1, len(self.search.trials) + 1):
            self._check(count)

    def on_episode_end(self, episode: int, logs: Logs | None = None) -> None:
        self._check(episode + 1)

    def _check(self, count: int) -> None:
        """Compares the best of the first `count` trials with the best before."""
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
    """Writes the numbers in the logs of every episode as scalars for TensorBoard.

    Args:
        log_dir: Folder for the event files.

    Raises:
        ValueError: TensorBoard is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike):
        check_tensorboard()
        self.log_dir = Path(log_dir)
        self._writer: Any = None  # tf.summary.SummaryWriter

    def on_search_begin(self, logs: Logs | None = None) -> None:
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_episode_end(self, episode: int, logs: Logs | None = None) -> None:
        import tensorflow as tf

        with self._writer.as_default(step=episode):
            for name, value in (logs or {}).items():
                if is_number(value):
                    tf.summary.scalar(name, value)
        self._writer.flush()  # for those who watch, and so that a killed search loses nothing

    def on_search_end(self, logs: Logs | None = None) -> None:
        if self._writer is not None:  # None if on_search_begin failed
            self._writer.close()
            self._writer = None


def check_tensorboard() -> None:
    """Raises ValueError if TensorBoard is not installed; TensorFlow needs it to write scalars."""
    try:  # a folder named tensorboard/, for instance of logs, looks like the package but has no such module
        spec = importlib.util.find_spec("tensorboard.summary")
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        raise ValueError(
            "Scalars for TensorBoard are asked for, but TensorBoard is not installed (TensorFlow 2.21 no longer brings "
            "it): run `pip install tensorboard`, or leave it out."
        )


class Callbacks:
    """Several callbacks as one.

    Raises:
        TypeError: One of them is not a Callback.
    """

    def __init__(self, callbacks: Sequence[Callback]):
        self._all = checked(callbacks)

    @contextlib.contextmanager
    def of(self, search: Study) -> Iterator["Callbacks"]:
        """Calls on_search_begin of all of them on entry and on_search_end on exit, also after an error."""
        started: list[Callback] = []
        try:
            for callback in self._all:
                callback.set_search(search)
                started.append(callback)
                callback.on_search_begin({})
            yield self
        except BaseException:
            if (error := self._end(started, search)) is not None:
                _LOG.warning("A callback failed as well, when it was told that the search has ended: %r.", error)
            raise
        if (error := self._end(started, search)) is not None:
            raise error

    def episode(self, trial: Trial, best: Trial | None) -> None:
        """Calls on_episode_end of all of them."""
        for callback in self._all:
            callback.on_episode_end(trial.number, episode_logs(trial, best))

    def _end(self, started: Sequence[Callback], search: Study) -> BaseException | None:
        """Calls on_search_end of all of them, and returns the first error that one of them raised."""
        first = None
        for callback in started:
            try:
                callback.on_search_end(episode_logs(search.trials[-1], search.best) if search.trials else {})
            except BaseException as error:
                if first is not None:
                    _LOG.warning("A callback failed when it was told that the search has ended: %r.", error)
                first = first or error
        return first


def checked(callbacks: Any) -> tuple[Callback, ...]:
    """The callbacks, one or several, as a tuple. Raises TypeError for anything else."""
    callbacks = tuple(callbacks) if isinstance(callbacks, (list, tuple)) else (callbacks,)
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks holds {callback!r}; objects of amc_tf.callbacks.Callback are expected: those of Keras, for "
                f"the training, go to finetune_callbacks."
            )
    return callbacks


def episode_logs(trial: Trial, best: Trial | None) -> Logs:
    """The logs of an episode, see Callback.on_episode_end."""
    logs: Logs = {"kind": trial.kind, "state": trial.state, "seconds": trial.seconds}
    if trial.outcome is not None:
        logs |= {
            "reward": trial.reward, "accuracy": trial.outcome.accuracy, "cost": trial.outcome.cost,
            "cost_share": trial.outcome.cost / trial.outcome.base_cost,
        }  # fmt: skip
        if trial.outcome.examples is not None:
            logs["examples"] = trial.outcome.examples
    if best is not None and best.outcome is not None:
        logs |= {
            "best_reward": best.reward, "best_accuracy": best.outcome.accuracy,
            "best_cost_share": best.outcome.cost / best.outcome.base_cost,
        }  # fmt: skip
    return logs
