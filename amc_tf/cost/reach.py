"""How many of a network's MACs pruning can reach, and what keeps it from the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from amc_tf.graph.channel_ids import FIXED, Term
from amc_tf.graph.groups import ChannelGroups
from amc_tf.tflite.layer_names import layer_of
from amc_tf.tflite.operator_costs import OperatorCost

_NAMELESS = "its operators in the file bear no layer's name"


@dataclass(frozen=True)
class OutOfReach:
    """A layer none of whose MACs pruning can save.

    Attributes:
        layer: its path.
        share: of the network's MACs.
        reason: why.
    """

    layer: str
    share: float
    reason: str


@dataclass(frozen=True)
class Reach:
    """What pruning can reach.

    Attributes:
        share: of the MACs in products with at least one axis that can shrink.
        out: the layers out of reach that multiply, those with most MACs first.
        exact: False if a loop turns as often as the inputs say; it is counted for one turn.
    """

    share: float
    out: tuple[OutOfReach, ...]
    exact: bool = True


def reach(groups: ChannelGroups, costs: Sequence[OperatorCost] = ()) -> Reach:
    """What pruning can reach of a network.

    Args:
        groups: of the network.
        costs: of the operators in its file; needed if `groups.unknown` names layers, to count them.
    """
    reached, out = 0, dict.fromkeys(groups.unknown, 0)
    reasons = dict(groups.unknown)
    prunable = np.zeros(groups.channels + 1, dtype=bool)  # the last entry is for FIXED
    for group in groups.prunable:
        prunable[group.start : group.start + group.channels] = True
    for term in groups.terms:
        macs = term.coefficient * prod(len(axis) for axis in term.axes)
        if any(prunable[axis].any() for axis in term.axes):
            reached += macs
        else:
            out[term.layer] = out.get(term.layer, 0) + macs
            reasons.setdefault(term.layer, _reason(groups, term))
    for layer, macs in _of_unknown(groups, costs).items():
        out[layer] = out.get(layer, 0) + macs
    total = reached + sum(out.values())
    lines = (OutOfReach(layer, macs / total, reasons.get(layer, _NAMELESS)) for layer, macs in out.items() if macs)
    exact = all(cost.exact for cost in costs) and (bool(costs) or not groups.unknown)
    return Reach(reached / total if total else 0.0, tuple(sorted(lines, key=lambda line: -line.share)), exact)


def _reason(groups: ChannelGroups, term: Term) -> str:
    """Why no axis of a product can shrink."""
    reasons = []
    for axis in term.axes:
        channel = axis[0] if len(axis) else FIXED
        group = next((g for g in groups.groups if g.start <= channel < g.start + g.channels), None)
        if group is not None and group.frozen:
            reasons.append(group.frozen if group.name == term.layer else f"{group.name}: {group.frozen}")
    return "; ".join(dict.fromkeys(reasons)) or "it has neither channels that it makes nor channels that it reads"


def _of_unknown(groups: ChannelGroups, costs: Sequence[OperatorCost]) -> dict[str, int]:
    """Layer without a rule -> MACs of its operators; those that bear no layer's name stand under ""."""
    if not groups.unknown:
        return {}
    layers = [node.layer for node in groups.graph.nodes]
    found: dict[str, int] = {}
    for cost in costs:
        layer = layer_of(cost.output, layers) if cost.macs else None
        if cost.macs and (layer is None or layer in groups.unknown):
            found[layer or ""] = found.get(layer or "", 0) + cost.macs
    # What has no name may be a layer with a rule, such as the last one, so the sum over the file decides.
    rest = sum(cost.macs for cost in costs) - _in_terms(groups) - sum(found.values()) + found.get("", 0)
    found[""] = max(0, rest)
    return found


def _in_terms(groups: ChannelGroups) -> int:
    return sum(term.coefficient * prod(len(axis) for axis in term.axes) for term in groups.terms)
