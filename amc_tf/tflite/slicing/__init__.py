"""Candidates in milliseconds: one converted .tflite is rewritten for each plan, without the converter.

In: the network's .tflite, a plan and the sliced weights. Out: the .tflite that the converter would make of them.
"""
