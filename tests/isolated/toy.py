"""A package that installs in a second, from a wheelhouse that a test fills."""

import hashlib
import io
import tarfile
import textwrap
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from amc_tf.isolated import install
from amc_tf.isolated.folder import Folder
from amc_tf.isolated.packages import Package

BODY = "VALUE = 42\n"
# A source package that brings its own builder along, since installing one takes longer than all the rest.
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "builder"\nbackend-path = ["."]\n'
BUILDER = """
import zipfile
def build_wheel(folder, *_):
{first}
    name = "amc_toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{{folder}}/{{name}}", "w") as file:
        for path, text in {files!r}.items():
            file.writestr(path, text)
    return name
"""


@dataclass(frozen=True)
class Toy(Package):
    """A package with a list that a test has written."""

    folder: Path = Path()

    @property
    def requirements(self) -> tuple[Path, ...]:
        return (self.folder / f"{self.name}.txt",)


def wheel(wheelhouse: Path, body: str = BODY) -> Toy:
    """amc-toy 1.0 as a wheel with one module."""
    wheelhouse.mkdir(exist_ok=True)
    path = wheelhouse / "amc_toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for name, text in _files(body).items():
            file.writestr(name, text)
    return listed(path)


def _files(body: str) -> dict[str, str]:
    """What is in the wheel: path -> text."""
    info = "amc_toy-1.0.dist-info"
    files = {
        "amc_toy.py": body,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: amc-toy\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    return files | {f"{info}/RECORD": "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])}


def unpack_without_pip(monkeypatch: pytest.MonkeyPatch, wheelhouse: Path) -> None:
    """Does what pip does with the one wheel there, without the seconds that pip takes."""

    def fill(pip: list[str], folder: Folder, path: Path) -> None:
        (wheel,) = wheelhouse.glob("*.whl")
        with zipfile.ZipFile(wheel) as file:
            file.extractall(path)

    monkeypatch.setattr(install, "_fill", fill)
    monkeypatch.setattr(install, "_pip", lambda package: [])


def source(wheelhouse: Path, first: str) -> Toy:
    """amc-toy 1.0 as source only; its build does the statements `first` before anything else."""
    wheelhouse.mkdir(exist_ok=True)
    path = wheelhouse / "amc_toy-1.0.tar.gz"
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: amc-toy\nVersion: 1.0\n",
        "pyproject.toml": PYPROJECT,
        "builder.py": BUILDER.format(first=textwrap.indent(first, "    "), files=_files(BODY)),
    }
    with tarfile.open(path, "w:gz") as file:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"amc_toy-1.0/{name}")
            entry.size = len(text)
            file.addfile(entry, io.BytesIO(text.encode()))
    return listed(path)


def listed(path: Path) -> Toy:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "amc-toy.txt").write_text(f"amc-toy==1.0 --hash=sha256:{digest}\n")
    return Toy("amc-toy", "amc_toy", folder=path.parent)
