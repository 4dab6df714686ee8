"""The shapes of a network's .tflite, kept in this process for all tests of the whole way that ask for them again.

They cost a search of a small network more time than the search: six conversions. The tests of Shapes, Candidates and
Statistics themselves make theirs anew.
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from amc_tf.pruning.pruner import Pruner
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.slicing import bn_recalibration
from amc_tf.tflite.slicing.shapes import Shapes

_MADE: dict[tuple, dict[str, Any]] = {}


def keep_shapes(patch: pytest.MonkeyPatch) -> None:
    """Has Shapes take over what was made before of the same network, units and way to convert."""
    make = Shapes.__init__

    def kept(self: Shapes, pruning: Pruner, to_tflite: Callable | None = None, seed: int = 0) -> None:
        converter = _name(to_tflite)
        key = converter and (converter, seed, *_network(pruning))
        if key not in _MADE:
            make(self, pruning, to_tflite, seed)
            if key is None:
                return
            _MADE[key] = vars(self) | {"probes": tuple(self.probes)}
        vars(self).update(_MADE[key] | {"probes": list(_MADE[key]["probes"])})  # Candidates shortens its list

    patch.setattr(Shapes, "__init__", kept)


def _name(to_tflite: Any) -> tuple | None:
    """What tells one way to convert from another; None where nothing does."""
    if to_tflite in (None, convert):
        return ("convert",)
    if isinstance(to_tflite, partial) and to_tflite.func is bn_recalibration.to_tflite and not to_tflite.args:
        return "statistics", to_tflite.keywords["batch"], *sorted(to_tflite.keywords["layers"])
    return None


def _network(pruning: Pruner) -> tuple:
    """All that the shapes are made of."""
    model, weights = pruning.model, hashlib.sha256()
    for array in model.get_weights():
        weights.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    narrowest = pruning.plan([unit.widths[0] for unit in pruning.units])
    units = tuple((unit.name, tuple(unit.widths)) for unit in pruning.units)
    config = json.dumps(model.get_config(), default=repr, sort_keys=True)
    return type(pruning), type(model), config, weights.hexdigest(), units, pruning.full, narrowest.digest
