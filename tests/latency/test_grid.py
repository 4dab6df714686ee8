import numpy as np
import pytest

from amc_tf.latency import grid

WIDE = list(range(104, 513, 8))  # the widths of 512 channels


def stairs(channels):
    """Time of a kernel that computes channels in tiles of 16, beside what each channel costs to store."""
    return 20 * np.ceil(np.asarray(channels) / 16) + 0.01 * np.asarray(channels)


def test_few_lengths_are_all_measured():
    assert grid.runs(range(8, 136, 8)) == list(range(16))


def test_many_lengths_are_measured_in_runs_with_both_ends():
    chosen = grid.runs(WIDE)
    assert len(chosen) <= 16 and {0, len(WIDE) - 1} <= set(chosen)
    assert sum(index + 1 in chosen for index in chosen) >= 12  # neighbours stand together


def test_steps_between_the_measured_lengths_are_restored():
    chosen = grid.runs(WIDE)
    found = grid.interpolated_runs(WIDE, chosen, stairs([WIDE[index] for index in chosen]))
    assert np.abs(found / stairs(WIDE) - 1).max() < 0.01
    plain = np.interp(WIDE, [WIDE[index] for index in chosen], stairs([WIDE[index] for index in chosen]))
    assert np.abs(plain / stairs(WIDE) - 1).max() > 0.03  # what a straight line would have missed by


@pytest.mark.parametrize("axes", [[[8, 16, 24]], [WIDE], [[8, 16, 24], [8, 16]], [WIDE, WIDE], [[8], WIDE]])
def test_linear_times_steps_is_restored_from_the_measured_points(axes):
    def time(lengths):
        return 5 + np.prod([*lengths[:-1], stairs(lengths[-1])])

    wanted = set(grid.indices_to_measure(axes))
    asked = set()

    def at(index):
        asked.add(index)
        return time([axis[i] for axis, i in zip(axes, index, strict=True)])

    filled = grid.interpolated(axes, at)
    assert asked <= wanted
    true = np.array([time(point) for point in np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))])
    assert filled.shape == tuple(map(len, axes))
    assert np.abs(filled.reshape(-1) / true - 1).max() < 0.02


def test_two_wide_axes_take_few_measurements():
    assert len(grid.indices_to_measure([WIDE, WIDE])) <= 48


def test_what_was_measured_too_slow_or_too_fast_is_levelled_so_that_nothing_falls():
    rng = np.random.default_rng(0)
    noisy = stairs(WIDE)[:, None] * stairs(WIDE) * rng.uniform(0.8, 1.2, (len(WIDE), len(WIDE)))
    risen = grid.isotonic(noisy)
    assert (np.diff(risen, axis=0) >= 0).all() and (np.diff(risen, axis=1) >= 0).all()
    true = stairs(WIDE)[:, None] * stairs(WIDE)
    assert np.abs(risen / true - 1).mean() < np.abs(noisy / true - 1).mean()


def test_what_follows_no_width_is_measured_once():
    assert grid.indices_to_measure([]) == [()]
    assert grid.interpolated([], lambda index: 7.0) == 7.0
