"""Pruning methods: what each brings to compress(): its units, their costs, and the file that ships."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amc_tf.cost import counts, nonzero
from amc_tf.errors import UnsupportedModel
from amc_tf.options import Options, default_of
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.pruning.pruner import Pruner
from amc_tf.tflite.sparse import encoding
from amc_tf.tflite.sparse.unsupported_operators import safe

_MIN_KEEP = 0.2  # the paper removes at most 0.8 of a layer's channels


@dataclass(frozen=True)
class PruningMethod:
    """A way of pruning.

    Attributes:
        name: as `compress` knows it.
        costs: (pruner, the base network's .tflite) -> its exact costs by target, each widths -> number.
        shipped: the converter's .tflite of a pruned network -> the file that ships.
        zeros: whether dropped weights stay as zeros, which save time only in runtimes with sparse kernels.
    """

    name: str
    costs: Callable[[Any, bytes], dict[str, Any]]
    shipped: Callable[[bytes], bytes]
    zeros: bool

    @staticmethod
    def cost(costs: Mapping[str, Any], target: str) -> Any:
        """The cost of a target, out of `costs`.

        Raises:
            UnsupportedModel: zeros cannot be left out of this network's file.
        """
        if target not in costs:
            raise UnsupportedModel(
                "The zeros of this network have to stay in its file, because XNNPACK would begin to run it with its "
                "sparse kernels, cannot go on with them, and would put out wrong numbers; give target='params', let "
                "the file be compressed for the download, and see amc_tf.analyze(model, method='magnitude') for what "
                "is in the way."
            )
        return costs[target]

    def check_faster(self, unsupported: Sequence[str] | None) -> None:
        """Raises UnsupportedModel if zeros make the network no faster, so that latency cannot be a target."""
        if self.zeros and unsupported:
            raise UnsupportedModel(
                f"target is 'latency', but zeros make this network no faster, because XNNPACK has no sparse kernels "
                f"for it ({unsupported[0].rstrip('.')}); give target='params' or 'size', or method 'channel'."
            )


def _of_channels(pruner: ChannelPruner, base: bytes) -> dict[str, Any]:
    return {
        "macs": counts.macs(pruner.groups, pruner.units, base or None),
        "params": counts.params(pruner.groups, pruner.units),
        "size": counts.size(pruner.groups, pruner.units, len(base)),
    }


def _of_weights(pruner: MagnitudePruner, base: bytes) -> dict[str, Any]:
    # A file that would compute something else with its zeros left out ships with them, and is no smaller.
    size = {"size": nonzero.size(pruner, len(base))} if safe(base) else {}
    return {"params": nonzero.params(pruner), **size}


def without_zeros(tflite: bytes) -> bytes:
    """A file of dense kernels with their zeros left out, where it computes the same then in every runtime."""
    return encoding.encoded(tflite) if safe(tflite) else tflite


PRUNING_METHODS = {
    method.name: method
    for method in (
        PruningMethod("channel", _of_channels, bytes, zeros=False),
        PruningMethod("magnitude", _of_weights, without_zeros, zeros=True),
    )
}


def pruner_of(model: Any, options: Options) -> Pruner:
    """The pruner of a model, by the method and the limits of the options.

    Raises:
        TypeError, ValueError: an argument is out of range, or belongs to the other method.
        UnsupportedModel: the model cannot be read, or nothing in it can shrink.
    """
    if options.method == "channel":
        return ChannelPruner(
            model,
            round_to=options.round_to,
            min_keep=_MIN_KEEP if options.min_keep is None else options.min_keep,
            importance=options.importance,
            frozen=options.frozen,
        )
    for name in ("round_to", "importance"):
        value = getattr(options, name)
        if value != default_of(name):
            raise ValueError(
                f"{name} is {value!r}, but it is about channels; leave it out for method {options.method!r}."
            )
    return MagnitudePruner(model, min_keep=options.min_keep, frozen=options.frozen)
