"""Fingerprints are equal in every process, differ for different behaviour, and are refused for opaque values."""

import collections
import functools
import importlib
import random
import re
import subprocess
import sys
import threading
import types
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_tf.fingerprint import Unknown, fingerprint, named

MADE_ELSEWHERE = """
import random, re, numpy as np
from functools import partial
from amc_tf.fingerprint import fingerprint, named
LIMIT = 3
class Scale:
    kinds = {"a", "b", "c", "d", "e"}
    def __init__(self, by): self.by = by
    def score(self, labels, found): return self.by * LIMIT
def make(words):
    def inner(labels): return labels
    return lambda labels, found: inner(labels) if labels in {"a", "b", "c", "d", "e"} else words
values = [make(frozenset("stuvw")), Scale(2).score, Scale, partial(make, words="x"), re.compile("a+"), np.arange(3),
          {"b": 1, "a": [2, None]}, random.Random(3), np.random.default_rng(4), 1.5, "text"]
print(*[fingerprint(value) for value in values], named(make("x"), "metric"))
"""


def test_a_fingerprint_is_the_same_in_every_process():
    """Each process orders sets of strings differently and places objects at other addresses."""
    outputs = set()
    for seed in ("1", "2", "3"):
        env = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        call = [sys.executable, "-c", MADE_ELSEWHERE]
        outputs.add(subprocess.run(call, env=env, capture_output=True, text=True, check=True).stdout)
    assert len(outputs) == 1
    fingerprints = outputs.pop().split()
    assert len(set(fingerprints)) == len(fingerprints)


def topk(labels, predictions, k=1, *, share=0.5):
    return k * share


def _with(**changes):
    """topk with other defaults, but the same name and code."""
    new = types.FunctionType(topk.__code__, dict(globals()), topk.__name__, (changes.pop("k", 1),))
    new.__kwdefaults__ = {"share": 0.5} | changes
    return new


LIMIT = 0.5


def _global(value):
    return types.FunctionType((lambda labels: labels > LIMIT).__code__, {"LIMIT": value}, "global")


class Scaled:
    shift = 0

    def __init__(self, by):
        self.by = by
        self.me = self  # an object that holds itself

    def score(self, labels, predictions):
        return self.by + self.shift

    def __call__(self, labels, predictions):
        return self.by

    @classmethod
    def of_class(cls, labels):
        return cls.shift


class Other(Scaled):
    pass


class Changed(Scaled):
    def score(self, labels, predictions):
        return -self.by


class Slotted:
    __slots__ = ("by",)

    def __init__(self, by):
        self.by = by


@dataclass(frozen=True)
class Record:
    by: int


def _closed(value):
    return lambda x: value


def _recursive(step):
    def walk(n):
        return n and walk(n - step)

    return walk


def _cached(by):
    @functools.lru_cache
    def scored(x):
        return x * by

    return scored


# Of each kind some that do other things: all must differ from each other.
DIFFERENT = {
    "defaults": [_with(), _with(k=5), _with(share=0.1)],
    "partials": [
        functools.partial(topk, k=1), functools.partial(topk, k=5), functools.partial(topk, 1),
        functools.partial(_with(k=2), k=1),
    ],
    "methods": [Scaled(1).score, Scaled(2).score, Scaled(1).__call__, Scaled.of_class, Other.of_class],
    "objects": [Scaled(1), Scaled(2), Other(1), Changed(1), Slotted(1), Slotted(2), Record(1), Record(2)],
    "classes": [Scaled, Other, Changed, Slotted, Record],
    "closures": [_closed(v) for v in (1, 2.5, "a", (1, {2: 3}), np.arange(3), np.arange(3) + 1, topk, Scaled(3))],
    "globals": [_global(0.5), _global(0.6), _global([1]), _global(np.ones(2)), _global(topk)],
    "recursion": [_recursive(1), _recursive(2)],
    "caches": [_cached(1), _cached(2)],
    "code": [lambda x: x + 1, lambda x: x + 2, lambda x: x - 1, lambda x, y: x + 1, lambda *x: x, lambda **x: x],
    "inner code": [lambda x: [y + 1 for y in x], lambda x: [y + 2 for y in x]],
    "arrays": [
        np.arange(6), np.arange(6).reshape(2, 3), np.arange(6).astype(np.float32), np.arange(6.0), np.zeros(0),
        np.zeros((0, 2)), np.array([1, "a"], dtype=object), np.array([2, "a"], dtype=object),
        np.ma.array(np.arange(6), mask=[0, 0, 1, 0, 0, 0]), np.ma.array(np.arange(6), mask=[0, 1, 1, 0, 0, 0]),
        np.array(["2026-01-01"], "M8[D]"), np.array(["2026-01-02"], "M8[D]"), np.array([(1, 2.0)], "i4,f4"),
    ],
    "numbers": [0, 1, True, 1.0, -0.0, 0.0, 1j, np.float32(1), np.float64(1), np.int8(1), float("nan"), float("inf")],
    "texts": ["", "a", b"a", "ab", "é"],
    "nesting": [[], [[]], [[], []], [[[]]], (), ("a", "b"), ("ab",), [1, [2, 3]], [[1, 2], 3], {1: 2}, {2: 1}, {1, 2}],
    "library": [
        np.mean, np.median, np.add, np.subtract, len, print, [].append, [1].append, re.compile("a"),
        re.compile("a", re.I),
        random.Random(1), random.Random(2), np.random.default_rng(1), np.random.default_rng(2), collections.deque(),
        collections.deque([2]), collections.OrderedDict, range(3), range(4), slice(1), slice(2), re, random,
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", DIFFERENT)
def test_what_does_something_else_has_another_fingerprint(kind):
    values = DIFFERENT[kind]
    found = [fingerprint(value) for value in values]
    assert len(set(found)) == len(values), [v for v, f in zip(values, found, strict=True) if found.count(f) > 1]
    assert [fingerprint(value) for value in values] == found


def test_what_does_the_same_has_the_same_fingerprint():
    for one, other in [
        (functools.partial(topk, k=1), functools.partial(topk, k=1)), (Scaled(1).score, Scaled(1).score),
        (_closed(np.arange(3)), _closed(np.arange(3))), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({3, 1}, {1, 3}),
        (np.asfortranarray(np.eye(3)), np.eye(3)), (_cached(3), _cached(3)), (_with(), topk),
        (Slotted([1]), Slotted([1])),
    ]:  # fmt: skip
        assert fingerprint(one) == fingerprint(other), one


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(PLAIN, PLAIN)
def test_plain_data_has_one_fingerprint_exactly_where_it_is_equal(one, other):
    assert (fingerprint(one) == fingerprint(other)) == (repr(_sorted(one)) == repr(_sorted(other)))


def _sorted(value):
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return type(value)(map(_sorted, value)) if isinstance(value, (list, tuple)) else value


def _holding(value):
    def scored(labels, predictions):
        return value

    return scored


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(), (x for x in "ab"), threading.Thread(), memoryview(b"a"), sys._getframe(),
        np.frompyfunc(lambda x: x, 1, 1),
    ],  # fmt: skip
    ids=lambda value: type(value).__name__,
)
def test_what_lives_in_this_process_alone_is_refused_and_can_be_named(value):
    scored = _holding(value)
    with pytest.raises(Unknown, match="it holds a .* at value"):
        fingerprint(scored)
    with pytest.raises(ValueError, match="metric is .*scored, which cannot be told from another one.*attribute `name`"):
        named(scored, "metric")
    scored.name = "mine, 1"
    first = named(scored, "metric")
    scored.name = "mine, 2"
    assert first != named(scored, "metric")


def test_nesting_without_end_is_refused():
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(Unknown, match="nested more than"):
        fingerprint(deep)


def test_objects_of_keras_are_told_apart_by_settings_state_and_functions(keras_module):
    keras = keras_module

    def loss(labels, predictions):
        return predictions

    def namesake(labels, predictions):
        return predictions * 2

    namesake.__name__ = namesake.__qualname__ = "loss"
    wrapped = keras.losses.MeanSquaredError
    values = [
        keras.metrics.TopKCategoricalAccuracy(k=1, name="top"), keras.metrics.TopKCategoricalAccuracy(k=5, name="top"),
        keras.metrics.MeanMetricWrapper(loss, name="m"), keras.metrics.MeanMetricWrapper(namesake, name="m"),
        keras.losses.MeanSquaredError(), keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        keras.losses.CategoricalCrossentropy(), keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.2), wrapped,
    ]  # fmt: skip
    found = [fingerprint(value) for value in values]
    assert len(set(found)) == len(values)
    used = keras.metrics.TopKCategoricalAccuracy(k=1, name="top")
    used.update_state([[0.0, 1.0]], [[0.0, 1.0]])
    assert fingerprint(used) != found[0]  # it goes on from what it has counted


def test_objects_of_own_keras_classes_are_told_apart_by_what_their_settings_lack(keras_module):
    keras = keras_module

    class Above(keras.metrics.Metric):
        def __init__(self, limit, **kwargs):
            super().__init__(**kwargs)
            self.limit = limit
            self._private = [limit]

        def update_state(self, labels, predictions, sample_weight=None):
            pass

        def result(self):
            return self.limit

    class Weighted(keras.losses.Loss):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

        def call(self, labels, predictions):
            return self.weight * predictions

    values = [Above(0.5), Above(0.9), Weighted(1.0), Weighted(2.0)]
    found = [fingerprint(value) for value in values]
    assert len(set(found)) == len(values)
    again = [Above(0.5), Above(0.9), Weighted(1.0), Weighted(2.0)]  # Keras has given them other names
    assert [fingerprint(value) for value in again] == found


def test_a_model_is_known_by_its_weights(keras_module):
    keras = keras_module
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="d")], name="teacher")
    scored = _holding(model)
    before = fingerprint(scored)
    assert fingerprint(_holding(model)) == before
    model.set_weights([w + 1 for w in model.get_weights()])
    assert fingerprint(scored) != before


def test_a_module_of_the_callers_counts_with_its_file(tmp_path, monkeypatch):
    (tmp_path / "my_scores.py").write_text("def score(x): return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import my_scores

    def scored(labels, predictions):
        return my_scores.score(labels)

    before, alone = fingerprint(_holding(my_scores)), fingerprint(my_scores.score)
    (tmp_path / "my_scores.py").write_text("def score(x): return -x\n")
    assert fingerprint(_holding(my_scores)) != before
    assert fingerprint(my_scores.score) == alone  # which this process still runs
    monkeypatch.delitem(sys.modules, "my_scores")


SCORES = "LIMIT = 1\n\ndef score(x):\n    return x * LIMIT\n"


def _imports_inside():
    from own_scores import score

    return score


@pytest.fixture
def own_scores(tmp_path, monkeypatch):
    """A module of the caller's, own_scores.py, and one that it imports, own_limits.py."""
    (tmp_path / "own_limits.py").write_text("HIGHEST = 3\n")
    (tmp_path / "own_scores.py").write_text("import own_limits\n" + SCORES)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("own_scores")
    for name in ("own_scores", "own_limits"):
        sys.modules.pop(name, None)


def test_the_state_of_a_module_counts_and_what_it_imports(own_scores):
    before = fingerprint(own_scores)
    own_scores.LIMIT = 2
    assert fingerprint(own_scores) != before
    own_scores.LIMIT = 1
    assert fingerprint(own_scores) == before
    own_scores.own_limits.HIGHEST = 4
    assert fingerprint(own_scores) != before


def test_a_module_that_a_function_imports_when_it_is_called_counts(own_scores):
    before = fingerprint(_imports_inside)
    own_scores.LIMIT = 2
    assert fingerprint(_imports_inside) != before


def test_a_function_that_imports_what_is_not_there_has_no_fingerprint():
    def scored(labels, predictions):
        import no_such_module_anywhere

        return no_such_module_anywhere

    with pytest.raises(Unknown, match="what it imports as 'no_such_module_anywhere' cannot be imported"):
        fingerprint(scored)
