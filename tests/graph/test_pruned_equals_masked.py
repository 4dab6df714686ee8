"""The pruned model equals the whole model with dead channels, and it is a plain model."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_tf.pruning.plan import Plan
from tests import toys
from tests.examples import examples
from tests.graph.cases import case, difference, pruned, pruning_changed_it, read

# A MobileNetV2 is asked under tf_keras by tests/graph/test_applications.py.
LARGE = "mobilenet_under_a_head"
CASES = [pair for pair in toys.cases() if (pair.values[0], pair.values[1].name) != ("tf_keras", LARGE)]


@st.composite
def plans(draw, groups) -> Plan:
    """Any mask for every prunable group, but for one that keeps nothing."""
    masks = {}
    for group in groups.prunable:
        bits = draw(st.integers(1, 2**group.channels - 1))
        masks[group.name] = np.array([bits >> i & 1 for i in range(group.channels)], dtype=bool)
    return Plan(masks)


@pytest.mark.parametrize("keras_name, toy", CASES)
def test_pruned_equals_masked_and_the_given_model_stays(keras_name: str, toy: toys.Toy) -> None:
    this = case(keras_name, toy.name)

    def agree(smaller, plan: Plan) -> bool:
        return difference(toys.outputs(smaller, this.inputs), this.masked_outputs(plan)) <= toy.tolerance

    assert agree(pruned(keras_name, toy.name), this.random_plan())
    assert not pruning_changed_it(keras_name, toy.name)

    @examples(1)
    @given(plans(this.groups))
    def check(plan: Plan) -> None:
        assert agree(this.prune(plan), plan)

    if os.environ.get("CI"):
        check()


@pytest.mark.parametrize("keras_name, toy", [pair for pair in toys.one_keras_each() if pair.values[1].name != LARGE])
def test_a_single_channel_of_every_group(keras_name: str, toy: toys.Toy) -> None:
    """The narrowest plan; and dead channels change the outputs of every toy, so that its masks matter."""
    this = case(keras_name, toy.name)
    narrowest = Plan({group.name: np.arange(group.channels) < 1 for group in this.groups.prunable})
    masked = this.masked_outputs(narrowest)
    assert difference(toys.outputs(this.prune(narrowest), this.inputs), masked) <= toy.tolerance
    assert difference(toys.outputs(this.model, this.inputs), masked) > 1e-2 or not toy.shrinks


@pytest.mark.parametrize("keras_name, toy", CASES)
def test_exactly_these_groups_shrink(keras_name: str, toy: toys.Toy) -> None:
    groups = case(keras_name, toy.name).groups
    # Keras numbers the operations that a caller cannot name.
    names = [re.sub(r"_\d+(?=$|:|/)", "", group.name) for group in groups.prunable]
    if toy.name == LARGE:
        assert len(names) == 25 and all(name.startswith("mobilenetv2") for name in names)
    else:
        assert sorted(names) == sorted(toy.shrinks)


# -------------------------------------------------------------------------------------------------- a plain model


@pytest.mark.parametrize("keras_name, toy", CASES)
def test_sort_and_names_stay(keras_name: str, toy: toys.Toy) -> None:
    old, new = case(keras_name, toy.name).model, pruned(keras_name, toy.name)
    assert type(new) is type(old) and new.name == old.name
    assert [layer.name for layer in new.layers] == [layer.name for layer in old.layers]
    assert [type(layer) for layer in new.layers] == [type(layer) for layer in old.layers]
    flags = [
        [layer.trainable for layer in model._flatten_layers() if "Input" not in type(layer).__name__]
        for model in (old, new)
    ]
    assert flags[0] == flags[1]
    assert new.input_shape == old.input_shape and new.output_shape == old.output_shape
    assert list(getattr(new, "input_names", ())) == list(getattr(old, "input_names", ()))
    assert list(getattr(new, "output_names", ())) == list(getattr(old, "output_names", ()))


LOAD = """
import sys
sys.modules["amc_tf"] = sys.modules["tests"] = None  # importing them now fails
import json, pathlib
import keras, tf_keras
import numpy as np
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/*.keras")):
    stored = np.load(path.with_suffix(".npz"))
    inputs = [stored[f"in{i}"] for i in range(sum(name.startswith("in") for name in stored.files))]
    try:
        model = {"keras": keras, "tf_keras": tf_keras}[path.parent.name].saving.load_model(path)
        if path.stem == "dict_inputs":
            inputs = [dict(zip(["a_features", "z_image"], inputs))]
        result = model(inputs[0] if len(inputs) == 1 else inputs, training=False)
        result = result if isinstance(result, (list, tuple)) else [result]
        worst = max(float(np.abs(np.asarray(r, "float32") - stored[f"out{i}"]).max()) for i, r in enumerate(result))
    except Exception as error:
        worst = repr(error)
    print("RESULT", json.dumps([path.parent.name, path.stem, worst]), flush=True)
"""


def test_saved_models_load_without_amc_tf(tmp_path) -> None:
    saved = [(keras_name, name) for keras_name, name in toys.in_turns() if not toys.TOYS[name].custom]
    for keras_name, name in saved:
        this, model, path = case(keras_name, name), pruned(keras_name, name), tmp_path / keras_name
        path.mkdir(exist_ok=True)
        model.save(path / f"{name}.keras")
        results = toys.outputs(model, this.inputs)
        arrays = {f"in{i}": x for i, x in enumerate(this.inputs)} | {f"out{i}": x for i, x in enumerate(results)}
        np.savez(path / f"{name}.npz", **arrays)
    load = [sys.executable, "-c", LOAD, tmp_path]
    done = subprocess.run(load, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    lines = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert [line[:2] for line in lines] == sorted(map(list, saved)), done.stderr[-2000:]
    wrong = [line for line in lines if not (isinstance(line[2], float) and line[2] <= 1e-6)]
    assert not wrong


# ------------------------------------------------------------------------------- a second oracle: dead tensors


def _open(name, x):
    return x


def _residual(keras, gate=_open):
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = gate("stem", layers.Conv2D(6, 3, padding="same", name="stem")(image))
    y = gate("block", layers.Conv2D(8, 3, padding="same", activation="sigmoid", name="block")(x))
    y = layers.BatchNormalization(name="norm")(layers.Conv2D(6, 3, padding="same", name="back")(y))
    x = gate("stem", layers.ReLU()(layers.Add()([x, y])))
    return keras.Model(image, layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(x)))


def _excite(keras, gate=_open):
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="conv")(image)
    x = gate("conv", layers.BatchNormalization(name="norm")(x))
    s = layers.GlobalAveragePooling2D(keepdims=True)(x)
    s = gate("squeeze", layers.Conv2D(4, 1, activation="sigmoid", name="squeeze")(s))
    s = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(s)
    x = gate("conv", layers.Multiply()([x, s]))
    x = layers.DepthwiseConv2D(3, activation="sigmoid", name="depthwise")(x)
    x = gate("last", layers.Conv2D(6, 1, name="last")(gate("conv", x)))
    return keras.Model(image, layers.Dense(5, name="head")(layers.Flatten()(x)))


def _branches(keras, gate=_open):
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    a = gate("a", layers.Conv2D(4, 1, activation="sigmoid", name="a")(image))
    b = gate("b", layers.Conv2D(6, 1, activation="sigmoid", name="b")(image))
    x = layers.Concatenate()([b, image, a])
    x = gate("c", layers.Conv2D(8, 3, strides=2, activation="sigmoid", name="c")(x))
    x = gate("d", layers.SeparableConv2D(5, 1, activation="tanh", name="d")(x))
    y = gate("e", layers.Conv2DTranspose(7, 2, strides=2, activation="sigmoid", name="e")(x))
    y = layers.GlobalMaxPooling2D()(y)
    x = layers.Flatten()(x)
    return keras.Model(image, layers.Dense(5, name="head")(layers.Concatenate()([x, y])))


def _grouped(keras, gate=_open):
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    twice = lambda name: lambda x: gate(name, x)  # noqa: E731
    x = gate("conv*2", layers.Conv2D(8, 1, activation="sigmoid", name="conv")(image))
    x = twice("grouped*2")(layers.Conv2D(6, 3, groups=2, activation="sigmoid", name="grouped")(x))
    x = gate("last", layers.Conv2D(6, 1, name="last")(x))
    return keras.Model(image, layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("build", [_residual, _excite, _branches, _grouped])
def test_pruned_equals_dead_tensors(keras_module, build) -> None:
    """Independent of labels and zeroed weights: the test multiplies tensors by masks."""
    this = read(keras_module, toys.randomized(build(keras_module)))

    @examples(4)
    @given(plans(this.groups))
    def check(plan: Plan) -> None:
        def gate(name: str, x):
            mask = plan[name.split("*")[0]]
            copies = 2 if name.endswith("*2") else 1
            return keras_module.layers.Rescaling(np.tile(mask, copies).astype("float32").tolist())(x)

        gated = toys.randomized(build(keras_module, gate))
        assert difference(toys.outputs(this.prune(plan), this.inputs), toys.outputs(gated, this.inputs)) <= 1e-5

    check()
