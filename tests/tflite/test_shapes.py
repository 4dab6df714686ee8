"""The oracle: foretold shapes == those of the file that the converter makes."""

import importlib
import itertools

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from amc_tf.errors import ConversionError
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.conversion.quantize import quantized, rough
from amc_tf.tflite.flatbuffer import pack, unpack
from amc_tf.tflite.operators import read
from amc_tf.tflite.slicing.shapes import Shapes, rewritten
from tests import small, toys

# Of all others the candidates' own tests compare the shapes.
CASES = ["concatenate_after_flatten", "batchnorm_on_rows"]


def shapes_of(model) -> tuple[ChannelPruner, Shapes]:
    pruning = ChannelPruner(model, round_to=1, min_keep=0.1)
    return pruning, Shapes(pruning)


def foretold(shapes: Shapes, widths: tuple[int, ...]) -> bytes:
    return rewritten(shapes.model, shapes.numbers(widths))


def layout(tflite: bytes) -> list:
    return [
        (operator.name, [graph.values[value].shape for value in (*operator.inputs, *operator.outputs) if value >= 0])
        for graph in read(tflite)
        for operator in graph.operators
    ]


def random_widths(pruning: ChannelPruner, seed: int) -> tuple[int, ...]:
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
    assert layout(foretold(shapes, widths)) == layout(convert(pruning.apply(pruning.plan(widths))))


def test_a_rewritten_file_runs_and_has_the_names_of_the_base(of_small):
    pruning, shapes = of_small
    interpreter = Interpreter(model_content=foretold(shapes, random_widths(pruning, 1)))
    (name,) = interpreter.get_signature_runner().get_input_details()
    out = interpreter.get_signature_runner()(**{name: small.images(1)})
    assert np.isfinite(next(iter(out.values()))).all()


def test_at_full_width_the_file_computes_the_same(of_small):
    pruning, shapes = of_small
    runners = [
        Interpreter(model_content=file).get_signature_runner()
        for file in (foretold(shapes, pruning.full), rewritten(shapes.model, {}))
    ]
    (name,) = runners[0].get_input_details()
    one, other = (next(iter(runner(**{name: small.images(1)}).values())) for runner in runners)
    np.testing.assert_array_equal(one, other)


def test_the_file_that_all_others_are_made_of_stays_as_it_is(of_small):
    pruning, shapes = of_small
    before = pack(shapes.model)
    foretold(shapes, random_widths(pruning, 2))
    assert pack(shapes.model) == before


def test_constants_are_made_for_their_new_shape(of_small):
    pruning, shapes = of_small
    graph = shapes.model.subgraphs[0]
    constants = {place[1] for place in shapes.places if place[0] == "dim"}
    tensor = next(t for t in sorted(constants) if shapes.model.buffers[graph.tensors[t].buffer].data is not None)
    widths = tuple(unit.widths[0] for unit in pruning.units)
    made = rewritten(shapes.model, shapes.numbers(widths), {tensor: lambda shape: np.full(shape, 0.625)})
    new = unpack(made)
    data = new.buffers[new.subgraphs[0].tensors[tensor].buffer].data
    assert data.view(np.float32).tolist() == [0.625] * int(np.prod(new.subgraphs[0].tensors[tensor].shape))
    assert tuple(new.subgraphs[0].tensors[tensor].shape) != tuple(graph.tensors[tensor].shape)


def test_the_first_probe_is_the_whole_network_with_other_weights(of_small):
    pruning, shapes = of_small
    whole, *narrower = shapes.probes
    assert whole.file is shapes.model and narrower
    for layer, arrays in pruning.weights.items():
        assert [array.shape for array in whole.weights[layer]] == [array.shape for array in arrays]
    assert not np.allclose(whole.weights["stem"][0], pruning.weights["stem"][0])
    for arrays in whole.weights.values():
        assert all(np.abs(array).min() >= 0.3 * np.abs(array).max() for array in arrays)


def test_files_of_other_operators_are_refused(of_small):
    """As when the converter turns a layer of one channel into something else."""
    pruning, _ = of_small
    keras = importlib.import_module("keras")
    longer = keras.Sequential([small.network(keras), keras.layers.Dense(4)])
    files = itertools.chain([convert(pruning.model)], itertools.repeat(convert(longer)))
    with pytest.raises(ConversionError, match="other operators"):
        Shapes(pruning, lambda model: next(files))


def test_a_number_that_no_channel_explains_is_refused(of_small):
    pruning, _ = of_small
    keras = importlib.import_module("keras")
    files = itertools.chain([convert(pruning.model)], itertools.repeat(convert(small.network(keras, width=17))))
    with pytest.raises(ConversionError, match="no channel axis"):
        Shapes(pruning, lambda model: next(files))


def test_a_foretold_int8_file_is_the_converters_but_for_its_numbers():
    pruning = ChannelPruner(small.network(importlib.import_module("keras")), round_to=1, min_keep=0.1)
    x = [small.images(16)]
    shapes = Shapes(pruning, rough("int8", x))
    widths = random_widths(pruning, 3)
    made = shapes.tflite(widths)
    expected = quantized(pruning.apply(pruning.plan(widths)), "int8", x)
    assert layout(made) == layout(expected) != layout(shapes.tflite(pruning.full))
    assert scales(made) == scales(expected)
    interpreter = Interpreter(model_content=made)  # which checks scales against shapes
    (name,) = interpreter.get_signature_runner().get_input_details()
    assert interpreter.get_signature_runner()(**{name: small.images(1)})


def scales(tflite: bytes) -> list:
    """Type, axis and how many scales, of every tensor."""
    found = []
    for tensor in unpack(tflite).subgraphs[0].tensors:
        told = tensor.quantization
        count = 0 if told is None or told.scale is None else len(told.scale)
        zeros = len(told.zeroPoint) if count else 0
        found.append((tensor.type, tuple(tensor.shape), count, zeros, told.quantizedDimension if count > 1 else 0))
    return sorted(found)
