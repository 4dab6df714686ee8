"""Which device a caller means: the phone on the cable, one by its serial, this computer, or an object of their own."""

import os
import warnings
from collections.abc import Mapping
from typing import Any

from amc_tf.devices.android import adb_client
from amc_tf.devices.android.adb_device import AdbDevice
from amc_tf.devices.host.computer import HostDevice
from amc_tf.errors import DeviceError


def choose(device: Any = None) -> tuple[Any, bool]:
    """The device, and whether it was opened here, so that it has to be closed here.

    Args:
        device: "adb" (the one connected phone), "adb:SERIAL", "host", an object with benchmark(path) -> Timing, or None
            for the one connected phone, else this computer with a warning.

    Raises:
        ValueError, TypeError: it is none of these.
        DeviceError: the phone cannot be used.
    """
    if device is None:
        return _one_phone_or_host(), True
    if isinstance(device, str):
        if device == "host":
            return HostDevice(), True
        kind, _, serial = device.partition(":")
        if kind == "adb" and (serial or device == "adb"):
            return AdbDevice(serial or None), True
        raise ValueError(f"device is {device!r}; expected 'adb', 'adb:SERIAL', 'host' or a device object.")
    if isinstance(device, type) or not callable(getattr(device, "benchmark", None)):
        raise TypeError(
            f"device is {device!r}; expected 'adb', 'host' or an object with benchmark(path)."
        )
    name, identity = getattr(device, "name", None), getattr(device, "identity", None)
    if not isinstance(name, str):
        raise TypeError(f"The device {device!r} has the name {name!r}; text is expected, which logs and results show.")
    words = [word for pair in identity.items() for word in pair] if isinstance(identity, Mapping) else [None]
    if not all(isinstance(word, str) for word in words):
        raise TypeError(
            f"The device {device!r} has the identity {identity!r}; a mapping of text to text is expected, which says "
            f"what its times belong to."
        )
    return device, False


def _one_phone_or_host() -> Any:
    if os.environ.get("ANDROID_SERIAL"):  # names a phone, which need not be connected to yet
        return AdbDevice()
    try:
        phones = adb_client.devices(adb_client.find_adb())
    except DeviceError as error:
        phones, why = {}, str(error)
    else:
        why = "No Android device is connected."
    if phones:  # also one that is not authorised or offline, which AdbDevice says: it was put on the cable for this
        return AdbDevice()
    warnings.warn(
        f"Latency is measured on this computer, which says little about a phone: {why} Connect one and see "
        f"`amc-tf doctor`, or give device='host' to mean it.",
        stacklevel=4,
    )
    return HostDevice()
