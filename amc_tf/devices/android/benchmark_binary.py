"""Where the benchmark_model for a phone comes from: the caller's file, else one official version, fetched once."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from amc_tf.devices.android import consent, download
from amc_tf.errors import DeviceError
from amc_tf.system.cache import folder as cache_folder

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


def find(abi: str, given: str | Path | None = None) -> Binary:
    """The benchmark_model for phones of this ABI.

    No checksums are published beside the official program. So whoever runs this is shown that of the first download and
    asked (see consent.py); what does not agree with it later is refused. It lies in this user's cache.

    Args:
        abi: Android's name of it, such as "arm64-v8a".
        given: a file that is used as it is; nobody is asked about it.

    Raises:
        ValueError: what was given is no file.
        DeviceError: it was built for other phones, cannot be fetched (says what to fetch and where to put it), was not
            confirmed, or is another one than was confirmed.
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
    path = cache_folder() / f"benchmark_model-{VERSION}-{abi}"
    if not path.is_file():
        _fetch(path, abi)
    _check_machine(path, abi)
    found = Binary(path, sha256(path))
    consent.require(path, found.sha256, ADDRESS)
    return found


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


def _fetch(path: Path, abi: str) -> None:
    """Downloads the official program; keeps none that is for other phones or another one than was confirmed."""

    def check(partial: Path) -> None:
        if _machine(partial) != _MACHINES[abi]:
            raise OSError(f"what came is no program for {abi}, perhaps a page of a proxy")
        consent.check(path, sha256(partial), ADDRESS)

    try:
        download.fetch(ADDRESS, path, check)
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"benchmark_model cannot be fetched ({download.reason(error)}): fetch {ADDRESS} by other means and put it "
            f"at {path}, or give its path as binary."
        ) from error


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
