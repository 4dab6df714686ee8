"""Keras -> quantised .tflite: int8 (weights and activations), float16 weights, or dynamic range (int8 weights)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from amc_tf.errors import ConversionError
from amc_tf.graph import keras_reader
from amc_tf.tflite.conversion import bias_correction
from amc_tf.tflite.conversion.keras_to_tflite import arguments, convert, input_names
from amc_tf.tflite.conversion.tf_converter import Quantization
from amc_tf.tflite.flatbuffer import unpack
from amc_tf.tflite.operators import names, operators

FORMATS = {
    "float": "model.tflite",
    "int8": "model_int8.tflite",
    "fp16": "model_fp16.tflite",
    "dynamic": "model_dynamic.tflite",
}  # name -> file in the run directory
LEAST_EXAMPLES = 8  # fewer show the range of an activation by chance only

_ROUGH_EXAMPLES = 4  # for a file whose time alone matters
_CASTS = {"QUANTIZE", "DEQUANTIZE"}


def quantized(model: Any, format: str, examples: Sequence[np.ndarray] = (), integer_io: bool = False) -> bytes:
    """Converts a Keras model to a quantised .tflite with batch and signature as `convert` gives them.

    "int8" computes in integers alone. Weights have a scale for each output channel, activations one for each tensor,
    from the range that the examples show. Biases are corrected (bias_correction.py). "fp16" has weights of 16 bits; a
    CPU widens them when it loads the file. "dynamic" has weights of 8 bits in kernels of 1024 weights or more, and
    float activations, which the runtime rounds before it multiplies.

    Args:
        model: built functional or Sequential keras.Model (Keras 3) or tf_keras.Model; it is not changed.
        format: "int8", "fp16" or "dynamic".
        examples: for "int8" one array (examples, ...) for each input, in the order of the .tflite; some hundreds do.
        integer_io: whether inputs and outputs of an "int8" file are int8 instead of float32. The model's integer inputs
            keep their type.

    Returns:
        The contents of the .tflite.

    Raises:
        TypeError: not a Keras model.
        ValueError: there is no such format, integer_io is not for "int8", or the examples do not fit the model.
        UnsupportedModel: the model is subclassed or not built, or its inputs leave a size open.
        ConversionError: a layer has no integer kernel, a number is NaN or too large, there are too few examples, or the
            converter cannot express the model.
    """
    _check_format(format, integer_io)
    keras_reader.check(model)
    _check_weights(model, format)
    if format != "int8":
        return convert(model, _by_weights(format))
    return bias_correction.corrected(*_convert_int8(model, examples, LEAST_EXAMPLES, integer_io))


def check(model: Any, format: str, examples: Sequence[np.ndarray] = (), integer_io: bool = False) -> None:
    """Raises the errors of `quantized` for the same arguments, in a fraction of its time.

    Args:
        model, format, examples, integer_io: as for `quantized`.
    """
    _check_format(format, integer_io)
    keras_reader.check(model)
    _check_weights(model, format)
    if format == "int8":
        _arrays(model, examples, LEAST_EXAMPLES)
    rough(format, examples, integer_io)(model)


def rough(format: str, examples: Sequence[np.ndarray] = (), integer_io: bool = False) -> Callable[[Any], bytes]:
    """A converter, Keras model -> .tflite, of quantised files whose time alone matters (`Shapes`, `LatencyTable`).

    Its files have the operators and shapes of those of `quantized`, and scales from a few examples. For "fp16" they are
    float files, since a CPU takes the same time for both.

    Args:
        format, examples, integer_io: as for `quantized`.
    """
    _check_format(format, integer_io)
    if format == "fp16":
        return convert
    if format == "dynamic":
        return lambda model: convert(model, _by_weights(format))
    subset = [array[:_ROUGH_EXAMPLES] for array in examples]
    return lambda model: _convert_int8(model, subset, 1, integer_io)[0]


def _check_format(format: str, integer_io: bool) -> None:
    if format not in FORMATS or format == "float":
        expected = ", ".join(repr(name) for name in FORMATS if name != "float")
        raise ValueError(f"The format to quantise to is {format!r}; expected one of {expected}.")
    if integer_io and format != "int8":
        raise ValueError(f"integer_io is {integer_io!r} with {format!r}; leave it out, or quantise to 'int8'.")


def _check_weights(model: Any, format: str) -> None:
    """Refuses NaN and infinity, and for "fp16" numbers that the converter would silently clip to the largest one."""
    most = np.finfo(np.float16 if format == "fp16" else np.float32).max
    for variable, array in zip(model.weights, model.get_weights(), strict=True):
        if array.dtype.kind == "f" and not (np.abs(array) <= most).all():
            name = getattr(variable, "path", variable.name)  # `path` in Keras 3; in tf_keras the name is the path
            raise ConversionError(
                f"The model {model.name!r} cannot be quantised to {format!r}, since its weight {name!r} holds NaN, "
                f"infinity or a number above {most:.3g}; train it again from a checkpoint without."
            )


def _by_weights(format: str) -> Quantization:
    return Quantization(weights_bits=16 if format == "fp16" else 8)


def _convert_int8(
    model: Any, examples: Sequence[np.ndarray], least: int, integer_io: bool
) -> tuple[bytes, bytes, list[np.ndarray]]:
    """An int8 file, the same network's float file, and the examples in the types of the model's inputs."""
    arrays = _arrays(model, examples, least)
    float_file = convert(model)
    if operators(float_file)["WHILE"]:  # on a loop the converter would end this process
        raise ConversionError(
            f"The model {model.name!r} has a layer that loops, such as LSTM or GRU, which cannot be quantised to int8; "
            f"take 'dynamic' or 'fp16', or freeze the length with unroll=True."
        )

    tflite = convert(model, Quantization(examples=arrays, integer_io=integer_io))
    _check_integers(model, tflite)
    return tflite, float_file, arrays


def _arrays(model: Any, examples: Sequence[np.ndarray], least: int) -> list[np.ndarray]:
    """The examples in the types of the model's inputs.

    Args:
        least: how many examples there must be.

    Raises:
        ValueError, ConversionError: see `quantized`.
    """
    specs = arguments(model, 1)
    if len(examples) != len(specs):
        raise ValueError(
            f"The examples are {len(examples)} arrays, but the model {model.name!r} has {len(specs)} inputs; give one "
            f"array (examples, ...) for each."
        )
    arrays = [np.asarray(a, spec.dtype.as_numpy_dtype) for a, spec in zip(examples, specs, strict=True)]
    shapes = [array.shape for array in arrays]
    if any(shape[1:] != tuple(spec.shape)[1:] for shape, spec in zip(shapes, specs, strict=True)):
        raise ValueError(
            f"The examples have shapes {shapes}, but the model {model.name!r} takes batches of shapes "
            f"{[tuple(spec.shape)[1:] for spec in specs]}; give examples of this very model."
        )
    if len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"The examples have shapes {shapes}; give the same number of examples for each input.")
    if len(arrays[0]) < least:
        raise ConversionError(
            f"There are {len(arrays[0])} examples to quantise the model {model.name!r} to int8 by, but the range of "
            f"numbers between its layers takes at least {least}; give some hundreds."
        )
    for array, name in zip(arrays, input_names(model), strict=True):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ConversionError(
                f"The examples for input {name!r} of the model {model.name!r} hold NaN or infinity, so that nothing "
                f"can be quantised by them; clean them first."
            )
    return arrays


def _check_integers(model: Any, tflite: bytes) -> None:
    """Refuses an int8 file that computes in floats anywhere but at its inputs and outputs."""
    from ai_edge_litert.schema_py_generated import TensorType

    file = unpack(tflite)
    graph = file.subgraphs[0]
    ends = {int(tensor) for tensor in (*graph.inputs, *graph.outputs)}
    floating = []
    for name, operator in zip(names(file), graph.operators, strict=True):
        floats = {int(t) for t in (*operator.inputs, *operator.outputs) if t >= 0}
        floats = {t for t in floats if graph.tensors[t].type == TensorType.FLOAT32}
        if not floats or (name in _CASTS and floats <= ends):
            continue
        if name not in _CASTS:  # a cast inside the network belongs to such an operator
            floating.append(f"{name} ({graph.tensors[operator.outputs[0]].name.decode()})")
    if floating:
        raise ConversionError(
            f"The model {model.name!r} cannot be quantised to int8, since TFLite has no kernel of whole numbers for "
            f"{', '.join(floating)}; replace these layers, or take 'dynamic' or 'fp16'."
        )
