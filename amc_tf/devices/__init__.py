"""Where time is measured: an Android phone at the end of an adb cable, or this computer."""
