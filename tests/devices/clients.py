"""The real adb clients here: an old one from the PATH and the new one of adbutils, or whichever of them there is."""

import shutil

from amc_tf.devices.android.adb_client import find_adb

CLIENTS = list(dict.fromkeys(filter(None, [shutil.which("adb"), find_adb(environment={"PATH": ""})])))
