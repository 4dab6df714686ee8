"""What each kind of layer does to channels: `kinds.py` maps the kind of a node to a rule.

In: a Tracer and a Node. Out: the labels of the node's outputs. A rule also records weights, settings and MACs in the
Tracer, and freezes the channels that it cannot follow.
"""
