"""Methods: what a way of pruning brings to compress(): its units, what they cost, and the file that ships."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amc_tf.cost import counts, nonzero
from amc_tf.errors import UnsupportedModel
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.pruning.importance import Importance
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.pruning.pruner import Pruner
from amc_tf.tflite.sparse import encoding, unsupported_operators

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
        zeros: whether what is dropped stays behind as zeros, which runtimes multiply by but for some networks.
    """

    name: str
    targets: tuple[str, ...]
    costs: Callable[[Any, bytes], dict[str, Any]]
    finished: Callable[[bytes], bytes]
    zeros: bool


def _of_channels(pruning: ChannelPruner, base: bytes) -> dict[str, Any]:
    return {
        "macs": counts.macs(pruning.groups, pruning.units),
        "params": counts.params(pruning.groups, pruning.units),
        "size": counts.size(pruning.groups, pruning.units, len(base)),
    }


def _of_weights(pruning: MagnitudePruner, base: bytes) -> dict[str, Any]:
    # A file that would compute something else with its zeros left out ships with them, and is no smaller.
    size = {"size": nonzero.size(pruning, len(base))} if unsupported_operators.safe(base) else {}
    return {"params": nonzero.params(pruning), **size}


def without_zeros(tflite: bytes) -> bytes:
    """A file of dense kernels with their zeros left out, where it computes the same then in every runtime."""
    return encoding.encoded(tflite) if unsupported_operators.safe(tflite) else tflite


METHODS = {
    method.name: method
    for method in (
        Method("channel", ("latency", "macs", "params", "size"), _of_channels, bytes, False),
        Method("magnitude", ("params", "size", "latency"), _of_weights, without_zeros, True),
    )
}


def chosen(name: str, target: str | None = None) -> Method:
    """The method of that name.

    Raises:
        ValueError: there is none, or the target is none that it makes smaller.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"method is {name!r}; expected one of {', '.join(map(repr, METHODS))}.")
    method = METHODS[name]
    if target is not None and target not in method.targets:
        raise ValueError(
            f"target is {target!r}, which method {name!r} does not lower: zeros among the weights count like all "
            f"others there; give target {' or '.join(map(repr, method.targets))}, or method 'channel'."
        )
    return method


def cost_of(costs: Mapping[str, Any], target: str) -> Any:
    """The cost that a budget is about.

    Raises:
        UnsupportedModel: zeros cannot be left out of this network's file.
    """
    if target not in costs:
        raise UnsupportedModel(
            "The zeros of this network have to stay in its file, because XNNPACK would begin to run it with its sparse "
            "kernels, cannot go on with them, and would put out wrong numbers; give target='params', let the file be "
            "compressed for the download, and see amc_tf.analyze(model, method='magnitude') for what is in the way."
        )
    return costs[target]


def check_faster(way: Method, in_the_way: Sequence[str] | None) -> None:
    """Raises UnsupportedModel where zeros make the network no faster, so that a latency cannot be a target."""
    if way.zeros and in_the_way:
        raise UnsupportedModel(
            f"target is 'latency', but zeros make this network no faster, because XNNPACK has no sparse kernels for it "
            f"({in_the_way[0].rstrip('.')}); give target='params' or 'size', or method 'channel'."
        )


def pruning(
    name: str,
    model: Any,
    *,
    round_to: int = ROUND_TO,
    min_keep: float | None = None,
    importance: str | Importance = IMPORTANCE,
    frozen: Sequence[str] = (),
) -> Pruner:
    """What a method can do with a model; arguments as of compress().

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, out of range, or of the other method.
        UnsupportedModel: the model cannot be read, or nothing in it can go.
    """
    if chosen(name).name == "channel":
        least = _MIN_KEEP if min_keep is None else min_keep
        return ChannelPruner(model, round_to=round_to, min_keep=least, importance=importance, frozen=frozen)
    for argument, value, usual in (("round_to", round_to, ROUND_TO), ("importance", importance, IMPORTANCE)):
        if value != usual:
            raise ValueError(f"{argument} is {value!r}, but it is about channels; leave it out for method {name!r}.")
    return MagnitudePruner(model, min_keep=min_keep, frozen=frozen)
