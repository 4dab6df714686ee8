"""Folder: where an isolated package lies, whether it is whole, and how it is made so that nothing half-made is used."""

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

from filelock import FileLock

from amc_tf import cache
from amc_tf.errors import SetupError
from amc_tf.isolated.packages import Package, tensorflow_version

MANIFEST = "amc_tf.json"  # in the folder: its files, each with its sha256; written last
_HASHED_AT_ONCE = 1 << 20  # bytes


class Folder:
    """The folder of one package for this Python, this system and this TensorFlow.

    Attributes:
        package: what it is for.
        path: where it is or would be.

    Raises:
        SetupError: this environment cannot have it.
    """

    def __init__(self, package: Package):
        if package.refusal:
            raise SetupError(package.refusal)
        lists = b"".join(path.read_bytes() for path in package.requirements)
        digest = hashlib.sha256(lists).hexdigest()[:8]
        self.package = package
        self.path = cache.folder() / "packages" / f"{package.name}-{package.version}-{_environment()}-{digest}"

    @property
    def exists(self) -> bool:
        """Whether it was made once; it may have been damaged since."""
        return self.path.is_dir()

    def fault(self) -> str | None:
        """What is wrong with it, as the end of a sentence; None where it is as it was made."""
        if not self.exists:
            return "is not there"
        try:
            files = json.loads((self.path / MANIFEST).read_bytes())["files"]
            for name, digest in files.items():
                if _sha256(self.path / name) != digest:
                    return f"holds another {name} than was installed"
        except FileNotFoundError as error:
            return f"lacks {Path(error.filename).relative_to(self.path)}"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"cannot be read ({error})"
        return None

    def make(self, fill: Callable[[Path], None]) -> None:
        """Makes it anew, unless another process does so meanwhile; then waits for that one.

        Args:
            fill: puts the package into an empty folder.

        Raises:
            SetupError: no place for it, or what `fill` raises.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):
                if self.fault() is None:
                    return
                self._sweep()
                partial = Path(tempfile.mkdtemp(prefix=f"{self.path.name}.partial-", dir=self.path.parent))
                try:
                    fill(partial)
                    _write_manifest(partial)
                    if self.exists:
                        self.path.rename(partial.with_name(partial.name + ".old"))
                    partial.chmod(0o755)  # a folder of temporary files is closed to other users; a cache need not be
                    partial.rename(self.path)
                finally:
                    self._sweep()
        except OSError as error:
            raise SetupError(no_place(self.package, self.path.parent, error)) from error

    def _sweep(self) -> None:
        """Removes what a process that was killed has left."""
        for left in self.path.parent.glob(f"{self.path.name}.partial-*"):
            shutil.rmtree(left, ignore_errors=True)


def no_place(package: Package, parent: Path, error: OSError) -> str:
    """The sentence for a folder that cannot be written."""
    cause = "there is no room left" if error.errno == errno.ENOSPC else error.strerror or error
    return (
        f"{package.name} cannot be installed into {str(parent)!r} ({cause}): make room or mend the permissions there, "
        f"or name another folder in AMC_TF_CACHE, and run `amc-tf setup`."
    )


def _environment() -> str:
    """What compiled files belong to: "cp312-linux-x86_64-tf2.20.0"."""
    system = sysconfig.get_platform().replace("_", "-")
    return f"{sys.implementation.cache_tag.replace('cpython-', 'cp')}-{system}-tf{tensorflow_version()}"


def _write_manifest(folder: Path) -> None:
    """Lists the files less what Python compiled, which it may compile again."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    files = {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump({"files": files}, file, indent=0)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_HASHED_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()
