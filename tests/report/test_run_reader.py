"""Reading run directories: new, old, interrupted and damaged ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from amc_tf.errors import RunDirError
from amc_tf.report.run_reader import read_run
from amc_tf.report.signature import TensorSpec, read_signature
from amc_tf.result import Figures
from amc_tf.tflite.flatbuffer import pack
from tests.report import runs


def test_a_run_directory_is_read_back(tmp_path):
    found = read_run(runs.run(tmp_path / "mobile", free=3, tried=4, latency=runs.latency()))
    assert (found.name, found.target, found.episodes, len(found.trials)) == ("mobile", "macs", 4, 6)
    assert found.base == Figures(0.9, 125_485_696, 857_082, 3_440_640, None, 3_194_066)
    assert found.formats[0].file == found.tflite == "model.tflite" and found.formats[0].accuracy == 0.83
    assert [unit.frozen for unit in found.units] == [None] * 3 + ["it is an output of the model"]
    chosen = next(trial for trial in found.trials if trial.plan == found.digest)
    assert {unit.name: unit.keep for unit in found.units[:3]} == chosen.keep_ratios
    assert [trial.number for trial in found.failed] == [5]
    assert found.latency.compressed.median_us == 10050 and found.latency.device["model"] == "Pixel 8"
    assert found.inputs == (TensorSpec("image", (1, 32, 32, 3), "float32"),)
    assert found.versions == runs.VERSIONS and found.arguments["budget"] == 0.5


def test_an_old_run_directory_leaves_fields_empty(tmp_path):
    new, old = read_run(runs.run(tmp_path / "new")), read_run(runs.old(tmp_path / "old"))
    assert (old.formats, old.inputs, old.training, old.uniform, old.frozen_known) == ((), (), None, None, False)
    assert old.method == "channel" and old.tflite == "model.tflite" and old.base.gzip_bytes is None
    assert [replace(unit, layers=()) for unit in new.units if not unit.frozen] == list(old.units)


def test_a_torn_last_line_is_ignored(tmp_path):
    folder = runs.run(tmp_path / "run", tried=4)
    whole = read_run(folder).trials
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('{"number": 6, "sta')
    assert read_run(folder).trials == whole


@pytest.mark.parametrize(
    ("name", "contents", "says"),
    [
        ("journal.jsonl", None, "is no run directory"),
        ("result.json", None, "has not come to a result"),
        ("result.json", '{"base": ', "result.json cannot be read as JSON"),
        ("result.json", "[1]", "no JSON object"),
        ("result.json", "{}", "KeyError('base')"),
        ("result.json", '{"base": 1}', "damaged or not amc_tf's"),
        ("result.json", {"base": {}}, "accuracy is None"),
        ("result.json", {"formats": [{}]}, "format is None"),
        ("result.json", {"limit": "x"}, "could not convert string"),
        ("journal.jsonl", "", "is empty"),
        ("journal.jsonl", '{"format": 1}\n{"number": 0}\n', "line 2, is no trial: KeyError"),
        ("plan.json", "{}", "is not a plan"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_sentence(tmp_path, name, contents, says):
    folder = runs.run(tmp_path / "run", tried=1)
    if contents is None:
        (folder / name).unlink()
    elif isinstance(contents, dict):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | contents))
    else:
        (folder / name).write_text(contents)
    with pytest.raises(RunDirError) as caught:
        read_run(folder)
    assert says in str(caught.value) and str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_no_folder_is_no_run_directory(tmp_path):
    with pytest.raises(RunDirError, match="is no folder"):
        read_run(tmp_path / "nowhere")


def tflite(dtype, scale=None):
    """A file with one input and one output that computes nothing."""
    def tensor(name, shape):
        made = schema.TensorT()
        made.name, made.shape, made.type = name, shape, getattr(schema.TensorType, dtype)
        if scale is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = np.float32([scale]), np.int64([-3])
        return made

    def entry(name, index):
        made = schema.TensorMapT()
        made.name, made.tensorIndex = name, index
        return made

    graph, signature, model = schema.SubGraphT(), schema.SignatureDefT(), schema.ModelT()
    graph.tensors, graph.inputs, graph.outputs = [tensor("y", [1, 10]), tensor("x", [1, 8, 8, 3])], [1], [0]
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [entry("image", 1)], [entry("head", 0)]
    model.version, model.subgraphs, model.signatureDefs, model.buffers = 3, [graph], [signature], [schema.BufferT()]
    return pack(model)


def test_inputs_and_outputs_are_those_of_the_file_that_ships(tmp_path):
    folder = runs.run(tmp_path / "run", tried=1, tflite="model_int8.tflite")
    (folder / "model_int8.tflite").write_bytes(tflite("INT8", 0.25))
    found = read_run(folder)
    assert found.inputs == (TensorSpec("image", (1, 8, 8, 3), "int8", 0.25, -3),)
    assert found.outputs == (TensorSpec("head", (1, 10), "int8", 0.25, -3),)
    (folder / "model_int8.tflite").write_bytes(b"torn")
    assert read_signature(folder / "model_int8.tflite") is None
    assert read_run(folder).inputs == (TensorSpec("image", (1, 32, 32, 3), "float32"),)
