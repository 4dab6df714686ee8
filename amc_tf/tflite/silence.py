"""silence: hides the log output of TensorFlow's converter and of the interpreter."""

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
    """Within the block, drops stderr, TensorFlow's log and warnings. Afterwards everything is as before.

    TensorFlow's C++ code writes to file descriptor 2, and its level cannot be changed after TensorFlow was loaded. The
    stderr of other threads is dropped too meanwhile.
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
