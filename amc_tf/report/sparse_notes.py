"""What zeros among single weights bring a user, in sentences."""

from collections.abc import Sequence

MOST = 5  # obstacles that are told one by one


def told(obstacles: Sequence[str] | None, here: str | None = None) -> list[str]:
    """What to say before a search.

    Args:
        obstacles: see tflite.obstacles; None for channels.
        here: why this computer runs no sparse kernels, see tflite.obstacles.processor_obstacle.

    Returns:
        Sentences, the most important one first.
    """
    if obstacles is None:
        return []
    if obstacles:
        more = [f"and {len(obstacles) - MOST} more."] if len(obstacles) > MOST else []
        return [
            "Zeros will make the download of this network smaller, but not the network faster, because XNNPACK has no "
            "sparse kernels for it:",
            *(f"  {obstacle}" for obstacle in obstacles[:MOST]),
            *(f"  {sentence}" for sentence in more),
        ]
    return [
        "XNNPACK has sparse kernels for this network: zeros make it faster once more than 2/3 of the weights of its "
        "1x1 convolutions are zero.",
        *([here] if here else []),
    ]
