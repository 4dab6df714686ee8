"""Scorer: runs .tflite files over many examples in worker processes that hold the runtime and nothing of TensorFlow.

The examples lie once in a file that all workers map; so does every .tflite. Whatever way this process ends, the stdin
of its workers ends then. So they end too, and nothing stays on the disk (scratch.py). If this process was forked, their
stdin ends with the last fork.
"""

import math
import os
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from amc_tf.checks import is_whole
from amc_tf.system import cores
from amc_tf.tflite.flatbuffer import contents
from amc_tf.tflite.runtime.model_io import batch_size, read_model_io
from amc_tf.tflite.runtime.scratch import File
from amc_tf.tflite.runtime.shared_dataset import SharedDataset
from amc_tf.tflite.runtime.worker_pool import Job, Run, WorkerPool

_JOBS_PER_WORKER = 4  # in one run, so that all workers finish it at about the same time
_MOST_EXAMPLES = 128  # in one job, so that a slow network does not look like a process that hangs


class Scorer:
    """Runs .tflite files in worker processes, one runtime thread each.

    Several threads may use it at once: the same workers do their runs first in, first out, but urgent ones first. The
    workers start with the first run. They end with `close()`, with the `with` block, when the scorer is garbage
    collected, or with this process. The same file gives the same bits on the same examples, for any number of workers.

    Args:
        workers: number of processes; None for the number of cores that this process may use.
        timeout: seconds after which a worker counts as hung. A worker has them for 128 examples at most (or for one
            batch if that is larger), including its start and the loading of the file.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, workers: int | None = None, timeout: float = 300.0):
        if workers is None:
            workers = cores.count()
        if not is_whole(workers) or workers < 1:
            raise ValueError(f"workers is {workers!r}; a whole number of 1 or more is expected.")
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout!r}; a number of seconds above 0 is expected.")
        self.workers = int(workers)
        self._pool = WorkerPool(self.workers, timeout)
        self._finalizer = weakref.finalize(self, self._pool.end, os.getpid())

    def share(self, inputs: Sequence[np.ndarray]) -> SharedDataset:
        """Writes examples to a file that all workers read without copies.

        Args:
            inputs: one array (examples, ...) for each input of the files that will run on them, in the file's order.
                Any type of numbers will do: a worker casts or quantises each batch to the type of the file's input.

        Raises:
            ValueError: the scorer is closed, there are no inputs or no examples, the inputs differ in the number of
                examples, or values are no numbers.
            RunDirError: no room for the examples in the folder of temporary files.
        """
        self._check_open()
        return SharedDataset(inputs)

    def load(self, tflite: bytes | str | Path, dataset: SharedDataset) -> "Loaded":
        """Prepares a .tflite to run on examples, in one part or in several; workers keep it until it is closed.

        Raises:
            ValueError: the scorer or the examples are closed.
            ConversionError: it is no .tflite, it is damaged, or its inputs do not fit the examples.
            RunDirError: no room for it in the folder of temporary files.
        """
        self._check_open()
        return Loaded(self, tflite, dataset)

    def run(
        self,
        tflite: bytes | str | Path,
        dataset: SharedDataset,
        start: int = 0,
        stop: int | None = None,
        urgent: bool = False,
    ) -> list[np.ndarray]:
        """Runs a .tflite on the examples [start, stop). Arguments and errors are those of `load` and `Loaded.run`."""
        with self.load(tflite, dataset) as loaded:
            return loaded.run(start, stop, urgent)

    def close(self) -> None:
        """Ends the workers; runs that wait in other threads fail."""
        self._finalizer()

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise ValueError("The scorer is closed; build a new one.")


class Loaded:
    """A .tflite that workers run on examples; `Scorer.load` makes it.

    Attributes:
        batch: how many examples the file takes at once.
        examples: number of all examples.
    """

    def __init__(self, scorer: Scorer, tflite: bytes | str | Path, dataset: SharedDataset):
        data = contents(tflite)
        model_io = read_model_io(data)
        self.batch = batch_size(model_io, dataset)
        self.examples = dataset.examples
        self._scorer = scorer  # a reference, since the workers end when the scorer is garbage collected
        self._pool = pool = scorer._pool
        self._files = (dataset.file, File(lambda file: file.write(data), f"a .tflite of {len(data)} bytes"))
        self._size = len(data)
        self._request = {
            "number": pool.open(),
            "files": [str(file.path) for file in self._files],
            "examples": dataset.layouts,
            "inputs": [(tensor.index, tensor.dtype.str, tensor.scale, tensor.zero) for tensor in model_io.inputs],
            "outputs": [(tensor.index, tensor.scale, tensor.zero) for tensor in model_io.outputs],
            "batch": self.batch,
        }
        self._finalizer = weakref.finalize(self, pool.opened.discard, self._request["number"])

    def run(self, start: int = 0, stop: int | None = None, urgent: bool = False) -> list[np.ndarray]:
        """Runs the examples [start, stop), one batch a step.

        Args:
            start: the first example.
            stop: the one after the last; None for all.
            urgent: whether this run goes before all waiting runs that are not urgent.

        Returns:
            One array (steps, *the output's shape) for each output, in the order of the file's signature. Quantised
            outputs are float32 here. `outputs` turns them into (examples, ...) if their first side is the batch.

        Raises:
            ValueError: there are no such examples, their number is no multiple of the batch, or something is closed.
            ConversionError: the runtime cannot run the file, or three workers died of it.
            AmcError: no process could be started, or the scorer was closed meanwhile.
        """
        if not self._finalizer.alive:
            raise ValueError("This .tflite is closed; load it anew.")
        stop = self.examples if stop is None else stop
        if not 0 <= start < stop <= self.examples or (stop - start) % self.batch:
            raise ValueError(
                f"The examples {start} to {stop} are asked for; expected a part of the {self.examples} shared ones, "
                f"in a multiple of the file's batch of {self.batch}."
            )
        run = Run(self._size)
        jobs = []
        for first, last in self._parts(start, stop):
            jobs.append(Job(run, len(jobs), {**self._request, "start": first, "stop": last}, self._files))
        run.left = len(jobs)
        try:
            self._pool.add(jobs, urgent)
            run.done.wait()
        finally:
            run.over = True  # after Ctrl-C nobody needs the jobs that still wait
        if run.error is not None:
            raise run.error
        parts = [run.results[number] for number in range(len(jobs))]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def close(self) -> None:
        """Lets the workers drop the file."""
        self._finalizer()
        self._files = ()

    def __enter__(self) -> "Loaded":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _parts(self, start: int, stop: int) -> list[tuple[int, int]]:
        """[start, stop) split into jobs, each a multiple of the batch."""
        steps = (stop - start) // self.batch
        most = max(1, min(math.ceil(steps / (self._pool.workers * _JOBS_PER_WORKER)), _MOST_EXAMPLES // self.batch))
        length = most * self.batch
        return [(first, min(first + length, stop)) for first in range(start, stop, length)]


def outputs(steps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """(steps, batch, ...) -> (examples, ...) for every output of a file whose outputs have the batch as first side."""
    return [array.reshape(-1, *array.shape[2:]) for array in steps]
