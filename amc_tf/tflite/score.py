"""Runs .tflite files over many examples in worker processes that hold the runtime and nothing of TensorFlow.

The examples lie once in an anonymous file that all workers map; so does every .tflite. Whatever way this process ends,
nothing is left on the disk, and the workers, whose socket is closed then, end too.
"""

import itertools
import json
import logging
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from amc_tf.errors import AmcError, ConversionError, RunDirError
from amc_tf.tflite.convert import SIGNATURE
from amc_tf.tflite.flatbuffer import contents, unpack

_PROGRAM = Path(__file__).with_name("score_process.py")
# As a file and not as a module of this package, which would import all of it; and without its folder on the path.
_RUN = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
_JOBS_A_WORKER = 4  # in one run, so that all workers come to its end at about the same time
_MOST_EXAMPLES = 128  # in one job, so that a slow network does not look like a process that hangs
_DEATHS = 3  # of workers by one job; then it is the file's fault
_ALIGNMENT = 64  # of an array in the examples' file, in bytes
_WRITTEN_AT_ONCE = 1 << 24  # bytes

_log = logging.getLogger(__name__)


class Scorer:
    """Runs .tflite files in worker processes, one runtime thread each.

    Several threads may use it at once: their work is done first in, first out by the same workers, which start with the
    first of it; what is urgent goes before. They end with `close()`, with the `with` block, when the scorer is garbage collected, or with this
    process. The same file gives the same bits on the same examples, whatever the number of workers.

    Args:
        workers: how many processes; None for the number of cores that this process may use.
        timeout: seconds after which a worker counts as hung. It may take them for 128 examples at most (or one batch,
            where that is larger), its start and the loading of the file included.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, workers: int | None = None, timeout: float = 300.0):
        if workers is None:
            workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers is {workers!r}; a whole number of 1 or more is expected.")
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout!r}; a number of seconds above 0 is expected.")
        self.workers = workers
        self._crew = _Crew(workers, timeout)
        self._finalizer = weakref.finalize(self, self._crew.end, os.getpid())

    def hold(self, inputs: Sequence[np.ndarray]) -> "Held":
        """Puts examples where all workers read them without copies.

        Args:
            inputs: one array (examples, ...) for each input of the files that will run on them, in the file's order.
                They may have any type of numbers; a worker casts them, a batch at a time, to what the file takes.

        Raises:
            ValueError: no inputs, no examples, not as many in each input, or values that are no numbers.
            RunDirError: no room for them in the folder of temporary files.
        """
        self._check_open()
        return Held(inputs)

    def load(self, tflite: bytes | str | Path, held: "Held") -> "Loaded":
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
        held: "Held",
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


class Held:
    """Examples in an anonymous file; made by `Scorer.hold`.

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

        self._file: _Anonymous | None = _Anonymous(write, f"{sum(a.nbytes for a in arrays)} bytes of examples")

    @property
    def file(self) -> "_Anonymous":
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

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class Loaded:
    """A .tflite that workers run on examples; made by `Scorer.load`."""

    def __init__(self, scorer: Scorer, tflite: bytes | str | Path, held: Held):
        data = contents(tflite)
        ends = _ends(data)
        self.batch = _batch(ends, held)
        self.examples = held.examples
        self._scorer = scorer  # whose workers would end with it
        self._crew = crew = scorer._crew
        self._files = (held.file, _Anonymous(lambda file: file.write(data), f"a .tflite of {len(data)} bytes"))
        self._size = len(data)
        self._request = {
            "number": crew.open(),
            "examples": held.places,
            "inputs": [(tensor.index, tensor.dtype.str) for tensor in ends.inputs],
            "outputs": ends.outputs,
            "batch": self.batch,
        }
        self._finalizer = weakref.finalize(self, crew.opened.discard, self._request["number"])

    def run(self, start: int = 0, stop: int | None = None, urgent: bool = False) -> list[np.ndarray]:
        """Runs the examples [start, stop), step by step of as many as the file takes at once.

        Args:
            start: the first example.
            stop: the one after the last; None for all.
            urgent: whether it goes before all that waits and is not.

        Returns:
            One array (steps, *the output's shape) for each output, in the order of the file's signature. What has the
            batch as first side, `outputs` makes (examples, ...).

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
        run = _Run(self._size)
        jobs = []
        for first, last in self._parts(start, stop):
            jobs.append(_Job(run, len(jobs), {**self._request, "start": first, "stop": last}, self._files))
        run.left = len(jobs)
        try:
            self._crew.add(jobs, urgent)
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
        most = max(1, min(math.ceil(steps / (self._crew.workers * _JOBS_A_WORKER)), _MOST_EXAMPLES // self.batch))
        length = most * self.batch
        return [(first, min(first + length, stop)) for first in range(start, stop, length)]


def outputs(of_steps: Sequence[np.ndarray]) -> list[np.ndarray]:
    """(steps, batch, ...) -> (examples, ...) for every output of a file whose outputs have the batch as first side."""
    return [array.reshape(-1, *array.shape[2:]) for array in of_steps]


@dataclass(frozen=True)
class _Input:
    """An input of a .tflite; `index` is the number of its tensor."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class _Ends:
    """Where a .tflite begins and ends."""

    inputs: tuple[_Input, ...]
    outputs: tuple[int, ...]


def _ends(data: bytes) -> _Ends:
    """Inputs and outputs in the order of the signature; in that of the first subgraph where there is none.

    The runtime is no help here: it sorts a signature's names.
    """
    try:
        file = unpack(data)
        graph = file.subgraphs[0]
        signature = next(
            (s for s in file.signatureDefs or () if s.signatureKey in (SIGNATURE, SIGNATURE.encode())), None
        )
        if signature is None or signature.subgraphIndex != 0:
            inputs, results = (() if side is None else side for side in (graph.inputs, graph.outputs))
        else:
            inputs, results = ([entry.tensorIndex for entry in side] for side in (signature.inputs, signature.outputs))
        tensors = [(int(number), graph.tensors[number]) for number in inputs]
        return _Ends(
            tuple(
                _Input(number, t.name.decode(), tuple(map(int, t.shape if t.shape is not None else ())), _dtype(t.type))
                for number, t in tensors
            ),
            tuple(map(int, results)),
        )
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, MemoryError) as error:
        raise ConversionError(
            f"The .tflite is damaged, perhaps cut short ({next(iter(str(error).splitlines()), type(error).__name__)}); "
            f"make it anew."
        ) from error


def _dtype(number: int) -> np.dtype:
    """NumPy's type for one of the schema's; `V` (void) for what is no number."""
    from ai_edge_litert import schema_py_generated as schema

    names = {getattr(schema.TensorType, name): name.lower() for name in dir(schema.TensorType) if name.isupper()}
    try:
        return np.dtype(names[number])
    except (KeyError, TypeError):  # strings, resources, numbers of four bits
        return np.dtype("V")


def _batch(ends: _Ends, held: Held) -> int:
    """How many examples a file takes at once.

    Raises:
        ConversionError: its inputs are not those of the examples.
    """
    if len(ends.inputs) != len(held.shapes):
        raise ConversionError(
            f"The .tflite has {len(ends.inputs)} inputs, but the examples are of {len(held.shapes)}; convert the model "
            f"that they belong to."
        )
    for given, shape, dtype, limits in zip(ends.inputs, held.shapes, held.dtypes, held.ranges, strict=True):
        if given.shape[:1] != ends.inputs[0].shape[:1] or not given.shape or given.shape[0] < 1:
            raise ConversionError(
                f"The .tflite's inputs have shapes {[tensor.shape for tensor in ends.inputs]}; expected the same batch "
                f"as the first side of each: convert the model with the batch fixed."
            )
        if given.shape[1:] != shape:
            raise ConversionError(
                f"The .tflite's input {given.name!r} takes examples of shape {given.shape[1:]}, but those held are of "
                f"shape {shape}; convert the model that they belong to."
            )
        if not _holds(given.dtype, dtype, limits):
            raise ConversionError(
                f"The .tflite's input {given.name!r} is of type {given.dtype}, which cannot hold the examples' "
                f"{dtype}{f' from {limits[0]} to {limits[1]}' if dtype.kind in 'iu' else ''}; convert the model that "
                f"they belong to."
            )
    return ends.inputs[0].shape[0]


def _holds(target: np.dtype, dtype: np.dtype, limits: tuple[int, int]) -> bool:
    """Whether examples keep their meaning as another type; floats may lose digits, integers may lose nothing."""
    if target.kind == "f":
        return True
    if target.kind in "iu" and dtype.kind in "iu":
        return np.iinfo(target).min <= limits[0] and limits[1] <= np.iinfo(target).max
    return target.kind in "biu" and np.can_cast(dtype, target)


class _Anonymous:
    """A file without a name, which is gone with its last user, and with this process however that ends."""

    def __init__(self, write: Callable[[IO[bytes]], Any], what: str):
        try:
            with tempfile.TemporaryFile() as file:
                write(file)
                file.flush()
                self.descriptor = os.dup(file.fileno())
        except OSError as error:
            raise RunDirError(
                f"There is no room for {what} among the temporary files in {tempfile.gettempdir()!r} "
                f"({error.strerror}); free space there, or name another folder in TMPDIR."
            ) from error
        weakref.finalize(self, os.close, self.descriptor)


class _Run:
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
class _Job:
    """Some steps of a run, for one worker."""

    run: _Run
    number: int
    request: dict[str, Any]
    files: tuple[_Anonymous, ...]  # examples and .tflite; they stay open as long as a job wants them


class _Died(Exception):
    """A worker is lost; the text says how."""


class _Crew:
    """The workers, each with a thread that hands it jobs. It knows no Scorer, so that one can be collected."""

    def __init__(self, workers: int, timeout: float):
        self.workers = workers
        self.opened: set[int] = set()  # numbers of the .tflite files that workers are to keep
        self._numbers = itertools.count()
        self._timeout = timeout
        self._jobs: tuple[deque[_Job], deque[_Job]] = deque(), deque()  # the urgent ones and the others
        self._lock = threading.RLock()  # over all here; a garbage collection may call `end` in any thread at any time
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._runs: weakref.WeakSet[_Run] = weakref.WeakSet()
        self._processes: set[_Worker] = set()
        for _ in range(workers):
            threading.Thread(target=self._serve, name="amc_tf-score", daemon=True).start()

    def open(self) -> int:
        """A number for one more .tflite."""
        number = next(self._numbers)
        self.opened.add(number)
        return number

    def add(self, jobs: list[_Job], urgent: bool) -> None:
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
                job.run.fail(error)
            del job  # and with it the files, while this thread waits for the next
        if worker is not None:
            self._bury(worker)

    def _next(self) -> _Job | None:
        """Waits for a job; None when the scorer is closed."""
        with self._lock:
            self._changed.wait_for(lambda: self._closed or any(self._jobs))
            return None if self._closed else next(jobs for jobs in self._jobs if jobs).popleft()

    def _do(self, job: _Job, worker: "_Worker | None") -> "_Worker | None":
        """Does a job, by a new worker where the one given dies of it; returns the worker that lives on."""
        causes: list[str] = []
        while not job.run.over:
            worker = worker or self._start()
            try:
                head, arrays = worker.ask({**job.request, "open": list(self.opened)}, job.files)
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
                        f"amc_tf.tflite.convert.check names operators that it cannot hold."
                    )
                )
            else:
                job.run.finish(job.number, arrays)
            break
        return worker

    def _start(self) -> "_Worker":
        with self._lock:
            if self._closed:
                raise AmcError("The scorer was closed while a .tflite ran; build a new one.")
            worker = _Worker(self._timeout)
            self._processes.add(worker)
            return worker

    def _bury(self, worker: "_Worker") -> None:
        worker.end()
        with self._lock:
            self._processes.discard(worker)


class _Worker:
    """A process of score_process.py."""

    def __init__(self, timeout: float):
        self._timeout = timeout
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        ours, its = socket.socketpair()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _RUN, str(_PROGRAM)],
                stdin=its,
                stdout=self._words,
                stderr=self._words,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                cwd=os.sep,
                start_new_session=True,  # Ctrl-C is for the caller
            )
        except OSError as error:
            ours.close()
            self._words.close()
            raise AmcError(f"No worker could be started ({error}): free memory or close some files.") from error
        finally:
            its.close()
        ours.settimeout(timeout)
        self._socket = ours
        self._replies = ours.makefile("rb")

    def ask(self, request: dict[str, Any], files: tuple[_Anonymous, ...]) -> tuple[dict, list[np.ndarray]]:
        """The reply to a request: its line and the arrays that come with it.

        Raises:
            _Died: the process ended or hung; it must be ended with `end`.
        """
        line = json.dumps(request).encode() + b"\n"
        try:
            sent = socket.send_fds(self._socket, [line], [file.descriptor for file in files])
            self._socket.sendall(line[sent:])
            head = self._replies.readline()
            if head.endswith(b"\n"):
                reply = json.loads(head)
                return reply, [self._read(np.dtype(dtype), shape) for dtype, shape in reply.get("arrays", ())]
        except TimeoutError:
            raise _Died(f"did not answer within {self._timeout:g} s and was killed ({self._last_words()})") from None
        except (OSError, EOFError):
            pass  # it is dead; its exit status says more
        raise self._exited()

    def kill(self) -> None:
        self.process.kill()

    def end(self) -> None:
        """Kills the process and waits for it."""
        self.kill()
        self.process.wait()
        self._replies.close()
        self._socket.close()
        self._words.close()

    def _read(self, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
        array = np.empty(shape, dtype)
        view = memoryview(array).cast("B") if array.size else memoryview(b"")
        while view:
            count = self._replies.readinto(view)
            if not count:
                raise EOFError
            view = view[count:]
        return array

    def _exited(self) -> _Died:
        """How the process ended, once it has closed its end of the socket."""
        try:
            status = self.process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            return _Died(f"closed its socket and was killed ({self._last_words()})")
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        return _Died(f"{how} ({self._last_words()})")

    def _last_words(self) -> str:
        size = os.fstat(self._words.fileno()).st_size  # the process writes at the offset that a seek here would move
        tail = os.pread(self._words.fileno(), 4000, max(0, size - 4000)).decode(errors="replace")
        lines = [line.strip() for line in tail.splitlines() if line.strip() and not line.startswith("INFO:")]
        return lines[-1].rstrip(".") if lines else "it said nothing"
