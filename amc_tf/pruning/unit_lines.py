"""Lines of a report for people: which channel groups or kernels can be pruned, and why the others cannot."""

from dataclasses import dataclass

from amc_tf.pruning.channel import ChannelPruner
from amc_tf.pruning.kernels import kernels
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.pruning.pruner import Pruner


@dataclass(frozen=True)
class UnitLine:
    """One channel group or kernel.

    Attributes:
        name: name of the group (the layer that creates the channels), or path of the layer with the kernel.
        size: number of channels, or of nonzero weights.
        layers: all layers with weights of the group.
        least: the smallest number that may be kept; equal to `size` if nothing can be pruned.
        frozen: why nothing can be pruned, or None.
    """

    name: str
    size: int
    layers: tuple[str, ...]
    least: int
    frozen: str | None


def unit_lines(pruner: Pruner, round_to: int) -> tuple[UnitLine, ...]:
    """All channel groups or kernels in the order of the network, with those that cannot be pruned."""
    if isinstance(pruner, ChannelPruner):
        return _group_lines(pruner, round_to, pruner.low)
    return _kernel_lines(pruner)


def _group_lines(pruner: ChannelPruner, round_to: int, min_keep: float) -> tuple[UnitLine, ...]:
    least = {unit.name: unit.widths[0] for unit in pruner.units}
    return tuple(
        UnitLine(
            group.name,
            group.channels,
            tuple(dict.fromkeys(slot.layer for slot in group.slots)),
            least.get(group.name, group.channels),
            group.frozen if group.frozen or group.name in least else _too_narrow(group.channels, round_to, min_keep),
        )
        for group in pruner.groups.groups
    )


def _kernel_lines(pruner: MagnitudePruner) -> tuple[UnitLine, ...]:
    least = {unit.name: unit.widths[0] for unit in pruner.units}
    lines = []
    for layer, index in kernels(pruner.graph).items():
        size = int((pruner.weights[layer][index] != 0).sum())
        reason = None if layer in least else _why_kept(size, is_frozen=layer not in pruner.kernels)
        lines.append(UnitLine(layer, size, (layer,), least.get(layer, size), reason))
    return tuple(lines)


def _why_kept(size: int, is_frozen: bool) -> str:
    if is_frozen:
        return "it is among the frozen layers that were named"
    return f"it has {size} weights that are not zero"


def _too_narrow(channels: int, round_to: int, min_keep: float) -> str:
    return f"no multiple of {round_to} lies between {min_keep:g} of its {channels} channels and all of them"
