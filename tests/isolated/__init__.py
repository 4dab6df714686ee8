"""Tests of the packages that are kept apart from the user's environment."""
