"""This computer as a device.

In: a .tflite. Out: a Timing of it in a fresh process that holds the runtime and not TensorFlow.
"""
