"""prune(): given keep ratios, without a search."""

from collections.abc import Mapping, Sequence
from typing import Any

from amc_tf.checks import is_number
from amc_tf.options import Options
from amc_tf.pipeline.pruning_methods import pruner_of
from amc_tf.pruning.importance import Importance
from amc_tf.pruning.plan import CHANNELS, Plan
from amc_tf.pruning.pruner import Pruner


def prune(
    model: Any,
    keep: float | Mapping[str, float] | Plan,
    *,
    method: str = "channel",
    round_to: int = 8,
    importance: str | Importance = "magnitude_in",
    frozen: Sequence[str] = (),
) -> tuple[Any, Plan]:
    """Removes channels, or makes weights zero, by given keep ratios; no data, no search, no new BatchNorm statistics.

    Args:
        model: Keras model (functional or Sequential); it is not changed.
        keep: one keep ratio for every unit; or {unit name: keep ratio}, the rest stays whole; or a Plan.
        method, round_to, importance, frozen: as for `compress`; a Plan says itself which method it is of.

    Returns:
        (pruned model of the same Keras, the plan that was carried out).

    Raises:
        TypeError, ValueError: a ratio outside (0, 1] or of less than one weight, an unknown unit, one that may not
            shrink.
        UnsupportedModel: the model cannot be read, or nothing in it can shrink.
    """
    if isinstance(keep, Plan):
        method = "channel" if keep.of == CHANNELS else "magnitude"
    # Only the given ratios count here, not how far a search may go.
    least = 1e-9 if method == "channel" else None
    pruning = pruner_of(
        model, Options(method=method, min_keep=least, round_to=round_to, importance=importance, frozen=frozen)
    )
    if isinstance(keep, Plan):
        return pruning.apply(keep), keep
    units = {unit.name: unit for unit in pruning.units}
    if not isinstance(keep, Mapping):
        keep = dict.fromkeys(units, keep)
    groups = {group.name: group for group in pruning.groups.groups} if pruning.of == CHANNELS else {}
    for name, ratio in keep.items():
        if name not in units and name not in groups:
            raise ValueError(_unknown(name, pruning))
        if not is_number(ratio):
            raise TypeError(f"The keep ratio of {name!r} is {ratio!r}; a number above 0 and at most 1 is expected.")
        if not 0 < ratio <= 1:
            raise ValueError(f"The keep ratio of {name!r} is {ratio!r}; a number above 0 and at most 1 is expected.")
        if name not in units and ratio < 1:
            group = groups[name]
            why = group.frozen or f"it has only {group.channels} channels and round_to is {round_to}"
            raise ValueError(f"The group {name!r} cannot shrink: {why}.")
    masks = {name: pruning.mask(units[name], float(ratio)) for name, ratio in keep.items() if name in units}
    plan = Plan(masks, of=pruning.of)
    return pruning.apply(plan), plan


def _unknown(name: str, pruning: Pruner) -> str:
    for group in pruning.groups.groups if pruning.of == CHANNELS else ():
        if any(slot.layer == name and slot.role == "out" for slot in group.slots):
            return f"keep names {name!r}, whose channels belong to group {group.name!r}; give that group's keep ratio."
    what = "group" if pruning.of == CHANNELS else "kernel"
    return f"keep names the {what} {name!r}, but the model has none such that may shrink; see amc_tf.analyze(model)."
