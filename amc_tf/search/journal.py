"""The journal of a search: one JSON object per line, on disk before the next trial starts.

The first line is a header with the arguments of the search; every other line is one Trial. If a kill or a power cut
left half a last line, it is removed when the journal is opened again.
"""

import contextlib
import io
import json
import logging
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from amc_tf.errors import RunDirError
from amc_tf.isolated.provide import version as isolated_version
from amc_tf.search.trial import Trial
from amc_tf.system.locks import Lock, Taken

_LOG = logging.getLogger(__name__)
_FORMAT = 2  # format 1, of amc_tf 0.1, identified a model by its weights alone and functions less precisely
JOURNAL = "journal.jsonl"  # in the run directory
_LOCK = "journal.lock"  # a separate file, since on Windows others could not read a locked journal
_PACKAGES = ("amc_tf", "numpy", "tensorflow", "keras", "tf_keras", "ai-edge-litert")


def header(model: str, seed: int, arguments: dict[str, Any]) -> dict[str, Any]:
    """The first line of a journal.

    Args:
        model: Digest of the model that is pruned.
        seed: Seed of the search.
        arguments: Name -> plain value of every argument that the trials depend on.
    """
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    versions["tf-agents"] = isolated_version("tf-agents")
    return {"versions": versions, "seed": seed, "model": model, "arguments": arguments}


def read(run_dir: str | os.PathLike) -> tuple[dict[str, Any], list[Trial]]:
    """Header and trials of a journal that may be in use; an incomplete last line is ignored.

    Raises:
        RunDirError: There is no journal, or it is damaged.
    """
    path = Path(run_dir) / JOURNAL
    try:
        records = _records(path, io.BytesIO(path.read_bytes()).readlines())
    except OSError as error:
        raise RunDirError(f"{path} cannot be read ({error.strerror or error}).") from error
    if not records:
        raise RunDirError(f"{path} is empty; run the same search again.")
    _check_format(path, records[0])
    return records[0], _trials(path, records)


class Journal:
    """Append-only file `journal.jsonl` in the run directory, for one process at a time.

    Args:
        run_dir: Created if it does not exist.
        header: See `header()`. If the journal exists, its header must be of the same search.

    Attributes:
        trials: Those on disk, in order of their numbers.

    Raises:
        RunDirError: The folder cannot be used or is in use, or its journal is damaged or of another search.
    """

    def __init__(self, run_dir: str | os.PathLike, header: dict[str, Any]):
        self.run_dir = Path(run_dir)
        self.path = self.run_dir / JOURNAL
        self.trials: list[Trial] = []
        new_header = json.loads(json.dumps({"format": _FORMAT, **header}))  # as on disk: a tuple becomes a list
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._load(self._lines(), new_header)
            stack.pop_all()

    def append(self, trial: Trial) -> None:
        """Writes the trial to disk. If that fails, the file stays as it was.

        Raises:
            RunDirError: The trial cannot be written, for instance on a full disk.
            ValueError: It is not the next trial.
        """
        if trial.number != len(self.trials):
            raise ValueError(f"{self.path} holds {len(self.trials)} trials, so number {trial.number} is not the next.")
        self._write(trial.to_dict())
        self.trials.append(trial)

    def close(self) -> None:
        """Closes the file and releases the run directory for other processes."""
        self._file.close()
        self._lock.release()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_) -> None:
        """Closes the journal and removes one without trials, with the folder if the journal has made it."""
        if self.trials or os.getpid() != self._owner:  # a fork of the owner must not remove the file
            self.close()
            return
        self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._lock.release(remove=True)
        if self._made_folder:
            with contextlib.suppress(OSError):
                self.run_dir.rmdir()

    def _open(self, stack: contextlib.ExitStack) -> None:
        """Locks and opens the journal; closing the stack undoes both."""
        self._owner = os.getpid()
        action = "opened for writing"
        self._made_folder = not self.run_dir.exists()
        if not self._made_folder and not self.run_dir.is_dir():
            raise RunDirError(f"run_dir is {str(self.run_dir)!r}, which is a file; the path of a folder is expected.")
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            action = "locked"  # some file systems have no locks
            self._lock = Lock(self.run_dir / _LOCK)
            stack.callback(self._lock.release)
            action = "opened for writing"
            # Unbuffered: otherwise the rest of a failed write could be written later, behind a torn line.
            self._file = stack.enter_context(open(self.path, "a+b", buffering=0))  # noqa: SIM115
        except Taken as error:
            raise RunDirError(
                f"{self.run_dir} is in use by another search: wait for it, stop it, or choose another run_dir."
            ) from error
        except OSError as error:
            raise self._failed(action, error) from error

    def _lines(self) -> list[bytes]:
        try:
            self._file.seek(0)
            return io.BytesIO(self._file.read()).readlines()
        except OSError as error:
            raise self._failed("read", error) from error

    def _load(self, lines: list[bytes], new_header: dict[str, Any]) -> None:
        """Reads the trials on the lines, or begins the file with the header."""
        records = _records(self.path, lines)
        if len(records) == 1 and records[0].get("format") == _FORMAT:  # a call that was killed before its first trial
            records = []
        if len(records) < len(lines):
            self._truncate(len(b"".join(lines[: len(records)])))
        if not records:
            self._write(new_header)
            self._sync_name()
            return
        self._check_header(records[0], new_header)
        self.trials.extend(_trials(self.path, records))

    def _check_header(self, old_header: dict[str, Any], new_header: dict[str, Any]) -> None:
        _check_format(self.path, old_header)
        if old_header["format"] < _FORMAT:
            raise RunDirError(
                f"{self.run_dir} holds a search of an earlier amc_tf, whose journal (format {old_header['format']}) "
                f"did not record all that a search is known by, so it cannot be resumed; read its result there, and "
                f"choose another run_dir to search anew."
            )
        old, new = _flat(old_header), _flat(new_header)
        differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        # Only the number of episodes and the package versions may differ.
        changes = [
            f"{name.removeprefix('arguments.')} was {old.get(name)!r} and is {new.get(name)!r}"
            for name in differing
            if name != "arguments.episodes" and not name.startswith("versions.")
        ]
        if changes:
            raise RunDirError(
                f"{self.run_dir} holds another search: {'; '.join(changes)}. Choose another run_dir to start anew, or "
                "give the old values to resume."
            )
        if differing:
            _LOG.warning("%s is resumed with other %s than it was started with.", self.run_dir, ", ".join(differing))

    def _write(self, record: dict[str, Any]) -> None:
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        end = os.fstat(self._file.fileno()).st_size
        try:
            written = 0
            while written < len(line):  # on a nearly full disk a write may be partial
                written += self._file.write(line[written:])
            os.fsync(self._file.fileno())
        except BaseException as error:
            self._truncate(end)
            if isinstance(error, OSError):
                raise self._failed("written", error) from error
            raise

    def _sync_name(self) -> None:
        """Writes the name of a new file to disk, with its folder."""
        try:
            handle = os.open(self.run_dir, os.O_RDONLY)
        except PermissionError:  # Windows cannot open folders
            return
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._file.fileno(), size)
        except OSError as error:
            raise self._failed("cut before its torn last line", error) from error

    def _failed(self, action: str, error: OSError) -> RunDirError:
        return RunDirError(
            f"{self.path} cannot be {action}: {error.strerror or error}. Mend that and run the same call again, which "
            "resumes after the last whole trial, or choose another run_dir."
        )


def _check_format(path: Path, header: dict[str, Any]) -> None:
    """Raises RunDirError for a header of a format that this release does not know."""
    number = header.get("format")
    if isinstance(number, int) and number > _FORMAT:
        raise RunDirError(
            f"{path} has format {number}, which a later amc_tf wrote; this one reads formats 1 to {_FORMAT}: renew "
            f"amc_tf (pip install --upgrade amc_tf), or choose another run_dir."
        )
    if not isinstance(number, int) or number < 1:
        raise _damaged(path, 1, f"has format {number!r}, expected the header of a format from 1 to {_FORMAT}")


def _damaged(path: Path, number: int, why: str) -> RunDirError:
    return RunDirError(
        f"{path}, line {number}, {why}: the journal is damaged. Choose another run_dir, or delete the file from this "
        "line on to resume from there."
    )


def _records(path: Path, lines: list[bytes]) -> list[dict[str, Any]]:
    """The objects on the lines. A torn last line is left out."""
    records = [_parse(line) for line in lines]
    if records and records[-1] is None:
        records.pop()
    if None in records:
        raise _damaged(path, records.index(None) + 1, "is no JSON object")
    return records


def _trials(path: Path, records: list[dict[str, Any]]) -> list[Trial]:
    """The trials after the header."""
    trials: list[Trial] = []
    for number, record in enumerate(records[1:], 2):
        try:
            trial = Trial.from_dict(record)
        except (TypeError, ValueError, KeyError) as error:
            raise _damaged(path, number, f"is no trial: {error!r}") from error
        if trial.number != len(trials):
            raise _damaged(path, number, f"is trial {trial.number}, expected trial {len(trials)}")
        trials.append(trial)
    return trials


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object on a line; None if the line is torn or has no object."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:  # no JSON or no UTF-8
        return None
    return record if isinstance(record, dict) else None


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    flat = {}
    for name, value in record.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
