"""Kotlin source that runs a .tflite of the run directory in an Android app.

It calls LiteRT's CompiledModel (com.google.ai.edge.litert, https://developers.google.com/edge/litert/next/android_kotlin).
"""

import json
import math
from collections.abc import Sequence

from amc_tf.report.signature import TensorSpec

DEPENDENCY = 'implementation("com.google.ai.edge.litert:litert:2.3.0")'

# NumPy type -> (Kotlin array, suffix of TensorBuffer's read and write methods). Other types have no such method.
_TYPES = {
    "float32": ("FloatArray", "Float"),
    "int32": ("IntArray", "Int"),
    "int64": ("LongArray", "Long"),
    "int8": ("ByteArray", "Int8"),
    "bool": ("BooleanArray", "Boolean"),
}
# Run directories of amc_tf 0.1 do not record inputs and outputs. Nearly all networks have one of each, of float32.
_UNKNOWN = TensorSpec("", (), "float32")


def snippet(file: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str | None:
    """A Kotlin class that loads the file from the app's assets and runs it.

    Args:
        file: name of the .tflite.
        inputs, outputs: of the file; if empty, the source has one float32 input and one float32 output.

    Returns:
        The source, or None if TensorBuffer has no method for one of the types.
    """
    inputs, outputs = tuple(inputs) or (_UNKNOWN,), tuple(outputs) or (_UNKNOWN,)
    if not {spec.dtype for spec in (*inputs, *outputs)} <= _TYPES.keys():
        return None
    body = _single if len(inputs) == len(outputs) == 1 else _several
    return f"""\
import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

class Network(context: Context) : AutoCloseable {{
    private val model =
        CompiledModel.create(context.assets, {_text(file)}, CompiledModel.Options(Accelerator.CPU))
{body(inputs, outputs)}}}
"""


def _single(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    (input_type, write), (output_type, read) = _TYPES[inputs[0].dtype], _TYPES[outputs[0].dtype]
    check = f"        require(input.size == {_count(inputs[0])})\n" if inputs[0].shape else ""
    return f"""\
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    /** {_sides(inputs[0])} -> {_sides(outputs[0])} */
    fun run(input: {input_type}): {output_type} {{
{check}        inputs[0].write{write}(input)
        model.run(inputs, outputs)
        return outputs[0].read{read}()
    }}

    override fun close() {{
        (inputs + outputs).forEach {{ it.close() }}
        model.close()
    }}
"""


def _several(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """Addresses the buffers by the names in the signature, since the order of several is easily mistaken."""
    input_buffers, output_buffers = (
        "\n".join(f"        {_text(spec.name)} to model.create{side}Buffer({_text(spec.name)})," for spec in specs)
        for side, specs in (("Input", inputs), ("Output", outputs))
    )
    parameters = ", ".join(f"input{i}: {_TYPES[spec.dtype][0]}" for i, spec in enumerate(inputs))
    comments = "\n".join(
        f"     * {side}{i}: {_comment(spec.name)}, {_sides(spec)}"
        for side, specs in (("input", inputs), ("output ", outputs))
        for i, spec in enumerate(specs)
    )
    writes = "\n".join(
        f"        inputs.getValue({_text(spec.name)}).write{_TYPES[spec.dtype][1]}(input{i})"
        for i, spec in enumerate(inputs)
    )
    reads = "\n".join(
        f"            outputs.getValue({_text(spec.name)}).read{_TYPES[spec.dtype][1]}()," for spec in outputs
    )
    return f"""\
    private val inputs = mapOf(
{input_buffers}
    )
    private val outputs = mapOf(
{output_buffers}
    )

    /**
{comments}
     */
    fun run({parameters}): List<Any> {{
{writes}
        model.run(inputs, outputs)
        return listOf(
{reads}
        )
    }}

    override fun close() {{
        (inputs.values + outputs.values).forEach {{ it.close() }}
        model.close()
    }}
"""


def _count(spec: TensorSpec) -> str:
    """The number of elements; with several sides other than 1, as their product: "32 * 32 * 3"."""
    sides = [side for side in spec.shape if side != 1]
    return " * ".join(map(str, sides)) if len(sides) > 1 else str(math.prod(spec.shape))


def _sides(spec: TensorSpec) -> str:
    """Shape, with the batch, and type: "1 x 32 x 32 x 3 float32"."""
    return f"{' x '.join(map(str, spec.shape)) or 'one number'} {spec.dtype}" if spec is not _UNKNOWN else "float32"


def _text(name: str) -> str:
    """A Kotlin string literal."""
    return json.dumps(name).replace("$", "\\$")


def _comment(name: str) -> str:
    """A name in quotes that cannot end the Kotlin comment."""
    return json.dumps(name).replace("*/", "* /")
