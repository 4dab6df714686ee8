"""Whether a .tflite computes what its Keras model computes, on real inputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.errors import ConversionError
from amc_tf.graph import keras_reader
from amc_tf.tflite.conversion.keras_to_tflite import SIGNATURE, input_names, output_names
from amc_tf.tflite.flatbuffer import contents
from amc_tf.tflite.silence import silence

_EXAMPLES_AT_ONCE = 32  # in Keras; the .tflite takes one


@dataclass(frozen=True)
class Difference:
    """How far one output of the .tflite is from the Keras model's.

    Attributes:
        output: name of the output in the .tflite.
        largest: largest absolute difference over all examples; NaN where either side has a NaN.
        scale: 1 where Keras's values all lie in [0, 1], as probabilities do; else their largest magnitude.
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
        ValueError: there are no examples, or not as many inputs as the model has.
        ConversionError: the .tflite cannot be run or has other inputs and outputs than the model.
    """
    return float(np.max([difference.largest for difference in differences(model, tflite, x)]))


def verify(model: Any, tflite: bytes | str | Path, x: Any, tolerance: float = 1e-3) -> float:
    """`max_difference`, after it has been found small enough.

    Args:
        model, tflite, x: as for `max_difference`.
        tolerance: allowed absolute difference of outputs in [0, 1]; of others, the share of their largest magnitude.

    Raises:
        ValueError: as `max_difference`.
        ConversionError: as `max_difference`; or an output differs by more, or holds a NaN.
    """
    found = differences(model, tflite, x)
    for difference in found:
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
    return max(difference.largest for difference in found)


def differences(model: Any, tflite: bytes | str | Path, x: Any) -> list[Difference]:
    """One Difference for each output of the model, in its order; arguments and errors as of `max_difference`."""
    arrays = _arrays(model, x)
    expected = _keras_outputs(model, arrays)
    actual = _tflite_outputs(model, tflite, arrays)
    found = []
    for name, wanted, got in zip(output_names(model), expected, actual, strict=True):
        if wanted.shape != got.shape:
            raise ConversionError(
                f"The output {name!r} of the .tflite has shape {got.shape}, but the Keras model's has {wanted.shape}; "
                f"convert this very model."
            )
        with np.errstate(invalid="ignore"):  # infinity minus infinity; the NaN that it makes is what is wanted
            largest = float(np.max(np.abs(wanted.astype(np.float64) - got)))
        probabilities = bool(np.all((wanted >= 0) & (wanted <= 1)))
        found.append(Difference(name, largest, 1.0 if probabilities else float(np.max(np.abs(wanted)))))
    return found


def _keras_outputs(model: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Each output as (examples, ...)."""
    import tensorflow as tf

    batches = []
    for start in range(0, len(arrays[0]), _EXAMPLES_AT_ONCE):
        values = [tf.constant(array[start : start + _EXAMPLES_AT_ONCE]) for array in arrays]
        outputs = model(tf.nest.pack_sequence_as(keras_reader.input_structure(model), values), training=False)
        batches.append([value.numpy() for value in tf.nest.flatten(outputs)])
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def _tflite_outputs(model: Any, tflite: bytes | str | Path, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The same of the .tflite, its outputs in the order of the model's."""
    from ai_edge_litert.interpreter import Interpreter

    inputs = dict(zip(input_names(model), arrays, strict=True))
    outputs = output_names(model)
    data = contents(tflite)
    try:
        with silence():  # only the start is noisy
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
    """The inputs in the order of `input_names`, in the types that the model takes.

    A dict may have the keys of the dict that the model was built with, or the names of the model's inputs.
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
