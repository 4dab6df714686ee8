"""TensorFlow function -> .tflite by TensorFlow's own converter. No other file calls a converter.

TensorFlow's converter is in maintenance, and development goes on in ai-edge-litert. The litert-converter there (0.5)
reads MLIR of exported programs and takes no TensorFlow functions, so it cannot replace this one yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amc_tf.errors import ConversionError


@dataclass(frozen=True)
class Quantization:
    """How a quantised .tflite holds its numbers.

    Attributes:
        weights_bits: 8 or 16: bits of a weight in a file that computes in floats.
        examples: one array (examples, ...) for each input, in the types of the function's arguments. The file computes
            in int8 then, with the ranges that these examples show. None for a file that computes in floats.
        integer_io: whether inputs and outputs of an int8 file are int8 too.
    """

    weights_bits: int = 8
    examples: Sequence[np.ndarray] | None = None
    integer_io: bool = False


def tflite_of(concrete: Any, quantization: Quantization | None = None) -> bytes:
    """Converts a concrete function.

    Args:
        concrete: a concrete function of a tf.function; the values of its variables become constants.
        quantization: None for float32.

    Raises:
        ConversionError: this TensorFlow has no converter.
        Exception: of many kinds, from the converter itself.
    """
    import tensorflow as tf

    try:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    except AttributeError:
        raise ConversionError(
            f"TensorFlow {tf.__version__} has no tf.lite.TFLiteConverter, which amc_tf makes .tflite files with: "
            f"install TensorFlow 2.19 to 2.21."
        ) from None
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantization.examples is not None:
            arrays = quantization.examples
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: (
                [array[number : number + 1] for array in arrays] for number in range(len(arrays[0]))
            )
            if quantization.integer_io:
                converter.inference_input_type = converter.inference_output_type = tf.int8
        elif quantization.weights_bits == 16:
            converter.target_spec.supported_types = [tf.float16]
    return converter.convert()
