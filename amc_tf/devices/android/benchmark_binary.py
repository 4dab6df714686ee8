"""find: the benchmark_model for a phone: the caller's file, else one official version, which is downloaded once."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from amc_tf.devices.android import consent, download
from amc_tf.errors import DeviceError
from amc_tf.system.cache import folder as cache_folder

# The only official program whose address names its version; TensorFlow Lite publishes nightlies alone.
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
    """A benchmark_model on this computer. Its sha256 identifies it, since it does not print its version."""

    path: Path
    sha256: str


def find(abi: str, binary: str | Path | None = None) -> Binary:
    """The benchmark_model for phones of this ABI.

    Nobody publishes a checksum of the official program. So the user confirms the sha256 of the first download (see
    consent.py), and any other one is refused later. The program stays in this user's cache.

    Args:
        abi: Android's name of it, such as "arm64-v8a".
        binary: the caller's file, which needs no confirmation; None for the official program.

    Raises:
        ValueError: `binary` is no file.
        DeviceError: the program was built for other phones, cannot be fetched (says what to fetch and where to put it),
            was not confirmed, or is another one than was confirmed.
    """
    if binary is not None:
        path = Path(binary).expanduser().absolute()
        if not path.is_file():
            raise ValueError(f"binary is {str(binary)!r}, where there is no file; give the path of a benchmark_model.")
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
    official = Binary(path, sha256(path))
    consent.require(path, official.sha256, ADDRESS)
    return official


def sha256(path: str | Path) -> str:
    """The sha256 of a file, in hex.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch(path: Path, abi: str) -> None:
    """Downloads the official program. Keeps none for other phones, and none but a confirmed one if there is one."""

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
    """The processor (e_machine) of an ELF file; None for any other file."""
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError as error:
        raise DeviceError(f"{path} cannot be read ({error.strerror}): mend its permissions.") from error
    return int.from_bytes(header[18:20], "little") if header[:4] == b"\x7fELF" else None


def _check_machine(path: Path, abi: str) -> None:
    """Refuses an ELF file for another processor. Any other file is left for the phone to judge."""
    machine = _machine(path)
    if machine is not None and machine != _MACHINES.get(abi, machine):
        built = next((name for name, number in _MACHINES.items() if number == machine), f"machine {machine}")
        raise DeviceError(f"{path} is built for {built}, but the phone is {abi}: give a benchmark_model for {abi}.")


def _other(abi: str) -> str:
    """The advice in messages for an ABI without a pinned program."""
    if abi == "armeabi-v7a":
        return f"fetch the nightly one from {_NIGHTLY} and give its path as binary."
    return (
        f"build one in the LiteRT repository (bazel build -c opt --config=android_{abi} "
        f"//tflite/tools/benchmark:benchmark_model) and give its path as binary."
    )
