"""Where time is measured: an Android phone at the end of an adb cable, or this computer."""

from amc_tf.devices.android.adb_device import AdbDevice
from amc_tf.devices.host.computer import HostDevice

__all__ = ["AdbDevice", "HostDevice"]
