"""Where the benchmark_model for a phone comes from: the caller's file, else one official version, fetched once."""

import contextlib
import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from amc_tf.cache import folder as cache_folder
from amc_tf.errors import DeviceError

# The one official program whose address names its version; TensorFlow Lite's own are nightlies without one.
VERSION = "2.2.0"
ADDRESS = f"https://storage.googleapis.com/litert/binaries/{VERSION}/android_arm64/benchmark_model"
_NIGHTLY = (
    "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest/"
    "android_arm_benchmark_model"
)

_MACHINES = {"arm64-v8a": 183, "armeabi-v7a": 40, "x86_64": 62, "x86": 3}  # e_machine in the header of an ELF file
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Binary:
    """A benchmark_model on this computer; its sha256 says which one, since it does not print its version."""

    path: Path
    sha256: str


def find(
    abi: str,
    given: str | Path | None = None,
    *,
    cache: str | Path | None = None,
    address: str = ADDRESS,
    timeout: float = 30.0,
) -> Binary:
    """The benchmark_model for phones of this ABI.

    No checksums are published beside the official program. So the first download is trusted and its sha256 recorded
    beside it; what does not agree with that later is refused.

    Args:
        abi: Android's name of it, such as "arm64-v8a".
        given: a file that is used as it is.
        cache: folder of downloads; None: in this user's cache.
        address: where the program for arm64-v8a is fetched.
        timeout: seconds that the network may be silent.

    Raises:
        ValueError: what was given is no file.
        DeviceError: it was built for other phones, cannot be fetched (says what to fetch and where to put it), or has
            changed since it was first fetched.
    """
    if given is not None:
        path = Path(given).expanduser().absolute()
        if not path.is_file():
            raise ValueError(f"binary is {str(given)!r}, where there is no file; give the path of a benchmark_model.")
        _check_machine(path, abi)
        return Binary(path, sha256(path))
    if not abi:
        raise DeviceError(
            "The phone does not say its ABI (ro.product.cpu.abi is empty), so no benchmark_model can be chosen for it: "
            "give the path of one as binary."
        )
    if abi != "arm64-v8a":
        raise DeviceError(f"There is no official benchmark_model of version {VERSION} for {abi}: {_other(abi)}")
    path = Path(cache or cache_folder()) / f"benchmark_model-{VERSION}-{abi}"
    record = path.with_name(path.name + ".sha256")
    if not path.is_file():
        _fetch(address, path, abi, timeout)
    _check_machine(path, abi)
    found = sha256(path)
    recorded = _recorded(record)
    if recorded is not None:
        if found != recorded:
            raise DeviceError(
                f"{path} has the sha256 {found}, but {recorded} was recorded when it was first fetched: it was damaged "
                f"or exchanged; delete it to have it fetched again, and also {record.name} if you trust the new one."
            )
        return Binary(path, found)
    with contextlib.suppress(OSError):  # a cache that may not be written only forgets
        record.write_text(found + "\n")
    return Binary(path, found)


def sha256(path: str | Path) -> str:
    """Of a file, in hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _recorded(record: Path) -> str | None:
    """The sha256 that was recorded, None where none was."""
    try:
        return record.read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeviceError(
            f"{record} cannot be read ({error.strerror}), so {record.stem} cannot be checked: make it readable, or "
            f"delete it if you trust the program."
        ) from error


def _fetch(address: str, path: Path, abi: str, timeout: float) -> None:
    """Downloads to a name of its own first, so that nothing half or wrong lies where the program is expected."""
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(address, timeout=timeout) as answer:
            expected = answer.headers.get("Content-Length")
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                partial = Path(file.name)
                shutil.copyfileobj(answer, file, _CHUNK)
                size = file.tell()
        if expected is not None and size != int(expected):
            raise OSError(f"{size} of {expected} bytes came")
        if _machine(partial) != _MACHINES[abi]:
            raise OSError(f"what came is no program for {abi}, perhaps a page of a proxy")
        os.replace(partial, path)
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError is an address that is none
        raise DeviceError(
            f"benchmark_model cannot be fetched ({getattr(error, 'reason', error)}): fetch {address} by other means "
            f"and put it at {path}, or give its path as binary."
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _machine(path: Path) -> int | None:
    """The processor that an ELF file is built for; None for what is no ELF file."""
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError as error:
        raise DeviceError(f"{path} cannot be read ({error.strerror}): mend its permissions.") from error
    return int.from_bytes(header[18:20], "little") if header[:4] == b"\x7fELF" else None


def _check_machine(path: Path, abi: str) -> None:
    """Refuses an ELF file for another processor; what is no ELF file is left for the phone to judge."""
    machine = _machine(path)
    if machine is not None and machine != _MACHINES.get(abi, machine):
        built = next((name for name, number in _MACHINES.items() if number == machine), f"machine {machine}")
        raise DeviceError(f"{path} is built for {built}, but the phone is {abi}: give a benchmark_model for {abi}.")


def _other(abi: str) -> str:
    """What to do for an ABI without a pinned program."""
    if abi == "armeabi-v7a":
        return f"fetch the nightly one from {_NIGHTLY} and give its path as binary."
    return (
        f"build one in the LiteRT repository (bazel build -c opt --config=android_{abi} "
        f"//tflite/tools/benchmark:benchmark_model) and give its path as binary."
    )
