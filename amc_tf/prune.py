"""prune(): given keep ratios, without a search."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from amc_tf.graph.groups import ChannelGroups
from amc_tf.pruning.channel import ChannelPruning
from amc_tf.pruning.importance import Importance
from amc_tf.pruning.plan import Plan


def prune(
    model: Any,
    keep: float | Mapping[str, float] | Plan,
    *,
    round_to: int = 8,
    importance: str | Importance = "magnitude_in",
    frozen: Sequence[str] = (),
) -> tuple[Any, Plan]:
    """Removes channels by given keep ratios; no data, no search, no new BatchNorm statistics.

    Args:
        model: Keras model (functional or Sequential); it is not changed.
        keep: one keep ratio for every unit; or {group name: keep ratio}, the rest stays whole; or a Plan.
        round_to, importance, frozen: as for `compress`.

    Returns:
        (smaller model of the same Keras, the plan that was carried out).

    Raises:
        TypeError, ValueError: a ratio outside (0, 1], an unknown group, one that may not shrink.
        UnsupportedModel: the model cannot be read, or nothing in it can shrink.
    """
    pruning = ChannelPruning(model, round_to=round_to, min_keep=1e-9, importance=importance, frozen=frozen)
    if isinstance(keep, Plan):
        return pruning.apply(keep), keep
    units = {unit.name: unit for unit in pruning.units}
    if not isinstance(keep, Mapping):
        keep = dict.fromkeys(units, keep)
    known = {group.name: group for group in pruning.groups.groups}
    for name, ratio in keep.items():
        if name not in known:
            raise ValueError(_unknown(name, pruning.groups))
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float, np.number)):
            raise TypeError(f"The keep ratio of {name!r} is {ratio!r}; a number above 0 and at most 1 is expected.")
        if not 0 < ratio <= 1:
            raise ValueError(f"The keep ratio of {name!r} is {ratio!r}; a number above 0 and at most 1 is expected.")
        if name not in units and ratio < 1:
            why = known[name].frozen or f"it has only {known[name].channels} channels and round_to is {round_to}"
            raise ValueError(f"The group {name!r} cannot shrink: {why}.")
    plan = Plan({name: pruning.mask(units[name], float(ratio)) for name, ratio in keep.items() if name in units})
    return pruning.apply(plan), plan


def _unknown(name: str, groups: ChannelGroups) -> str:
    for group in groups.groups:
        if any(slot.layer == name and slot.role == "out" for slot in group.slots):
            return f"keep names {name!r}, whose channels belong to group {group.name!r}; give that group's keep ratio."
    return f"keep names the group {name!r}, but the model has none such; see amc_tf.analyze(model)."
