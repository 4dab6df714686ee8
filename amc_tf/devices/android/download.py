"""fetch: downloads one file from a pinned HTTPS address. The file appears only when it is whole and checked."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

SCHEMES = ("https",)  # of an address and of every redirect
_CHUNK = 1 << 20


def fetch(address: str, path: Path, check: Callable[[Path], None], *, timeout: float = 30.0) -> None:
    """Downloads a file. It has another name until it is whole and checked.

    Args:
        address: an HTTPS one.
        path: of the file; its folder is made.
        check: called with the whole file; if it raises, nothing is left.
        timeout: seconds that the network may be silent.

    Raises:
        OSError, ValueError: the address is no HTTPS one, it cannot be fetched, or the folder cannot be written.
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
    """The text of the innermost error; requests and urllib3 wrap an error of the network several times."""
    while inner := error.__cause__ or next((part for part in error.args if isinstance(part, Exception)), None):
        error = inner
    return str(error) or type(error).__name__


def _look(response: Any, **_: Any) -> None:
    """Checks every response, redirects too, before it is followed or read."""
    response.raw.enforce_content_length = True  # else urllib3 1 takes a cut response for a whole one
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        _refuse_others(target, f"{response.url} leads to {target}, which is")


def _refuse_others(address: str, begins: str) -> None:
    if urlsplit(address).scheme not in SCHEMES:
        raise ValueError(f"{begins} not {' or '.join(SCHEMES)}")


@contextlib.contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Hides pooch's advice on hashes, which is for programmers."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
