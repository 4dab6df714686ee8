"""A package that installs in a second, from a wheelhouse that a test fills."""

import hashlib
import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from amc_tf.isolated import install
from amc_tf.isolated.folder import Folder
from amc_tf.isolated.packages import Package

BODY = "VALUE = 42\n"
SETUP = "from setuptools import setup\nsetup(name='amc-toy', version='1.0', py_modules=['amc_toy'])\n"


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
    info = "amc_toy-1.0.dist-info"
    files = {
        "amc_toy.py": body,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: amc-toy\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as file:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            file.writestr(name, text)
    return listed(path)


def unpack_without_pip(monkeypatch: pytest.MonkeyPatch, wheelhouse: Path) -> None:
    """Does what pip does with the one wheel there, without the seconds that pip takes."""

    def fill(pip: list[str], folder: Folder, path: Path) -> None:
        (wheel,) = wheelhouse.glob("*.whl")
        with zipfile.ZipFile(wheel) as file:
            file.extractall(path)

    monkeypatch.setattr(install, "_fill", fill)
    monkeypatch.setattr(install, "_pip", lambda package: [])


def source(wheelhouse: Path, setup: str) -> Toy:
    """amc-toy 1.0 as source only; its setup.py begins with the lines `setup`."""
    wheelhouse.mkdir(exist_ok=True)
    path = wheelhouse / "amc_toy-1.0.tar.gz"
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: amc-toy\nVersion: 1.0\n",
        "amc_toy.py": BODY,
        "setup.py": f"{setup}\n{SETUP}",
    }
    with tarfile.open(path, "w:gz") as file:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"amc_toy-1.0/{name}")
            entry.size = len(text)
            file.addfile(entry, io.BytesIO(text.encode()))
    return listed(path, sources=("amc-toy",))


def listed(path: Path, sources: tuple[str, ...] = ()) -> Toy:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "amc-toy.txt").write_text(f"amc-toy==1.0 --hash=sha256:{digest}\n")
    return Toy("amc-toy", "amc_toy", sources=sources, folder=path.parent)
