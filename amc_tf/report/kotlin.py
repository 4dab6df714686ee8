"""The few lines of Kotlin that run a file of the run directory in an Android app.

The API is LiteRT's CompiledModel (com.google.ai.edge.litert, https://developers.google.com/edge/litert/next/android_kotlin).
"""

import json
import math
from collections.abc import Sequence

from amc_tf.report.signature import End

DEPENDENCY = 'implementation("com.google.ai.edge.litert:litert:2.3.0")'

# NumPy's type -> (Kotlin's array, end of the names of TensorBuffer's methods); what is not here has no method.
_TYPES = {
    "float32": ("FloatArray", "Float"),
    "int32": ("IntArray", "Int"),
    "int64": ("LongArray", "Long"),
    "int8": ("ByteArray", "Int8"),
    "bool": ("BooleanArray", "Boolean"),
}
_UNKNOWN = End("", (), "float32")  # an earlier amc_tf did not record the ends; nearly all networks have one of each


def snippet(file: str, inputs: Sequence[End], outputs: Sequence[End]) -> str | None:
    """A Kotlin class that loads the file from the app's assets and runs it.

    Args:
        file: name of the .tflite.
        inputs, outputs: of the file; empty where they are not known, and then one of float32 each is taken.

    Returns:
        The source, or None where TensorBuffer has no method for a type of the ends.
    """
    inputs, outputs = tuple(inputs) or (_UNKNOWN,), tuple(outputs) or (_UNKNOWN,)
    if not {end.dtype for end in (*inputs, *outputs)} <= _TYPES.keys():
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


def _single(inputs: Sequence[End], outputs: Sequence[End]) -> str:
    (taken, write), (given, read) = _TYPES[inputs[0].dtype], _TYPES[outputs[0].dtype]
    check = f"        require(input.size == {_count(inputs[0])})\n" if inputs[0].shape else ""
    return f"""\
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    /** {_sides(inputs[0])} -> {_sides(outputs[0])} */
    fun run(input: {taken}): {given} {{
{check}        inputs[0].write{write}(input)
        model.run(inputs, outputs)
        return outputs[0].read{read}()
    }}

    override fun close() {{
        (inputs + outputs).forEach {{ it.close() }}
        model.close()
    }}
"""


def _several(inputs: Sequence[End], outputs: Sequence[End]) -> str:
    """By the names of the signature: the order of several ends is easily mistaken."""
    made = [
        "\n".join(f"        {_text(end.name)} to model.create{side}Buffer({_text(end.name)})," for end in ends)
        for side, ends in (("Input", inputs), ("Output", outputs))
    ]
    arguments = ", ".join(f"input{i}: {_TYPES[end.dtype][0]}" for i, end in enumerate(inputs))
    told = "\n".join(
        f"     * {side}{i}: {_comment(end.name)}, {_sides(end)}"
        for side, ends in (("input", inputs), ("output ", outputs))
        for i, end in enumerate(ends)
    )
    writes = "\n".join(
        f"        inputs.getValue({_text(end.name)}).write{_TYPES[end.dtype][1]}(input{i})"
        for i, end in enumerate(inputs)
    )
    reads = "\n".join(
        f"            outputs.getValue({_text(end.name)}).read{_TYPES[end.dtype][1]}()," for end in outputs
    )
    return f"""\
    private val inputs = mapOf(
{made[0]}
    )
    private val outputs = mapOf(
{made[1]}
    )

    /**
{told}
     */
    fun run({arguments}): List<Any> {{
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


def _count(end: End) -> str:
    """How many numbers an end has, as a product where that says more."""
    sides = [side for side in end.shape if side != 1]
    return " * ".join(map(str, sides)) if len(sides) > 1 else str(math.prod(end.shape))


def _sides(end: End) -> str:
    """The shape with the batch, and the type."""
    return f"{' x '.join(map(str, end.shape)) or 'one number'} {end.dtype}" if end is not _UNKNOWN else "float32"


def _text(name: str) -> str:
    """A Kotlin string literal."""
    return json.dumps(name).replace("$", "\\$")


def _comment(name: str) -> str:
    return json.dumps(name).replace("*/", "* /")
