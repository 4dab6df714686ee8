"""Grid: which points of a function of one or two widths are worth measuring, and the whole function from them.

Kernels compute channels in tiles (of 4, 8, 16 or 32), so that time rises in stairs: between 96 and 104 channels by a
tile, between 104 and 112 not at all. Points far apart would miss the stairs. So they come in runs of neighbours, and
what lies between two runs is interpolated from the points that stand at the same place of a stair.
"""

from collections.abc import Callable, Sequence

import numpy as np

_RUN = 4  # neighbours: with widths in multiples of 8 they cover the widest tile, 32
_RUNS = 4


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
    """The index tuples to measure of a function of one or two lengths: a cross through the middle, and the corners."""
    if not axes:
        return [()]
    if len(axes) == 1:
        return [(index,) for index in chosen(axes[0])]
    first, second = (chosen(axis) for axis in axes)
    if len(first) * len(second) <= 2 * _RUN * _RUNS:
        return [(a, b) for a in first for b in second]
    a, b = (_middle(measured) for measured in (first, second))
    corners = [(x, y) for x in (first[0], first[-1]) for y in (second[0], second[-1])]
    return list(dict.fromkeys([*((x, b) for x in first), *((a, y) for y in second), *corners]))


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
    if len(axes) == 1:
        measured = chosen(axes[0])
        return rising(between(axes[0], measured, [at((index,)) for index in measured]))
    first, second = (chosen(axis) for axis in axes)
    if len(first) * len(second) <= 2 * _RUN * _RUNS:
        rows = [between(axes[1], second, [at((a, b)) for b in second]) for a in first]
        return rising(np.stack([between(axes[0], first, column) for column in np.stack(rows).T], axis=1))
    # The cross gives a product of two functions; what the corners differ from it by spreads evenly towards the middle.
    a, b = _middle(first), _middle(second)
    down = between(axes[0], first, [at((x, b)) for x in first])
    right = between(axes[1], second, [at((a, y)) for y in second])
    product = np.outer(down, right) / at((a, b))
    ends = (first[0], first[-1]), (second[0], second[-1])
    off = np.array([[at((x, y)) / product[x, y] for y in ends[1]] for x in ends[0]])
    grid = np.ones((3, 3))
    grid[::2, ::2] = off
    knots = [[axis[measured[0]], axis[m], axis[measured[-1]]] for axis, measured, m in
             ((axes[0], first, a), (axes[1], second, b))]  # fmt: skip
    rows = np.stack([np.interp(axes[1], knots[1], row) for row in grid])
    spread = np.stack([np.interp(axes[0], knots[0], column) for column in rows.T], axis=1)
    return rising(product * spread)


def rising(values: np.ndarray) -> np.ndarray:
    """The nearest function that never falls along an axis: a wider operator that took less was measured badly."""
    from scipy.optimize import isotonic_regression  # takes a third of a second to import

    values = np.asarray(values, float)
    for axis in range(values.ndim):
        values = np.apply_along_axis(lambda line: isotonic_regression(line).x, axis, values)
    for axis in range(values.ndim):  # of two axes the second may have unsettled the first a little
        values = np.maximum.accumulate(values, axis=axis)
    return values


def _middle(measured: Sequence[int]) -> int:
    return measured[len(measured) // 2]
