"""A stored fine-tuning is reused if and only if a new one would give the same weights."""

import functools
import threading

import numpy as np
import pytest

from amc_tf.data.fit_data import contents
from amc_tf.pipeline.finetuning import FineTuning
from amc_tf.pruning.plan import Plan
from amc_tf.training.distillation import Distillation

pytestmark = pytest.mark.usefixtures("eager_training")

PLAN = Plan({"hidden": np.ones(4, bool)})


def network(keras, activation="relu"):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation=activation, name="hidden"),
            keras.layers.Dense(2, name="out"),
        ],
        name="net",
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def arrays(seed=0, count=12):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3)).astype(np.float32), rng.integers(0, 2, count)


def dataset(data, shuffled=False, size=6):
    import tensorflow as tf

    examples = tf.data.Dataset.from_tensor_slices(data)
    return (examples.shuffle(100) if shuffled else examples).batch(size)


def batches(keras, data, size=6):
    base = getattr(keras.utils, "PyDataset", None) or keras.utils.Sequence

    class Batches(base):
        def __len__(self):
            return -(-len(data[0]) // size)

        def __getitem__(self, index):
            return tuple(part[index * size : (index + 1) * size] for part in data)

    return Batches()


FORMS = {"arrays": lambda keras, data: data, "dataset": lambda keras, data: dataset(data), "batches": batches}


def tuned(model, data, run_dir, **settings):
    training = FineTuning(model, data, settings.pop("epochs", 1), settings.pop("seed", 0), False, **settings)
    return training.tuned(model, PLAN, run_dir)


def stored(run_dir) -> int:
    return len(list(run_dir.glob("finetuned-*.npz")))


@pytest.mark.parametrize("form", FORMS)
def test_other_contents_are_another_training(keras_module, tmp_path, form):
    """Regression test: the contents of a data set once did not count, and weights of other examples were reused."""
    model, form_data = network(keras_module), FORMS[form]
    one, _ = tuned(model, form_data(keras_module, arrays(0)), tmp_path)
    again, _ = tuned(model, form_data(keras_module, arrays(0)), tmp_path)
    assert stored(tmp_path) == 1
    other, _ = tuned(model, form_data(keras_module, arrays(1)), tmp_path)
    assert stored(tmp_path) == 2
    same, differs = (np.abs(one.get_weights()[0] - each.get_weights()[0]).max() for each in (again, other))
    assert same == 0 and differs > 0


def test_the_order_of_a_shuffled_data_set_does_not_count():
    data = arrays()
    assert contents(dataset(data)) == contents(dataset(data, shuffled=True)) == contents(dataset(data, size=5))
    labels = data[0], 1 - data[1]
    assert len({contents(dataset(each)) for each in (data, labels, arrays(1), arrays(0, 11))}) == 4


def test_every_setting_gives_a_training_of_its_own(keras_module, tmp_path):
    keras = keras_module

    def compiled(model, **settings):
        model.compile(**{"optimizer": keras.optimizers.SGD(0.1), "loss": "mse"} | settings)
        return model

    def weighted(labels, predictions, by=1.0):
        return by * keras.losses.mean_squared_error(labels, predictions)

    def decay(start):
        class Own(keras.optimizers.schedules.LearningRateSchedule):
            def __call__(self, step):
                return start

            def get_config(self):
                return {}

        return Own()

    x, _ = arrays()
    data = x, np.eye(2, dtype=np.float32)[np.arange(len(x)) % 2]
    teacher, other = network(keras), network(keras, "tanh")
    calls = [
        {}, {"epochs": 2}, {"seed": 1}, {"model": compiled(network(keras))}, {"model": network(keras, "tanh")},
        {"model": compiled(network(keras), optimizer=keras.optimizers.SGD(0.2))},
        {"model": compiled(network(keras), optimizer=keras.optimizers.SGD(decay(0.1)))},
        {"model": compiled(network(keras), optimizer=keras.optimizers.SGD(decay(0.2)))},
        {"model": compiled(network(keras), loss="mae")}, {"model": compiled(network(keras), loss=weighted)},
        {"model": compiled(network(keras), loss=functools.partial(weighted, by=2.0))},
        {"distillation": Distillation(teacher, 4.0, 0.5)}, {"distillation": Distillation(teacher, 2.0, 0.5)},
        {"distillation": Distillation(other, 4.0, 0.5)},
        {"callbacks": [keras.callbacks.EarlyStopping("loss", patience=1)]},
        {"callbacks": [keras.callbacks.EarlyStopping("loss", patience=2)]},
    ]  # fmt: skip
    keys = []
    for call in calls:
        model = call.get("model", network(keras))
        rest = {name: value for name, value in call.items() if name not in ("model", "epochs", "seed")}
        training = FineTuning(model, data, call.get("epochs", 1), call.get("seed", 0), False, **rest)
        own = None
        if getattr(model, "optimizer", None) is not None:
            own = {"optimizer": model.optimizer, "loss": model.loss}
        keys.append(training._key(model, PLAN, own))
    assert None not in keys and len(set(keys)) == len(calls)
    assert FineTuning(network(keras), data, 1, 0, False)._key(network(keras), PLAN, None) == keys[0]


def test_a_training_without_a_fingerprint_is_not_stored(keras_module, tmp_path, caplog):
    class Locked(keras_module.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    model = network(keras_module)
    tuned(model, arrays(), tmp_path, callbacks=[Locked()])
    assert stored(tmp_path) == 0
    assert "will train again" in caplog.text and "_thread.lock at" in caplog.text


def test_a_callback_of_keras_that_was_used_is_the_same(keras_module, tmp_path):
    keras = keras_module
    made = {
        "stop": lambda: keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True),
        "stop later": lambda: keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True),
        "stop at the most": lambda: keras.callbacks.EarlyStopping("loss", mode="max", patience=1),
        "slow down": lambda: keras.callbacks.ReduceLROnPlateau("loss", patience=0),
        "slow down more": lambda: keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0),
        "schedule": lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.1),
        "other schedule": lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.2),
        "log": lambda: keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        "keep": lambda: keras.callbacks.ModelCheckpoint(str(tmp_path / "kept.weights.h5"), save_weights_only=True),
        "call": lambda: keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
    }
    data = arrays()
    keys = {}
    for name, make in made.items():
        callback, model = make(), network(keras)
        training = FineTuning(model, data, 1, 0, False, callbacks=[callback])
        keys[name] = training._key(model, PLAN, None)
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", run_eagerly=True)
        model.fit(*data, epochs=2, verbose=0, callbacks=[callback])
        assert training._key(network(keras), PLAN, None) == keys[name], name
    assert None not in keys.values() and len(set(keys.values())) == len(made)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_a_compiled_model_that_was_loaded_can_be_trained(keras_module, tmp_path, suffix):
    """Regression test: a tf_keras model from .h5 raised RecursionError, as its settings contain themselves."""
    model = network(keras_module)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    path = tmp_path / f"net{suffix}"
    model.save(path)
    loaded = keras_module.models.load_model(path)
    tuned(loaded, arrays(), tmp_path)
    tuned(keras_module.models.load_model(path), arrays(), tmp_path)
    assert stored(tmp_path) == 1
