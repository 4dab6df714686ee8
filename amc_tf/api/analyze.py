"""What could be pruned of a model, what could not and why, and which budgets can be met. Nothing is trained or run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amc_tf.cost import counts
from amc_tf.graph import keras_reader
from amc_tf.options import Options
from amc_tf.pipeline.pruning_methods import PRUNING_METHODS, pruner_of
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.pruning.unit_lines import UnitLine, unit_lines
from amc_tf.search.budget import extremes
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.sparse.unsupported_operators import find_unsupported


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
    round_to: int = 8,
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
    pruner = pruner_of(model, Options(method=method, round_to=round_to, min_keep=min_keep, frozen=frozen))
    narrowest, whole = extremes(pruner.units)
    macs, params = counts.macs(pruner.groups, ()), counts.params(pruner.groups, ())
    if isinstance(pruner, ChannelPruner):
        found, base = None, b""
    else:
        base = convert(model)
        found = find_unsupported(base, keras_reader.layers(model))
    costs = PRUNING_METHODS[method].costs(pruner, base)
    known = {target: cost for target, cost in costs.items() if base or target != "size"}
    return Analysis(
        model=model.name,
        method=method,
        units=unit_lines(pruner, round_to),
        macs=int(macs(())),
        params=int(params(())),
        least={target: int(cost(narrowest)) for target, cost in known.items()},
        base={target: int(cost(whole)) for target, cost in known.items()},
        unknown=pruner.groups.unknown,
        obstacles=found,
    )
