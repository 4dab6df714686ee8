"""Folder: the folder of an isolated package, checked file by file; a new one appears complete or not at all."""

import errno
import hashlib
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

from amc_tf.errors import SetupError
from amc_tf.isolated.packages import Package, tensorflow_version
from amc_tf.system import cache, locks

MANIFEST = "amc_tf.json"  # in the folder: its environment, versions, and files with their sha256; written last
_CHUNK = 1 << 20  # bytes hashed at a time


class Folder:
    """The folder of one package for this Python, this system and this TensorFlow.

    Attributes:
        package: that it holds.
        environment: that its compiled files fit: "cp312-linux-x86_64-tf2.20.0".
        path: of the folder, which need not exist. Its name is short, because paths on Windows have at most 260
            characters.

    Raises:
        SetupError: this environment cannot have the package, or the path cannot be part of PYTHONPATH.
    """

    def __init__(self, package: Package):
        if package.refusal:
            raise SetupError(package.refusal)
        self.package = package
        self.environment = _environment()
        lists = b"".join(path.read_bytes() for path in package.requirements)
        digest = hashlib.sha256(self.environment.encode() + lists).hexdigest()[:12]
        self.path = cache.folder() / "packages" / f"{package.short}-{digest}"
        if os.pathsep in str(self.path):
            raise SetupError(
                f"The cache folder {str(cache.folder())!r} holds {os.pathsep!r}, which separates the folders of "
                f"PYTHONPATH: name another one in AMC_TF_CACHE."
            )

    @property
    def exists(self) -> bool:
        """Whether something is there, complete or damaged."""
        return os.path.lexists(self.path)

    def fault(self) -> str | None:
        """What is wrong with it, such as "six.py is missing"; None if it is as it was installed."""
        try:
            expected = json.loads((self.path / MANIFEST).read_bytes())["files"]
            files = _files(self.path)
            if not expected:
                return "its list of files is empty"
            if missing := sorted(expected.keys() - files.keys()):
                return f"{missing[0]} is missing"
            if unexpected := sorted(files.keys() - expected.keys()):
                return f"{unexpected[0]} was not installed with it"
            changed = (name for name, path in files.items() if _sha256(path) != expected[name])
            return next((f"{name} is not the file that was installed" for name in changed), None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"its files cannot be read and compared ({error})" if self.exists else "it is missing"

    def make(self, fill: Callable[[Path], None], waiting: Callable[[], None]) -> None:
        """Makes the folder anew. If another process is making it, waits for that process instead.

        Args:
            fill: puts the package into an empty folder.
            waiting: called once if there is another process to wait for.

        Raises:
            SetupError: the folder cannot be written, or `fill` raises it.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locks.waiting(f"{self.path}.lock", waiting):
                self._sweep()
                if self.fault() is None:
                    return
                partial = Path(tempfile.mkdtemp(prefix=f"{self.path.name}.partial-", dir=self.path.parent))
                try:
                    fill(partial)
                    self._write_manifest(partial)
                    if self.exists:
                        self.path.rename(partial.with_name(partial.name + ".old"))
                    partial.chmod(0o755)  # mkdtemp closes it to other users; a cache need not be closed
                    partial.rename(self.path)
                finally:
                    self._sweep()
        except OSError as error:
            raise SetupError(cannot_write(self.package, self.path.parent, error)) from error

    def _write_manifest(self, folder: Path) -> None:
        files = {name: _sha256(path) for name, path in _files(folder).items()}
        with (folder / MANIFEST).open("w", encoding="utf-8") as file:
            manifest = {"environment": self.environment, "versions": self.package.versions, "files": files}
            json.dump(manifest, file, indent=0)
            file.flush()
            os.fsync(file.fileno())

    def _sweep(self) -> None:
        """Removes the partial folders of processes that were killed."""
        for remnant in self.path.parent.glob(f"{self.path.name}.partial-*"):
            if remnant.is_dir() and not remnant.is_symlink():
                shutil.rmtree(remnant, ignore_errors=True)
            else:
                remnant.unlink(missing_ok=True)


def cannot_write(package: Package, parent: Path, error: OSError) -> str:
    """The sentence for a folder that cannot be written.

    Args:
        package: to be installed.
        parent: the folder that refused.
        error: that the system raised.
    """
    cause = "there is no room left" if error.errno == errno.ENOSPC else error.strerror or error
    return (
        f"{package.name} cannot be installed into {str(parent)!r} ({cause}): make room or mend the permissions there, "
        f"or name another folder in AMC_TF_CACHE, and run `amc-tf setup`."
    )


def _environment() -> str:
    """The Python, system and TensorFlow that compiled files must fit: "cp312-linux-x86_64-tf2.20.0"."""
    tag = sys.implementation.cache_tag.replace("cpython-", "cp")
    return f"{tag}-{sysconfig.get_platform()}-tf{tensorflow_version()}"


def _files(folder: Path) -> dict[str, Path]:
    """Name -> path of the files in a folder, without the manifest and Python's bytecode, which may change."""
    paths = sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts and not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in paths if path.name != MANIFEST}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            digest.update(part)
    return digest.hexdigest()
