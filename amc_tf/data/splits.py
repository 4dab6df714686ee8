"""Reads the caller's data into arrays that fit the model, and splits it for calibration, reward and validation."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from amc_tf.fingerprint import fingerprint
from amc_tf.graph.network import KerasModel

FORMS = "(x, y) arrays, x alone, a tf.data.Dataset or a keras PyDataset"

_NOISE = 1024  # generated examples if the caller gives no data
_INFINITE = -1  # cardinality of a tf.data.Dataset


@dataclass(frozen=True)
class Split:
    """Inputs and labels of some examples.

    Attributes:
        inputs: one array (examples, ...) per input of the model, in its order.
        labels: array (examples, ...), or None without labels.
    """

    inputs: tuple[np.ndarray, ...]
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.inputs[0])

    def take(self, indices: np.ndarray) -> "Split":
        """The examples at `indices`, in that order."""
        labels = None if self.labels is None else self.labels[indices]
        return Split(tuple(x[indices] for x in self.inputs), labels)

    def digest(self) -> str:
        """A fingerprint of the examples and their labels."""
        return fingerprint([list(self.inputs), self.labels])


def load(data: Any, model: KerasModel, name: str, limit: int | None = None, seed: int | None = None) -> Split:
    """Reads a caller's data.

    Args:
        data: (x, y) arrays, x alone, or a batched tf.data.Dataset or keras PyDataset of (x, y) or x. For several inputs
            x is a list in the model's order or a dict by input name.
        model: the Keras model that the data is for.
        name: of the argument, for messages.
        limit: the largest number of examples: random ones of arrays, the first ones of a data set.
        seed: of the random choice; None keeps the order of arrays.

    Returns:
        The examples in the types of the model's inputs.

    Raises:
        TypeError: the form of the data is unknown.
        ValueError: examples are missing, hold NaN or infinity, or do not fit the model or the memory; lengths are
            unequal; or all examples are asked for of a data set that repeats without end.
    """
    if isinstance(data, (np.ndarray, tuple, list, dict)) or hasattr(data, "__array__"):
        x, y = _pair(data, name)
        inputs, labels = _inputs(x, model, name), _labels(y, model, name)
        _check_lengths(inputs, labels, name)
        count = len(inputs[0])
        order = np.arange(count) if seed is None else np.random.default_rng(seed).permutation(count)
        order = order[:limit]
        if seed is not None or len(order) < count:
            inputs, labels = [a[order] for a in inputs], None if labels is None else labels[order]
    else:
        inputs, labels = _iterated(data, model, name, limit)
    split = Split(tuple(_cast(a, t) for a, t in zip(inputs, model.inputs, strict=True)), labels)
    _check(split, model, name)
    return split


def noise(model: KerasModel, count: int, seed: int) -> Split:
    """Random inputs with mean 0 and standard deviation 1, without labels.

    Raises:
        ValueError: an input takes whole numbers, for which noise has no meaning.
    """
    rng = np.random.default_rng(seed)
    for tensor in model.inputs:
        if "float" not in str(tensor.dtype):
            raise ValueError(
                f"The model's input {tensor.name!r} holds {tensor.dtype}, for which no examples can be made up; "
                f"give train_data."
            )
    return Split(tuple(rng.standard_normal((count, *t.shape[1:]), dtype=np.float32) for t in model.inputs), None)


def divide(split: Split, first: int, second: int) -> tuple[Split, Split]:
    """Divides a split into two parts without common examples.

    Args:
        split: at least two examples.
        first: number of examples in the first part; at most half of all.
        second: number of examples in the second part; at most the rest.

    Raises:
        ValueError: there are fewer than two examples.
    """
    if len(split) < 2:
        raise ValueError(
            f"train_data holds {len(split)} example, but calibration and scoring need different ones; "
            f"give more, or give reward_data too."
        )
    cut = min(first, max(1, len(split) // 2))
    return split.take(np.arange(cut)), split.take(np.arange(cut, min(len(split), cut + second)))


def splits(
    model: KerasModel, train_data: Any, reward_data: Any, calibration_size: int, reward_size: int, seed: int
) -> tuple[Split, Split]:
    """The calibration split and the reward split of a search. They share no example.

    Args:
        model: the model that the data is for.
        train_data: see `load`; None for random noise, with a warning.
        reward_data: see `load`; None to hold out a part of `train_data`.
        calibration_size: examples of the calibration split.
        reward_size: examples of the reward split if it is a part of `train_data`.
        seed: of the random choice.

    Raises:
        TypeError, ValueError: see `load`; or `reward_data` without `train_data`.
    """
    if train_data is None and reward_data is None:
        warnings.warn(
            "No data was given: candidates are scored by their agreement with the original model on random noise, "
            "which says little about real images; give train_data.",
            stacklevel=3,
        )
        return divide(noise(model, _NOISE, seed), _NOISE // 2, _NOISE // 2)
    if train_data is None:
        raise ValueError(
            "reward_data was given without train_data, but candidates need reconstruction and BatchNorm recalibration "
            "on examples that the score never sees; give train_data too (labels are not needed)."
        )
    limit = calibration_size + (reward_size if reward_data is None else 0)
    train = load(train_data, model, "train_data", limit=limit, seed=seed)
    if reward_data is None:
        return divide(train, calibration_size, reward_size)
    return train, load(reward_data, model, "reward_data")


def reported(reward_split: Split, train_data: Any, reward_data: Any, validation: Split | None) -> tuple[Split, str]:
    """The split that the accuracies in the result are measured on, and its name: validation data if there are any."""
    if validation is not None:
        return validation, "validation_data"
    if train_data is None:
        return reward_split, "generated noise"
    return reward_split, "train_data" if reward_data is None else "reward_data"


def _pair(data: Any, name: str) -> tuple[Any, Any]:
    """(x, y); y is None if the data has no labels."""
    if isinstance(data, tuple):
        if len(data) not in (2, 3):
            raise TypeError(f"{name} is a tuple of {len(data)} items; expected {FORMS}.")
        if len(data) == 3 and data[2] is not None:
            raise TypeError(f"{name} has sample weights, which are not used here; give (x, y).")
        return data[0], data[1]
    return data, None


def _inputs(x: Any, model: KerasModel, name: str) -> list[np.ndarray]:
    """One array per input of the model, in its order."""
    count = len(model.inputs)
    if isinstance(x, dict):
        structure = getattr(model, "input", None)
        # The inputs of a model built from a dict have its keys, in sorted order. All others have their own names.
        names = sorted(structure) if isinstance(structure, dict) else [_name(tensor) for tensor in model.inputs]
        missing = [n for n in names if n not in x]
        if missing:
            raise ValueError(f"{name} has no array for the inputs {missing}; it has {sorted(x)}.")
        return [np.asarray(x[n]) for n in names]
    if count == 1 and isinstance(x, list) and len(x) == 2 and all(hasattr(part, "shape") for part in x):
        raise TypeError(f"{name} is a list of two arrays; if they are images and labels, give the tuple (x, y).")
    if count == 1:
        x = x[0] if isinstance(x, (list, tuple)) and len(x) == 1 and np.ndim(x[0]) == len(model.inputs[0].shape) else x
        return [np.asarray(x)]
    if not isinstance(x, (list, tuple)) or len(x) != count:
        raise ValueError(f"The model has {count} inputs; x of {name} must be a list of {count} arrays or a dict.")
    return [np.asarray(part) for part in x]


def _labels(y: Any, model: KerasModel, name: str) -> np.ndarray | None:
    if y is None:
        return None
    several = isinstance(y, dict) or (isinstance(y, (list, tuple)) and any(np.ndim(part) > 1 for part in y))
    if several and len(model.outputs) > 1:
        raise TypeError(
            f"{name} has labels for several outputs, but only those of the first output are used; give y for it alone, "
            f"or, where a metric of yours wants more, all of them in one array."
        )
    labels = np.asarray(y)
    if labels.dtype.kind not in "biuf":
        raise TypeError(
            f"The labels of {name} are {labels.dtype} such as {labels.flat[0] if labels.size else y!r}; numbers are "
            f"expected: encode classes as 0, 1, 2 and so on."
        )
    return labels


def _iterated(
    data: Any, model: KerasModel, name: str, limit: int | None
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Inputs and labels of the first `limit` examples of a data set, or of all."""
    inputs: list[list[np.ndarray]] = []
    labels: list[np.ndarray] = []
    count, bytes_read = 0, 0
    if limit is None and hasattr(data, "cardinality") and int(data.cardinality()) == _INFINITE:
        raise ValueError(f"{name} is a data set that repeats without end; give a part of it, such as data.take(100).")
    room = psutil.virtual_memory().available // 2  # joined, the examples take as much again
    for batch in _batches(data, name):
        x, y = _pair(batch, name)
        arrays = _inputs(x, model, name)
        inputs.append(arrays)
        if y is not None:
            labels.append(_labels(y, model, name))
        if arrays[0].ndim != len(model.inputs[0].shape):
            raise ValueError(
                f"A batch of {name} has shape {arrays[0].shape}, but the model's input has shape "
                f"{tuple(model.inputs[0].shape)}; batch the data set, for instance data.batch(32)."
            )
        count += len(arrays[0])
        bytes_read += sum(array.nbytes for array in arrays)
        if bytes_read > room:
            raise ValueError(
                f"The first {count} examples of {name} take {bytes_read / 1e9:.1f} GB, and there is no room for more; "
                f"give a part of it, such as data.take(100), also if it repeats without end."
            )
        if limit is not None and count >= limit:
            break
    if not inputs:
        raise ValueError(f"{name} is empty; give at least two examples.")
    joined = [np.concatenate(parts)[:limit] for parts in zip(*inputs, strict=True)]
    return joined, np.concatenate(labels)[:limit] if labels else None


def _batches(data: Any, name: str) -> Iterator[Any]:
    if hasattr(data, "as_numpy_iterator"):
        return data.as_numpy_iterator()
    sequence = hasattr(data, "__getitem__") and hasattr(data, "__len__")  # keras PyDataset, tf_keras Sequence
    if sequence and not isinstance(data, (str, bytes)):
        return (data[i] for i in range(len(data)))
    raise TypeError(f"{name} is a {type(data).__name__}; expected {FORMS}.")


def _cast(array: np.ndarray, tensor: Any) -> np.ndarray:
    """The array in the dtype of an input of the model."""
    dtype = getattr(tensor.dtype, "name", str(tensor.dtype))
    if array.dtype.kind == "f" and "int" in dtype and (array != np.trunc(array)).any():
        raise ValueError(
            f"The data for input {_name(tensor)!r} holds fractions, but the input takes {dtype}; give the numbers that "
            f"the model was trained on."
        )
    try:
        return array.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The data for input {_name(tensor)!r} has type {array.dtype}, which cannot be made into {dtype}."
        ) from error


def _check_lengths(inputs: Sequence[np.ndarray], labels: np.ndarray | None, name: str) -> None:
    arrays = [*inputs] if labels is None else [*inputs, labels]
    lengths = [len(array) if array.ndim else 0 for array in arrays]
    if min(lengths) == 0:
        raise ValueError(f"{name} is empty; give at least two examples.")
    if len(set(lengths)) > 1:
        raise ValueError(f"The arrays of {name} have {lengths} examples; all must have the same number.")


def _check(split: Split, model: KerasModel, name: str) -> None:
    _check_lengths(split.inputs, split.labels, name)
    for array, tensor in zip(split.inputs, model.inputs, strict=True):
        shape = tuple(tensor.shape)[1:]
        if array.shape[1:] != shape:
            raise ValueError(
                f"{name} has examples of shape {array.shape[1:]} for input {_name(tensor)!r}, "
                f"but the model wants {shape}."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int((~np.isfinite(array).reshape(len(array), -1).all(axis=1)).sum())
            raise ValueError(f"{name} holds NaN or infinity in {bad} of {len(array)} examples; clean the data first.")
    if split.labels is not None and split.labels.dtype.kind == "f" and not np.isfinite(split.labels).all():
        raise ValueError(f"The labels of {name} hold NaN or infinity; clean the data first.")


def _name(tensor: Any) -> str:
    return tensor.name.split(":")[0]
