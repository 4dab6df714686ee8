"""convert: Keras -> .tflite with batch 1. check: refuses a .tflite whose operators are not fit to ship."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amc_tf.errors import ConversionError
from amc_tf.graph import keras_reader
from amc_tf.tflite.conversion.tf_converter import Quantization, tflite_of
from amc_tf.tflite.flatbuffer import pack, unpack
from amc_tf.tflite.operators import Operator, Subgraph, read
from amc_tf.tflite.silence import silence

SIGNATURE = "serving_default"  # the name that TensorFlow's own exports give it
_VARIABLES = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}
_FOLDS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}  # BatchNorm is folded into these


def convert(model: Any, quantization: Quantization | None = None) -> bytes:
    """Converts a Keras model to a .tflite with the batch fixed to 1, in float32 by default, and checks its operators.

    The file has one signature. Its inputs have the names of the model's inputs, its outputs those of the layers that
    compute them. The order of both is the model's.

    Args:
        model: built functional or Sequential keras.Model (Keras 3) or tf_keras.Model; it is not changed.
        quantization: how the file holds its numbers; None for float32.

    Returns:
        The contents of the .tflite.

    Raises:
        TypeError: not a Keras model.
        UnsupportedModel: the model is subclassed or not built, or its inputs leave a size open.
        ConversionError: the converter cannot express the model, or the file is not fit to ship.
    """
    keras_reader.check(model)
    import tensorflow as tf

    # A concrete function of batch 1 is frozen to constants first. from_keras_model leaves the batch open and takes two
    # to three times as long. from_concrete_functions([...], model) leaves variables of Keras 3 in the file.
    structure = keras_reader.input_structure(model)

    @tf.function(autograph=False)
    def infer(*values):
        return tf.nest.flatten(model(tf.nest.pack_sequence_as(structure, values), training=False))

    unsigned = from_function(infer, arguments(model, 1), model.name, quantization)
    tflite = _sign(unsigned, input_names(model), output_names(model))
    check(tflite)
    return tflite


def arguments(model: Any, batch: int) -> list[Any]:
    """The TensorSpecs of a model's inputs with the batch fixed, in the order of the .tflite's inputs."""
    import tensorflow as tf

    return [
        tf.TensorSpec((batch, *tensor.shape[1:]), tensor.dtype, name=f"input_{number}")
        for number, tensor in enumerate(tf.nest.flatten(keras_reader.input_structure(model)))
    ]


def from_function(function: Any, specs: list[Any], name: str, quantization: Quantization | None = None) -> bytes:
    """Converts a tf.function to a .tflite without signature, unchecked.

    Args:
        function: tf.function.
        specs: the TensorSpecs of its arguments.
        name: of the model that it runs, for messages.
        quantization: see convert.

    Raises:
        ConversionError: the function cannot be traced or converted.
    """
    with silence():
        try:
            concrete = function.get_concrete_function(*specs)
        except Exception as error:
            raise ConversionError(
                f"The model {name!r} cannot be run on a batch of shapes "
                f"{[tuple(spec.shape) for spec in specs]} ({_first_line(str(error))}); "
                f"it must accept any batch, 1 included."
            ) from error
        try:
            return tflite_of(concrete, quantization)
        except ConversionError:
            raise
        except Exception as error:  # the converter raises many kinds, with pages of its own stack as text
            raise ConversionError(
                f"The model {name!r} cannot be expressed in TFLite's own operators ({_complaint(str(error))}); "
                f"replace the layers that need others."
            ) from None


def check(tflite: bytes | str | Path) -> None:
    """Refuses a .tflite with operators that need more than the plain runtime, or that the converter should have folded.

    These are custom operators (including those of the Flex delegate), variables, a scale per channel directly behind a
    convolution or dense layer (an unfolded BatchNormalization), and inputs of open size.

    Raises:
        ConversionError: one sentence that lists all problems.
    """
    subgraphs = read(tflite)
    problems = Counter(problem for subgraph in subgraphs for problem in _problems(subgraph))
    problems.update(_open_inputs(subgraphs[0]))
    if problems:
        listed = "; ".join(f"{problem}, {times} times" if times > 1 else problem for problem, times in problems.items())
        raise ConversionError(f"The .tflite is not fit to ship: {listed}; make it with amc_tf's convert().")


def input_names(model: Any) -> list[str]:
    """The names of a model's inputs, in the order of the .tflite's inputs."""
    import tensorflow as tf

    # Keras 3 numbers nameless inputs through the whole process, so their names would differ in every file.
    names = [tensor.name for tensor in tf.nest.flatten(keras_reader.input_structure(model))]
    # A model that was rebuilt from one with such names has the number of the layer instead.
    numbered = re.compile(r"keras_tensor.*|input_layer(_\d+)?")
    return _unique([f"input_{k}" if numbered.fullmatch(name) else name for k, name in enumerate(names)])


def output_names(model: Any) -> list[str]:
    """The names of a model's outputs, in the model's order: those of the layers that compute them."""
    names = getattr(model, "output_names", None)  # a Sequential of Keras 3 has none
    return _unique(names or [model.layers[-1].name] * len(model.outputs))


def _unique(names: list[str]) -> list[str]:
    """["dense", "dense"] -> ["dense", "dense_1"]."""
    unique: list[str] = []
    for name in names:
        candidates = (f"{name}_{k}" if k else name for k in itertools.count())
        unique.append(next(candidate for candidate in candidates if candidate not in unique))
    return unique


def _sign(tflite: bytes, inputs: list[str], outputs: list[str]) -> bytes:
    """Adds the signature. The converter omits it for a function without a saved model around it."""
    from ai_edge_litert import schema_py_generated as schema

    file = unpack(tflite)
    graph = file.subgraphs[0]
    names = [graph.tensors[tensor].name.decode() for tensor in graph.inputs]
    if names != [f"input_{number}" for number in range(len(inputs))] or len(graph.outputs) != len(outputs):
        raise ConversionError(
            f"The converter made a file with inputs {names} and {len(graph.outputs)} outputs of a model with inputs "
            f"{inputs} and outputs {outputs}; give the model inputs that are all used."
        )
    file.signatureDefs = [
        schema.SignatureDefT(
            inputs=[schema.TensorMapT(*pair) for pair in zip(inputs, graph.inputs, strict=True)],
            outputs=[schema.TensorMapT(*pair) for pair in zip(outputs, graph.outputs, strict=True)],
            signatureKey=SIGNATURE,
        )
    ]
    return pack(file)


def _problems(subgraph: Subgraph) -> Iterator[str]:
    """What is wrong with the operators of a subgraph, a few words for each operator."""
    for operator in subgraph.operators:
        if operator.name.startswith("Flex"):
            yield f"{operator.name} needs the Flex delegate"
        elif operator.custom:
            yield f"{operator.name} is a custom operator"
        elif operator.name in _VARIABLES:
            yield f"{operator.name} belongs to a variable that was not frozen"
        elif _scales_a_convolution(subgraph, operator):
            yield f"MUL by channel behind {_maker(subgraph, operator).name} is an unfolded BatchNormalization"


def _scales_a_convolution(subgraph: Subgraph, operator: Operator) -> bool:
    """Whether an operator multiplies the output of a convolution by a constant for each channel.

    Scales that cannot be folded do not count: behind an activation, or if another operator reads the convolution too.
    """
    maker = _maker(subgraph, operator) if operator.name == "MUL" else None
    if maker is None or maker.name not in _FOLDS or maker.activation:
        return False
    (output,) = maker.outputs
    channels = subgraph.values[output].shape[-1]
    return (
        output not in subgraph.outputs
        and len(subgraph.readers(output)) == 1
        and any(
            scale.constant and scale.shape[-1:] == (channels,) and math.prod(scale.shape) == channels
            for scale in (subgraph.values[value] for value in operator.inputs)
        )
    )


def _maker(subgraph: Subgraph, operator: Operator) -> Operator | None:
    """The operator whose output is the first variable input of an operator; None if there is no such input."""
    variable = [value for value in operator.inputs if value >= 0 and not subgraph.values[value].constant]
    makers = (maker for maker in subgraph.operators if variable and variable[0] in maker.outputs)
    return next(makers, None)


def _open_inputs(subgraph: Subgraph) -> Iterator[str]:
    for value in (subgraph.values[number] for number in subgraph.inputs):
        if -1 in value.signature:
            yield f"input {value.name!r} has the open shape {value.signature}"


def _complaint(text: str) -> str:
    """The converter's message without its stack."""
    missing = sorted(set(re.findall(r"'(tf\.\w+)' op is neither a custom op nor a flex op", text)))
    if missing:
        return f"no kernel for {', '.join(missing)}"
    errors = re.findall(r"\berror: (.+)", text)
    return errors[0].strip() if errors else _first_line(text)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no message").rstrip(".;")
