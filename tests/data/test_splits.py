"""The caller's data in every form that is accepted, and the forms that are refused."""

from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from amc_tf.data import splits
from tests import small


@pytest.fixture(scope="module")
def model(keras_module):
    return small.network(keras_module)


@pytest.fixture(scope="module")
def two(keras_module):
    """A model of two inputs, named a and b."""
    a, b = keras_module.Input((4,), name="a"), keras_module.Input((6,), name="b")
    return keras_module.Model([a, b], keras_module.layers.Concatenate()([a, b]))


def test_arrays_in_their_order_and_at_random(model):
    x, y = small.images(20), np.arange(20)
    plain = splits.load((x, y), model, "train_data")
    np.testing.assert_array_equal(plain.inputs[0], x)
    mixed = splits.load((x, y), model, "train_data", limit=7, seed=3)
    assert len(mixed) == 7 and not np.array_equal(mixed.labels, np.arange(7))
    np.testing.assert_array_equal(mixed.inputs[0], x[mixed.labels])  # images stay with their labels


def test_whole_numbers_become_the_type_of_the_input(model):
    split = splits.load(np.ones((3, 12, 12, 3), np.uint8), model, "train_data")
    assert split.inputs[0].dtype == np.float32 and split.labels is None


@pytest.mark.parametrize("form", ["list", "dict"])
def test_several_inputs(two, form):
    x = np.zeros((5, 4)), np.ones((5, 6))
    given = list(x) if form == "list" else {"b": x[1], "a": x[0]}
    split = splits.load((given, np.zeros(5)), two, "train_data", limit=3)
    assert [a.shape for a in split.inputs] == [(3, 4), (3, 6)]


def test_a_model_built_from_a_dict_goes_by_its_keys(keras_module):
    a, b = keras_module.Input((4,), name="one"), keras_module.Input((6,), name="two")
    model = keras_module.Model({"z": a, "y": b}, keras_module.layers.Concatenate()([a, b]))
    split = splits.load({"z": np.zeros((5, 4)), "y": np.ones((5, 6))}, model, "train_data")
    assert [array.shape for array in split.inputs] == [(5, 6), (5, 4)] == [(5, *t.shape[1:]) for t in model.inputs]


def test_labels_of_several_outputs_are_refused(keras_module):
    x = keras_module.Input((4,))
    model = keras_module.Model(x, [keras_module.layers.Dense(2)(x), keras_module.layers.Dense(3)(x)])
    for labels in ([np.zeros((5, 2)), np.zeros((5, 3))], {"a": np.zeros(5), "b": np.zeros(5)}):
        with pytest.raises(TypeError, match="first output.*all of them in one array"):
            splits.load((np.zeros((5, 4)), labels), model, "train_data")


def test_fractions_do_not_become_whole_numbers_unseen(keras_module):
    x = keras_module.Input((4,), dtype="uint8")
    model = keras_module.Model(x, keras_module.layers.Rescaling(1 / 255)(x))
    assert splits.load(np.full((3, 4), 255.0), model, "train_data").inputs[0].dtype == np.uint8
    with pytest.raises(ValueError, match="fractions"):
        splits.load(np.full((3, 4), 0.5), model, "train_data")


def test_tensorflow_data_sets_are_read_no_further_than_needed(model):
    import tensorflow as tf

    read = []

    def examples():
        for i in range(1000):
            read.append(i)
            yield small.images(1, i)[0], i

    signature = (tf.TensorSpec((12, 12, 3)), tf.TensorSpec((), tf.int64))
    batches = tf.data.Dataset.from_generator(examples, output_signature=signature).batch(8)
    split = splits.load(batches, model, "train_data", limit=20)
    assert split.labels.tolist() == list(range(20)) and len(read) < 100


def test_data_without_end_are_refused_where_all_are_asked_for(model, monkeypatch):
    """They filled the memory until the process died."""
    import tensorflow as tf

    endless = tf.data.Dataset.from_tensor_slices((small.images(4), np.arange(4))).batch(2).repeat()
    with pytest.raises(ValueError, match="validation_data is a data set that repeats without end; give a part of it"):
        splits.load(endless, model, "validation_data")
    assert len(splits.load(endless, model, "train_data", limit=10)) == 10
    assert len(splits.load(endless.take(3), model, "validation_data")) == 6

    def examples():
        while True:
            yield small.images(2), np.arange(2)

    signature = (tf.TensorSpec((None, 12, 12, 3)), tf.TensorSpec((None,), tf.int64))
    generated = tf.data.Dataset.from_generator(examples, output_signature=signature)  # which says nothing of its end
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * small.images(1).nbytes))
    with pytest.raises(ValueError, match="first 52 examples of reward_data take 0.0 GB, and there is no room for"):
        splits.load(generated, model, "reward_data")


def test_py_datasets_are_read(keras_module, model):
    base = getattr(keras_module.utils, "PyDataset", None) or keras_module.utils.Sequence

    class Batches(base):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return small.images(4, index), np.full(4, index)

    assert splits.load(Batches(), model, "train_data").labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_dividing_never_gives_an_example_twice(model):
    split = splits.load((small.images(30), np.arange(30)), model, "train_data")
    for first, second in [(10, 20), (10, 5), (100, 100)]:
        one, other = splits.divide(split, first, second)
        assert len(one) and len(other) and not set(one.labels) & set(other.labels)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ((), TypeError, "tuple"),
        ("images.npz", TypeError, "str"),
        ((small.images(4), np.zeros(4), np.ones(4)), TypeError, "sample weights"),
        (iter([]), TypeError, "expected"),
        ([small.images(4), np.zeros(4)], TypeError, "tuple"),
        ((small.images(2), ["cat", "dog"]), TypeError, "encode"),
        ((small.images(2), [None, None]), TypeError, "encode"),
        (np.zeros((4, 12, 12)), ValueError, "shape"),
        (np.full((4, 12, 12, 3), np.inf), ValueError, "infinity"),
        ((small.images(4), np.array([0, np.nan, 0, 0])), ValueError, "labels"),
        (np.array([["a"] * 3]), ValueError, "shape|type"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(model, given, error, says):
    with pytest.raises(error, match=says) as raised:
        splits.load(given, model, "train_data")
    assert "\n" not in str(raised.value)


def test_unbatched_data_sets_are_refused(model):
    import tensorflow as tf

    with pytest.raises(ValueError, match="batch"):
        splits.load(tf.data.Dataset.from_tensor_slices(small.images(4)), model, "train_data")
