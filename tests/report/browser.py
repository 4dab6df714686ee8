"""A headless chromium, driven over its debugging pipe: console messages, requests and layout of a page."""

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
# Chromium reads commands from descriptor 3 and answers on 4, separated by NUL.
_START = """
import os, sys
for number, end in zip((3, 4), sys.argv[1:]):
    os.dup2(int(end), number)
os.execv(sys.argv[3], sys.argv[3:])
"""
_DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"
_SECONDS = 60.0  # for an answer; a busy machine starts a browser slowly


@dataclass(frozen=True)
class Visit:
    """An open page.

    Attributes:
        complaints: errors and warnings in the console, exceptions included.
        requests: URLs that it requested, its own first.
        evaluate: JavaScript -> its value in the page.
    """

    complaints: list[str]
    requests: list[str]
    evaluate: Callable[[str], Any]


def program() -> str | None:
    """Path of a chromium, if there is one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One process for many pages."""

    def __init__(self, path: str, folder: Path):
        theirs, self._to = os.pipe()
        self._from, answers = os.pipe()
        # Above 3 and 4, which chromium uses.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs, answers)]
        start = [sys.executable, "-S", "-E", "-c", _START, *map(str, high)]
        self._log = open(folder / "stderr", "wb")  # noqa: SIM115 - closed with the browser
        self._process = subprocess.Popen(
            [*start, path, *_FLAGS, f"--user-data-dir={folder}"],
            pass_fds=high, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        for end in (theirs, answers, *high):
            os.close(end)
        self._number, self._rest, self._events = 0, b"", []

    @contextlib.contextmanager
    def visit(self, url: str, width: int = 1100, dark: bool = False) -> Iterator[Visit]:
        """Opens a page until it has loaded and gone quiet."""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

        def ask(method: str, **parameters: Any) -> dict[str, Any]:
            return self._ask(method, session, **parameters)

        for domain in ("Page", "Runtime", "Log", "Network"):
            ask(f"{domain}.enable")
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        ask("Emulation.setEmulatedMedia", features=scheme)
        ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self._events.clear()
        ask("Page.navigate", url=url)
        self._until(lambda: any(event["method"] == "Page.loadEventFired" for event in self._events))
        # Two frames later, the requests that drawing causes have been made too.
        ask("Runtime.evaluate", awaitPromise=True, expression=_DRAWN)

        def evaluate(expression: str) -> Any:
            return ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

        yield Visit(*_heard(self._events), evaluate)
        self._ask("Target.closeTarget", targetId=target)

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            os.close(self._to)  # which ends it in order
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)
        self._log.close()

    def _ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answers: list[dict[str, Any]] = []
        self._until(lambda: bool(answers), lambda said: answers.append(said) if said.get("id") == number else None)
        if "error" in answers[0]:
            raise RuntimeError(f"{method}: {answers[0]['error']}")
        return answers[0]["result"]

    def _until(self, done: Callable[[], bool], hear: Callable[[dict], None] = lambda said: None) -> None:
        ends = time.monotonic() + _SECONDS
        while not done():
            if not select.select([self._from], [], [], max(0.0, ends - time.monotonic()))[0]:
                raise TimeoutError(f"chromium said nothing for {_SECONDS:.0f} s")
            said = os.read(self._from, 1 << 20)
            if not said:
                words = Path(self._log.name).read_text(errors="replace")[-2000:]
                raise RuntimeError(f"chromium ended by itself: {words}")
            *messages, self._rest = (self._rest + said).split(b"\0")
            for message in map(json.loads, messages):
                hear(message)
                if "method" in message:
                    self._events.append(message)


def _heard(events: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    complaints, requests = [], []
    for event in events:
        method, said = event["method"], event.get("params", {})
        if method == "Runtime.exceptionThrown":
            complaints.append(said["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("warning", "error"):
            complaints.append(said["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("warning", "error", "assert"):
            complaints.append(str([value.get("value") for value in said["args"]]))
        elif method == "Network.requestWillBeSent":
            requests.append(said["request"]["url"])
    return complaints, requests
