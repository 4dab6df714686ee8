"""Runs .tflite files over many examples in worker processes that hold the runtime and nothing of TensorFlow.

The examples lie once in a file that all workers map; so does every .tflite. Whatever way this process ends, its workers
see the end of their input and end too, and nothing stays on the disk (scratch.py). Where it was forked, they see that
when the last fork ends.
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
from amc_tf.tflite.runtime.model_io import batch_of, ends_of
from amc_tf.tflite.runtime.scratch import File
from amc_tf.tflite.runtime.shared_dataset import SharedDataset
from amc_tf.tflite.runtime.worker_pool import Job, Run, WorkerPool

_JOBS_A_WORKER = 4  # in one run, so that all workers come to its end at about the same time
_MOST_EXAMPLES = 128  # in one job, so that a slow network does not look like a process that hangs


class Scorer:
    """Runs .tflite files in worker processes, one runtime thread each.

    Several threads may use it at once: their work is done first in, first out by the same workers, which start with the
    first of it; what is urgent goes before. They end with `close()`, with the `with` block, when the scorer is garbage
    collected, or with this process. The same file gives the same bits on the same examples, whatever the number of
    workers.

    Args:
        workers: how many processes; None for the number of cores that this process may use.
        timeout: seconds after which a worker counts as hung. It may take them for 128 examples at most (or one batch,
            where that is larger), its start and the loading of the file included.

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

    def hold(self, inputs: Sequence[np.ndarray]) -> SharedDataset:
        """Puts examples where all workers read them without copies.

        Args:
            inputs: one array (examples, ...) for each input of the files that will run on them, in the file's order.
                They may have any type of numbers; a worker casts or quantises them, a batch at a time, to what the
                file takes.

        Raises:
            ValueError: no inputs, no examples, not as many in each input, or values that are no numbers.
            RunDirError: no room for them in the folder of temporary files.
        """
        self._check_open()
        return SharedDataset(inputs)

    def load(self, tflite: bytes | str | Path, held: SharedDataset) -> "Loaded":
        """Makes a .tflite ready to run on examples, in one part or in several; workers keep it until it is closed.

        Raises:
            ValueError: the scorer or the examples are closed.
            ConversionError: no .tflite, a damaged one, or one whose inputs do not fit the examples.
            RunDirError: no room for it in the folder of temporary files.
        """
        self._check_open()
        return Loaded(self, tflite, held)

    def run(
        self,
        tflite: bytes | str | Path,
        held: SharedDataset,
        start: int = 0,
        stop: int | None = None,
        urgent: bool = False,
    ) -> list[np.ndarray]:
        """Runs a .tflite on the examples [start, stop); as `load` and `Loaded.run`, whose errors it raises."""
        with self.load(tflite, held) as loaded:
            return loaded.run(start, stop, urgent)

    def close(self) -> None:
        """Ends the workers; runs that wait in other threads fail."""
        self._finalizer()

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise ValueError("The scorer is closed; build a new one.")


class Loaded:
    """A .tflite that workers run on examples; made by `Scorer.load`."""

    def __init__(self, scorer: Scorer, tflite: bytes | str | Path, held: SharedDataset):
        data = contents(tflite)
        ends = ends_of(data)
        self.batch = batch_of(ends, held)
        self.examples = held.examples
        self._scorer = scorer  # whose workers would end with it
        self._pool = pool = scorer._pool
        self._files = (held.file, File(lambda file: file.write(data), f"a .tflite of {len(data)} bytes"))
        self._size = len(data)
        self._request = {
            "number": pool.open(),
            "files": [str(file.path) for file in self._files],
            "examples": held.places,
            "inputs": [(tensor.index, tensor.dtype.str, tensor.scale, tensor.zero) for tensor in ends.inputs],
            "outputs": [(tensor.index, tensor.scale, tensor.zero) for tensor in ends.outputs],
            "batch": self.batch,
        }
        self._finalizer = weakref.finalize(self, pool.opened.discard, self._request["number"])

    def run(self, start: int = 0, stop: int | None = None, urgent: bool = False) -> list[np.ndarray]:
        """Runs the examples [start, stop), step by step of as many as the file takes at once.

        Args:
            start: the first example.
            stop: the one after the last; None for all.
            urgent: whether it goes before all that waits and is not.

        Returns:
            One array (steps, *the output's shape) for each output, in the order of the file's signature; float32 where
            the file's is quantised. What has the batch as first side, `outputs` makes (examples, ...).

        Raises:
            ValueError: there is no such part of the examples, or it is no multiple of the batch; or something is
                closed.
            ConversionError: the runtime cannot run the file, or three workers died of it.
            AmcError: no process could be started; or the scorer was closed meanwhile.
        """
        if not self._finalizer.alive:
            raise ValueError("This .tflite is closed; load it anew.")
        stop = self.examples if stop is None else stop
        if not 0 <= start < stop <= self.examples or (stop - start) % self.batch:
            raise ValueError(
                f"The examples {start} to {stop} are asked for; expected a part of the {self.examples} held that is "
                f"a multiple of the file's batch of {self.batch}."
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
            run.over = True  # after Ctrl-C nobody wants what still lies in the queue
        if run.error is not None:
            raise run.error
        parts = [run.results[number] for number in range(len(jobs))]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def close(self) -> None:
        """Lets workers forget the file."""
        self._finalizer()
        self._files = ()

    def __enter__(self) -> "Loaded":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _parts(self, start: int, stop: int) -> list[tuple[int, int]]:
        """[start, stop) cut into jobs, each a multiple of the batch."""
        steps = (stop - start) // self.batch
        most = max(1, min(math.ceil(steps / (self._pool.workers * _JOBS_A_WORKER)), _MOST_EXAMPLES // self.batch))
        length = most * self.batch
        return [(first, min(first + length, stop)) for first in range(start, stop, length)]


def outputs(of_steps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """(steps, batch, ...) -> (examples, ...) for every output of a file whose outputs have the batch as first side."""
    return [array.reshape(-1, *array.shape[2:]) for array in of_steps]
