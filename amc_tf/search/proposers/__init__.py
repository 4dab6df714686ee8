"""Proposers: algorithms that choose the next widths.

In: the search problem, the schedule and the trials that a proposal may use. Out: a Proposal (trial.py).
"""
