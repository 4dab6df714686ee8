"""Keras -> .tflite by TensorFlow's converter.

In: a Keras model. Out: a .tflite in float32, int8, float16 or dynamic range; its operators and its outputs are checked.
"""
