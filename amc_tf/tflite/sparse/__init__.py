"""Zeros among the weights: the sparse encoding of kernels, and the conditions of XNNPACK's sparse kernels.

In: a .tflite with zeros. Out: a smaller file with the same outputs, or the reasons against one.
"""
