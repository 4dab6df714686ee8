"""finetune: training recovers the accuracy, and dropped weights stay zero, in the .tflite too."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from amc_tf.errors import AmcError, UnsupportedModel
from amc_tf.graph import keras_reader
from amc_tf.pruning import kernels as kernels_of
from amc_tf.pruning.plan import Plan
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.flatbuffer import unpack
from amc_tf.tflite.operators import read
from amc_tf.training import compile_settings, sparsity
from amc_tf.training.finetune import finetune
from tests import small, toys

ROOT = Path(__file__).parents[2]
QUICK = {"epochs": 1, "batch_size": 32, "verbose": 0}
EAGERLY = pytest.mark.usefixtures("one_eager_training")  # for tests to which a graph makes no difference


def plan_for(model, only: tuple[str, ...] = ()) -> Plan:
    """Keeps two weights of five of every kernel, at random positions, so that large ones are dropped too."""
    graph, weights = keras_reader.read(model)
    rng = np.random.default_rng(0)
    names = {name: index for name, index in kernels_of.kernels(graph).items() if not only or name in only}
    sizes = {name: weights[name][index].size for name, index in names.items()}
    return Plan({name: rng.permutation(size) < 0.4 * size for name, size in sizes.items()}, "weights")


def kept(model, plan: Plan) -> dict[str, int]:
    """Nonzero weights of each kernel; asserts that none of them was dropped."""
    graph, weights = keras_reader.read(model)
    counts = {}
    for name, (index, mask) in kernels_of.masks(graph, plan).items():
        assert not weights[name][index][~mask].any(), name
        counts[name] = int(np.count_nonzero(weights[name][index]))
    return counts


def expected(plan: Plan) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in plan.items()}


def tiny(keras, **options):
    """Two dense layers, 6 -> 8 -> 3 probabilities."""
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu", name="hidden", **options), layers.Dense(3, "softmax", name="head")],
        name="tiny",
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


def points(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """float32 (count, 6) and which of the first three numbers is the largest."""
    x = np.random.default_rng(1).normal(size=(count, 6)).astype(np.float32)
    return x, x[:, :3].argmax(axis=-1)


def accuracy(model, x, y) -> float:
    return float((np.asarray(model(x, training=False)).argmax(axis=-1) == y).mean())


# --------------------------------------------------------------------------------------------------------- the zeros


def test_zeros_survive_training_saving_and_conversion(keras_module, tmp_path) -> None:
    model = small.network(keras_module)
    x = small.images(192)
    y = (x[..., 0].mean((1, 2)) > 0) + 2 * (x[..., 1].mean((1, 2)) > 0)
    plan = plan_for(model)
    before = [w.copy() for w in model.get_weights()]
    losses = []
    watch = keras_module.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: losses.append(logs["loss"]))
    trained = finetune(model, (x, y), plan=plan, epochs=4, batch_size=32, callbacks=[watch], verbose=0)

    assert losses[-1] < 0.9 * losses[0]
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    assert kept(trained, plan) == expected(plan)
    trained.save(tmp_path / "trained.keras")
    loaded = keras_module.saving.load_model(tmp_path / "trained.keras")
    assert kept(loaded, plan) == expected(plan)
    assert "amc_tf" not in loaded.to_json() and "rune" not in loaded.to_json()
    shapes = {"stem": (16, 3, 3, 3), "wide": (32, 3, 3, 16), "back": (16, 3, 3, 32), "head": (4, 16)}
    assert nonzero(convert(loaded)) == {shape: int(plan[name].sum()) for name, shape in shapes.items()}


def nonzero(tflite: bytes) -> dict[tuple[int, ...], int]:
    """Shape of each kernel in a file -> number of its nonzero weights."""
    file, (graph, *_) = unpack(tflite), read(tflite)
    kernels = [o.inputs[1] for o in graph.operators if o.name in ("CONV_2D", "FULLY_CONNECTED")]
    found = [file.buffers[file.subgraphs[0].tensors[kernel].buffer].data.view(np.float32) for kernel in kernels]
    return {graph.values[k].shape: int(np.count_nonzero(data)) for k, data in zip(kernels, found, strict=True)}


TOYS = (
    "conv1d_transpose separable2d shared_across_models partly_trainable_nested embedding_with_mask mixed_precision"
).split()


@EAGERLY
@pytest.mark.parametrize("name", TOYS)
def test_zeros_stay_in_every_kind_of_layer_and_nesting(keras_module, name) -> None:
    toy = toys.TOYS[name]
    if keras_module.__name__ not in toy.kerases:
        pytest.skip(f"{keras_module.__name__} has no such layer")
    model = toy.build(keras_module)
    inputs = toys.random_inputs(model)
    x = inputs[0] if len(inputs) == 1 else inputs
    y = model(tf.nest.pack_sequence_as(keras_reader.input_structure(model), inputs), training=False)
    y = tf.nest.map_structure(lambda part: np.random.default_rng(2).normal(size=part.shape).astype(np.float32), y)
    model.compile(keras_module.optimizers.SGD(0.01), "mse")
    plan = plan_for(model)
    trained = finetune(model, (x, y), plan=plan, **QUICK | {"epochs": 2, "batch_size": 2})
    kept(trained, plan)
    old, new = keras_reader.read(model)[1], keras_reader.read(trained)[1]
    before, after = keras_reader.layers(model), keras_reader.layers(trained)
    graph = keras_reader.read(model)[0]
    for layer, (index, mask) in kernels_of.masks(graph, plan).items():
        moved = bool((old[layer][index][mask] != new[layer][index][mask]).any())
        variable = before[layer].weights[index]
        assert moved == any(variable is w for w in model.trainable_variables), layer
        assert before[layer].trainable == after[layer].trainable


@pytest.mark.parametrize("steps", [1, 3])
def test_zeros_stay_within_several_steps_of_one_call(keras_module, steps) -> None:
    model, plan = tiny(keras_module), None
    calls = {"steps_per_execution": steps, "run_eagerly": steps == 1}  # several are those of one graph
    model.compile(keras_module.optimizers.SGD(0.1), "sparse_categorical_crossentropy", **calls)
    plan = plan_for(model)
    seen = []

    class Look(keras_module.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((self.model.get_layer("hidden").get_weights()[0], int(self.model.optimizer.iterations)))

    trained = finetune(model, points(96), plan=plan, callbacks=[Look()], epochs=2, batch_size=16, verbose=0)
    assert [steps for _, steps in seen] == [6, 12]
    assert not any(kernel.reshape(-1)[~plan["hidden"]].any() for kernel, _ in seen)
    assert kept(trained, plan) == expected(plan)


@EAGERLY
def test_a_constraint_of_the_layers_own_still_holds(keras_module) -> None:
    model = tiny(keras_module, kernel_constraint=keras_module.constraints.MaxNorm(0.3))
    plan = plan_for(model)
    trained = finetune(model, points(), plan=plan, learning_rate=0.1, **QUICK)
    kernel = trained.get_layer("hidden").get_weights()[0]
    assert kept(trained, plan) == expected(plan)
    assert np.linalg.norm(kernel, axis=0).max() < 0.3001
    assert type(trained.get_layer("hidden").kernel_constraint).__name__ == "MaxNorm"


@EAGERLY
def test_best_weights_that_a_callback_puts_back_have_their_zeros(keras_module) -> None:
    model = tiny(keras_module)
    plan = plan_for(model)
    back = keras_module.callbacks.EarlyStopping("loss", patience=0, restore_best_weights=True, mode="max")
    # Without validation data, whose forward pass would have tfmot's wrappers clear what the last step left.
    trained = finetune(model, points(), plan=plan, callbacks=back, learning_rate=0.1, **QUICK | {"epochs": 4})
    assert kept(trained, plan) == expected(plan)


def test_zeros_stay_beside_kept_weights_that_are_zero(keras_module) -> None:
    """Such as the weights of an always black pixel: tfmot's own threshold, computed every 100 steps, would be zero."""
    model, (x, y) = tiny(keras_module), points()
    kernel, *others = model.get_weights()
    x[:, 0] = kernel[0] = 0
    model.set_weights([kernel, *others])
    plan = plan_for(model)
    assert plan["hidden"][:8].any()
    trained = finetune(model, (x, y), plan=plan, epochs=2, batch_size=1, verbose=0)  # 128 steps
    assert kept(trained, plan)["hidden"] == plan["hidden"][8:].sum()


@EAGERLY
def test_a_loss_may_go_by_the_name_of_its_output(keras_module) -> None:
    features = keras_module.Input((6,))
    model = keras_module.Model(features, keras_module.layers.Dense(3, "softmax", name="head")(features))
    model.compile("sgd", {"head": "sparse_categorical_crossentropy"}, metrics={"head": ["accuracy"]})
    plan = plan_for(model)
    assert kept(finetune(model, points(), plan=plan, **QUICK), plan) == expected(plan)


def test_wrapped_layers_pass_masks_on() -> None:
    import tf_keras

    layers = tf_keras.layers
    words = [layers.Embedding(9, 4, mask_zero=True, input_length=5), layers.Dense(6), layers.GlobalAveragePooling1D()]
    model = tf_keras.Sequential([*words, layers.Dense(3)])
    x = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 7]])
    graph, weights = keras_reader.read(model)
    kernels = kernels_of.kernels(graph).items()
    whole = Plan({name: np.ones(weights[name][index].size, bool) for name, index in kernels}, "weights")
    expected = model(x).numpy()
    trained, _ = sparsity.keep_zeros(model, kernels_of.masks(graph, whole))
    np.testing.assert_allclose(trained(x).numpy(), expected, atol=1e-6)


@EAGERLY
def test_a_callback_that_restores_dropped_weights_is_reported(keras_module) -> None:
    model = tiny(keras_module)
    whole = model.get_layer("hidden").get_weights()
    back = keras_module.callbacks.LambdaCallback(on_train_end=lambda logs: layer().set_weights(whole))

    def layer():
        return back.model.get_layer("hidden")

    with pytest.raises(RuntimeError, match="28 dropped weights of 'hidden' are not zero"):
        finetune(model, points(), plan=plan_for(model), callbacks=[back], **QUICK)


@EAGERLY
@pytest.mark.parametrize("masked_layers", [("hidden", "head"), ("head",)], ids=["masked", "free"])
def test_losses_that_a_layer_adds_count_as_before(keras_module, masked_layers) -> None:
    """tfmot's wrapper calls the layer without Keras's own bookkeeping."""
    l2 = keras_module.regularizers.L2(0.1)
    model = tiny(keras_module, kernel_regularizer=l2, activity_regularizer=l2)
    plan = plan_for(model, only=masked_layers)
    pruned = plan.masked(model)
    pruned.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    expected = pruned.evaluate(*points(), batch_size=64, verbose=0)
    seen = []
    watch = keras_module.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["loss"]))
    finetune(model, points(), plan=plan, callbacks=[watch], **QUICK | {"batch_size": 64})
    assert seen == pytest.approx([expected], rel=1e-4)


# ------------------------------------------------------------------------------------------------------- the training


def test_without_a_plan_everything_may_move(keras_module) -> None:
    model = tiny(keras_module)
    kernel, *others = model.get_weights()
    kernel[:, 0] = 0
    model.set_weights([kernel, *others])
    x, y = points(128)
    trained = finetune(model, (x, y), epochs=6, batch_size=16, learning_rate=0.2, verbose=0)
    assert accuracy(trained, x, y) > accuracy(model, x, y) + 0.2
    assert trained.get_weights()[0][:, 0].any()
    assert type(trained) is type(model) and trained.name == model.name


def test_the_callers_own_settings_are_used_and_left_alone(keras_module) -> None:
    keras = keras_module
    model = tiny(keras)

    def odd_loss(y, p):
        return tf.reduce_mean(tf.square(p - tf.one_hot(tf.cast(tf.reshape(y, [-1]), tf.int32), 3)), axis=-1)

    def largest(y, p):
        return tf.reduce_max(p, axis=-1)

    optimizer = keras.optimizers.AdamW(0.002, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    metric = keras.metrics.MeanMetricWrapper(largest, name="largest")
    model.compile(optimizer, odd_loss, metrics=[metric, "accuracy"], run_eagerly=True)
    model.fit(*points(), verbose=0)
    steps, state = int(optimizer.iterations), float(metric.result())
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            mine = self.model.optimizer
            seen.update(logs, rate=float(mine.learning_rate), steps=int(mine.iterations), kind=type(mine).__name__)
            seen["eager"] = self.model.run_eagerly
            seen["decayed"] = [mine._use_weight_decay(variable) for variable in self.model.trainable_variables]

    trained = finetune(model, points(), plan=plan_for(model), callbacks=[Look()], learning_rate=0.004, **QUICK)
    assert seen["rate"] == pytest.approx(0.004) and seen["steps"] == 2 and seen["kind"] == "AdamW"
    assert seen["eager"] and seen["decayed"] == [True, False, True, False]
    assert 0.3 < seen["largest"] < 1 and "accuracy" in seen and seen["loss"] < 0.5
    assert (int(optimizer.iterations), float(metric.result())) == (steps, state)
    assert trained.loss is odd_loss and trained.optimizer is not optimizer
    assert float(trained.optimizer.learning_rate) == pytest.approx(0.002)
    assert trained.evaluate(*points(), verbose=0)[0] < 0.5


def test_the_default_settings(keras_module) -> None:
    model, seen = tiny(keras_module), []

    class Look(keras_module.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            mine = self.model.optimizer
            seen.append(float(mine.learning_rate))
            decayed = [mine._use_weight_decay(variable) for variable in self.model.trainable_variables]
            assert mine.get_config() | {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4} == mine.get_config()
            assert type(mine).__name__ == "SGD" and decayed == [True, False, True, False]

    finetune(model, points(80), callbacks=[Look()], epochs=5, batch_size=8, verbose=0)  # 50 steps
    top = int(np.argmax(seen))  # tf_keras tells the learning rate of the step before
    assert len(seen) == 50 and seen[0] == pytest.approx(0.001) and seen[top] == pytest.approx(0.01)
    assert top in (5, 6) and seen[:top] == sorted(seen[:top]) and seen[top:] == sorted(seen[top:], reverse=True)
    assert seen[-1] < 1e-4


@pytest.mark.parametrize(
    ("units", "activation", "labels", "loss", "logits"),
    [
        (3, "softmax", "numbers", "SparseCategoricalCrossentropy", False),
        (3, None, "numbers", "SparseCategoricalCrossentropy", True),
        (3, None, "whole floats", "SparseCategoricalCrossentropy", True),
        (3, "softmax", "one-hot", "CategoricalCrossentropy", False),
        (3, None, "one-hot", "CategoricalCrossentropy", True),
        (1, "sigmoid", "bits", "BinaryCrossentropy", False),
        (3, "sigmoid", "one-hot", None, None),
        (3, None, "numbers to guess", None, None),
        (1, None, "bits", None, None),
    ],
)
def test_the_loss_follows_from_the_form(keras_module, units, activation, labels, loss, logits) -> None:
    keras = keras_module
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(units, activation), keras.layers.Reshape((units,))])
    numbers = np.array([0, 2, 1, 1])
    y = {"numbers": numbers, "whole floats": numbers.astype(float), "one-hot": np.eye(3)[numbers], "bits": numbers % 2}
    y["numbers to guess"] = np.random.default_rng(0).normal(size=(4, 3))

    def loss_for_labels():
        graph = keras_reader.read(model)[0]
        return compile_settings.default(model, graph, y[labels], steps=1, epochs=1, learning_rate=None)["loss"]

    if loss is None:
        with pytest.raises(ValueError, match="No loss fits .* compile the model with its own loss"):
            loss_for_labels()
    else:
        assert (type(loss_for_labels()).__name__, loss_for_labels().get_config().get("from_logits")) == (loss, logits)


@EAGERLY
def test_data_sets_are_read_anew_in_every_epoch(keras_module) -> None:
    model = tiny(keras_module)
    x, y = points(40)
    reads = []

    def examples():
        reads.append(len(x))
        yield from zip(x, y, strict=True)

    spec = (tf.TensorSpec((6,), tf.float32), tf.TensorSpec((), tf.int64))
    stream = tf.data.Dataset.from_generator(examples, output_signature=spec).batch(10)
    finetune(model, stream, **QUICK | {"epochs": 2})
    assert reads == [40, 40]

    base = getattr(keras_module.utils, "PyDataset", None) or keras_module.utils.Sequence

    class Batches(base):
        ends = 0

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return x[10 * index : 10 * index + 10], y[10 * index : 10 * index + 10]

        def on_epoch_end(self):
            self.ends += 1

    batches = Batches()
    plan = plan_for(model)
    trained = finetune(model, batches, plan=plan, validation_data=stream, **QUICK | {"epochs": 3})
    assert batches.ends >= 2
    assert kept(trained, plan) == expected(plan)


@EAGERLY
def test_the_seed_decides_the_order_of_arrays(keras_module) -> None:
    model = tiny(keras_module)
    plan = plan_for(model)
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    options = {"plan": plan, "learning_rate": 0.1, **QUICK, "batch_size": 4}
    one, again, other = (finetune(model, points(16), seed=seed, **options).get_weights() for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert np.abs(one[0] - other[0]).max() > 1e-4
    assert np.array_equal(np.random.get_state()[1], state)


# -------------------------------------------------------------------------------------------- the caller's process


def test_the_callers_tf_keras_stays_what_it_was() -> None:
    """Importing tfmot would turn `tf.keras` into tf_keras."""
    code = """
import os
import numpy as np, tensorflow as tf, tf_keras
from amc_tf.training.finetune import finetune
from amc_tf.pruning.plan import Plan
model = tf_keras.Sequential([tf_keras.layers.Dense(3, "softmax", input_shape=(4,), name="head")])
model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
plan = Plan({"head": np.arange(12) % 2 == 0}, "weights")
finetune(model, (np.ones((8, 4), "float32"), np.zeros(8, int)), plan=plan, epochs=1, verbose=0)
keras, two = (module.layers.Dense.__module__.split(".")[0] for module in (tf.keras, tf.compat.v2.keras))
print(keras, two, os.environ.get("TF_USE_LEGACY_KERAS"))
"""
    env = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().splitlines()[-1:] == ["keras keras None"], done.stderr


@pytest.mark.parametrize("before", ["1", "0", None])
def test_the_callers_environment_is_put_back(monkeypatch, before) -> None:
    if before is None:
        monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    else:
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", before)
    with pytest.raises(ImportError), sparsity.own_tf_keras():
        os.environ["TF_USE_LEGACY_KERAS"] = "true"
        raise ImportError
    assert os.environ.get("TF_USE_LEGACY_KERAS") == before


def test_missing_tfmot_is_reported_in_one_sentence(monkeypatch) -> None:
    import tf_keras

    for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow_model_optimization"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    model = tiny(tf_keras)
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    with pytest.raises(UnsupportedModel, match="cannot be imported .*run `amc-tf setup --check`"):
        finetune(model, points(), plan=plan_for(model), **QUICK)
    assert os.environ.get("TF_USE_LEGACY_KERAS") == before
    finetune(model, points(), **QUICK)  # without a plan nothing asks for it


@EAGERLY
def test_statistics_follow_a_short_training(keras_module) -> None:
    model = small.settled(small.network(keras_module))
    x = small.images(192) * 3 + 2  # other images than those of the statistics
    y = (x[..., 0].mean((1, 2)) > 2) + 2 * (x[..., 1].mean((1, 2)) > 2)
    before = [layer.momentum for layer in model.layers if hasattr(layer, "moving_variance")]
    trained = finetune(model, (x, y), epochs=2, batch_size=32, verbose=0)
    norm = next(layer for layer in trained.layers if hasattr(layer, "moving_variance"))
    stem = keras_module.Model(trained.inputs, trained.get_layer("stem").output)
    seen = np.asarray(stem(x, training=False)).mean((0, 1, 2))
    found = np.asarray(norm.moving_mean)
    assert np.abs(found - seen).max() < 0.2 * np.abs(seen).max()
    assert [layer.momentum for layer in trained.layers if hasattr(layer, "moving_variance")] == before


# ------------------------------------------------------------------------------------------------------ what goes wrong


def test_a_loss_that_is_no_number_ends_it(keras_module) -> None:
    model = tiny(keras_module)
    model.compile(keras_module.optimizers.SGD(1e30), "mse")
    before = [w.copy() for w in model.get_weights()]
    x, y = points()
    with pytest.raises(AmcError, match=r"infinite or no numbers in epoch \d of 9.* smaller learning_rate than 1e\+30"):
        finetune(linear(keras_module), (x, 1e6 * x), **QUICK | {"epochs": 9})
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


def linear(keras):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)], name="linear")
    model.compile(keras.optimizers.SGD(1e30), "mse")
    return model


def stream(*parts):
    return tf.data.Dataset.from_tensor_slices(parts)


BAD = {
    "no labels": (lambda x, y: x, {}, ValueError, "train_data has no labels"),
    "labels None": (lambda x, y: (x, None), {}, ValueError, "train_data has no labels"),
    "stream without labels": (lambda x, y: stream(x).batch(8).map(lambda a: a), {}, ValueError, "has no labels"),
    "stream of single examples": (lambda x, y: stream(x, y), {}, ValueError, "has shape .* give batches"),
    "endless stream": (lambda x, y: stream(x, y).batch(8).repeat(), {}, ValueError, "repeats without end"),
    "generator": (lambda x, y: iter([(x, y)]), {}, TypeError, "can be read more than once"),
    "other width": (lambda x, y: (x[:, :5], y), {}, ValueError, r"shape \(5,\) .* wants \(6,\)"),
    "fewer labels": (lambda x, y: (x, y[:-1]), {}, ValueError, "64 examples, but 63 labels"),
    "words": (lambda x, y: (x, y.astype(str)), {}, TypeError, "encode classes as 0, 1, 2"),
    "too many classes": (lambda x, y: (x, y + 1), {}, ValueError, "go from 1 to 3, but the model has 3 classes"),
    "no epochs": (None, {"epochs": 0}, ValueError, "epochs is 0"),
    "half an epoch": (None, {"epochs": 0.5}, TypeError, "epochs is 0.5"),
    "no batch": (None, {"batch_size": 0}, ValueError, "batch_size is 0"),
    "backwards": (None, {"learning_rate": -0.1}, ValueError, "learning_rate is -0.1"),
    "no plan": (None, {"plan": {"head": [True]}}, TypeError, "plan is of type dict"),
    "other size": (None, {"plan": Plan({"head": np.ones(5, bool)}, "weights")}, ValueError, "mask of 5 for .*'head'"),
    "other unit": (None, {"plan": Plan({"tail": np.ones(24, bool)}, "weights")}, ValueError, "has no such kernel"),
    "of channels": (None, {"plan": Plan({"hidden": np.ones(8, bool)})}, ValueError, "plan is of channels"),
    "no list": (None, {"callbacks": None}, TypeError, "callbacks is None"),
    "seed": (None, {"seed": -1}, ValueError, "seed is -1"),
    "no callback": (None, {"callbacks": [print]}, TypeError, "callbacks holds an object of builtins"),
    "validation too": (None, {"validation_data": (np.zeros((4, 5)), np.zeros(4, int))}, ValueError, "^validation_data"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_reported_in_one_sentence(case) -> None:
    data, options, error, said = BAD[case]
    x, y = points()
    with pytest.raises(error, match=said) as raised:
        finetune(tiny(keras), data(x, y) if data else (x, y), **QUICK | options)
    assert "\n" not in str(raised.value)


@EAGERLY
def test_averaged_weights_have_their_zeros_too(keras_module) -> None:
    model = tiny(keras_module)
    model.compile(keras_module.optimizers.SGD(0.1, momentum=0.9, use_ema=True), "sparse_categorical_crossentropy")
    plan = plan_for(model)
    kept(finetune(model, points(), plan=plan, **QUICK), plan)


@EAGERLY
def test_a_list_of_inputs(keras_module) -> None:
    layers = keras_module.layers
    inputs = [keras_module.Input((3,), name="a"), keras_module.Input((3,), name="b")]
    model = keras_module.Model(inputs, layers.Dense(3, "softmax", name="head")(layers.Concatenate()(inputs)))
    x, y = points()
    plan = plan_for(model)
    kept(finetune(model, ((x[:, :3], x[:, 3:]), y), plan=plan, **QUICK), plan)


@EAGERLY
def test_weights_that_are_no_numbers_in_the_end_are_not_returned(keras_module) -> None:
    model = tiny(keras_module)
    model.compile(keras_module.optimizers.SGD(1e38), "mse")
    x, y = points()
    with pytest.raises(AmcError, match="learning_rate"):
        finetune(model, (x, 1e6 * np.eye(3)[y]), **QUICK | {"epochs": 1, "batch_size": len(x)})
