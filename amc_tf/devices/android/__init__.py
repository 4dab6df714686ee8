"""An Android phone as a device.

In: a .tflite on this computer. Out: a Timing of it on the phone, once the phone is cool.
adb carries commands and files; the official benchmark_model measures; nothing stays on the phone after `close`.
"""
