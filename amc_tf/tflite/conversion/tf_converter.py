"""The converter from TensorFlow functions to .tflite: the one file that knows which there is.

It is TensorFlow's own, which is in maintenance while work goes on in ai-edge-litert. Its litert-converter (0.5) reads
MLIR of exported programs and takes no TensorFlow function, so it does not stand in yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amc_tf.errors import ConversionError


@dataclass(frozen=True)
class Quantization:
    """How a file holds its numbers, where not in float32.

    Attributes:
        weights_bits: 8 or 16, of the weights of a file that computes in floats.
        examples: one array (examples, ...) for each input, in the types that the function takes: the file computes in
            int8, by the ranges that these show. None for a file that computes in floats.
        integer_io: whether inputs and outputs are int8 too where it does.
    """

    weights_bits: int = 8
    examples: Sequence[np.ndarray] | None = None
    integer_io: bool = False


def tflite_of(concrete: Any, quantization: Quantization | None = None) -> bytes:
    """What the converter makes of a concrete function.

    Args:
        concrete: of a tf.function whose variables have fixed values.
        quantization: None for float32.

    Raises:
        ConversionError: this TensorFlow has no converter.
        Exception: of many kinds, by the converter itself.
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
