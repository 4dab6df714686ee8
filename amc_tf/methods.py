"""Methods: what a way of pruning brings to compress(): its units, what they cost, and the file that ships."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from amc_tf.cost import counts, nonzero
from amc_tf.pruning.channel import ChannelPruning
from amc_tf.pruning.importance import Importance
from amc_tf.pruning.magnitude import MagnitudePruning
from amc_tf.pruning.pruning import Pruning
from amc_tf.tflite import sparse

IMPORTANCE, ROUND_TO = "magnitude_in", 8  # of channels
_MIN_KEEP = 0.2  # the paper removes at most 0.8 of a layer's channels


@dataclass(frozen=True)
class Method:
    """A way of pruning.

    Attributes:
        name: as `compress` knows it.
        targets: what a budget may be about.
        costs: (pruning, the base network's .tflite) -> its exact costs by target, each widths -> number.
        finished: a pruned network's .tflite as the converter makes it -> the file that ships.
    """

    name: str
    targets: tuple[str, ...]
    costs: Callable[[Any, bytes], dict[str, Any]]
    finished: Callable[[bytes], bytes]


def _of_channels(pruning: ChannelPruning, base: bytes) -> dict[str, Any]:
    return {
        "macs": counts.macs(pruning.groups, pruning.units),
        "params": counts.params(pruning.groups, pruning.units),
        "size": counts.size(pruning.groups, pruning.units, len(base)),
    }


def _of_weights(pruning: MagnitudePruning, base: bytes) -> dict[str, Any]:
    return {"params": nonzero.params(pruning), "size": nonzero.size(pruning, len(base))}


METHODS = {
    method.name: method
    for method in (
        Method("channel", ("latency", "macs", "params", "size"), _of_channels, bytes),
        Method("magnitude", ("params", "size"), _of_weights, sparse.encoded),
    )
}


def chosen(name: str, target: str | None = None) -> Method:
    """The method of that name.

    Raises:
        ValueError: there is none, or the target is none that it makes smaller.
    """
    if name not in METHODS:
        raise ValueError(f"method is {name!r}; expected one of {', '.join(map(repr, METHODS))}.")
    method = METHODS[name]
    if target is not None and target not in method.targets:
        raise ValueError(
            f"target is {target!r}, which method {name!r} does not lower: zeros among the weights are multiplied like "
            f"all others; give target {' or '.join(map(repr, method.targets))}, or method 'channel'."
        )
    return method


def pruning(
    name: str,
    model: Any,
    *,
    round_to: int = ROUND_TO,
    min_keep: float | None = None,
    importance: str | Importance = IMPORTANCE,
    frozen: Sequence[str] = (),
) -> Pruning:
    """What a method can do with a model; arguments as of compress().

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, out of range, or of the other method.
        UnsupportedModel: the model cannot be read, or nothing in it can go.
    """
    if chosen(name).name == "channel":
        least = _MIN_KEEP if min_keep is None else min_keep
        return ChannelPruning(model, round_to=round_to, min_keep=least, importance=importance, frozen=frozen)
    for argument, value, usual in (("round_to", round_to, ROUND_TO), ("importance", importance, IMPORTANCE)):
        if value != usual:
            raise ValueError(f"{argument} is {value!r}, but it is about channels; leave it out for method {name!r}.")
    return MagnitudePruning(model, min_keep=min_keep, frozen=frozen)
