"""Scoring: how accurate a candidate is on the reward data.

In: the widths of a candidate. Out: an Outcome (trial.py): accuracy and cost, beside those of the unpruned network.
"""
