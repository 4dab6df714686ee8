"""What could be pruned of a model, what could not and why, and which budgets can be met. Nothing is trained or run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amc_tf import methods
from amc_tf.cost import counts
from amc_tf.graph import keras_graph
from amc_tf.methods import ROUND_TO
from amc_tf.pruning.channel import ChannelPruning
from amc_tf.pruning.kernels import kernels
from amc_tf.pruning.magnitude import MagnitudePruning
from amc_tf.pruning.pruning import Pruning
from amc_tf.search.budget import extremes
from amc_tf.tflite.convert import convert
from amc_tf.tflite.obstacles import obstacles


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


@dataclass(frozen=True)
class Analysis:
    """What `analyze` found.

    Attributes:
        model: name of the model.
        method: that would prune it.
        units: all of its channel groups or kernels in the network's order.
        macs, params: of the whole network.
        least: with every unit at its narrowest, by target, in the target's own unit.
        base: the same of the whole network.
        unknown: layer -> why it is not understood; its channels are frozen and its MACs are not counted.
        obstacles: what keeps zeros among single weights from making the network faster, a sentence each; empty where
            nothing does, None for whole channels, which need no such thing.
    """

    model: str
    method: str
    units: tuple[UnitLine, ...]
    macs: int
    params: int
    least: dict[str, int]
    base: dict[str, int]
    unknown: dict[str, str]
    obstacles: tuple[str, ...] | None

    def budgets(self) -> dict[str, tuple[float, float]]:
        """Reachable range of the budget for each target, as fractions of the base that may be kept."""
        return {target: (least / self.base[target], 1.0) for target, least in self.least.items()}

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "model": self.model,
            "method": self.method,
            "macs": self.macs,
            "params": self.params,
            "budgets": {target: list(ends) for target, ends in self.budgets().items()},
            "units": [vars(line) | {"layers": list(line.layers)} for line in self.units],
            "unknown": self.unknown,
            "obstacles": None if self.obstacles is None else list(self.obstacles),
        }


def analyze(
    model: Any,
    *,
    method: str = "channel",
    round_to: int = ROUND_TO,
    min_keep: float | None = None,
    frozen: Sequence[str] = (),
) -> Analysis:
    """Says what `compress` could do with a model; with single weights, for which it is converted, in seconds.

    Args:
        model: keras.Model (Keras 3) or tf_keras.Model, functional or Sequential; it is not changed.
        method, round_to, min_keep, frozen: as for `compress`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range.
        UnsupportedModel: the model cannot be read, or nothing in it can shrink.
        ConversionError: it cannot be made into a .tflite.
    """
    pruning = methods.pruning(method, model, round_to=round_to, min_keep=min_keep, frozen=frozen)
    narrowest, whole = extremes(pruning.units)
    macs, params = counts.macs(pruning.groups, ()), counts.params(pruning.groups, ())
    if isinstance(pruning, ChannelPruning):
        found, base = None, b""
    else:
        base = convert(model)
        found = obstacles(base, keras_graph.layers(model))
    costs = methods.chosen(method).costs(pruning, base)
    told = {target: cost for target, cost in costs.items() if base or target != "size"}
    return Analysis(
        model=model.name,
        method=method,
        units=lines(pruning, round_to),
        macs=int(macs(())),
        params=int(params(())),
        least={target: int(cost(narrowest)) for target, cost in told.items()},
        base={target: int(cost(whole)) for target, cost in told.items()},
        unknown=pruning.groups.unknown,
        obstacles=found,
    )


def lines(pruning: Pruning, round_to: int) -> tuple[UnitLine, ...]:
    """All channel groups or kernels of a network in its order, those that cannot be pruned too."""
    if isinstance(pruning, ChannelPruning):
        return _groups(pruning, round_to, pruning.low)
    return _kernels(pruning)


def _groups(pruning: ChannelPruning, round_to: int, min_keep: float) -> tuple[UnitLine, ...]:
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


def _kernels(pruning: MagnitudePruning) -> tuple[UnitLine, ...]:
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
