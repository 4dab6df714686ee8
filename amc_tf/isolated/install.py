"""Installs a package into its folder by pip: exact versions with hashes, from where the user's pip settings say."""

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

# The user's settings of pip that apply here: where packages come from. All others (user, prefix, constraint, no-binary,
# ...) do not apply, because the commands below say which packages go where.
_KEPT_SETTINGS = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "cert", "client-cert",
    "timeout", "default-timeout", "retries", "cache-dir", "no-cache-dir", "keyring-provider", "use-feature",
)  # fmt: skip
_PATH_SETTINGS = ("find-links", "cert", "client-cert", "cache-dir")
_RETRIES = "2"  # with pip's default of 5 it takes a minute to notice that there is no network
_NO_NETWORK = r"NewConnectionError|Connection refused|Max retries exceeded|timed out|Failed to establish|getaddrinfo"


def install(folder: Folder) -> None:
    """Fills a folder by pip, with one line on stderr. An error leaves nothing incomplete behind.

    Raises:
        SetupError: AMC_TF_OFFLINE is set, there is no pip, no network or no room, or a file has another hash than on
            the list.
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


def _say(text: str) -> None:
    print(f"amc_tf: {text}", file=sys.stderr, flush=True)


def _fill(pip: list[str], folder: Folder, path: Path) -> None:
    package = folder.package
    options: list[str] = []
    # Beside the folder, where the next `Folder.make` sweeps up what a killed pip leaves.
    with tempfile.TemporaryDirectory(prefix=f"{path.name}-", dir=path.parent, ignore_cleanup_errors=True) as work:
        environment = _settings(pip, package) | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), work)
        if package.sources:
            tools = Path(work) / "tools"
            _run([*pip, *_arguments(SETUPTOOLS, tools)], environment, folder)
            # With build isolation, pip would fetch the newest setuptools.
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
    """Runs pip. Its output goes into the error, never to the screen."""
    done = subprocess.run(
        command, env=environment, cwd=NEUTRAL_FOLDER, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        raise SetupError(_explained(done.stdout, done.returncode, folder))


def _settings(pip: list[str], package: Package) -> dict[str, str]:
    """The environment variables for pip: the user's settings that apply here, from files and variables alike.

    Raises:
        SetupError: the settings cannot be read.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PIP_QUIET"}
    if environment.get("PIP_CONFIG_FILE"):
        environment["PIP_CONFIG_FILE"] = os.path.abspath(environment["PIP_CONFIG_FILE"])
    listed = subprocess.run(  # -vvvv outweighs any setting that makes pip quiet
        [*pip, "-vvvv", "config", "list"], env=environment, cwd=NEUTRAL_FOLDER, capture_output=True, text=True,
        errors="replace",
    )  # fmt: skip
    if listed.returncode:
        output = " ".join((listed.stderr or listed.stdout).split())[-300:]
        raise SetupError(f"{package.name} cannot be installed, since the settings of pip cannot be read ({output}).")
    entries = re.findall(r"^(\S+)\.([\w-]+)=(['\"].*)$", listed.stdout, re.M)  # (section, name, quoted value)
    settings = {"retries": _RETRIES}
    for section in ("global", "install", ":env:"):  # a later one overrides an earlier one
        kept = [(name, value) for where, name, value in entries if where == section and name in _KEPT_SETTINGS]
        settings |= {name: ast.literal_eval(value) for name, value in kept}
    settings |= {name: " ".join(map(_absolute, settings[name].split())) for name in _PATH_SETTINGS if name in settings}
    others = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    return others | {
        "PIP_CONFIG_FILE": os.devnull,
        **{f"PIP_{name.upper().replace('-', '_')}": value for name, value in settings.items()},
    }


def _absolute(location: str) -> str:
    """A path made absolute in the user's working directory; a URL unchanged."""
    is_url = "://" in location or location.startswith("file:")
    return location if is_url else os.path.abspath(os.path.expanduser(location))


def _explained(output: str, status: int, folder: Folder) -> str:
    """The sentence for a pip that failed.

    Args:
        output: all that pip printed.
        status: its exit status.
        folder: that was to be filled.
    """
    package = folder.package
    if re.search(r"Errno 28\]|No space left|not enough space", output):
        return cannot_write(package, folder.path.parent, OSError(28, "no space"))
    if denied := re.search(r"\[Errno 13\] Permission denied: '(.+?)'", output):
        return cannot_write(package, Path(denied[1]).parent, PermissionError(13, "Permission denied"))
    if "DO NOT MATCH THE HASHES" in output:
        wrong = re.search(r"^\s+(\S+==\S+) from (\S+)", output, re.M)
        file = f"{wrong[1]} from {wrong[2].split('#')[0].rstrip(':')}" if wrong else "one of its files"
        return (
            f"{package.name} was not installed, since {file} is not the file that was tested with amc_tf (another "
            f"sha256): have your package index or wheelhouse mended, or use another one."
        )
    errors = [line.strip().removeprefix("ERROR:").strip() for line in output.splitlines() if line.startswith("ERROR:")]
    cause = f"pip: {(errors or [last_line(output) or f'exit status {status}'])[0][:300].rstrip('.')}"
    if re.search(_NO_NETWORK, output):
        cause = "the package index could not be reached"
    elif missing := re.search(r"satisfies the requirement (\S+) \(from versions: none\)", output):
        cause = f"no package index that could be reached has {missing[1]}"
    return (
        f"{package.name} could not be installed ({cause}): {_how_to_copy(folder)}; or name a wheelhouse to pip by "
        f"PIP_NO_INDEX and PIP_FIND_LINKS."
    )


def _how_to_copy(folder: Folder) -> str:
    """How to install without a network, as part of a sentence."""
    return (
        f"run `amc-tf setup {folder.package.name}` where there is a network, on this system with Python "
        f"{sys.version_info[0]}.{sys.version_info[1]} and TensorFlow {tensorflow_version()}, and copy its folder "
        f"{folder.path.name} to {str(folder.path.parent)!r}"
    )


def _pip(package: Package) -> list[str]:
    """The command of this environment's pip, else of the pip that Python bundles for new environments.

    Raises:
        SetupError: there is neither.
    """
    probe = [sys.executable, "-c", "import pip._internal"]  # a tenth of the time of `pip --version`
    if subprocess.run(probe, cwd=NEUTRAL_FOLDER, capture_output=True).returncode == 0:
        return [sys.executable, "-m", "pip"]
    with contextlib.suppress(ImportError):
        import ensurepip  # Debian leaves it out

        for bundled in Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"):
            return [sys.executable, str(bundled / "pip")]
    raise SetupError(
        f"{package.name} is installed by pip, which this Python ({sys.executable}) has not: install pip into the "
        f"environment, with `uv pip install pip` or your system's python3-pip, and run `amc-tf setup`."
    )
