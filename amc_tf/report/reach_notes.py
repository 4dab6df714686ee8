"""Sentences on how many of a network's multiplications pruning can reach, and what keeps it from the others."""

from amc_tf.cost.reach import Reach

SHOWN = 5  # layers out of reach that get a line of their own
_LITTLE = 0.5  # in reach: below it, users are told before a search


def reach_notes(reach: Reach | None) -> list[str]:
    """What can be reached, and the layers that cannot, those with most multiplications first.

    Args:
        reach: of the network; None for single weights, whose zeros save no multiplications.
    """
    if reach is None or not reach.out:
        return []
    more = reach.out[SHOWN:]
    rest = sum(line.share for line in more)
    return [
        f"Pruning can reach {reach.share:.1%} of the MACs. Out of reach are:",
        *(f"  {line.share:.1%} {line.layer or 'layers without a name'}: {line.reason}" for line in reach.out[:SHOWN]),
        *([f"  {rest:.1%} in {len(more)} more"] if more else []),
        *(["The MACs of a loop are those of one turn, because its inputs say how often it turns."] * (not reach.exact)),
    ]


def little_reach(reach: Reach | None) -> list[str]:
    """The same for a network most of which stays whole at any budget; else nothing."""
    return reach_notes(reach) if reach is not None and reach.share < _LITTLE else []
