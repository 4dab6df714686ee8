"""How many examples a property test draws: few where somebody waits for it, more on CI."""

import os

from hypothesis import settings

_TIMES = 4 if os.environ.get("CI") else 1


def examples(few: int) -> settings:
    """Hypothesis's settings with so many examples, on CI four times as many.

    The first example is always the smallest there is, so of two only the second is drawn by chance.
    """
    return settings(max_examples=_TIMES * few)
