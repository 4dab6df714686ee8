"""The version of amc_tf, for setup.py, which must not import the package."""

__version__ = "0.2.0"
