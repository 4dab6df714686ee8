"""Divergence: ends a training whose loss or weights become NaN or infinite, and restores its best epoch."""

import math
import warnings
from typing import Any

import numpy as np

from amc_tf.errors import TrainingError
from amc_tf.graph.network import KerasModel, KerasModule


def divergence_watch(keras: KerasModule) -> Any:
    """A callback that ends a training when loss or weights become NaN or infinite.

    Its attribute `diverged` is then the number of that epoch, from 1, and `best_weights` are those of the best earlier
    epoch.
    """

    class DivergenceWatch(keras.callbacks.Callback):
        epoch: int = 0  # the current one, from 1
        diverged: int | None = None
        best_loss: float = math.inf
        best_weights: list[np.ndarray] | None = None
        pending: tuple[float, list[np.ndarray]] | None = None  # loss and weights until the next step proves them finite

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch + 1

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self._check((logs or {}).get("loss", 0.0))
            if self.diverged is None and self.pending is not None:
                if self.pending[0] < self.best_loss:
                    self.best_loss, self.best_weights = self.pending
                self.pending = None

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            loss = float((logs or {}).get("val_loss", (logs or {}).get("loss", 0.0)))
            self._check(loss)
            weights = self.model.get_weights()
            if not all(np.isfinite(array).all() for array in weights if array.dtype.kind == "f"):
                self._check(math.nan)
            self.pending = loss, weights

        def _check(self, loss: Any) -> None:
            if self.diverged is None and not math.isfinite(float(loss)):
                self.diverged = self.epoch
                self.model.stop_training = True

    return DivergenceWatch()


def recover(watch: Any, trained: KerasModel, epochs: int, optimizer: Any) -> None:
    """Restores the best weights of a training that diverged.

    Raises:
        TrainingError: it diverged in the first epoch.
    """
    if watch.diverged is None:
        return
    problem = f"The loss or the weights became infinite or no numbers in epoch {watch.diverged} of {epochs}"
    advice = f"give a smaller learning_rate{_than_rate(optimizer)}, or look for wrong values in the data."
    if watch.best_weights is None:
        raise TrainingError(f"{problem}, so there is nothing to return; {advice}")
    trained.set_weights(watch.best_weights)
    warnings.warn(f"{problem}; the model is that of the best epoch before: {advice}", stacklevel=3)


def _than_rate(optimizer: Any) -> str:
    """The words " than" and the learning rate of an optimizer; empty for a schedule."""
    rate = getattr(optimizer, "learning_rate", None)
    try:
        return f" than {float(rate):.3g}"
    except (TypeError, ValueError):  # a schedule
        return ""
