"""What could be pruned of a model, what could not and why, and which budgets can be met. Nothing is trained or run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amc_tf.cost import counts
from amc_tf.pruning.channel import ChannelPruning


@dataclass(frozen=True)
class GroupLine:
    """One channel group, for people.

    Attributes:
        name: of the group: the layer that makes the channels.
        channels: how many.
        layers: every layer that has them in a weight.
        least: the fewest that may be kept, or all of them.
        frozen: why the group keeps all of them, or None.
    """

    name: str
    channels: int
    layers: tuple[str, ...]
    least: int
    frozen: str | None


@dataclass(frozen=True)
class Analysis:
    """What `analyze` found.

    Attributes:
        model: name of the model.
        groups: all of its channel groups in the network's order.
        macs, params: of the whole network.
        least_macs, least_params: with every unit at its narrowest.
        unknown: layer -> why it is not understood; its channels are frozen and its MACs are not counted.
    """

    model: str
    groups: tuple[GroupLine, ...]
    macs: int
    params: int
    least_macs: int
    least_params: int
    unknown: dict[str, str]

    def budgets(self) -> dict[str, tuple[float, float]]:
        """Reachable range of the budget for each target, as fractions of the base that may be kept."""
        return {"macs": (self.least_macs / self.macs, 1.0), "params": (self.least_params / self.params, 1.0)}

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "model": self.model,
            "macs": self.macs,
            "params": self.params,
            "budgets": {target: list(ends) for target, ends in self.budgets().items()},
            "groups": [vars(line) | {"layers": list(line.layers)} for line in self.groups],
            "unknown": self.unknown,
        }


def analyze(model, *, round_to: int = 8, min_keep: float = 0.2, frozen: Sequence[str] = ()) -> Analysis:
    """Says what `compress` could do with a model.

    Args:
        model: keras.Model (Keras 3) or tf_keras.Model, functional or Sequential; it is not changed.
        round_to: widths are multiples of this.
        min_keep: least keep ratio of a unit.
        frozen: layers to leave alone.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range.
        UnsupportedModel: the model cannot be read, or nothing in it can shrink.
    """
    pruning = ChannelPruning(model, round_to=round_to, min_keep=min_keep, frozen=frozen)
    units = {unit.name: unit for unit in pruning.units}
    macs, params = counts.macs(pruning.groups, pruning.units), counts.params(pruning.groups, pruning.units)
    least = [unit.widths[0] for unit in pruning.units]
    lines = tuple(
        GroupLine(
            group.name,
            group.channels,
            tuple(dict.fromkeys(slot.layer for slot in group.slots)),
            units[group.name].widths[0] if group.name in units else group.channels,
            group.frozen if group.frozen or group.name in units else _too_narrow(group.channels, round_to, min_keep),
        )
        for group in pruning.groups.groups
    )
    return Analysis(
        model.name, lines, int(macs(macs.full)), int(params(params.full)), int(macs(least)), int(params(least)),
        pruning.groups.unknown,
    )  # fmt: skip


def _too_narrow(channels: int, round_to: int, min_keep: float) -> str:
    return f"no multiple of {round_to} lies between {min_keep:g} of its {channels} channels and all of them"
