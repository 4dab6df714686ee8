"""The caller's data.

In: arrays, a tf.data.Dataset or a keras PyDataset. Out: Splits (`splits.py`), checked arrays for calibration, reward
and validation; and Examples (`fit_data.py`), the data in the form that Keras's `fit` reads.
"""
