"""WorkerPool: worker processes that run .tflite files (worker_process.py), and the queue of their jobs."""

import itertools
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from amc_tf.errors import AmcError, ConversionError
from amc_tf.system.json_lines import JsonProcess, ProcessLost, receive_line
from amc_tf.tflite.runtime import scratch

_PROGRAM = Path(__file__).with_name("worker_process.py")
# Every candidate allocates its memory anew. With pages of 2 MB instead of 4 KB (glibc 2.35) that takes a third as long.
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
_MOST_DEATHS = 3  # of workers by one job; then the file counts as damaged

_log = logging.getLogger(__name__)


class Run:
    """The results of one call of `Loaded.run`, whose examples are split into jobs.

    Attributes:
        size: of the .tflite in bytes, which identifies it in the log.
        results: outputs by the number of the job.
        left: number of jobs without a result.
        error: why the run failed, None if it did not.
        over: nobody needs its jobs any more.
        done: set when all jobs have results or one has failed.
    """

    def __init__(self, size: int):
        self.size = size
        self.results: dict[int, list[np.ndarray]] = {}
        self.left = 0
        self.error: Exception | None = None
        self.over = False
        self.done = threading.Event()
        self._lock = threading.RLock()  # as the pool's

    def finish(self, number: int, arrays: list[np.ndarray]) -> None:
        """Takes the outputs of one job."""
        with self._lock:
            self.results[number] = arrays
            self.left -= 1
            if not self.left:
                self.done.set()

    def fail(self, error: Exception) -> None:
        """Ends the run with an error, unless it has ended."""
        with self._lock:
            if not self.done.is_set():
                self.error = error
                self.over = True
                self.done.set()


@dataclass(frozen=True)
class Job:
    """Some steps of a run, for one worker.

    Attributes:
        run: the run.
        number: of the job within its run.
        request: see worker_process.py.
        files: examples and .tflite; they exist as long as a job refers to them.
    """

    run: Run
    number: int
    request: dict[str, Any]
    files: tuple[scratch.File, ...]

    @property
    def subject(self) -> str:
        """The words for it in messages."""
        return f"a .tflite of {self.run.size} bytes on the examples {self.request['start']} to {self.request['stop']}"


class Worker(JsonProcess):
    """A process of worker_process.py.

    Raises:
        AmcError: it cannot be started.
    """

    def __init__(self):
        try:
            self._scratch = scratch.ours()  # the folder exists as long as a worker reads from it
            super().__init__(
                _PROGRAM,
                str(self._scratch.lock),
                environment={**_HUGE_PAGES, **os.environ, "OMP_NUM_THREADS": "1"},
                receive=_receive,
                name="amc_tf-worker",
            )
        except OSError as error:
            raise AmcError(
                f"No worker could be started ({error}): free memory, close some files or make room among "
                f"{scratch.temporary_files()}."
            ) from error


class WorkerPool:
    """Workers, and one thread for each that hands it jobs. The pool refers to no Scorer, so that one can be collected.

    Args:
        workers: number of processes.
        timeout: seconds after which a worker counts as hung.
    """

    def __init__(self, workers: int, timeout: float):
        self.workers = workers
        self.opened: set[int] = set()  # numbers of the .tflite files that workers keep open
        self._numbers = itertools.count()
        self._timeout = timeout
        self._jobs: tuple[deque[Job], deque[Job]] = deque(), deque()  # urgent ones, others
        self._lock = threading.RLock()  # over all here; a garbage collection may call `end` in any thread at any time
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._runs: weakref.WeakSet[Run] = weakref.WeakSet()
        self._alive: set[Worker] = set()
        for _ in range(workers):
            threading.Thread(target=self._serve, name="amc_tf-score", daemon=True).start()

    def open(self) -> int:
        """A number for one more .tflite."""
        number = next(self._numbers)
        self.opened.add(number)
        return number

    def add(self, jobs: list[Job], urgent: bool) -> None:
        """Appends the jobs of one run to the queue, or to its urgent part.

        Raises:
            ValueError: the pool is closed.
        """
        with self._lock:
            if self._closed:
                raise ValueError("The scorer is closed; build a new one.")
            self._runs.add(jobs[0].run)
            self._jobs[0 if urgent else 1].extend(jobs)
            self._changed.notify_all()

    def end(self, owner: int) -> None:
        """Kills the workers, which have nothing to tidy up, and fails the runs that wait for them.

        Args:
            owner: number of the process that started them. In any other process, a fork of that one, nothing happens.
        """
        if os.getpid() != owner:
            return
        with self._lock:
            self._closed = True
            for worker in self._alive:
                worker.kill()
            for run in self._runs:
                run.fail(AmcError("The scorer was closed while a .tflite ran; build a new one."))
            for jobs in self._jobs:
                jobs.clear()
            self._changed.notify_all()

    def _serve(self) -> None:
        """Does jobs one after another, in one worker at a time, until the pool is closed."""
        worker = None
        for job in iter(self._next_job, None):
            try:
                worker = self._do(job, worker)
            except Exception as error:
                worker = None  # ended already
                job.run.fail(error)
            del job  # and with it the files, while this thread waits for the next
        if worker is not None:
            self._end(worker)

    def _next_job(self) -> Job | None:
        """Waits for a job; None when the pool is closed."""
        with self._lock:
            self._changed.wait_for(lambda: self._closed or any(self._jobs))
            return None if self._closed else next(jobs for jobs in self._jobs if jobs).popleft()

    def _do(self, job: Job, worker: Worker | None) -> Worker | None:
        """Does a job, in new workers if the given one dies of it; returns the worker that is alive, if any."""
        deaths = 0
        while not job.run.over:
            worker = worker or self._start()
            try:
                reply = worker.ask({**job.request, "open": list(self.opened)}, self._timeout)
            except ProcessLost as lost:
                self._end(worker)
                worker = None
                deaths += 1
                self._report_death(job, lost, deaths)
                continue
            except BaseException:
                self._end(worker)
                raise
            if "error" in reply:
                job.run.fail(
                    ConversionError(
                        f"A .tflite of {job.run.size} bytes does not run in ai-edge-litert ({reply['error']}); "
                        f"amc_tf.tflite.conversion.keras_to_tflite.check names operators that it cannot hold."
                    )
                )
            else:
                job.run.finish(job.number, reply["arrays"])
            break
        return worker

    def _report_death(self, job: Job, lost: ProcessLost, deaths: int) -> None:
        """Logs the death of a worker; after too many by one job, fails its run."""
        if job.run.over:
            return  # the pool was closed, or the run failed elsewhere
        last = deaths == _MOST_DEATHS
        consequence = "this file is given up" if last else "another one does its work again"
        _log.warning("The worker that ran %s %s; %s.", job.subject, lost, consequence)
        if last:
            job.run.fail(
                ConversionError(
                    f"Running {job.subject} cost {_MOST_DEATHS} workers, the last of which {lost}; if there is enough "
                    f"memory, the file is damaged: make it anew."
                )
            )

    def _start(self) -> Worker:
        with self._lock:
            if self._closed:
                raise AmcError("The scorer was closed while a .tflite ran; build a new one.")
            worker = Worker()
            self._alive.add(worker)
            return worker

    def _end(self, worker: Worker) -> None:
        worker.end()
        with self._lock:
            self._alive.discard(worker)


def _receive(pipe: IO[bytes]) -> dict[str, Any]:
    """Reads a reply: its line, and the arrays that the line describes in their place."""
    reply = receive_line(pipe)
    if "arrays" in reply:
        reply["arrays"] = [_read_array(pipe, np.dtype(dtype), shape) for dtype, shape in reply["arrays"]]
    return reply


def _read_array(pipe: IO[bytes], dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
    array = np.empty(shape, dtype)
    view = memoryview(array).cast("B") if array.size else memoryview(b"")
    while view:
        count = pipe.readinto(view)
        if not count:
            raise EOFError
        view = view[count:]
    return array
