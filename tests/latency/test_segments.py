"""Pieces of an int8 file are models that run, and not the same computation as those of a float file."""

import importlib
from types import SimpleNamespace

from ai_edge_litert.interpreter import Interpreter

from amc_tf.latency.segments import model_of, segments
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.conversion.quantize import rough
from amc_tf.tflite.flatbuffer import unpack
from tests import small


def test_segments_of_whole_numbers_run_and_are_of_their_own_kind():
    model = small.network(importlib.import_module("keras"))
    whole, flat = (
        SimpleNamespace(model=unpack(file), places={})
        for file in (rough("int8", [small.images(4)], integer_io=True)(model), convert(model))
    )
    assert len(segments(whole)) == len(segments(flat))  # not one operator more, and still:
    assert not {segment.kind for segment in segments(whole)} & {segment.kind for segment in segments(flat)}
    for segment in segments(whole):
        file, copies = model_of(whole, segment, [])
        interpreter = Interpreter(model_content=file)
        interpreter.allocate_tensors()
        interpreter.invoke()
        assert copies >= 1
