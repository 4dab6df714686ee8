"""The client of the package's own programs: replies, time limits, deaths and ends."""

import os
import signal
import tempfile
import threading
import time

import pytest

from amc_tf.system import json_lines
from amc_tf.system.json_lines import JsonProcess, ProcessLost

ECHO = """
import json, os, sys, time
replies = os.fdopen(int(sys.argv[1]), "w")
print("a library prints this")
for line in sys.stdin:
    request = json.loads(line)
    time.sleep(request.get("sleep", 0))
    if "die" in request:
        sys.exit(request["die"])
    print(json.dumps(request), file=replies, flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Starts a program from its text; ends it with the test."""
    started = []

    def start(text: str = ECHO, **options) -> JsonProcess:
        program = tmp_path / "program.py"
        program.write_text(text)
        started.append(JsonProcess(program, environment=os.environ, **options))
        return started[-1]

    yield start
    for process in started:
        process.end()


def test_each_request_gets_its_reply(start):
    process = start()
    assert [process.ask({"n": n}, 30) for n in range(3)] == [{"n": n} for n in range(3)]


def test_a_late_process_is_killed(start):
    process = start()
    process.ask({}, 30)
    with pytest.raises(ProcessLost) as lost:
        process.ask({"sleep": 60}, 0.2)
    assert str(lost.value) == "did not answer within 0.2 s and was killed (a library prints this)"
    assert lost.value.late and process.returncode == -signal.SIGKILL


def test_a_dead_process_is_quoted(start):
    with pytest.raises(ProcessLost, match=r"^ended with exit status 1 \(out of memory\)$") as lost:
        start().ask({"die": "out of memory."}, 30)
    assert not lost.value.late and lost.value.how == "ended with exit status 1"


def test_a_killed_process_names_the_signal(start):
    process = start()
    threading.Timer(0.2, process.kill).start()
    with pytest.raises(ProcessLost, match="^was killed by SIGKILL "):
        process.ask({"sleep": 60}, 30)


def test_a_request_that_nobody_reads_is_late(start):
    """It is longer than a pipe holds."""
    with pytest.raises(ProcessLost, match="did not answer"):
        start("import time; time.sleep(60)").ask({"padding": "x" * 1_000_000}, 0.5)


def test_a_closed_pipe_is_a_death(start):
    mute = "import os, sys, time; os.close(int(sys.argv[1])); time.sleep(60)"
    with pytest.raises(ProcessLost, match=r"^closed its output and was killed \(it said nothing\)$"):
        start(mute).ask({}, 0.5)


def test_an_interrupted_request_does_not_shift_the_replies(start, monkeypatch):
    process = start()
    process.ask({}, 30)

    def interrupt(**_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(process, "_replies", type("Interrupted", (), {"get": staticmethod(interrupt)}))
        with pytest.raises(KeyboardInterrupt):
            process.ask({"n": 1}, 30)
    assert process.ask({"n": 2}, 30) == {"n": 2}


def test_an_error_of_the_receiver_is_raised_where_the_reply_is_awaited(start):
    def receive(_):
        raise MemoryError("of the receiver")

    with pytest.raises(MemoryError, match="of the receiver"):
        start(receive=receive).ask({}, 30)


def test_bytes_may_follow_a_line(start):
    def receive(pipe):
        reply = json_lines.receive_line(pipe)
        return reply | {"bytes": pipe.read(reply["size"])}

    text = (
        "import os, sys; sys.stdin.readline(); replies = os.fdopen(int(sys.argv[1]), 'wb');"
        "replies.write(b'{\"size\": 3}\\nabc'); replies.flush(); sys.stdin.read()"
    )
    assert start(text, receive=receive).ask({}, 30) == {"size": 3, "bytes": b"abc"}


def test_no_time_limit_is_too_long(start):
    assert start().ask({"n": 1}, float("inf")) == {"n": 1}


def test_the_end_leaves_no_process_and_no_thread(start):
    threads = threading.active_count()
    process = start()
    process.ask({}, 30)
    process.end()
    process.end()
    assert process.returncode == -signal.SIGKILL
    assert threading.active_count() <= threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_does_not_end_the_process(start, monkeypatch):
    process = start()
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: -1)
        process.end()
    assert process.ask({"n": 1}, 30) == {"n": 1}


def test_a_process_that_cannot_start_leaves_no_file_open(start, monkeypatch):
    files = []
    temporary = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: files.append(temporary()) or files[-1])
    monkeypatch.setattr(json_lines.sys, "executable", "/nowhere/python")
    with pytest.raises(OSError, match="nowhere"):
        start()
    assert files[0].closed


def test_a_process_ends_at_once(start):
    process = start()
    process.ask({}, 30)
    begun = time.monotonic()
    process.end()
    assert time.monotonic() - begun < 0.9  # it waits for neither the thread's limit nor the program


@pytest.mark.parametrize(
    ("said", "last"),
    [
        (b"", "it said nothing"),
        (b"first\nlast word.\n\n", "last word"),
        (b"the cause\nINFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n", "the cause"),
        (b"x" * 10_000 + b"\n\xff broken", "\ufffd broken"),
    ],
)
def test_last_words(said: bytes, last: str) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(said)
        assert json_lines.last_words(file) == last
