"""Runs .tflite files over many examples in worker processes without TensorFlow.

In: a .tflite and examples, which lie once in a shared file. Out: the outputs of each example, the same bits for any
number of workers. Nothing stays on the disk, whatever way the process ends.
"""
