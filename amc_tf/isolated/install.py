"""Fills a folder with a package by pip, from its list of exact versions and hashes, by the user's own pip settings."""

import ast
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from amc_tf.errors import SetupError
from amc_tf.isolated.folder import Folder, no_place
from amc_tf.isolated.packages import SETUPTOOLS, Package, tensorflow_version

OFFLINE = "AMC_TF_OFFLINE"

# What pip is told by its user that holds here too: where packages come from. Where they go to and which of them are
# wanted is said by the commands below, so its other settings (user, prefix, constraint, no-binary, ...) do not hold.
_OF_THE_USER = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "cert", "client-cert",
    "timeout", "default-timeout", "retries", "cache-dir", "no-cache-dir", "keyring-provider", "use-feature",
)  # fmt: skip
_RETRIES = "2"  # pip's own five take a minute to find out that there is no network


def install(folder: Folder) -> None:
    """Makes a folder by pip, with one line on stderr.

    Raises:
        SetupError: offline, no pip, no network, no room, or files that are not those on the list;
            nothing half-made is left.
    """
    package = folder.package
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        raise SetupError(
            f"{package.name} is not installed for this environment and {OFFLINE} is set: {_elsewhere(folder)}"
        )
    pip = _pip(package)
    folder.make(lambda path: _fill(pip, folder, path))


def _fill(pip: list[str], folder: Folder, path: Path) -> None:
    package = folder.package
    print(
        f"amc_tf: installing {package.name} {package.version} into {folder.path}, apart from your environment (once)",
        file=sys.stderr,
        flush=True,
    )
    options: list[str] = []
    with tempfile.TemporaryDirectory(prefix=f"{path.name}-", dir=path.parent, ignore_cleanup_errors=True) as tools:
        environment = _settings(pip)
        if package.sources:
            _run([*pip, *_arguments(SETUPTOOLS, Path(tools))], environment, folder)
            # Without isolation, for which pip would fetch whatever setuptools is the newest.
            environment["PYTHONPATH"] = tools
            options = ["--no-build-isolation", "--no-binary", ",".join(package.sources)]
        _run([*pip, *_arguments(package, path), *options], environment, folder)


def _arguments(package: Package, target: Path) -> list[str]:
    lists = [word for path in package.requirements for word in ("--requirement", str(path))]
    return [
        "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes",
        "--target", str(target), *lists,
    ]  # fmt: skip


def _run(command: list[str], environment: Mapping[str, str], folder: Folder) -> None:
    """Runs pip; its output is the error's cause, never the user's screen's."""
    parent = folder.path.parent  # as working directory: what lies in the user's own could hide a module of pip's
    done = subprocess.run(
        command, env=environment, cwd=parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        raise SetupError(_cause(done.stdout, done.returncode, folder))


def _settings(pip: list[str]) -> dict[str, str]:
    """The environment in which pip knows of those of its user's settings that hold here, wherever they are made."""
    listed = subprocess.run([*pip, "config", "list"], cwd=os.sep, capture_output=True, text=True, errors="replace")
    found = re.findall(r"^(\S+)\.([\w-]+)=(['\"].*)$", listed.stdout, re.M)
    own = {"retries": _RETRIES}
    for section in ("global", "install", ":env:"):  # each goes before the one before
        own |= {name: ast.literal_eval(value) for of, name, value in found if of == section and name in _OF_THE_USER}
    others = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    return others | {
        "PIP_CONFIG_FILE": os.devnull,
        **{f"PIP_{name.upper().replace('-', '_')}": value for name, value in own.items()},
    }


def _cause(said: str, status: int, folder: Folder) -> str:
    """The sentence for a pip that failed."""
    package = folder.package
    if re.search(r"Errno 28\]|No space left|not enough space", said):
        return no_place(package, folder.path.parent, OSError(28, "no space"))
    if denied := re.search(r"\[Errno 13\] Permission denied: '(.+?)'", said):
        return no_place(package, Path(denied[1]).parent, PermissionError(13, "Permission denied"))
    if "DO NOT MATCH THE HASHES" in said:
        wrong = re.search(r"^\s+(\S+==\S+) from (\S+)", said, re.M)
        what = f"{wrong[1]} from {wrong[2].split('#')[0].rstrip(':')}" if wrong else "one of its files"
        return (
            f"{package.name} was not installed, since {what} is not the file that was tested with amc_tf (another "
            f"sha256): have your package index or wheelhouse mended, or use another one."
        )
    errors = [line.strip().removeprefix("ERROR:").strip() for line in said.splitlines() if line.startswith("ERROR:")]
    lines = errors or [line.strip() for line in said.splitlines() if line.strip()]
    last = (lines[0] if errors else lines[-1]) if lines else f"it ended with exit status {status}"
    return f"{package.name} could not be installed (pip: {last[:300].rstrip('.')}): {_elsewhere(folder)}"


def _elsewhere(folder: Folder) -> str:
    """What to do without network."""
    return (
        f"run `amc-tf setup {folder.package.name}` where there is a network, on this system with Python "
        f"{sys.version_info[0]}.{sys.version_info[1]} and TensorFlow {tensorflow_version()}, and copy its folder "
        f"{folder.path.name} to {str(folder.path.parent)!r}; or name a wheelhouse to pip by PIP_NO_INDEX and "
        f"PIP_FIND_LINKS."
    )


def _pip(package: Package) -> list[str]:
    """The pip of this environment, else the one that Python carries for new environments, which need not be installed.

    Raises:
        SetupError: there is neither.
    """
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], cwd=os.sep, capture_output=True).returncode == 0:
        return own
    with contextlib.suppress(ImportError):
        import ensurepip  # which Debian leaves out

        for bundled in Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"):
            return [sys.executable, str(bundled / "pip")]
    raise SetupError(
        f"{package.name} is installed by pip, which this Python ({sys.executable}) has not: install pip into the "
        f"environment, with `uv pip install pip` or your system's python3-pip, and run `amc-tf setup`."
    )
