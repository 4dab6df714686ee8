"""The search for the widths of each unit that lose least accuracy within a budget.

In: a SearchProblem (units, cost, limit), proposer settings, an evaluator, an agent and a journal.
Out: a Study, whose trials are in the journal and whose `best` is the winner.
"""
