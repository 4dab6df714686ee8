"""Examples: a caller's data in the form in which Keras's `fit` reads it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amc_tf.data import splits
from amc_tf.fingerprint import fingerprint
from amc_tf.graph import keras_reader


@dataclass(frozen=True)
class Examples:
    """What goes to Keras's `fit`.

    Attributes:
        data: for its first argument.
        shuffle: whether `fit` is to put its batches in another order, which is Keras's default for a PyDataset.
        steps: batches an epoch, or None where the data set does not say.
        labels: a few labels where they can be had, else their spec (shape and dtype), else None.
    """

    data: Any
    shuffle: bool
    steps: int | None
    labels: Any


def examples(given: Any, model: Any, keras: Any, batch_size: int, seed: int | None, name: str) -> Examples:
    """Data of a caller, checked as far as it can be without reading it.

    Args:
        given: (x, y) arrays, a batched tf.data.Dataset or keras PyDataset.
        model: that the data is for.
        keras: the Keras of the model.
        batch_size: of batches made of arrays.
        seed: of their order, new in each epoch; None leaves arrays in theirs.
        name: of the argument, for messages.

    Raises:
        TypeError, ValueError: no such form, no labels, no examples, no end, or shapes that do not fit the model.
    """
    if isinstance(given, (tuple, list, dict, np.ndarray)):
        return _arrays(given, model, keras, batch_size, seed, name)
    if hasattr(given, "element_spec"):  # tf.data.Dataset
        count = int(given.cardinality()) if hasattr(given, "cardinality") else -2
        if count == -1:
            raise ValueError(
                f"{name} is a data set that repeats without end, so that an epoch would not end either; leave out its "
                f"repeat(), or give take(steps) of it."
            )
        return Examples(given, False, count if count > 0 else None, _first(given.element_spec, model, name))
    if hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, (str, bytes)):
        if not len(given):
            raise ValueError(f"{name} is empty; give at least one batch.")
        return Examples(given, True, len(given), _first(given[0], model, name))
    if hasattr(given, "__iter__") and hasattr(given, "__len__") and not isinstance(given, (str, bytes)):
        return Examples(given, True, len(given), None)  # a loader of another library; Keras knows some
    raise TypeError(
        f"{name} is of type {type(given).__name__}; expected (x, y) arrays, a batched tf.data.Dataset or a keras "
        f"PyDataset, which can be read more than once."
    )


def contents(given: Any) -> str:
    """A digest of the examples that `examples` takes, whatever order they come in: a shuffled data set is the same.

    It reads a data set once. One that gives other examples each time, such as one that turns images by chance, has
    another digest each time.

    Raises:
        Unknown: arrays of objects that have no fingerprint.
    """
    if isinstance(given, (tuple, list, dict, np.ndarray)):
        return fingerprint(given)
    import tensorflow as tf

    total, count = 0, 0
    indexed = not hasattr(given, "element_spec") and hasattr(given, "__getitem__")
    for batch in (given[index] for index in range(len(given))) if indexed else given:
        parts = [np.asarray(part) for part in tf.nest.flatten(batch)]
        sizes = {part.shape[:1] for part in parts}
        rows = parts[0].shape[0] if len(sizes) == 1 and parts[0].ndim else None
        each = [parts] if rows is None else ([part[row] for part in parts] for row in range(rows))
        for example in each:
            total += int.from_bytes(_hashed(example), "big")
            count += 1
    return fingerprint([total % 2**256, count])


def _hashed(parts: Sequence[np.ndarray]) -> bytes:
    state = hashlib.sha256()
    for part in parts:
        state.update(f"{part.dtype.str} {part.shape} ".encode())
        state.update(np.ascontiguousarray(part).tobytes())
    return state.digest()


def _arrays(given: Any, model: Any, keras: Any, batch_size: int, seed: int | None, name: str) -> Examples:
    if not isinstance(given, tuple) or len(given) == 1 or given[1] is None:
        raise ValueError(f"{name} has no labels to train by; give (x, y).")
    if len(given) != 2:
        raise TypeError(f"{name} is a tuple of {len(given)} items; expected (x, y), or a data set with sample weights.")
    x, labels = given
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
        structure = tuple(structure)  # a PyDataset of Keras 3 takes a list for an array
    packed = tf.nest.pack_sequence_as(structure, list(inputs))
    batches = _batches(keras, packed, labels, len(inputs[0]), batch_size, seed)
    return Examples(batches, False, len(batches), labels)


def _batches(keras: Any, inputs: Any, labels: Any, count: int, size: int, seed: int | None) -> Any:
    """Arrays as the PyDataset of a Keras, in a new order each epoch; with seed None in theirs."""
    import tensorflow as tf

    base = getattr(keras.utils, "PyDataset", None) or keras.utils.Sequence  # Keras 3, tf_keras

    class Batches(base):
        def __init__(self):
            super().__init__()
            self.chance = None if seed is None else np.random.default_rng(seed)
            self.order = np.arange(count)
            self.on_epoch_end()

        def __len__(self):
            return -(-count // size)

        def __getitem__(self, index):
            chosen = self.order[index * size : (index + 1) * size]
            return tf.nest.map_structure(lambda part: np.asarray(part)[chosen], (inputs, labels))

        def on_epoch_end(self):
            if self.chance is not None:
                self.order = self.chance.permutation(count)

    return Batches()


def _first(batch: Any, model: Any, name: str) -> Any:
    """The labels of one batch, or of its spec, after a look at its shapes."""
    import tensorflow as tf

    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise ValueError(f"{name} has no labels to train by; let it yield (x, y).")
    x, wanted = batch[0], list(model.inputs)
    if isinstance(x, Mapping):
        names = [tensor.name.split(":")[0] for tensor in wanted]
        parts = [x[key] for key in names] if set(names) <= set(x) else [x[key] for key in sorted(x)]
    else:
        parts = tf.nest.flatten(x)
    if len(parts) != len(wanted):
        raise ValueError(f"{name} has {len(parts)} inputs an example, but the model has {len(wanted)}; give as many.")
    for part, tensor in zip(parts, wanted, strict=True):
        shape = tf.TensorShape(part.shape)
        if not shape.is_compatible_with(tf.TensorShape([None, *tensor.shape[1:]])):
            raise ValueError(
                f"A batch of {name} has shape {tuple(shape)} for the input {tensor.name!r}, but the model wants "
                f"{tuple(tensor.shape)}; give batches of such examples, for instance splits.batch(128)."
            )
    labels = batch[1]
    known = hasattr(labels, "shape") and tf.TensorShape(labels.shape).rank is not None
    return labels if known else None
