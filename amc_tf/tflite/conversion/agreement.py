"""verify: compares the outputs of a .tflite with those of its Keras model on given inputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.errors import ConversionError
from amc_tf.graph import keras_reader
from amc_tf.tflite.conversion.keras_to_tflite import SIGNATURE, input_names, output_names
from amc_tf.tflite.flatbuffer import contents
from amc_tf.tflite.silence import silence

_KERAS_BATCH = 32  # examples; the .tflite takes one at a time


@dataclass(frozen=True)
class Difference:
    """Difference between one output of the .tflite and the Keras model's.

    Attributes:
        output: name of the output in the .tflite.
        largest: largest absolute difference over all examples; NaN if either side has a NaN.
        scale: 1 if all of Keras's values lie in [0, 1], as probabilities do; else their largest magnitude.
    """

    output: str
    largest: float
    scale: float


def max_difference(model: Any, tflite: bytes | str | Path, x: Any) -> float:
    """The largest absolute difference between the outputs of a Keras model and of a .tflite.

    Args:
        model: keras.Model (Keras 3) or tf_keras.Model.
        tflite: contents or path of a .tflite for one example at a time.
        x: inputs as the model takes them: an array (examples, ...), or a list or dict of such arrays.

    Returns:
        The largest over all outputs and examples; NaN if any output holds a NaN.

    Raises:
        ValueError: there are no examples, or their inputs are not those of the model.
        ConversionError: the .tflite cannot be run, or its inputs and outputs are not those of the model.
    """
    return float(np.max([difference.largest for difference in differences(model, tflite, x)]))


def verify(model: Any, tflite: bytes | str | Path, x: Any, tolerance: float = 1e-3) -> float:
    """Returns `max_difference`, or raises an error if it is too large.

    Args:
        model, tflite, x: as for `max_difference`.
        tolerance: allowed absolute difference of outputs in [0, 1]. For other outputs it is multiplied by their largest
            magnitude.

    Raises:
        ValueError: as `max_difference`.
        ConversionError: as `max_difference`; or an output differs by more, or holds a NaN.
    """
    results = differences(model, tflite, x)
    for difference in results:
        allowed = tolerance * difference.scale
        if np.isnan(difference.largest):
            raise ConversionError(
                f"The output {difference.output!r} of model {model.name!r} or of its .tflite holds NaN; "
                f"look for NaN among the model's weights and in the data."
            )
        if difference.largest > allowed:
            raise ConversionError(
                f"The output {difference.output!r} of the .tflite differs from the Keras model {model.name!r} by "
                f"{difference.largest:.3g}, but at most {allowed:.3g} is allowed; do not ship this file."
            )
    return max(difference.largest for difference in results)


def differences(model: Any, tflite: bytes | str | Path, x: Any) -> list[Difference]:
    """One Difference for each output of the model, in its order. Arguments and errors are those of `max_difference`."""
    arrays = _arrays(model, x)
    results = []
    outputs = zip(
        output_names(model), _keras_outputs(model, arrays), _tflite_outputs(model, tflite, arrays), strict=True
    )
    for name, expected, actual in outputs:
        if expected.shape != actual.shape:
            raise ConversionError(
                f"The output {name!r} of the .tflite has shape {actual.shape}, but the Keras model's has "
                f"{expected.shape}; convert this very model."
            )
        with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, as it should be
            largest = float(np.max(np.abs(expected.astype(np.float64) - actual)))
        probabilities = bool(np.all((expected >= 0) & (expected <= 1)))
        results.append(Difference(name, largest, 1.0 if probabilities else float(np.max(np.abs(expected)))))
    return results


def _keras_outputs(model: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The Keras model's outputs, each (examples, ...)."""
    import tensorflow as tf

    batches = []
    for start in range(0, len(arrays[0]), _KERAS_BATCH):
        values = [tf.constant(array[start : start + _KERAS_BATCH]) for array in arrays]
        outputs = model(tf.nest.pack_sequence_as(keras_reader.input_structure(model), values), training=False)
        batches.append([value.numpy() for value in tf.nest.flatten(outputs)])
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def _tflite_outputs(model: Any, tflite: bytes | str | Path, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of the .tflite, each (examples, ...), in the order of the model's outputs."""
    from ai_edge_litert.interpreter import Interpreter

    inputs = dict(zip(input_names(model), arrays, strict=True))
    outputs = output_names(model)
    data = contents(tflite)
    try:
        with silence():  # only the start writes to stderr
            interpreter = Interpreter(model_content=data)
            interpreter.allocate_tensors()
            signature = interpreter.get_signature_list().get(SIGNATURE, {"inputs": [], "outputs": []})
            if sorted(signature["inputs"]) != sorted(inputs) or sorted(signature["outputs"]) != sorted(outputs):
                raise ConversionError(
                    f"The .tflite's signature has inputs {signature['inputs']} and outputs {signature['outputs']}, but "
                    f"model {model.name!r} has {list(inputs)} and {outputs}; convert this very model with convert()."
                )
            run = interpreter.get_signature_runner(SIGNATURE)
        rows = [run(**{name: array[k : k + 1] for name, array in inputs.items()}) for k in range(len(arrays[0]))]
    except (RuntimeError, ValueError) as error:
        raise ConversionError(
            f"The .tflite of model {model.name!r} does not run in ai-edge-litert ({str(error).splitlines()[0]}); "
            f"amc_tf.tflite.conversion.keras_to_tflite.check names operators that it cannot hold."
        ) from error
    return [np.concatenate([row[name] for row in rows]) for name in outputs]


def _arrays(model: Any, x: Any) -> list[np.ndarray]:
    """The inputs in the order of `input_names`, in the types of the model's inputs.

    The keys of a dict are those of the dict that the model was built with, or the names of the model's inputs.
    """
    import tensorflow as tf

    structure = keras_reader.input_structure(model)
    names = input_names(model)
    if isinstance(x, dict) and not (isinstance(structure, dict) and structure.keys() == x.keys()):
        if sorted(x) != sorted(names):
            raise ValueError(f"Expected the inputs {names} of model {model.name!r}, but x has {list(x)}; rename them.")
        flat = [x[name] for name in names]
    else:
        flat = tf.nest.flatten(x) if isinstance(x, dict | list | tuple) else [x]
    tensors = tf.nest.flatten(structure)
    if len(flat) != len(tensors):
        raise ValueError(f"Expected {len(tensors)} inputs {names} for model {model.name!r}, but x has {len(flat)}.")
    arrays = [np.asarray(a, tf.as_dtype(t.dtype).as_numpy_dtype) for a, t in zip(flat, tensors, strict=True)]
    counts = {len(array) for array in arrays}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"Expected the same number of examples in each input of model {model.name!r}, at least one, "
            f"but x has {[len(array) for array in arrays]}; give arrays of shape (examples, ...)."
        )
    return arrays
