"""UnitLine: what could be pruned of a network and what could not, a line each, for people."""

from dataclasses import dataclass

from amc_tf.pruning.channel import ChannelPruner
from amc_tf.pruning.kernels import kernels
from amc_tf.pruning.magnitude import MagnitudePruner
from amc_tf.pruning.pruner import Pruner


@dataclass(frozen=True)
class UnitLine:
    """One channel group or kernel, for people.

    Attributes:
        name: of the group, which is the layer that makes the channels, or path of the layer that has the kernel.
        size: how many channels it has, or weights that are not zero.
        layers: every layer that has them in a weight.
        least: the fewest that may be kept, or all of them.
        frozen: why it keeps all of them, or None.
    """

    name: str
    size: int
    layers: tuple[str, ...]
    least: int
    frozen: str | None


def unit_lines(pruning: Pruner, round_to: int) -> tuple[UnitLine, ...]:
    """All channel groups or kernels of a network in its order, those that cannot be pruned too."""
    if isinstance(pruning, ChannelPruner):
        return _groups(pruning, round_to, pruning.low)
    return _kernels(pruning)


def _groups(pruning: ChannelPruner, round_to: int, min_keep: float) -> tuple[UnitLine, ...]:
    least = {unit.name: unit.widths[0] for unit in pruning.units}
    return tuple(
        UnitLine(
            group.name,
            group.channels,
            tuple(dict.fromkeys(slot.layer for slot in group.slots)),
            least.get(group.name, group.channels),
            group.frozen if group.frozen or group.name in least else _too_narrow(group.channels, round_to, min_keep),
        )
        for group in pruning.groups.groups
    )


def _kernels(pruning: MagnitudePruner) -> tuple[UnitLine, ...]:
    least = {unit.name: unit.widths[0] for unit in pruning.units}
    found = []
    for layer, index in kernels(pruning.graph).items():
        size = int((pruning.weights[layer][index] != 0).sum())
        why = None if layer in least else _kept(size, layer in pruning.kernels)
        found.append(UnitLine(layer, size, (layer,), least.get(layer, size), why))
    return tuple(found)


def _kept(size: int, considered: bool) -> str:
    if not considered:
        return "it is among the frozen layers that were named"
    return f"it has {size} weights that are not zero"


def _too_narrow(channels: int, round_to: int, min_keep: float) -> str:
    return f"no multiple of {round_to} lies between {min_keep:g} of its {channels} channels and all of them"
