"""Waiting for what other processes and threads do, as long as a busy computer may take for it."""

import time
from collections.abc import Callable
from typing import TypeVar

GONE_WITHIN = 15.0  # seconds
_Found = TypeVar("_Found")


def wait_for(what: Callable[[], _Found], seconds: float = GONE_WITHIN) -> _Found:
    """What `what` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found
