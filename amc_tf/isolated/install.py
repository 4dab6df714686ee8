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
from amc_tf.isolated.folder import Folder, cannot_write
from amc_tf.isolated.packages import SETUPTOOLS, Package, tensorflow_version
from amc_tf.system.processes import NEUTRAL_FOLDER, last_line

OFFLINE = "AMC_TF_OFFLINE"

# What pip is told by its user that holds here too: where packages come from. Where they go to and which of them are
# wanted is said by the commands below, so its other settings (user, prefix, constraint, no-binary, ...) do not hold.
_KEPT_SETTINGS = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "cert", "client-cert",
    "timeout", "default-timeout", "retries", "cache-dir", "no-cache-dir", "keyring-provider", "use-feature",
)  # fmt: skip
_PATHS = ("find-links", "cert", "client-cert", "cache-dir")
_RETRIES = "2"  # pip's own five take a minute to find out that there is no network
_NO_NETWORK = r"NewConnectionError|Connection refused|Max retries exceeded|timed out|Failed to establish|getaddrinfo"


def install(folder: Folder) -> None:
    """Makes a folder by pip, with one line on stderr.

    Raises:
        SetupError: offline, no pip, no network, no room, or files that are not those on the list; nothing half-made is
            left.
    """
    package, fault = folder.package, folder.fault()
    damage = f" (it is damaged: {fault})" if folder.exists else ""
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        raise SetupError(
            f"{package.name} has to be installed into {str(folder.path)!r}{damage}, and {OFFLINE} is set: unset it, or "
            f"{_how_to_copy(folder)}."
        )
    pip = _pip(package)

    def fill(path: Path) -> None:
        _say(f"installing {package.name} {package.version} into {folder.path}, apart from your environment{damage}")
        _fill(pip, folder, path)

    folder.make(fill, lambda: _say(f"waiting for another process, which installs {package.name}"))


def _say(what: str) -> None:
    print(f"amc_tf: {what}", file=sys.stderr, flush=True)


def _fill(pip: list[str], folder: Folder, path: Path) -> None:
    package = folder.package
    options: list[str] = []
    # Beside the folder, so that what a killed pip leaves there is swept.
    with tempfile.TemporaryDirectory(prefix=f"{path.name}-", dir=path.parent, ignore_cleanup_errors=True) as work:
        environment = _settings(pip, package) | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), work)
        if package.sources:
            tools = Path(work) / "tools"
            _run([*pip, *_arguments(SETUPTOOLS, tools)], environment, folder)
            # Without isolation, for which pip would fetch whatever setuptools is the newest.
            environment["PYTHONPATH"] = str(tools)
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
    done = subprocess.run(
        command, env=environment, cwd=NEUTRAL_FOLDER, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        raise SetupError(_explained(done.stdout, done.returncode, folder))


def _settings(pip: list[str], package: Package) -> dict[str, str]:
    """The environment in which pip knows of those of its user's settings that hold here, wherever they are made.

    Raises:
        SetupError: they cannot be read.
    """
    asked = {name: value for name, value in os.environ.items() if name != "PIP_QUIET"}
    if asked.get("PIP_CONFIG_FILE"):
        asked["PIP_CONFIG_FILE"] = os.path.abspath(asked["PIP_CONFIG_FILE"])
    listed = subprocess.run(  # verbose enough for settings that have pip be quiet
        [*pip, "-vvvv", "config", "list"], env=asked, cwd=NEUTRAL_FOLDER, capture_output=True, text=True,
        errors="replace",
    )  # fmt: skip
    if listed.returncode:
        said = " ".join((listed.stderr or listed.stdout).split())[-300:]
        raise SetupError(f"{package.name} cannot be installed, since the settings of pip cannot be read ({said}).")
    found = re.findall(r"^(\S+)\.([\w-]+)=(['\"].*)$", listed.stdout, re.M)
    own = {"retries": _RETRIES}
    for section in ("global", "install", ":env:"):  # each goes before the one before
        own |= {name: ast.literal_eval(value) for of, name, value in found if of == section and name in _KEPT_SETTINGS}
    own |= {name: " ".join(map(_absolute, own[name].split())) for name in _PATHS if name in own}
    others = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    return others | {
        "PIP_CONFIG_FILE": os.devnull,
        **{f"PIP_{name.upper().replace('-', '_')}": value for name, value in own.items()},
    }


def _absolute(place: str) -> str:
    """A path as it is meant in the user's working directory; an address as it is."""
    return place if "://" in place or place.startswith("file:") else os.path.abspath(os.path.expanduser(place))


def _explained(said: str, status: int, folder: Folder) -> str:
    """The sentence for a pip that failed."""
    package = folder.package
    if re.search(r"Errno 28\]|No space left|not enough space", said):
        return cannot_write(package, folder.path.parent, OSError(28, "no space"))
    if denied := re.search(r"\[Errno 13\] Permission denied: '(.+?)'", said):
        return cannot_write(package, Path(denied[1]).parent, PermissionError(13, "Permission denied"))
    if "DO NOT MATCH THE HASHES" in said:
        wrong = re.search(r"^\s+(\S+==\S+) from (\S+)", said, re.M)
        what = f"{wrong[1]} from {wrong[2].split('#')[0].rstrip(':')}" if wrong else "one of its files"
        return (
            f"{package.name} was not installed, since {what} is not the file that was tested with amc_tf (another "
            f"sha256): have your package index or wheelhouse mended, or use another one."
        )
    errors = [line.strip().removeprefix("ERROR:").strip() for line in said.splitlines() if line.startswith("ERROR:")]
    cause = f"pip: {(errors or [last_line(said) or f'exit status {status}'])[0][:300].rstrip('.')}"
    if re.search(_NO_NETWORK, said):
        cause = "the package index could not be reached"
    elif none := re.search(r"satisfies the requirement (\S+) \(from versions: none\)", said):
        cause = f"no package index that could be reached has {none[1]}"
    return (
        f"{package.name} could not be installed ({cause}): {_how_to_copy(folder)}; or name a wheelhouse to pip by "
        f"PIP_NO_INDEX and PIP_FIND_LINKS."
    )


def _how_to_copy(folder: Folder) -> str:
    """What to do without network."""
    return (
        f"run `amc-tf setup {folder.package.name}` where there is a network, on this system with Python "
        f"{sys.version_info[0]}.{sys.version_info[1]} and TensorFlow {tensorflow_version()}, and copy its folder "
        f"{folder.path.name} to {str(folder.path.parent)!r}"
    )


def _pip(package: Package) -> list[str]:
    """The pip of this environment, else the one that Python carries for new environments, which need not be installed.

    Raises:
        SetupError: there is neither.
    """
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], cwd=NEUTRAL_FOLDER, capture_output=True).returncode == 0:
        return own
    with contextlib.suppress(ImportError):
        import ensurepip  # which Debian leaves out

        for bundled in Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"):
            return [sys.executable, str(bundled / "pip")]
    raise SetupError(
        f"{package.name} is installed by pip, which this Python ({sys.executable}) has not: install pip into the "
        f"environment, with `uv pip install pip` or your system's python3-pip, and run `amc-tf setup`."
    )
