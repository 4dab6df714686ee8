"""The errors of adb: the messages of adb and the states of a phone -> an error that says what to do."""

import re
from collections.abc import Mapping

from amc_tf.errors import DeviceError

_PASSING = ("offline", "connecting", "authorizing", "host")  # states that may pass by themselves


class LinkLost(DeviceError):
    """The phone dropped off, or its output was cut short. Once it is back, the same call may be tried again."""


class StorageFull(DeviceError):
    """The phone has no space left."""


class TimedOut(DeviceError):
    """The phone did not answer within the limit."""


def not_ready(serial: str, state: str | None, trouble: str | None, known: Mapping[str, str]) -> DeviceError:
    """Why a phone that is not in state `device` cannot be used; a LinkLost if it may yet become ready."""
    if state == "unauthorized" or (trouble and "authenticate" in trouble):
        return _unauthorized(serial)
    if trouble:
        return LinkLost(
            f"{serial} cannot be connected to ({trouble}): check the address, that the phone is in this network and "
            f"that `adb tcpip 5555` or wireless debugging is on."
        )
    if state is None:
        others = ", ".join(known) or "none"
        return LinkLost(
            f"adb knows no phone {serial} (connected: {others}): check the serial with `adb devices`, the cable and "
            f"that USB debugging is on."
        )
    if state in _PASSING:
        return _offline(serial, state)
    if state.startswith("no permissions"):
        return DeviceError(
            f"This user may not open the USB device of {serial} ({state}): add the udev rules for Android phones "
            f"(Debian: `apt-get install android-sdk-platform-tools-common`) or join the group plugdev, and plug it in "
            f"again."
        )
    return DeviceError(f"{serial} is in state {state!r}, not running Android: start it normally and try again.")


def _unauthorized(serial: str) -> DeviceError:
    return DeviceError(
        f"{serial} has not authorised this computer: unlock it and confirm the USB-debugging question on its screen "
        f"(if none appears, revoke the USB-debugging authorisations in its developer options and plug it in again)."
    )


def _offline(serial: str, state: str) -> LinkLost:
    return LinkLost(f"{serial} is {state}: wake it up, plug it in again, or run `adb reconnect offline`.")


def explain(serial: str, said: str, doing: str) -> DeviceError:
    """The error for a message of adb. Its prefix differs by version ("error: ", "adb: "), so parts of lines count."""
    if "unauthorized" in said:
        return _unauthorized(serial)
    if "No space left on device" in said:
        return StorageFull(f"{serial} is full: no space was left in /data/local/tmp while {doing}; free some there.")
    if "device offline" in said:
        return _offline(serial, "offline")
    if any(words in said for words in ("still authorizing", "still connecting")):
        return _offline(serial, "still connecting")
    refused = re.search(r"remote (?:couldn't create file|secure_mkdirs failed|fchown failed)[^\n]*", said)
    if refused:
        return DeviceError(
            f"{serial} refused a file ({refused.group()}): see with `adb shell ls -ld /data/local/tmp` whether the "
            f"shell user may write there."
        )
    if "cannot stat" in said:
        return DeviceError(f"A file vanished from this computer while {doing} ({last_line(said)}); make it again.")
    return server_error(said) or LinkLost(
        f"The link to {serial} was lost while {doing} ({last_line(said) or 'its output has no end'}): check the cable "
        f"or the Wi-Fi, and that the phone has not restarted."
    )


def server_error(said: str) -> DeviceError | None:
    """The error for a message about the adb server itself, None for any other message."""
    if "failed to check server version" in said:
        return port_taken(said)
    if any(words in said for words in ("failed to start daemon", "cannot connect to daemon", "smartsocket listener")):
        return DeviceError(
            f"The adb server cannot be started ({last_line(said)}): see what `adb kill-server; adb start-server` says "
            f"in a shell, or set ANDROID_ADB_SERVER_PORT to a free port."
        )
    return None


def port_taken(said: str) -> DeviceError:
    """The error for a port of the adb server that another program uses."""
    return DeviceError(
        f"The port of the adb server is taken by another program ({last_line(said)}): stop that program, or set "
        f"ANDROID_ADB_SERVER_PORT to a free port."
    )


def last_line(said: str) -> str:
    """The last line that is not empty; "" if there is none."""
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
