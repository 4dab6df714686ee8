"""Sentences on what zeros among single weights bring: a smaller file, and speed only where XNNPACK's kernels apply."""

from collections.abc import Sequence

SHOWN = 5  # unsupported operators that get a line of their own


def sparsity_notes(unsupported: Sequence[str] | None, processor: str | None = None) -> list[str]:
    """What to say about zeros before and after a search.

    Args:
        unsupported: one sentence per operator that keeps XNNPACK from its sparse kernels, see
            tflite/sparse/unsupported_operators.py; None for channel pruning, which leaves no zeros.
        processor: why this computer runs no sparse kernels, from the same module, or None.

    Returns:
        Sentences, the most important one first.
    """
    if unsupported is None:
        return []
    if unsupported:
        more = [f"  and {len(unsupported) - SHOWN} more."] if len(unsupported) > SHOWN else []
        return [
            "Zeros will make the download of this network smaller, but not the network faster, because XNNPACK has no "
            "sparse kernels for it:",
            *(f"  {sentence}" for sentence in unsupported[:SHOWN]),
            *more,
        ]
    return [
        "XNNPACK has sparse kernels for this network: zeros make it faster once more than 2/3 of the weights of its "
        "1x1 convolutions are zero.",
        *([processor] if processor else []),
    ]
