"""The Kotlin source that runs a file on Android."""

from amc_tf.report.kotlin import snippet
from amc_tf.report.signature import TensorSpec

IMAGE, LOGITS = TensorSpec("image", (1, 32, 32, 3), "float32"), TensorSpec("head", (1, 10), "float32")


def test_one_input_and_one_output():
    source = snippet("model.tflite", [IMAGE], [LOGITS])
    assert 'CompiledModel.create(context.assets, "model.tflite", CompiledModel.Options(Accelerator.CPU))' in source
    assert "fun run(input: FloatArray): FloatArray" in source and "require(input.size == 32 * 32 * 3)" in source
    assert "inputs[0].writeFloat(input)" in source and "outputs[0].readFloat()" in source
    assert source.count("{") == source.count("}") and source.count("(") == source.count(")")


def test_integers_are_written_as_bytes():
    source = snippet("model_int8.tflite", [TensorSpec("image", (1, 8), "int8", 0.5, 3)], [LOGITS])
    assert "fun run(input: ByteArray): FloatArray" in source and "writeInt8(input)" in source
    assert "require(input.size == 8)" in source


def test_several_inputs_and_outputs_go_by_their_names():
    inputs, outputs = [IMAGE, TensorSpec('a "$b"', (1,), "int32")], [LOGITS, TensorSpec("mask", (1, 4), "bool")]
    source = snippet("model.tflite", inputs, outputs)
    assert "fun run(input0: FloatArray, input1: IntArray): List<Any>" in source
    assert 'inputs.getValue("a \\"\\$b\\"").writeInt(input1)' in source  # $ would begin a template
    assert '"mask" to model.createOutputBuffer("mask")' in source and '"mask").readBoolean()' in source
    assert source.count("{") == source.count("}") and source.count("(") == source.count(")")


def test_a_name_cannot_end_the_comment():
    source = snippet("m.tflite", [IMAGE, TensorSpec("*/ x", (1,), "int32")], [LOGITS])
    assert "*/ x" not in source.split("fun run")[0].split("/**")[1]


def test_a_type_without_a_kotlin_method_has_no_source():
    assert snippet("model.tflite", [TensorSpec("image", (1, 8), "uint8")], [LOGITS]) is None


def test_unknown_inputs_and_outputs_count_as_one_of_each():
    source = snippet("model.tflite", (), ())
    assert "fun run(input: FloatArray): FloatArray" in source and "require" not in source
