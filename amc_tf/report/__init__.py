"""Reports for people.

In goes a Result, or the run directory of a search; out come progress lines and tables on the terminal, report.html,
MODEL_CARD.md and PNGs. Nothing here changes a result.
"""
