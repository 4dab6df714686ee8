"""Everything about .tflite files: conversion, slicing of one file into candidates, the runtime, sparse kernels.

In: a Keras model, plans and weights. Out: checked .tflite files, and their outputs on examples.
"""
