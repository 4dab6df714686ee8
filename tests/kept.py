"""Networks' .tflite files and their shapes, kept in this process for all tests of the whole way that ask again.

They cost a search of a small network more time than the search: six conversions for the shapes, one for the network
and one for the winner. The tests of convert, Shapes, Candidates and Statistics themselves make theirs anew.
"""

import contextlib
import hashlib
import importlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from amc_tf.errors import UnsupportedModel
from amc_tf.graph.identity import digest
from amc_tf.pruning.pruner import Pruner
from amc_tf.tflite.conversion.keras_to_tflite import convert, input_names, output_names
from amc_tf.tflite.conversion.tf_converter import Quantization
from amc_tf.tflite.runtime.scorer import Scorer
from amc_tf.tflite.slicing import bn_recalibration
from amc_tf.tflite.slicing.shapes import Shapes

_SCORING = ("searching", "measurement", "preview")
_CALLERS = ("pipeline.stages", "api.analyze", "tflite.conversion.keras_to_tflite", "tflite.conversion.quantize")
_FILES: dict[tuple, bytes] = {}
_MADE: dict[tuple, dict[str, Any]] = {}


def keep_files(patch: pytest.MonkeyPatch) -> None:
    """Has the whole way take over the files that were made before of equal networks."""
    for module in _CALLERS:
        patch.setattr(importlib.import_module(f"amc_tf.{module}"), "convert", _kept_file)


@contextlib.contextmanager
def keep_workers(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has the whole way score with the same worker processes, which take longer to start than to score a search."""
    with Scorer() as scorer:
        for module in _SCORING:
            where = importlib.import_module(f"amc_tf.pipeline.{module}")
            patch.setattr(where, "Scorer", lambda: contextlib.nullcontext(scorer))
        yield


def _kept_file(model: Any, quantization: Quantization | None = None) -> bytes:
    """What convert makes."""
    try:
        network = digest(model)
    except (TypeError, UnsupportedModel):
        return convert(model, quantization)  # which has its own words for it, or can do without
    key = (type(model), model.name, *input_names(model), *output_names(model), network, _settings(quantization))
    if key not in _FILES:
        _FILES[key] = convert(model, quantization)
    return _FILES[key]


def _settings(quantization: Quantization | None) -> tuple | None:
    if quantization is None:
        return None
    examples = quantization.examples
    shown = None if examples is None else tuple((array.dtype.str, array.shape, array.tobytes()) for array in examples)
    return quantization.weights_bits, quantization.integer_io, shown


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
    if to_tflite in (None, convert, _kept_file):
        return ("convert",)
    if isinstance(to_tflite, partial) and to_tflite.func is bn_recalibration.to_tflite and not to_tflite.args:
        return "statistics", to_tflite.keywords["batch"], *sorted(to_tflite.keywords["layers"])
    return None


def _network(pruning: Pruner) -> tuple:
    """All that the shapes are made of; of the weights only those for which the probes draw no others."""
    model, weights = pruning.model, hashlib.sha256()
    drawn = {layer for layer, _, _ in pruning.groups.axes}
    for layer, described in pruning.graph.weights.items():
        is_drawn = layer in drawn or any(weight.name == "moving_variance" for weight in described)
        for array in pruning.weights[layer]:
            kept = b"" if is_drawn and array.dtype.kind == "f" else array.tobytes()
            weights.update(f"{layer} {array.dtype} {array.shape} ".encode() + kept)
    config = json.dumps(model.get_config(), default=repr, sort_keys=True)
    units = tuple((unit.name, tuple(unit.widths)) for unit in pruning.units)
    return type(pruning), type(model), config, weights.hexdigest(), units, pruning.full
