"""What could be pruned of a model, what could not and why, and which budgets can be met. Nothing is trained or run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from amc_tf.cost import counts
from amc_tf.cost.reach import Reach, reach
from amc_tf.errors import ConversionError
from amc_tf.graph import keras_reader
from amc_tf.options import Options
from amc_tf.pipeline.pruning_methods import PRUNING_METHODS, pruner_of
from amc_tf.pruning.channel import ChannelPruner
from amc_tf.pruning.unit_lines import UnitLine, unit_lines
from amc_tf.search.budget import extremes
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.operator_costs import operator_costs
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
        unknown: layer -> why it is not understood; its channels are frozen.
        reach: how many of the MACs channels can save, and which layers keep the others; None for single weights, which
            save none.
        unmade: why the network cannot be made into a .tflite, where that was needed to count what layers that are not
            understood multiply, which `macs` lacks then; None where it is whole.
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
    reach: Reach | None
    unmade: str | None
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
            "reach": None if self.reach is None else asdict(self.reach),
            "unmade": self.unmade,
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
    is_channel = isinstance(pruner, ChannelPruner)
    base, unmade = _file(model, needed=not is_channel, useful=bool(pruner.groups.unknown))
    macs, params = counts.macs(pruner.groups, (), base), counts.params(pruner.groups, ())
    costs = PRUNING_METHODS[method].costs(pruner, base or b"")
    known = {target: cost for target, cost in costs.items() if not is_channel or target != "size"}
    return Analysis(
        model=model.name,
        method=method,
        units=unit_lines(pruner, round_to),
        macs=int(macs(())),
        params=int(params(())),
        least={target: int(cost(narrowest)) for target, cost in known.items()},
        base={target: int(cost(whole)) for target, cost in known.items()},
        unknown=pruner.groups.unknown,
        reach=reach(pruner.groups, operator_costs(base) if base else ()) if is_channel else None,
        unmade=unmade,
        obstacles=None if base is None or is_channel else find_unsupported(base, keras_reader.layers(model)),
    )


def _file(model: Any, needed: bool, useful: bool) -> tuple[bytes | None, str | None]:
    """The model's .tflite if it is needed, or useful to count by; or why it cannot be made."""
    if not needed and not useful:
        return None, None
    try:
        return convert(model), None
    except ConversionError as error:
        if needed:
            raise
        return None, str(error)
