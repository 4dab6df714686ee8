"""The 11 features: their order and definitions by hand, and that they stay in [0, 1]."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from amc_tf.search.agent.features import NAMES, Features
from tests.search.fakes import FakeUnit, ProductCost, chain_cost, units

UNITS = [
    FakeUnit("a", 32, (8, 16, 24, 32), filters=32, inputs=3, height=32, width=16, stride=2, kernel=3),
    FakeUnit("b", 64, (16, 32, 48, 64), filters=64, inputs=32, height=16, width=16, stride=1, kernel=3),
    FakeUnit("c", 128, (32, 64, 96, 128), filters=128, inputs=83, height=8, width=4, stride=1, kernel=1),
]
# 2 w_a w_b + w_b w_c + 100 w_c + 4096: base 4096 + 8192 + 12800 + 4096
COST = ProductCost([[0, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 100], [0, 0, 0, 4096]])
BASE = 2 * 32 * 64 + 64 * 128 + 100 * 128 + 4096


def state(t: int, widths: list[int]) -> dict[str, float]:
    values = Features(UNITS, COST).state(t, widths)
    assert values.shape == (11,) and values.dtype == np.float32
    return dict(zip(NAMES, values.tolist(), strict=True))


def test_fixed_features_are_scaled_over_the_units() -> None:
    seen = [state(0, []), state(1, [32]), state(2, [32, 64])]
    assert [s["t"] for s in seen] == [0, 0.5, 1]
    np.testing.assert_allclose([s["n"] for s in seen], [0, 1 / 3, 1], atol=1e-6)
    np.testing.assert_allclose([s["c"] for s in seen], [0, 29 / 80, 1], atol=1e-6)
    np.testing.assert_allclose([s["h"] for s in seen], [1, 1 / 3, 0], atol=1e-6)
    assert [s["w"] for s in seen] == [1, 1, 0]
    assert [s["stride"] for s in seen] == [1, 0, 0]
    assert [s["k"] for s in seen] == [1, 1, 0]


def test_cost_is_what_a_unit_alone_can_take_off() -> None:
    removable = np.array([2 * 24 * 64, 2 * 32 * 48 + 48 * 128, 64 * 96 + 100 * 96])
    scaled = (removable - removable.min()) / (removable.max() - removable.min())
    np.testing.assert_allclose([state(t, [32, 64][:t])["cost"] for t in range(3)], scaled, atol=1e-6)


def test_reduced_rest_and_previous_action() -> None:
    first = state(0, [])
    assert (first["reduced"], first["previous_action"]) == (0, 1)
    narrowest = 2 * 8 * 16 + 16 * 32 + 100 * 32 + 4096
    np.testing.assert_allclose(first["rest"], (BASE - narrowest) / BASE, rtol=1e-6)

    last = state(2, [16, 48])
    most = 2 * 16 * 48 + 48 * 128 + 100 * 128 + 4096
    least = 2 * 16 * 48 + 48 * 32 + 100 * 32 + 4096
    np.testing.assert_allclose(last["reduced"], (BASE - most) / BASE, rtol=1e-6)
    np.testing.assert_allclose(last["rest"], (most - least) / BASE, rtol=1e-6)
    assert last["previous_action"] == 0.75


def test_features_in_which_all_units_agree_are_zero() -> None:
    features = Features(units(16, 16, 16), chain_cost(3))
    for t in range(3):
        values = dict(zip(NAMES, features.state(t, [16] * t), strict=True))
        assert [values[name] for name in ("n", "c", "h", "w", "stride", "k")] == [0] * 6


@given(st.data())
def test_features_stay_between_0_and_1(data: st.DataObject) -> None:
    some = units(*data.draw(st.lists(st.integers(1, 70), min_size=1, max_size=6)))
    features = Features(some, chain_cost(len(some), fixed=data.draw(st.floats(1, 1e6))))
    widths = [data.draw(st.sampled_from(unit.widths)) for unit in some]
    for t in range(len(some)):
        values = features.state(t, widths[:t])
        assert ((values >= 0) & (values <= 1)).all()
