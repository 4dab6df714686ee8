"""Metrics of predictions: accuracy, the caller's own metric, or agreement with the original network."""

from collections.abc import Callable, Sequence

import numpy as np

from amc_tf.errors import BadPredictions

Metric = Callable[[np.ndarray, np.ndarray], float]


def threshold(outputs: np.ndarray) -> float:
    """Threshold of a single output: 0.5 if the original network's outputs are probabilities, else 0."""
    return 0.5 if outputs.min() >= 0 and outputs.max() <= 1 else 0.0


def accuracy(labels: np.ndarray, outputs: np.ndarray, yes_above: float = 0.5) -> float:
    """Share of right predictions.

    Args:
        labels: One of: class numbers in the shape of `outputs` without its last axis, or with a last axis of 1; rows
            that add up to 1 (one-hot) in the shape of `outputs`; for a single output 0 and 1, or -1 and 1.
        outputs: (examples, ..., classes).
        yes_above: Threshold of a single output, see `threshold`.

    Raises:
        ValueError: The labels do not fit the outputs, or are not classes.
    """
    labels = np.asarray(labels)
    classes = outputs.shape[-1]
    if classes == 1:
        if labels.size != outputs.size:
            raise ValueError(_misfit(labels, outputs))
        if not (np.isin(labels, (0, 1)).all() or np.isin(labels, (-1, 1)).all()):
            raise ValueError(
                f"The model has one output and the labels run from {labels.min()} to {labels.max()}; accuracy wants 0 "
                f"and 1, so give a metric (labels, predictions) -> number if this is a regression."
            )
        return float(((outputs > yes_above).reshape(-1) == (labels.reshape(-1) > 0)).mean())
    if labels.shape == outputs.shape and labels.ndim > 1:
        if labels.min() < 0 or not np.allclose(labels.sum(axis=-1), 1, atol=1e-3):
            raise ValueError(
                "The labels have one number an output, but their rows do not add up to 1 as classes do; give a metric "
                "(labels, predictions) -> number for several labels at once or a regression."
            )
        return float((outputs.argmax(axis=-1) == labels.argmax(axis=-1)).mean())
    if labels.shape == (*outputs.shape[:-1], 1):
        labels = labels[..., 0]
    if labels.shape != outputs.shape[:-1] or labels.dtype.kind not in "iub" and (labels != np.floor(labels)).any():
        raise ValueError(_misfit(labels, outputs))
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"The labels run from {labels.min()} to {labels.max()}, but the model has {classes} outputs; "
            f"labels from 0 to {classes - 1} are expected."
        )
    return float((outputs.argmax(axis=-1) == labels).mean())


def score(
    metric: Metric | None, labels: np.ndarray, outputs: Sequence[np.ndarray], yes_above: float = 0.5
) -> float:
    """The metric or, without one, the accuracy of the first output, as a finite number.

    Raises:
        BadPredictions: The predictions hold NaN or infinity.
        ValueError: The labels do not fit, or the metric did not return a finite number.
    """
    if not all(np.isfinite(out).all() for out in outputs):
        raise BadPredictions("The predictions hold NaN or infinity; the network does not survive these widths.")
    if metric is None:
        return accuracy(labels, outputs[0], yes_above)
    value = metric(labels, outputs[0] if len(outputs) == 1 else list(outputs))
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise ValueError(
            f"The metric {getattr(metric, '__name__', metric)!r} returned {value!r}; one finite number is expected, "
            f"the larger the better."
        )
    return number


def as_labels(outputs: np.ndarray, yes_above: float) -> np.ndarray:
    """Outputs of the original network as labels, to score agreement with it; `yes_above` as in accuracy()."""
    if outputs.shape[-1] > 1:
        return outputs.argmax(axis=-1)
    return (outputs > yes_above).astype(np.int64)


def _misfit(labels: np.ndarray, outputs: np.ndarray) -> str:
    return (
        f"The labels have shape {labels.shape} and type {labels.dtype}, but the model's outputs have shape "
        f"{outputs.shape}; class numbers of shape {outputs.shape[:-1]} or rows of shape {outputs.shape} are expected, "
        f"or a metric of your own."
    )
