"""Zygote: a process that has all of the benchmark program loaded, and forks to be it whenever the phone starts it.

As Android's own of that name. To load NumPy and the runtime takes more time than most of the measurements here.

What the phone starts is a small shell script. It says here which process it is, and waits for its exit code. The fork
takes over arguments, environment, folder and streams from it, and ends when it is killed.
"""

import atexit
import contextlib
import functools
import os
import select
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[2]
ADDRESS = "STANDIN_ZYGOTE"  # in the environment of a command: the pipe that takes process numbers

# WHICH stands for the program; what the script does without a zygote follows. The trap is for the fault "stuck". The
# echo is in a shell of its own, since it turns away the output of its shell, which the fork may take over at once.
SCRIPT = f"""#!/bin/sh
if [ -p "${ADDRESS}" ]; then
    answer="$STANDIN/$$"
    mkfifo "$answer" && exec 3<>"$answer"
    case "$STANDIN_PROGRAM" in *'"stuck": true'*) trap "" TERM ;; esac
    (echo "$$ WHICH" >"${ADDRESS}")
    read -r code <&3
    exit "$code"
fi
"""


@functools.cache
def address() -> str:
    """The pipe of this process's one zygote, which is started by the first call and ends with this process."""
    if not Path("/proc/self/cmdline").exists():  # not Linux: every program starts for itself
        return ""
    folder = tempfile.TemporaryDirectory(prefix="standin-zygote-")
    path = os.path.join(folder.name, "pipe")
    os.mkfifo(path)
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}  # NumPy's threads cost time
    code = [sys.executable, "-m", "tests.standin_phone.zygote", path]
    process = subprocess.Popen(code, stdin=subprocess.PIPE, env=environment, start_new_session=True)
    owner = os.getpid()

    def end() -> None:
        if os.getpid() == owner:  # not in a fork
            process.communicate()
            folder.cleanup()

    atexit.register(end)
    return path


def main() -> int:
    from ai_edge_litert import interpreter  # noqa: F401

    from tests.standin_phone import benchmark_model

    pipe = os.open(sys.argv[1], os.O_RDWR)  # for writing too, so that it does not end with the first who asks
    asked = b""
    while True:
        ready, _, _ = select.select([pipe, sys.stdin], [], [])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if sys.stdin in ready:  # the process that needs it has ended
            return 0
        *lines, asked = (asked + os.read(pipe, select.PIPE_BUF)).split(b"\n")
        for line in lines:
            number, program = line.decode().split()
            if os.fork() == 0:
                _be(int(number), lambda *call, program=program: benchmark_model.main(program, *call))


def _be(number: int, program: Callable[[str, list[str], int], int]) -> NoReturn:
    """Does in this fork what the script of that process number is there for."""
    code = 1
    try:
        script, name, arguments = _take_over(Path("/proc", str(number)))
    except OSError:  # it was killed meanwhile
        os._exit(code)
    try:
        code = program(name, arguments, number)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            os.write(script, f"{code}\n".encode())
        os._exit(code)


def _take_over(there: Path) -> tuple[int, str, list[str]]:
    """Makes this process like another one; returns the pipe that takes its exit code, its name and its arguments."""
    environment = dict(entry.split("=", 1) for entry in (there / "environ").read_text().split("\0") if "=" in entry)
    _, name, *arguments = (there / "cmdline").read_text().split("\0")[:-1]
    answer = os.path.join(environment["STANDIN"], there.name)
    script = os.open(answer, os.O_WRONLY | os.O_NONBLOCK)  # an error instead of a wait if nobody reads there
    os.unlink(answer)
    threading.Thread(target=_end_with, args=(script,), daemon=True).start()
    for stream in (1, 2):
        os.dup2(os.open(there / "fd" / str(stream), os.O_WRONLY | os.O_APPEND), stream)
    os.chdir(there / "cwd")
    os.environ.clear()
    os.environ.update(environment)
    return script, name, arguments


def _end_with(script: int) -> None:
    """Ends this process when nobody reads that pipe any more."""
    watch = select.poll()
    watch.register(script, 0)
    watch.poll()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
