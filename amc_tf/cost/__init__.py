"""Costs that are counted: MACs, parameters and bytes of a network at any widths.

In: a pruner with its units and channel groups. Out: a Cost (cost_model.py), a callable from widths to a number.
Latency is a Cost too; amc_tf/latency has it.
"""
