"""Keeps the chatter of TensorFlow's converter and of the interpreter off the terminal."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = [logging.getLogger(name) for name in ("absl", "tensorflow")]
_one_at_a_time = threading.Lock()  # two threads that swap file descriptor 2 would restore each other's


@contextmanager
def silence() -> Iterator[None]:
    """Drops what is written to stderr, logged by TensorFlow or warned, until the block ends; then all is as before.

    The C++ side writes to file descriptor 2 and knows no level that could be changed after TensorFlow was loaded.
    Other threads' stderr goes the same way meanwhile.
    """
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [logger.level for logger in _LOGGERS]
        stderr = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        try:
            for logger in _LOGGERS:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(_LOGGERS, levels, strict=True):
                logger.setLevel(level)
            os.dup2(stderr, 2)
            os.close(stderr)
