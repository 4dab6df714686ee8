"""Tests of amc_tf, laid out as the package is."""
