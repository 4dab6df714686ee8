"""Tests of amc_tf.devices."""
