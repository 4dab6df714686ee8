"""Commands that need neither a Keras model nor TensorFlow.

In go options of the command line; out come lines or JSON on stdout, one sentence per error on stderr, and an exit code.
amc_tf/cli.py joins these commands with those of the Python functions.
"""
