"""Which channels or weights are dropped.

In: a model, and a width or keep ratio per unit. Out: a Plan (what stays of every unit), the pruned weights, which
Reconstruction can correct, and the pruned model. A pruning method is a subclass of `Pruner`.
"""
