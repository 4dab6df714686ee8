"""Latency as a cost: predicted for every plan from a table, measured on a device for the plans that matter.

In: a device, a pruner and the base .tflite. Out: latency in microseconds, as a Cost (amc_tf/cost/cost_model.py).
session.py is the entrance.
"""
