"""Converts the caller's data to the form that Keras's `fit` reads, and fingerprints its contents."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amc_tf.data import splits
from amc_tf.fingerprint import fingerprint
from amc_tf.graph import keras_reader
from amc_tf.graph.network import KerasModel, KerasModule


@dataclass(frozen=True)
class Examples:
    """Data for Keras's `fit`.

    Attributes:
        data: the first argument of `fit`.
        shuffle: whether `fit` should shuffle the batches, Keras's default for a PyDataset.
        steps: batches per epoch; None if the data set does not state its length.
        labels: some of the labels; their spec (shape and dtype) if reading them is not possible; else None.
    """

    data: Any
    shuffle: bool
    steps: int | None
    labels: Any


def examples(
    data: Any, model: KerasModel, keras: KerasModule, batch_size: int, seed: int | None, name: str
) -> Examples:
    """Converts and checks the caller's data, without reading a whole data set.

    Args:
        data: (x, y) arrays, a batched tf.data.Dataset or keras PyDataset.
        model: the model that the data is for.
        keras: the Keras of the model.
        batch_size: examples per batch of arrays. A data set has its own.
        seed: arrays are shuffled anew in each epoch with this seed; None keeps their order.
        name: of the argument, for messages.

    Raises:
        TypeError, ValueError: the form is unknown, labels or examples are missing, the data set repeats without end, or
            shapes do not fit the model.
    """
    if isinstance(data, (tuple, list, dict, np.ndarray)):
        return _from_arrays(data, model, keras, batch_size, seed, name)
    if hasattr(data, "element_spec"):  # tf.data.Dataset
        count = int(data.cardinality()) if hasattr(data, "cardinality") else -2
        if count == -1:
            raise ValueError(
                f"{name} is a data set that repeats without end, so that an epoch would not end either; leave out its "
                f"repeat(), or give take(steps) of it."
            )
        return Examples(data, False, count if count > 0 else None, _labels_of_batch(data.element_spec, model, name))
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (str, bytes)):
        if not len(data):
            raise ValueError(f"{name} is empty; give at least one batch.")
        return Examples(data, True, len(data), _labels_of_batch(data[0], model, name))
    if hasattr(data, "__iter__") and hasattr(data, "__len__") and not isinstance(data, (str, bytes)):
        return Examples(data, True, len(data), None)  # a loader of another library; Keras reads some of them
    raise TypeError(
        f"{name} is of type {type(data).__name__}; expected (x, y) arrays, a batched tf.data.Dataset or a keras "
        f"PyDataset, which can be read more than once."
    )


def contents(data: Any) -> str:
    """A digest of the examples. It does not depend on the order of a data set, so shuffling does not change it.

    A data set is read once. If it returns different examples each time (random augmentation), the digest differs too.

    Args:
        data: as for `examples`.

    Raises:
        Unknown: arrays of objects without a fingerprint.
    """
    if isinstance(data, (tuple, list, dict, np.ndarray)):
        return fingerprint(data)
    import tensorflow as tf

    total, count = 0, 0
    indexed = not hasattr(data, "element_spec") and hasattr(data, "__getitem__")
    for batch in (data[index] for index in range(len(data))) if indexed else data:
        parts = [np.asarray(part) for part in tf.nest.flatten(batch)]
        sizes = {part.shape[:1] for part in parts}
        rows = parts[0].shape[0] if len(sizes) == 1 and parts[0].ndim else None
        batch_examples = [parts] if rows is None else ([part[row] for part in parts] for row in range(rows))
        for example in batch_examples:
            total += int.from_bytes(_hash(example), "big")
            count += 1
    return fingerprint([total % 2**256, count])


def _hash(parts: Sequence[np.ndarray]) -> bytes:
    state = hashlib.sha256()
    for part in parts:
        state.update(f"{part.dtype.str} {part.shape} ".encode())
        state.update(np.ascontiguousarray(part).tobytes())
    return state.digest()


def _from_arrays(
    data: Any, model: KerasModel, keras: KerasModule, batch_size: int, seed: int | None, name: str
) -> Examples:
    if not isinstance(data, tuple) or len(data) == 1 or data[1] is None:
        raise ValueError(f"{name} has no labels to train by; give (x, y).")
    if len(data) != 2:
        raise TypeError(f"{name} is a tuple of {len(data)} items; expected (x, y), or a data set with sample weights.")
    x, labels = data
    inputs = splits.load(list(x) if isinstance(x, tuple) else x, model, name).inputs
    if len(model.outputs) == 1:
        labels = np.asarray(labels)
    import tensorflow as tf

    if len(model.outputs) > 1 and len(tf.nest.flatten(labels)) != len(model.outputs):
        raise ValueError(
            f"{name} has one array of labels, but the model {len(model.outputs)} outputs, and a training needs labels "
            f"for each; train the pruned model in a loop of your own and give it back by Result.with_model."
        )
    for part in tf.nest.flatten(labels):
        if len(part) != len(inputs[0]):
            raise ValueError(f"{name} has {len(inputs[0])} examples, but {len(part)} labels; give as many.")
        if getattr(part, "dtype", np.dtype(float)).kind not in "biuf":
            raise TypeError(
                f"The labels of {name} are of type {part.dtype}; numbers are expected: encode "
                f"classes as 0, 1, 2 and so on."
            )
    structure = keras_reader.input_structure(model)
    if isinstance(structure, list):
        structure = tuple(structure)  # a PyDataset of Keras 3 reads a list as one array
    packed = tf.nest.pack_sequence_as(structure, list(inputs))
    batches = _batches(keras, packed, labels, len(inputs[0]), batch_size, seed)
    return Examples(batches, False, len(batches), labels)


def _batches(keras: KerasModule, inputs: Any, labels: Any, count: int, size: int, seed: int | None) -> Any:
    """Arrays as a PyDataset of batches: shuffled anew in each epoch, or in their order if `seed` is None."""
    import tensorflow as tf

    base = getattr(keras.utils, "PyDataset", None) or keras.utils.Sequence  # Keras 3, tf_keras

    class Batches(base):
        def __init__(self) -> None:
            super().__init__()
            self.rng = None if seed is None else np.random.default_rng(seed)
            self.order = np.arange(count)
            self.on_epoch_end()

        def __len__(self) -> int:
            return -(-count // size)

        def __getitem__(self, index: int) -> Any:
            chosen = self.order[index * size : (index + 1) * size]
            return tf.nest.map_structure(lambda part: np.asarray(part)[chosen], (inputs, labels))

        def on_epoch_end(self) -> None:
            if self.rng is not None:
                self.order = self.rng.permutation(count)

    return Batches()


def _labels_of_batch(batch: Any, model: KerasModel, name: str) -> Any:
    """Checks the shapes of one batch or its spec; returns its labels, or None if their rank is unknown."""
    import tensorflow as tf

    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise ValueError(f"{name} has no labels to train by; let it yield (x, y).")
    x, inputs = batch[0], list(model.inputs)
    if isinstance(x, Mapping):
        names = [tensor.name.split(":")[0] for tensor in inputs]
        parts = [x[key] for key in names] if set(names) <= set(x) else [x[key] for key in sorted(x)]
    else:
        parts = tf.nest.flatten(x)
    if len(parts) != len(inputs):
        raise ValueError(f"{name} has {len(parts)} inputs an example, but the model has {len(inputs)}; give as many.")
    for part, tensor in zip(parts, inputs, strict=True):
        shape = tf.TensorShape(part.shape)
        if not shape.is_compatible_with(tf.TensorShape([None, *tensor.shape[1:]])):
            raise ValueError(
                f"A batch of {name} has shape {tuple(shape)} for the input {tensor.name!r}, but the model wants "
                f"{tuple(tensor.shape)}; give batches of such examples, for instance splits.batch(128)."
            )
    labels = batch[1]
    has_rank = hasattr(labels, "shape") and tf.TensorShape(labels.shape).rank is not None
    return labels if has_rank else None
