"""A latency budget met by zeros alone, on a device whose time is computed of the kernels in the file."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import amc_tf
from amc_tf.latency import search_latency, stopwatch
from amc_tf.latency.sparse_prices import SparsePrices, measure, multiplications_per_weight
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.tflite.flatbuffer import unpack
from tests.latency.test_search import Computed
from tests.search.fakes import AgentAtOnce

pytestmark = pytest.mark.usefixtures("shapes_once")

PIXELS = 16 * 16
FIXED, RATE, DENSE = 300.0, 1e-3, 0.4e-3  # microseconds, and of a multiplication in a sparse and in a dense kernel


def network(strides: int = 2):
    """3x3 with stride 2, 1x1, depthwise, 1x1, mean: what XNNPACK has sparse kernels for, at stride 2."""
    layers = keras.layers
    x = image = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, strides=strides, name="stem")(layers.ZeroPadding2D(1)(x))
    x = layers.Conv2D(64, 1, name="wide", activation="relu")(layers.ReLU()(x))
    x = layers.DepthwiseConv2D(3, padding="same", name="each", activation="relu")(x)
    x = layers.Conv2D(64, 1, name="back", activation="relu")(x)
    return keras.Model(image, layers.Dense(4, activation="softmax", name="head")(layers.GlobalAveragePooling2D()(x)))


class Phone(Computed):
    """Takes what kernels of 1x1 take, by their weights that are not zero where more than 2/3 of all are zero."""

    def benchmark(self, path, *, min_runs, min_seconds):
        file = unpack(Path(path).read_bytes())
        kept = size = 0
        for tensor in file.subgraphs[0].tensors:
            shape = [] if tensor.shape is None else tensor.shape.tolist()
            data = file.buffers[tensor.buffer].data
            if data is not None and len(shape) == 4 and shape[1:3] == [1, 1] and tensor.name:
                size += int(np.prod(shape))
                kept += np.count_nonzero(data.view(np.float32))
        self.files.append(Path(path).read_bytes())
        per_pixel = RATE * kept if 3 * kept < size else DENSE * size
        return self._timing(FIXED + PIXELS * per_pixel)


@pytest.fixture(autouse=True)
def apart(monkeypatch, own_cache):
    monkeypatch.setitem(stopwatch._BRIEF, "min_seconds", 0.02)
    monkeypatch.setattr(sys.modules["amc_tf.pipeline.searching"], "DdpgAgent", AgentAtOnce)


@pytest.fixture(scope="module")
def model():
    return network()


def run(model, run_dir, device, **changes):
    x = np.random.default_rng(0).normal(size=(96, 32, 32, 3)).astype(np.float32)
    arguments = {
        "method": "magnitude", "target": "latency", "budget": 0.7, "episodes": 4, "calibration_size": 32,
        "reward_size": 64, "run_dir": run_dir, "verbose": False, "report": False,
        "train_data": (x, np.asarray(model(x)).argmax(-1)),
    }  # fmt: skip
    return amc_tf.compress(model, device=device, **(arguments | changes))


def test_the_budget_is_held_by_the_file_that_ships(model, tmp_path):
    device = Phone()
    result = run(model, tmp_path / "run", device)
    assert result.compressed.latency_ms <= 0.7 * result.base.latency_ms
    assert result.tflite.read_bytes() in device.files and result.obstacles == ()
    assert result.compressed.macs == result.base.macs
    again = run(model, tmp_path / "run", device)
    assert again.plan == result.plan


def test_prices_are_those_of_the_device_on_both_sides_of_two_thirds(model):
    pruning = MagnitudePruner(model)
    work = multiplications_per_weight(pruning)
    assert [int(w) for w in work] == [0, PIXELS, PIXELS, 0]

    def candidates(plans):
        return [FIXED + RATE * float(work @ np.array(plan)) for plan in plans]

    prices = measure(pruning, candidates)
    prices.fit(FIXED + DENSE * float(work @ np.array(pruning.full)))
    for share in (0.2, 0.3, 0.33):
        plan = [round(share * unit.size) for unit in pruning.units]
        assert prices(plan) == pytest.approx(candidates([plan])[0])
    assert prices([round(0.34 * unit.size) for unit in pruning.units]) == prices(pruning.full)
    again = SparsePrices.from_dict(prices.to_dict())
    again.fit(prices(pruning.full))
    assert again(plan) == prices(plan)


def test_a_device_without_sparse_kernels_is_refused(model):
    with pytest.raises(amc_tf.DeviceError, match="no sparse kernels"):
        measure(MagnitudePruner(model), lambda plans: [500.0 - 1e-4 * sum(plan) for plan in plans])


def test_a_network_or_processor_without_sparse_kernels_is_refused(model, tmp_path, monkeypatch):
    with pytest.raises(amc_tf.UnsupportedModel, match="stem.*stride 1x1"):
        run(network(strides=1), tmp_path / "run", Phone())
    monkeypatch.setattr(search_latency, "unsupported_processor", lambda: "it has none.")
    device = Phone()
    device.name = "host"
    with pytest.raises(amc_tf.DeviceError, match="no network faster here: it has none"):
        run(model, tmp_path / "host", device)
