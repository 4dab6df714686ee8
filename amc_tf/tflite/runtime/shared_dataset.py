"""SharedDataset: examples in one file that all workers map."""

import itertools
import math
from collections.abc import Sequence
from typing import IO

import numpy as np

from amc_tf.tflite.runtime.scratch import File

_ALIGNMENT = 64  # of an array in the examples' file, in bytes
_BYTES_AT_ONCE = 1 << 24  # written


class SharedDataset:
    """Examples in a file of the scratch folder; `Scorer.share` makes it.

    Args:
        inputs: see `Scorer.share`.

    Attributes:
        examples: number of examples.
        shapes: of one example, for each input.
        dtypes: of each input.
        ranges: (smallest, largest) value of each integer input, to know whether another integer type holds them.
        layouts: [dtype, shape, offset in bytes] of each array in the file.

    Raises:
        ValueError, RunDirError: see `Scorer.share`.
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
        self.ranges = [(int(a.min()), int(a.max())) if a.dtype.kind in "iu" and a.size else (0, 0) for a in arrays]
        ends = itertools.accumulate((math.ceil(a.nbytes / _ALIGNMENT) * _ALIGNMENT for a in arrays), initial=0)
        offsets = list(ends)[:-1]
        self.layouts = [[a.dtype.str, a.shape, offset] for a, offset in zip(arrays, offsets, strict=True)]

        def write(file: IO[bytes]) -> None:
            for array, offset in zip(arrays, offsets, strict=True):
                file.seek(offset)
                rows = max(1, _BYTES_AT_ONCE * len(array) // max(1, array.nbytes))
                for first in range(0, len(array), rows):
                    file.write(array[first : first + rows].tobytes())

        self._file: File | None = File(write, f"{sum(a.nbytes for a in arrays)} bytes of examples")

    @property
    def file(self) -> File:
        """The file of the examples.

        Raises:
            ValueError: they are closed.
        """
        if self._file is None:
            raise ValueError("These examples are closed; share them anew.")
        return self._file

    def close(self) -> None:
        """Deletes the file as soon as no worker reads it any more."""
        self._file = None

    def __enter__(self) -> "SharedDataset":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
