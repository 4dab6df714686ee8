"""Devices that measure latency: an Android phone over adb, or this computer.

In: paths of .tflite files. Out: a Timing for each, which says what was measured and in which state of the device.
device.py is the plug point for other devices.
"""

from amc_tf.devices.android.adb_device import AdbDevice
from amc_tf.devices.device import Device
from amc_tf.devices.host.computer import HostDevice

__all__ = ["AdbDevice", "Device", "HostDevice"]
