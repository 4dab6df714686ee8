"""Writes a file completely or not at all."""

import os
from pathlib import Path

from amc_tf.errors import RunDirError


def write(contents: bytes, path: str | Path) -> Path:
    """Writes a file completely or not at all, also if the process is killed meanwhile.

    Args:
        contents: of the file.
        path: of the file, in a folder that exists.

    Returns:
        The path.

    Raises:
        RunDirError: the folder is missing, full or not writable.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            with partial.open("wb") as file:
                file.write(contents)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise RunDirError(
            f"Could not write {len(contents)} bytes to {str(path)!r} ({error.strerror}); "
            f"choose a folder that exists, may be written and has room."
        ) from error
    return path
