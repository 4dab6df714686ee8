"""Second moments of what a layer reads, and the least-squares corrections that follow from them.

Let X be the im2col rows of a layer on calibration examples, and W its kernel. If the columns S are kept and D are
dropped, the layer should still put out X W. The best correction V of the kept rows of W solves

    (C_SS + ridge I) V = C_SD W_D

with C the covariance of X.
"""

from dataclasses import dataclass

import numpy as np

RIDGE = 1e-3  # times the mean variance of a column: enough for dependent columns, too little to matter otherwise
SAMPLING_RIDGE = 0.1  # the same, times columns / rows: with few rows per column, C is mostly chance
_STEPS = 20  # of conjugate gradients


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of a layer's im2col rows.

    Attributes:
        mean: (columns,), zeros if the layer has no place for a constant correction.
        covariance: (columns, columns) around that mean; None if there are fewer rows than columns.
        rows: (rows, columns), centred and divided by the root of their number; None if there is a covariance.
        ridge: added to the diagonal of the covariance.
    """

    mean: np.ndarray
    covariance: np.ndarray | None
    rows: np.ndarray | None
    ridge: float

    def correction(self, kernel: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Solves for the correction of the kept rows of a kernel.

        Args:
            kernel: (columns, outputs).
            kept: bool (columns,).

        Returns:
            (kept columns, outputs), to be added.
        """
        if self.covariance is not None:
            across = self.covariance[np.ix_(kept, ~kept)] @ kernel[~kept]
            return _solve(self.covariance[np.ix_(kept, kept)], self.ridge, across)
        rows, lost = self.rows[:, kept], self.rows[:, ~kept] @ kernel[~kept]
        return rows.T @ _solve(rows @ rows.T, self.ridge, lost)  # equal, by the matrix inversion lemma

    def masked_correction(self, kernel: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Solves for the correction of the kept weights of a kernel, with a different set of kept weights per output.

        Every output has a linear system of its own. Conjugate gradients solve all of them at once, with matrix products
        only. A few steps are enough: what they do not correct is mostly chance.

        Args:
            kernel: (columns, outputs).
            mask: bool (columns, outputs).

        Returns:
            (columns, outputs), to be added; zero for dropped weights.
        """
        tiny = np.finfo(np.float32).tiny
        diagonal = np.square(self.rows).sum(axis=0) if self.covariance is None else np.diagonal(self.covariance)
        preconditioner = mask / np.maximum(diagonal + self.ridge, tiny)[:, None]
        residual = np.where(mask, self._times(np.where(mask, 0, kernel)), 0)
        solution = np.zeros_like(kernel)
        direction = preconditioned = preconditioner * residual
        size = (residual * preconditioned).sum(axis=0)
        for _ in range(_STEPS):
            image = np.where(mask, self._times(direction) + self.ridge * direction, 0)
            step = size / np.maximum((direction * image).sum(axis=0), tiny)
            solution += step * direction
            residual -= step * image
            preconditioned = preconditioner * residual
            previous, size = size, (residual * preconditioned).sum(axis=0)
            direction = preconditioned + size / np.maximum(previous, tiny) * direction
        return solution

    def _times(self, columns: np.ndarray) -> np.ndarray:
        """The covariance times a matrix."""
        if self.covariance is not None:
            return self.covariance @ columns
        return self.rows.T @ (self.rows @ columns)


class MomentSums:
    """Accumulates im2col rows: as they are at first, as sums of products when there are more rows than columns.

    Args:
        columns: length of a row.
        centred: whether to take moments around the mean, because the layer has a place for a constant correction.
    """

    def __init__(self, columns: int, centred: bool):
        self._rows: list[np.ndarray] = []
        self._count, self._total = 0, np.zeros(columns, np.float64)
        self._products: np.ndarray | None = None
        self._centred = centred
        self._origin: np.ndarray | None = None  # near the mean, so that large squares do not swallow small variances

    def add(self, rows: np.ndarray) -> None:
        """Adds rows (rows, columns)."""
        if self._origin is None:
            self._origin = rows.mean(axis=0) * np.float32(self._centred)
        rows = rows - self._origin
        self._count += len(rows)
        self._total += rows.sum(axis=0, dtype=np.float64)
        self._rows.append(rows)
        if self._products is not None or self._count > len(self._total):
            pending = np.concatenate(self._rows)
            products = pending.T @ pending
            self._products = products if self._products is None else self._products + products
            self._rows = []

    def moments(self) -> Moments:
        """The moments of all rows so far."""
        shift = (self._total / self._count * self._centred).astype(np.float32)
        mean = self._origin + shift
        # A constant channel seems to vary by the rounding of its values; the ridge must not fall below that.
        least = float(np.mean(np.square(mean))) * np.finfo(np.float32).eps ** 2
        share = RIDGE + SAMPLING_RIDGE * len(mean) / self._count
        if self._products is not None:
            covariance = self._products / np.float32(self._count) - np.outer(shift, shift)
            return Moments(mean, covariance, None, max(share * float(np.trace(covariance)) / len(mean), least))
        rows = (np.concatenate(self._rows) - shift) / np.float32(np.sqrt(self._count))
        return Moments(mean, None, rows, max(share * float(np.square(rows).sum()) / len(mean), least))


def _solve(matrix: np.ndarray, ridge: float, right: np.ndarray) -> np.ndarray:
    """(matrix + ridge I)^-1 right, solved in double precision."""
    matrix = matrix.astype(np.float64)
    matrix[np.diag_indices(len(matrix))] += max(ridge, np.finfo(np.float32).tiny)
    return np.linalg.solve(matrix, right.astype(np.float64)).astype(np.float32)
