"""The oracle: foretold shapes == those of the file that the converter makes."""

import importlib

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from amc_tf.errors import ConversionError
from amc_tf.pruning.channel import ChannelPruning
from amc_tf.tflite import shapes as module
from amc_tf.tflite.convert import convert
from amc_tf.tflite.operators import read
from amc_tf.tflite.shapes import Shapes
from tests import small, toys

CASES = [
    "depthwise", "dense_block", "dense_after_flatten", "activation_layers", "padding_and_cropping", "squeeze_excite",
    "concatenate_then_grouped", "concatenate_after_flatten", "grouped1d",
]  # fmt: skip


def shapes_of(model) -> tuple[ChannelPruning, Shapes]:
    pruning = ChannelPruning(model, round_to=1, min_keep=0.1)
    return pruning, Shapes(pruning, convert(model))


def layout(tflite: bytes) -> list:
    return [
        (operator.name, [graph.values[value].shape for value in (*operator.inputs, *operator.outputs) if value >= 0])
        for graph in read(tflite)
        for operator in graph.operators
    ]


def random_widths(pruning: ChannelPruning, seed: int) -> tuple[int, ...]:
    rng = np.random.default_rng(seed)
    return tuple(int(rng.choice(unit.widths)) for unit in pruning.units)


@pytest.fixture(scope="module")
def of_small():
    return shapes_of(small.network(importlib.import_module("keras")))


@pytest.mark.parametrize("name", CASES)
def test_foretold_shapes_are_those_of_the_converters_file(name):
    keras = importlib.import_module("keras")
    pruning, shapes = shapes_of(toys.TOYS[name].build(keras))
    widths = random_widths(pruning, 0)
    hollow = shapes.hollow(widths)
    assert layout(hollow) == layout(convert(pruning.apply(pruning.plan(widths))))


def test_a_hollow_file_runs_and_has_the_names_of_the_base(of_small):
    pruning, shapes = of_small
    interpreter = Interpreter(model_content=shapes.hollow(random_widths(pruning, 1)))
    (name,) = interpreter.get_signature_runner().get_input_details()
    out = interpreter.get_signature_runner()(**{name: small.images(1)})
    assert np.isfinite(next(iter(out.values()))).all()


def test_at_full_width_the_file_computes_what_the_base_does(of_small):
    pruning, shapes = of_small
    x = small.images(1)
    runners = [Interpreter(model_content=file).get_signature_runner()
               for file in (shapes.hollow(pruning.full), convert(pruning.model))]  # fmt: skip
    (name,) = runners[0].get_input_details()
    one, other = (next(iter(runner(**{name: x}).values())) for runner in runners)
    assert np.abs(one - other).max() < 1e-5


def test_files_of_other_operators_are_refused(of_small, monkeypatch):
    """As when the converter turns a layer of one channel into something else."""
    pruning, _ = of_small
    keras = importlib.import_module("keras")
    base = convert(pruning.model)
    longer = keras.Sequential([small.network(keras), keras.layers.Dense(4)])
    monkeypatch.setattr(module, "convert", lambda model: convert(longer))
    with pytest.raises(ConversionError, match="other operators"):
        Shapes(pruning, base)


def test_a_number_that_no_channel_explains_is_refused(of_small, monkeypatch):
    pruning, _ = of_small
    base = convert(pruning.model)
    keras = importlib.import_module("keras")
    wider = small.network(keras, width=17)
    monkeypatch.setattr(module, "convert", lambda model: convert(wider))
    with pytest.raises(ConversionError, match="no channel axis"):
        Shapes(pruning, base)
