"""Fine-tuning of a pruned model.

In: a pruned model, training data, optionally a plan and a teacher. Out: a plain trained copy of the model, in which the
weights that the plan drops are still zero.
"""
