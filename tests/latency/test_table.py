"""The oracle: a device whose time is a known function of the operators' shapes, so that the true price is known."""

import functools
import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from amc_tf.devices.timing import Timing
from amc_tf.errors import DeviceError
from amc_tf.latency import table as table_module
from amc_tf.latency.segments import model_of, segments
from amc_tf.latency.table import LatencyTable, load_or_measure, measure
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.tflite.operators import read
from amc_tf.tflite.slicing.shapes import Shapes, rewritten
from tests import small, toys


class Computed:
    """Takes 1 us for each tile of 4 output channels and row of input channels, and a little for each element."""

    name = "computed"

    def __init__(self, **identity):
        self.identity, self.measured, self.broken = {"device": "computed", **identity}, 0, False

    def benchmark_many(self, paths, *, min_runs, min_seconds) -> list[Timing]:
        if self.broken:
            raise DeviceError("The cable is out: put it in.")
        self.measured += len(paths)
        return [Timing(processes=(microseconds(Path(path).read_bytes()),), min_us=1, runs=1) for path in paths]


@functools.cache
def microseconds(tflite: bytes) -> float:
    (graph,) = read(tflite)
    total = 0.0
    for operator in graph.operators:
        shapes = [graph.values[value].shape for value in (*operator.inputs, *operator.outputs) if value >= 0]
        total += sum(math.prod(shape) for shape in shapes if len(shape) != 1) * 1e-3
        if operator.name in ("CONV_2D", "FULLY_CONNECTED"):
            out, *_, inputs = graph.values[operator.inputs[1]].shape
            total += math.ceil(out / 4) * inputs * 0.1
    return total


@pytest.fixture(autouse=True)
def one_pass(monkeypatch):
    """A second pass would say the same again; for noise there are two, see Noisy."""
    monkeypatch.setattr(table_module, "_PASSES", 1)


def setting(model, round_to=1):
    pruning = ChannelPruner(model, round_to=round_to, min_keep=0.1)
    return pruning, Shapes(pruning)


def truly(shapes, widths) -> float:
    """What the whole network of these widths takes."""
    return microseconds(rewritten(shapes.model, shapes.numbers(widths)))


@pytest.fixture(scope="module")
def of_small():
    return setting(small.network(importlib.import_module("keras"), width=10))


@pytest.fixture(scope="module")
def coarse():
    """A smaller one with few widths, for tests in which measuring only takes time."""
    return setting(small.plain(importlib.import_module("keras"), width=10), round_to=5)


def test_a_plan_costs_what_its_operators_cost(of_small):
    pruning, shapes = of_small
    table = measure(Computed(), shapes, pruning.units)
    rng = np.random.default_rng(0)
    plans = [tuple(int(rng.choice(unit.widths)) for unit in pruning.units) for _ in range(20)]
    off = [abs(table(widths) / truly(shapes, widths) - 1) for widths in plans]
    assert np.mean(off) < 0.02 and max(off) < 0.1
    assert table(pruning.full) == pytest.approx(truly(shapes, pruning.full), rel=1e-6)


def test_axes_that_several_units_make_together_are_priced(of_small):
    pruning, shapes = setting(toys.TOYS["dense_block"].build(importlib.import_module("keras")))
    table = measure(Computed(), shapes, pruning.units)
    rng = np.random.default_rng(0)
    for _ in range(10):
        widths = tuple(int(rng.choice(unit.widths)) for unit in pruning.units)
        assert table(widths) == pytest.approx(truly(shapes, widths), rel=0.15)


def test_the_price_never_falls_when_a_unit_gets_wider(of_small, monkeypatch):
    pruning, shapes = of_small
    monkeypatch.setattr(table_module, "_PASSES", 2)

    class Noisy(Computed):
        rng = np.random.default_rng(1)

        def benchmark_many(self, paths, **arguments):
            found = super().benchmark_many(paths, **arguments)
            return [Timing(processes=(t.median_us * self.rng.uniform(0.7, 1.3),), min_us=1, runs=1) for t in found]

    table = measure(Noisy(), shapes, pruning.units)
    for index, unit in enumerate(pruning.units):
        prices = []
        for width in unit.widths:
            widths = [u.size for u in pruning.units]
            widths[index] = width
            prices.append(table(widths))
        assert (np.diff(prices) >= -1e-9).all()


def test_the_scale_makes_the_whole_network_cost_what_it_took(of_small):
    pruning, shapes = of_small
    table = measure(Computed(), shapes, pruning.units)
    half = [unit.widths[len(unit.widths) // 2] for unit in pruning.units]
    before = table(half) / table(pruning.full)
    table.fit(1234.0)
    assert table(pruning.full) == pytest.approx(1234.0)
    assert table(half) / table(pruning.full) == pytest.approx(before)


def test_segments_are_all_operators_once(of_small):
    _, shapes = of_small
    found = [index for segment in segments(shapes) for index in segment.operators]
    assert sorted(found) == list(range(len(shapes.model.subgraphs[0].operators)))


def test_padding_goes_with_the_convolution_that_reads_it(of_small):
    keras = importlib.import_module("keras")
    x = image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, name="first")(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2)(keras.layers.ZeroPadding2D(2)(x))
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    _, shapes = setting(model)
    chains = [segment.operators for segment in segments(shapes) if len(segment.operators) > 1]
    assert len(chains) == 1
    pair = next(segment for segment in segments(shapes) if segment.operators == chains[0])
    file, copies = model_of(shapes, pair, [4])
    assert [operator.name for operator in read(file)[0].operators] == ["PAD", "DEPTHWISE_CONV_2D"] * copies


def test_small_models_are_repeated_with_weights_of_their_own(of_small):
    _, shapes = of_small
    segment = next(s for s in segments(shapes) if len(s.rows) == 2)
    values = shapes.lengths(shapes.lengths.full)[list(segment.rows)]
    file, copies = model_of(shapes, segment, values)
    (graph,) = read(file)
    assert copies == len(graph.operators) == len(graph.outputs) > 1
    assert len({operator.inputs[0] for operator in graph.operators}) == 1
    assert len({operator.inputs[1] for operator in graph.operators}) == copies


def test_a_table_is_measured_once_for_a_device_and_a_network(coarse, tmp_path):
    pruning, shapes = coarse
    device = Computed(threads="1")
    first = load_or_measure(device, shapes, pruning.units, folder=tmp_path)
    count = device.measured
    again = load_or_measure(device, shapes, pruning.units, folder=tmp_path)
    assert device.measured == count > 0
    assert again(pruning.full) == first(pruning.full)
    other = Computed(threads="2")
    load_or_measure(other, shapes, pruning.units, folder=tmp_path)
    assert other.measured == count


def test_other_allowed_widths_are_another_table(coarse, tmp_path):
    pruning, shapes = coarse
    device = Computed()
    load_or_measure(device, shapes, pruning.units, folder=tmp_path)
    count = device.measured
    wider, shapes = setting(pruning.model, round_to=10)
    load_or_measure(device, shapes, wider.units, folder=tmp_path)
    assert device.measured > count


@pytest.mark.parametrize("damage", ["", "{", '{"version": 0}', "[]"])
def test_a_damaged_table_is_measured_anew(coarse, tmp_path, damage):
    pruning, shapes = coarse
    device = Computed()
    load_or_measure(device, shapes, pruning.units, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(damage)
    count = device.measured
    load_or_measure(device, shapes, pruning.units, folder=tmp_path)
    assert device.measured == 2 * count
    assert json.loads(path.read_text())["version"] > 0


def test_a_cache_that_cannot_be_written_does_not_stop_the_search(coarse, tmp_path):
    pruning, shapes = coarse
    (tmp_path / "file").write_text("")
    assert load_or_measure(Computed(), shapes, pruning.units, folder=tmp_path / "file")(pruning.full) > 0


def test_half_a_table_is_not_kept(coarse, tmp_path):
    pruning, shapes = coarse
    device = Computed()
    device.broken = True
    with pytest.raises(DeviceError, match="cable"):
        load_or_measure(device, shapes, pruning.units, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_progress_counts_up_to_all(coarse):
    pruning, shapes = coarse
    seen = []
    measure(Computed(), shapes, pruning.units, lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)


def test_a_device_that_knows_only_one_at_a_time_is_enough(coarse):
    pruning, shapes = coarse

    class Single:
        identity = {"device": "single"}

        def benchmark(self, path, *, min_runs, min_seconds):
            (timing,) = Computed().benchmark_many([path], min_runs=min_runs, min_seconds=min_seconds)
            return timing

    full = pruning.full
    assert measure(Single(), shapes, pruning.units)(full) == measure(Computed(), shapes, pruning.units)(full)


def test_a_network_with_a_loop_is_priced(of_small):
    """The bodies of loops are other subgraphs of the file."""
    keras = importlib.import_module("keras")
    x = image = keras.Input((12, 4))
    x = keras.layers.Conv1D(6, 3, name="wide")(x)
    x = keras.layers.LSTM(3)(keras.layers.Conv1D(5, 3, name="last")(x))
    pruning, shapes = setting(keras.Model(image, keras.layers.Dense(2)(x)))
    assert len(shapes.model.subgraphs) > 1
    for segment in segments(shapes):
        values = shapes.lengths(pruning.full)[list(segment.rows)]
        file, _ = model_of(shapes, segment, values)
        interpreter = Interpreter(model_content=file)
        interpreter.allocate_tensors()
        interpreter.invoke()


def tied(layers):
    """Lengths that follow each other: depth multipliers, joined branches, maps that are flattened."""
    x = layers.Conv2D(6, 3, padding="same", name="stem")(image := layers.Input((4, 4, 3)))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="deep")(x)
    x = layers.Concatenate()([layers.Conv2D(4 + k, 1, name=f"branch_{k}")(x) for k in range(3)])
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))
    return image, layers.Dense(3)(x)


def test_what_is_measured_of_lengths_that_are_tied_is_what_can_be():
    keras = importlib.import_module("keras")
    pruning, shapes = setting(keras.Model(*tied(keras.layers)))

    class Running(Computed):
        """Runs what it is given, as every device does."""

        def benchmark_many(self, paths, **arguments):
            for path in paths:
                interpreter = Interpreter(str(path))
                interpreter.allocate_tensors()
                interpreter.invoke()
            return super().benchmark_many(paths, **arguments)

    table = measure(Running(), shapes, pruning.units)
    assert table(pruning.full) == pytest.approx(truly(shapes, pruning.full), rel=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(10):
        widths = tuple(int(rng.choice(unit.widths)) for unit in pruning.units)
        assert table(widths) == pytest.approx(truly(shapes, widths), rel=0.15)


def test_the_stored_form_is_the_table(coarse):
    pruning, shapes = coarse
    table = measure(Computed(), shapes, pruning.units)
    again = LatencyTable.from_dict(json.loads(json.dumps(table.to_dict())))
    half = [unit.widths[len(unit.widths) // 2] for unit in pruning.units]
    assert again(half) == table(half) and again.seconds == table.seconds
