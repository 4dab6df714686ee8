"""Grid: which lengths of an operator are measured, and the interpolation to all lengths, in one or two dimensions.

Kernels compute channels in tiles (of 4, 8, 16 or 32), so time rises in steps: from 96 to 104 channels by a tile, from
104 to 112 not at all. Lengths that are far apart would miss the steps. So the grid measures runs of neighbouring
lengths. Between two runs it interpolates between lengths at the same position in a step.
"""

from collections.abc import Callable, Sequence

import numpy as np

_RUN = 4  # neighbours in a run: with widths in multiples of 8 they cover the widest tile, 32
_RUNS = 4
_LEVELS = 3  # measured lengths of the input channels, in which time is almost linear

Index = tuple[int, ...]  # one index per axis


def indices_to_measure(axes: Sequence[Sequence[int]]) -> list[Index]:
    """The grid points to measure on at most two axes. The last axis gets runs, the first only a few levels."""
    if not axes:
        return [()]
    if len(axes) == 1:
        return [(index,) for index in runs(axes[0])]
    return [(level, index) for level in _levels(axes[0]) for index in runs(axes[1])]


def interpolated(axes: Sequence[Sequence[int]], measured: Callable[[Index], float]) -> np.ndarray:
    """The values at all grid points, non-decreasing along each axis.

    Args:
        axes: Ascending lengths, one sequence per axis, at most two.
        measured: Grid point, one of `indices_to_measure(axes)` -> measured value.

    Returns:
        Array with one dimension per axis.
    """
    if not axes:
        return np.array(measured(()))
    indices = runs(axes[-1])
    if len(axes) == 1:
        return isotonic(interpolated_runs(axes[0], indices, [measured((index,)) for index in indices]))
    levels = _levels(axes[0])
    rows = np.stack(
        [interpolated_runs(axes[1], indices, [measured((level, index)) for index in indices]) for level in levels]
    )
    known = [axes[0][level] for level in levels]
    return isotonic(np.stack([np.interp(axes[0], known, column) for column in rows.T], axis=1))


def runs(lengths: Sequence[int]) -> list[int]:
    """Indices of the lengths to measure: all of up to 16, else four runs of four that include both ends."""
    count = len(lengths)
    if count <= _RUN * _RUNS:
        return list(range(count))
    starts = np.linspace(0, count - _RUN, _RUNS).round().astype(int)
    return sorted({int(start) + step for start in starts for step in range(_RUN)})


def interpolated_runs(lengths: Sequence[int], measured: Sequence[int], values: Sequence[float]) -> np.ndarray:
    """The values at all lengths, from the values at the measured indices."""
    lengths, values = np.asarray(lengths, float), np.asarray(values, float)
    curve = np.interp(lengths, lengths[list(measured)], values)
    position = np.arange(len(lengths)) % _RUN
    for step in range(_RUN):
        known = [k for k, index in enumerate(measured) if position[index] == step]
        if len(known) > 1:
            same = np.flatnonzero(position == step)
            inner = same[(same >= measured[known[0]]) & (same <= measured[known[-1]])]
            curve[inner] = np.interp(lengths[inner], lengths[[measured[k] for k in known]], values[known])
    curve[list(measured)] = values
    return curve


def isotonic(values: np.ndarray) -> np.ndarray:
    """The nearest array that never falls along an axis: a wider operator that seemed faster is a measurement error."""
    from scipy.optimize import isotonic_regression  # takes a third of a second to import

    values = np.asarray(values, float)
    for axis in range(values.ndim):
        values = np.apply_along_axis(lambda line: isotonic_regression(line).x, axis, values)
    for axis in range(values.ndim):  # the regression along the second axis may have changed the order along the first
        values = np.maximum.accumulate(values, axis=axis)
    return values


def _levels(lengths: Sequence[int]) -> list[int]:
    """Indices of a few lengths, evenly spaced, both ends included."""
    return sorted({int(index) for index in np.linspace(0, len(lengths) - 1, _LEVELS).round()})
