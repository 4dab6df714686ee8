"""The package uses nothing that macOS or Windows lacks, or does differently from Linux."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "amc_tf"

# name -> replacement
MODULES = {
    **dict.fromkeys(("fcntl", "posix"), "amc_tf.system.locks"),
    **dict.fromkeys(("select", "selectors"), "a thread that reads: Windows can wait for sockets alone"),
    **dict.fromkeys(("resource",), "psutil"),
    **dict.fromkeys(("pwd", "grp"), "pathlib.Path.home"),
    **dict.fromkeys(("termios", "tty", "pty", "curses", "readline"), "rich"),
    **dict.fromkeys(("syslog", "crypt", "nis", "spwd"), "nothing"),
}
NAMES = {
    "os": {
        **dict.fromkeys(("fork", "forkpty", "posix_spawn", "posix_spawnp"), "subprocess"),
        **dict.fromkeys(("register_at_fork",), "os.getpid() where it matters"),
        **dict.fromkeys(("getppid",), "psutil"),
        **dict.fromkeys(("wait", "wait3", "wait4", "waitid", "WNOHANG", "WIFSIGNALED", "WTERMSIG"), "subprocess"),
        **dict.fromkeys(("pread", "preadv", "pwrite", "pwritev", "readv", "writev", "sendfile"), "seek and read"),
        **dict.fromkeys(("splice", "copy_file_range"), "shutil.copyfile"),
        **dict.fromkeys(("sched_getaffinity", "sched_setaffinity"), "amc_tf.system.cores, psutil"),
        **dict.fromkeys(("sched_setscheduler", "sched_yield", "nice", "setpriority"), "psutil"),
        **dict.fromkeys(("getloadavg", "uname", "sysconf"), "psutil or platform"),
        **dict.fromkeys(("killpg", "setsid", "setpgid", "getpgid", "getpgrp"), "amc_tf.system.processes.OWN_GROUP"),
        **dict.fromkeys(("getuid", "geteuid", "getgid", "getegid", "getgroups"), "the owner of a file made"),
        **dict.fromkeys(("chown", "lchown", "fchown", "fchmod", "lchmod", "chroot", "mkfifo", "mknod"), "nothing"),
        **dict.fromkeys(("openpty", "ttyname", "ctermid", "tcgetpgrp"), "rich"),
        **dict.fromkeys(("statvfs", "fstatvfs"), "shutil.disk_usage"),
        **dict.fromkeys(("sync", "fdatasync"), "os.fsync"),
        **dict.fromkeys(("memfd_create", "eventfd", "pidfd_open", "O_TMPFILE"), "tempfile"),
        **dict.fromkeys(("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_SYNC"), "open"),
        **dict.fromkeys(("getxattr", "setxattr", "listxattr"), "nothing"),
    },
    "signal": {
        **dict.fromkeys(("SIGKILL", "SIGSTOP", "SIGCONT", "SIGCHLD"), "subprocess.Popen.kill, psutil"),
        **dict.fromkeys(("SIGHUP", "SIGQUIT", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGTSTP"), "getattr with a default"),
        **dict.fromkeys(("SIGALRM", "alarm", "setitimer", "pause", "sigwait", "pthread_sigmask"), "threading.Timer"),
    },
    "socket": {
        **dict.fromkeys(("send_fds", "recv_fds", "AF_UNIX", "SCM_RIGHTS", "socketpair"), "subprocess.PIPE and files"),
        **dict.fromkeys(("SO_REUSEPORT", "MSG_NOSIGNAL", "MSG_DONTWAIT"), "nothing"),
    },
    "mmap": dict.fromkeys(("MAP_SHARED", "MAP_PRIVATE", "MAP_ANONYMOUS", "PROT_READ", "PROT_WRITE"), "access="),
    "time": dict.fromkeys(("CLOCK_MONOTONIC_RAW", "clock_gettime", "tzset"), "time.monotonic"),
    "asyncio": dict.fromkeys(("open_unix_connection", "start_unix_server"), "nothing"),
}
ARGUMENTS = {
    **dict.fromkeys(("pass_fds", "preexec_fn"), "subprocess.PIPE and files"),
    **dict.fromkeys(("start_new_session", "process_group"), "amc_tf.system.processes.OWN_GROUP"),
    **dict.fromkeys(("dir_fd", "src_dir_fd", "dst_dir_fd"), "paths"),
}
# Paths in strings; allowed in a try, which handles their absence.
PATHS = {"/dev/shm": "tempfile", "/dev/fd": "a file's path", "/proc/": "psutil", "/sys/": "psutil"}

# (file, name) -> why it is allowed there
ALLOWED = {
    ("amc_tf/system/processes.py", "start_new_session"): "the one place that tells the systems apart",
    ("amc_tf/devices/android/phone_info.py", "/proc/"): "read by the phone's shell",
    ("amc_tf/devices/android/phone_info.py", "/sys/"): "read by the phone's shell",
}


def unportable(source: str) -> Iterator[tuple[int, str, str]]:
    """(line, name, replacement) for everything in a source that some systems lack."""
    tree = ast.parse(source)
    aliases = {}  # local name -> module
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
    excused = set(map(id, _documentation(tree))) | set(map(id, _tried(tree)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in MODULES:
                    yield node.lineno, alias.name, MODULES[alias.name.split(".")[0]]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            if node.module.split(".")[0] in MODULES:
                yield node.lineno, node.module, MODULES[node.module.split(".")[0]]
            for alias in node.names:
                if alias.name in NAMES.get(node.module, ()):
                    yield node.lineno, f"{node.module}.{alias.name}", NAMES[node.module][alias.name]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = aliases.get(node.value.id)
            if node.attr in NAMES.get(module, ()):
                yield node.lineno, f"{module}.{node.attr}", NAMES[module][node.attr]
        elif isinstance(node, ast.keyword) and node.arg in ARGUMENTS:
            yield node.value.lineno, node.arg, ARGUMENTS[node.arg]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in ARGUMENTS:  # in a dictionary of arguments
                yield node.lineno, node.value, ARGUMENTS[node.value]
            for path in PATHS if id(node) not in excused else ():
                if path in node.value:
                    yield node.lineno, path, PATHS[path]


def _documentation(tree: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, and other strings that are statements."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def _tried(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes within a try with an except, or within contextlib.suppress."""
    for node in ast.walk(tree):
        suppresses = isinstance(node, ast.With) and any("suppress" in ast.dump(item) for item in node.items)
        if suppresses or (isinstance(node, ast.Try) and node.handlers):
            for statement in node.body:
                yield from ast.walk(statement)


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_package_uses_nothing_that_some_systems_lack(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    wrong = [
        f"{name}:{line}: {what}; instead: {instead}"
        for line, what, instead in unportable(path.read_text(encoding="utf-8"))
        if (name, what) not in ALLOWED
    ]
    assert not wrong, "\n".join(wrong)


def test_every_exception_is_needed() -> None:
    done = {
        (path.relative_to(ROOT).as_posix(), what)
        for path in SOURCES
        for _, what, _ in unportable(path.read_text(encoding="utf-8"))
    }
    assert set(ALLOWED) <= done


@pytest.mark.parametrize(
    "source, what",
    [
        ("import fcntl", ["fcntl"]),
        ("def f():\n    from resource import getrusage", ["resource"]),
        ("import os\nos.getppid()", ["os.getppid"]),
        ("import os as system\nsystem.pread(1, 2, 3)", ["os.pread"]),
        ("from os import sched_getaffinity", ["os.sched_getaffinity"]),
        ("import signal\nx = signal.SIGKILL", ["signal.SIGKILL"]),
        ("import socket\nsocket.send_fds(a, b, c)\nsocket.socketpair()", ["socket.send_fds", "socket.socketpair"]),
        ("Popen([], start_new_session=True, pass_fds=[1])", ["start_new_session", "pass_fds"]),
        ("options = {'preexec_fn': None}", ["preexec_fn"]),
        ("open('/proc/self/statm')", ["/proc/"]),
        ("open(f'/dev/fd/{number}')", ["/dev/fd"]),
        ("try:\n    open('/proc/cpuinfo')\nfinally:\n    pass", ["/proc/"]),
        ("try:\n    pass\nexcept OSError:\n    open('/proc/cpuinfo')", ["/proc/"]),
        ("try:\n    open('/proc/cpuinfo')\nexcept OSError:\n    pass", []),
        ("with contextlib.suppress(OSError):\n    open('/proc/cpuinfo')", []),
        ("'''It reads /proc/cpuinfo.'''", []),
        ("import os\nos.getpid()\nos.path.exists('x')", []),
        ("fork = spoon.fork", []),
    ],
)
def test_what_counts_as_unportable(source: str, what: list[str]) -> None:
    assert [name for _, name, _ in unportable(source)] == what
