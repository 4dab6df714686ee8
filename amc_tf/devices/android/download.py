"""One file from a pinned address, there whole or not at all."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

SCHEMES = ("https",)  # what an address, and where it leads to, may begin with
_CHUNK = 1 << 20


def fetch(address: str, path: Path, check: Callable[[Path], None], *, timeout: float = 30.0) -> None:
    """Downloads a file, under another name until it is whole and checked.

    Args:
        address: an HTTPS one.
        path: where the file is to lie; its folder is made.
        check: what it raises on the whole file is raised, and nothing is left.
        timeout: seconds that the network may be silent.

    Raises:
        OSError, ValueError: the address is none or no HTTPS one, it cannot be fetched, or the folder not be written.
    """
    import pooch  # takes a third of a second to import, with requests

    _refuse_others(address, f"{address} is")
    load = pooch.HTTPDownloader(chunk_size=_CHUNK, timeout=timeout, hooks={"response": _look})

    def whole(url: str, partial: str, _: Any) -> None:
        load(url, partial, None)
        check(Path(partial))

    with _silent(pooch.get_logger()):
        pooch.retrieve(address, known_hash=None, fname=path.name, path=path.parent, downloader=whole)


def reason(error: BaseException) -> str:
    """What lies below an error of the network; those of requests and urllib3 wrap it several times."""
    while inner := error.__cause__ or next((each for each in error.args if isinstance(each, Exception)), None):
        error = inner
    return str(error) or type(error).__name__


def _look(response: Any, **_: Any) -> None:
    """Sees every answer, those that lead elsewhere too, before it is followed or read."""
    response.raw.enforce_content_length = True  # urllib3 1 takes a cut answer for a whole one
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        _refuse_others(target, f"{response.url} leads to {target}, which is")


def _refuse_others(address: str, begins: str) -> None:
    if urlsplit(address).scheme not in SCHEMES:
        raise ValueError(f"{begins} not {' or '.join(SCHEMES)}")


@contextlib.contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Without pooch's advice on hashes, which is for programmers."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
