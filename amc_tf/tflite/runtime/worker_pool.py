"""WorkerPool: worker processes (worker_process.py) and the jobs that wait for them."""

import contextlib
import itertools
import json
import logging
import os
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.errors import AmcError, ConversionError
from amc_tf.system.processes import NEUTRAL_FOLDER, OWN_GROUP, command, last_words, skip_noise
from amc_tf.tflite.runtime import scratch

_PROGRAM = Path(__file__).with_name("worker_process.py")
# Every candidate takes its memory anew; in pages of 2 MB instead of 4 KB (glibc 2.35) that costs a third.
_HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
_DEATHS = 3  # of workers by one job; then it is the file's fault
_LONGEST_WAIT = 3600.0  # seconds, which any system's clock can count

_log = logging.getLogger(__name__)


class Run:
    """A part of the examples on its way; `done` is set when all jobs are or one has failed."""

    def __init__(self, size: int):
        self.size = size  # of the .tflite in bytes, which tells it from others in the log
        self.results: dict[int, list[np.ndarray]] = {}
        self.left = 0
        self.error: Exception | None = None
        self.over = False
        self.done = threading.Event()
        self._lock = threading.RLock()  # as the crew's

    def finish(self, number: int, arrays: list[np.ndarray]) -> None:
        with self._lock:
            self.results[number] = arrays
            self.left -= 1
            if not self.left:
                self.done.set()

    def fail(self, error: Exception) -> None:
        with self._lock:
            if not self.done.is_set():
                self.error = error
                self.over = True
                self.done.set()


@dataclass(frozen=True)
class Job:
    """Some steps of a run, for one worker."""

    run: Run
    number: int
    request: dict[str, Any]
    files: tuple[scratch.File, ...]  # examples and .tflite; they stay as long as a job wants them


class _Died(Exception):
    """A worker is lost; the text says how."""


class WorkerPool:
    """The workers, each with a thread that hands it jobs. It knows no Scorer, so that one can be collected."""

    def __init__(self, workers: int, timeout: float):
        self.workers = workers
        self.opened: set[int] = set()  # numbers of the .tflite files that workers are to keep
        self._numbers = itertools.count()
        self._timeout = timeout
        self._jobs: tuple[deque[Job], deque[Job]] = deque(), deque()  # the urgent ones and the others
        self._lock = threading.RLock()  # over all here; a garbage collection may call `end` in any thread at any time
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._runs: weakref.WeakSet[Run] = weakref.WeakSet()
        self._processes: set[Worker] = set()
        for work in (self._watch, *[self._serve] * workers):
            threading.Thread(target=work, name="amc_tf-score", daemon=True).start()

    def open(self) -> int:
        """A number for one more .tflite."""
        number = next(self._numbers)
        self.opened.add(number)
        return number

    def add(self, jobs: list[Job], urgent: bool) -> None:
        """Puts the jobs of one run at the end of the queue, or of what is urgent there."""
        with self._lock:
            if self._closed:
                raise ValueError("The scorer is closed; build a new one.")
            self._runs.add(jobs[0].run)
            self._jobs[0 if urgent else 1].extend(jobs)
            self._changed.notify_all()

    def end(self, owner: int) -> None:
        """Kills the workers, which have nothing to tidy up, and fails the runs that wait for them."""
        if os.getpid() != owner:
            return  # a fork of the caller ends: the workers are not its own
        with self._lock:
            self._closed = True
            for worker in self._processes:
                worker.kill()
            for run in self._runs:
                run.fail(AmcError("The scorer was closed while a .tflite ran; build a new one."))
            for jobs in self._jobs:
                jobs.clear()
            self._changed.notify_all()

    def _serve(self) -> None:
        """Has one worker at a time do jobs until there are no more."""
        worker = None
        for job in iter(self._next, None):
            try:
                worker = self._do(job, worker)
            except Exception as error:
                worker = None  # buried where it died
                job.run.fail(error)
            del job  # and with it the files, while this thread waits for the next
        if worker is not None:
            self._bury(worker)

    def _watch(self) -> None:
        """Kills the workers that do not answer in time; who waits for them sees their end then."""
        with self._lock:
            while not self._closed:
                # Whoever is asked meanwhile has all the time from then on, so nobody has to wake this thread up.
                left = min([worker.hurry() for worker in self._processes], default=self._timeout)
                self._changed.wait(min(left, _LONGEST_WAIT))

    def _next(self) -> Job | None:
        """Waits for a job; None when the scorer is closed."""
        with self._lock:
            self._changed.wait_for(lambda: self._closed or any(self._jobs))
            return None if self._closed else next(jobs for jobs in self._jobs if jobs).popleft()

    def _do(self, job: Job, worker: "Worker | None") -> "Worker | None":
        """Does a job, by a new worker where the one given dies of it; returns the worker that lives on."""
        causes: list[str] = []
        while not job.run.over:
            worker = worker or self._start()
            try:
                head, arrays = worker.ask({**job.request, "open": list(self.opened)})
            except _Died as died:
                self._bury(worker)
                worker = None
                causes.append(str(died))
                if job.run.over:
                    break  # the scorer is closed, or the run failed elsewhere
                _log.warning(
                    "The worker that ran a .tflite of %d bytes on the examples %d to %d %s; %s.",
                    job.run.size, job.request["start"], job.request["stop"], died,
                    "another one does its work again" if len(causes) < _DEATHS else "this file is given up",
                )  # fmt: skip
                if len(causes) == _DEATHS:
                    job.run.fail(
                        ConversionError(
                            f"Running a .tflite of {job.run.size} bytes on the examples {job.request['start']} to "
                            f"{job.request['stop']} cost {_DEATHS} workers, the last of which {died}; if there is "
                            f"enough memory, the file is damaged: make it anew."
                        )
                    )
                continue
            except BaseException:
                self._bury(worker)
                raise
            if "error" in head:
                job.run.fail(
                    ConversionError(
                        f"A .tflite of {job.run.size} bytes does not run in ai-edge-litert ({head['error']}); "
                        f"amc_tf.tflite.conversion.keras_to_tflite.check names operators that it cannot hold."
                    )
                )
            else:
                job.run.finish(job.number, arrays)
            break
        return worker

    def _start(self) -> "Worker":
        with self._lock:
            if self._closed:
                raise AmcError("The scorer was closed while a .tflite ran; build a new one.")
            worker = Worker(self._timeout)
            self._processes.add(worker)
            return worker

    def _bury(self, worker: "Worker") -> None:
        worker.end()
        with self._lock:
            self._processes.discard(worker)


class Worker:
    """A process of worker_process.py."""

    def __init__(self, timeout: float):
        self._timeout = timeout
        self._due: float | None = None  # by time.monotonic(); while it is asked
        self._late = False
        self._ready = False
        with contextlib.ExitStack() as opened:
            try:
                self._start(opened)
            except OSError as error:
                raise AmcError(
                    f"No worker could be started ({error}): free memory, close some files or make room among "
                    f"{scratch.temporary_files()}."
                ) from error
            opened.pop_all()

    def _start(self, opened: contextlib.ExitStack) -> None:
        """Starts the process; what is opened for it is closed with `opened` if that fails."""
        self._scratch = scratch.ours()  # stays as long as it is read
        self._words = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            command(_PROGRAM, str(self._scratch.lock)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env={**_HUGE_PAGES, **os.environ, "OMP_NUM_THREADS": "1"},
            cwd=NEUTRAL_FOLDER,
            **OWN_GROUP,
        )

    def ask(self, request: dict[str, Any]) -> tuple[dict, list[np.ndarray]]:
        """The reply to a request: its line and the arrays that come with it.

        Raises:
            _Died: the process ended or hung; it must be ended with `end`.
        """
        self._late = False
        self._due = time.monotonic() + self._timeout
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            if not self._ready:
                skip_noise(self.process.stdout)
                self._ready = True
            head = self.process.stdout.readline()
            if head.endswith(b"\n"):
                reply = json.loads(head)
                return reply, [self._read(np.dtype(dtype), shape) for dtype, shape in reply.get("arrays", ())]
        except (OSError, EOFError):
            pass  # it is dead; its exit status says more
        finally:
            self._due = None
        raise self._exited()

    def hurry(self) -> float:
        """Kills the process if it is late; returns the seconds until it would be."""
        due = self._due
        if due is None:
            return self._timeout
        left = due - time.monotonic()
        if left > 0:
            return left
        self._late = True
        self.kill()
        return self._timeout

    def kill(self) -> None:
        self.process.kill()

    def end(self) -> None:
        """Kills the process and waits for it."""
        self.kill()
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(OSError):  # a request that it did not read
            self.process.stdin.close()
        self._words.close()

    def _read(self, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
        array = np.empty(shape, dtype)
        view = memoryview(array).cast("B") if array.size else memoryview(b"")
        while view:
            count = self.process.stdout.readinto(view)
            if not count:
                raise EOFError
            view = view[count:]
        return array

    def _exited(self) -> _Died:
        """How the process ended, once its output has ended."""
        try:
            status = self.process.wait(min(self._timeout, _LONGEST_WAIT))
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
            return _Died(f"closed its output and was killed ({last_words(self._words)})")
        if self._late:
            return _Died(f"did not answer within {self._timeout:g} s and was killed ({last_words(self._words)})")
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        return _Died(f"{how} ({last_words(self._words)})")
