"""Grid: which points of a function of one or two widths are worth measuring, and the whole function from them.

Kernels compute channels in tiles (of 4, 8, 16 or 32), so that time rises in stairs: between 96 and 104 channels by a
tile, between 104 and 112 not at all. Points far apart would miss the stairs. So they come in runs of neighbours, and
what lies between two runs is interpolated from the points that stand at the same place of a stair.
"""

from collections.abc import Callable, Sequence

import numpy as np

_RUN = 4  # neighbours: with widths in multiples of 8 they cover the widest tile, 32
_RUNS = 4
_LEVELS = 3  # of the channels that go in, in which time is all but linear


def chosen(points: Sequence[int]) -> list[int]:
    """Indices of the points to measure: all of up to 16, else four runs of four, the ends among them."""
    count = len(points)
    if count <= _RUN * _RUNS:
        return list(range(count))
    starts = np.linspace(0, count - _RUN, _RUNS).round().astype(int)
    return sorted({int(start) + step for start in starts for step in range(_RUN)})


def between(points: Sequence[int], measured: Sequence[int], values: Sequence[float]) -> np.ndarray:
    """The function at all points, from its values at the `measured` ones."""
    points, values = np.asarray(points, float), np.asarray(values, float)
    whole = np.interp(points, points[list(measured)], values)
    place = np.arange(len(points)) % _RUN
    for stair in range(_RUN):
        known = [k for k, index in enumerate(measured) if place[index] == stair]
        if len(known) > 1:
            here = np.flatnonzero(place == stair)
            inner = here[(here >= measured[known[0]]) & (here <= measured[known[-1]])]
            whole[inner] = np.interp(points[inner], points[[measured[k] for k in known]], values[known])
    whole[list(measured)] = values
    return whole


def wanted(axes: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """The index tuples to measure of a function of at most two lengths; stairs are looked for along the last one."""
    if not axes:
        return [()]
    if len(axes) == 1:
        return [(index,) for index in chosen(axes[0])]
    return [(level, index) for level in _levels(axes[0]) for index in chosen(axes[1])]


def filled(axes: Sequence[Sequence[int]], at: Callable[[tuple[int, ...]], float]) -> np.ndarray:
    """The function at all points, non-decreasing along each axis.

    Args:
        axes: ascending lengths, one sequence an axis, at most two.
        at: index tuple, one of `wanted(axes)` -> measured value.

    Returns:
        Array of the lengths of the axes.
    """
    if not axes:
        return np.array(at(()))
    measured = chosen(axes[-1])
    if len(axes) == 1:
        return rising(between(axes[0], measured, [at((index,)) for index in measured]))
    levels = _levels(axes[0])
    rows = np.stack([between(axes[1], measured, [at((level, index)) for index in measured]) for level in levels])
    known = [axes[0][level] for level in levels]
    return rising(np.stack([np.interp(axes[0], known, column) for column in rows.T], axis=1))


def rising(values: np.ndarray) -> np.ndarray:
    """The nearest function that never falls along an axis: a wider operator that took less was measured badly."""
    from scipy.optimize import isotonic_regression  # takes a third of a second to import

    values = np.asarray(values, float)
    for axis in range(values.ndim):
        values = np.apply_along_axis(lambda line: isotonic_regression(line).x, axis, values)
    for axis in range(values.ndim):  # of two axes the second may have unsettled the first a little
        values = np.maximum.accumulate(values, axis=axis)
    return values


def _levels(points: Sequence[int]) -> list[int]:
    """Indices of a few points, the ends among them."""
    return sorted({int(index) for index in np.linspace(0, len(points) - 1, _LEVELS).round()})
