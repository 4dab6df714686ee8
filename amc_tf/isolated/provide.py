"""Finds the folder that a process needs on its path to import a package that may be isolated."""

import functools
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from amc_tf.errors import SetupError
from amc_tf.isolated.folder import Folder
from amc_tf.isolated.install import install
from amc_tf.isolated.packages import PACKAGES, Package
from amc_tf.system.processes import NEUTRAL_FOLDER, last_line


def provide(name: str) -> Path | None:
    """The folder to put on the path of a process that imports a package. It is installed at first use.

    Args:
        name: one of PACKAGES.

    Returns:
        The folder; None if this environment has the package itself.

    Raises:
        SetupError: the package is not there and could not be installed.
    """
    package = PACKAGES[name]
    return None if in_place(package) else _folder(package, Folder(package).path.resolve())


def version(name: str) -> str:
    """The version of a package that `provide` provides."""
    package = PACKAGES[name]
    return importlib.metadata.version(name) if in_place(package) else package.version


@functools.cache
def in_place(package: Package) -> bool:
    """Whether this environment has a version of the package that works. Each process checks this once."""
    try:
        minor = importlib.metadata.version(package.name).split(".")[:2]
    except importlib.metadata.PackageNotFoundError:
        return False
    if minor != package.version.split(".")[:2]:  # amc_tf was tested with this minor version
        return False
    return all(map(importlib.util.find_spec, package.needs)) and import_failure(package, None) is None


def import_failure(package: Package, folder: Path | None) -> str | None:
    """Imports and uses a package in a separate process.

    Args:
        package: to import.
        folder: that holds it; None for this environment.

    Returns:
        The last line on stderr if it fails; None if it works.
    """
    path = [*([] if folder is None else [str(folder)]), *(os.path.abspath(entry) for entry in sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", f"import {package.module}\n{package.use}"],
        env={
            **os.environ, **dict(package.environment), "PYTHONPATH": os.pathsep.join(path), "CUDA_VISIBLE_DEVICES": "",
        },
        cwd=NEUTRAL_FOLDER,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )  # fmt: skip
    return None if done.returncode == 0 else last_line(done.stderr) or "it said nothing"


@functools.cache
def _folder(package: Package, path: Path) -> Path:
    """The complete folder, installed if needed. This process checks it only once."""
    folder = Folder(package)
    if folder.fault() is not None:
        install(folder)
        if (fault := folder.fault()) is not None:
            raise SetupError(
                f"{path} is not as it was installed, a moment ago ({fault}): does another program write there?"
            )
    return path
