"""choose: the argument `device` -> a connected phone, a phone by its serial, this computer, or the caller's device."""

import os
import warnings
from collections.abc import Mapping

from amc_tf.devices.android import adb_client
from amc_tf.devices.android.adb_device import AdbDevice
from amc_tf.devices.device import Device
from amc_tf.devices.host.computer import HostDevice
from amc_tf.errors import DeviceError


def choose(device: str | Device | None = None) -> tuple[Device, bool]:
    """Opens the device that an argument means.

    Args:
        device: "adb" (the one connected phone), "adb:SERIAL", "host" or a Device. None means the one connected phone;
            if none is connected, this computer, with a warning.

    Returns:
        The device, and whether it was opened here. If so, the caller of this function closes it.

    Raises:
        ValueError, TypeError: the argument is none of these.
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
        raise TypeError(f"device is {device!r}; expected 'adb', 'host' or an object with benchmark(path).")
    name, identity = getattr(device, "name", None), getattr(device, "identity", None)
    if not isinstance(name, str):
        raise TypeError(f"The device {device!r} has the name {name!r}; text is expected, which logs and results show.")
    texts = [text for pair in identity.items() for text in pair] if isinstance(identity, Mapping) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(
            f"The device {device!r} has the identity {identity!r}; a mapping of text to text is expected, which says "
            f"what its times depend on."
        )
    return device, False


def _one_phone_or_host() -> Device:
    if os.environ.get("ANDROID_SERIAL"):  # a phone that may not be connected yet
        return AdbDevice()
    try:
        phones = adb_client.devices(adb_client.find_adb())
    except DeviceError as error:
        phones, why = {}, str(error)
    else:
        why = "No Android device is connected."
    if phones:  # a phone that is not authorised or offline counts: AdbDevice says what to do about it
        return AdbDevice()
    warnings.warn(
        f"Latency is measured on this computer, which says little about a phone: {why} Connect one and see "
        f"`amc-tf doctor`, or give device='host' to mean it.",
        stacklevel=4,
    )
    return HostDevice()
