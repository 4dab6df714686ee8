"""Held: examples where all workers read them, in one file."""

import itertools
import math
from collections.abc import Sequence
from typing import IO

import numpy as np

from amc_tf.tflite.runtime.scratch import File

_ALIGNMENT = 64  # of an array in the examples' file, in bytes
_WRITTEN_AT_ONCE = 1 << 24  # bytes


class SharedDataset:
    """Examples in a file of the scratch folder; made by `Scorer.hold`.

    Attributes:
        examples: how many there are.
    """

    def __init__(self, inputs: Sequence[np.ndarray]):
        arrays = [np.asarray(array) for array in inputs]
        counts = {array.shape[:1] for array in arrays}
        if len(counts) != 1 or counts & {(), (0,)}:
            raise ValueError(
                f"The inputs have shapes {[array.shape for array in arrays]}; expected at least one array, each "
                f"(examples, ...) with the same number of examples, 1 or more."
            )
        for number, array in enumerate(arrays):
            if array.dtype.kind not in "biuf":
                raise ValueError(f"Input {number} is of type {array.dtype}; numbers are expected: convert it.")
        self.examples = len(arrays[0])
        self.shapes = [array.shape[1:] for array in arrays]
        self.dtypes = [array.dtype for array in arrays]
        # Largest and smallest, to know whether they fit into another type of integer.
        self.ranges = [(int(a.min()), int(a.max())) if a.dtype.kind in "iu" and a.size else (0, 0) for a in arrays]
        ends = itertools.accumulate((math.ceil(a.nbytes / _ALIGNMENT) * _ALIGNMENT for a in arrays), initial=0)
        offsets = list(ends)[:-1]
        self.places = [[a.dtype.str, a.shape, offset] for a, offset in zip(arrays, offsets, strict=True)]

        def write(file: IO[bytes]) -> None:
            for array, offset in zip(arrays, offsets, strict=True):
                file.seek(offset)
                rows = max(1, _WRITTEN_AT_ONCE * len(array) // max(1, array.nbytes))
                for first in range(0, len(array), rows):
                    file.write(array[first : first + rows].tobytes())

        self._file: File | None = File(write, f"{sum(a.nbytes for a in arrays)} bytes of examples")

    @property
    def file(self) -> File:
        """Where they lie.

        Raises:
            ValueError: they are closed.
        """
        if self._file is None:
            raise ValueError("These examples are closed; hold them anew.")
        return self._file

    def close(self) -> None:
        """Gives the room back as soon as no worker reads the examples any more."""
        self._file = None

    def __enter__(self) -> "SharedDataset":
        return self

    def __exit__(self, *_) -> None:
        self.close()
