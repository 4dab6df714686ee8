"""Networks' .tflite files and their shapes, kept for all tests of the whole way that ask again, in any process.

They cost a search of a small network more time than the search: six conversions for the shapes, one for the network
and one for the winner. The tests of convert, Shapes, Candidates and Statistics themselves make theirs anew.
"""

import contextlib
import hashlib
import importlib
import json
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from amc_tf.errors import UnsupportedModel
from amc_tf.graph.identity import digest
from amc_tf.pruning.pruner import Pruner
from amc_tf.report import plots
from amc_tf.system.files import write
from amc_tf.tflite.conversion.keras_to_tflite import convert, input_names, output_names
from amc_tf.tflite.conversion.tf_converter import Quantization
from amc_tf.tflite.runtime.scorer import Scorer
from amc_tf.tflite.slicing import bn_recalibration
from amc_tf.tflite.slicing.shapes import Shapes

_SCORING = ("searching", "measurement", "preview")
_CALLERS = ("pipeline.stages", "api.analyze", "tflite.conversion.keras_to_tflite", "tflite.conversion.quantize")
_PICTURES: dict[str, plots.Picture] = {}
_MADE: dict[str, Any] = {}  # what this process has made or read


def _kept(folder: Path, key: tuple, make: Callable[[], Any]) -> Any:
    """What `make` has made before for this key, in this process or another one of this run."""
    name = hashlib.sha256(repr(key).encode()).hexdigest()
    if name not in _MADE:
        path = folder / name
        if path.is_file():
            _MADE[name] = pickle.loads(path.read_bytes())
        else:
            _MADE[name] = make()
            write(pickle.dumps(_MADE[name]), path)
    return _MADE[name]


def keep_pictures(patch: pytest.MonkeyPatch) -> None:
    """Has reports show the first picture of each kind that was drawn."""
    draw_all = plots.draw_all

    def kept(record: Any) -> dict[str, plots.Picture]:
        names = plots._charts(record)
        if not _PICTURES.keys() >= names.keys():
            _PICTURES.update(draw_all(record))
        return {name: _PICTURES[name] for name in names}

    patch.setattr(plots, "draw_all", kept)


def keep_files(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Has the whole way take over the files that were made before of equal networks."""

    def kept(model: Any, quantization: Quantization | None = None) -> bytes:
        try:
            network = digest(model)
        except (TypeError, UnsupportedModel):
            return convert(model, quantization)  # which has its own words for it, or can do without
        key = (type(model), model.name, *input_names(model), *output_names(model), network, _settings(quantization))
        return _kept(folder, key, lambda: convert(model, quantization))

    for module in _CALLERS:
        patch.setattr(importlib.import_module(f"amc_tf.{module}"), "convert", kept)


@contextlib.contextmanager
def keep_workers(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has the whole way score with the same worker processes, which take longer to start than to score a search."""
    with Scorer() as scorer:
        for module in _SCORING:
            where = importlib.import_module(f"amc_tf.pipeline.{module}")
            patch.setattr(where, "Scorer", lambda: contextlib.nullcontext(scorer))
        yield


def _settings(quantization: Quantization | None) -> tuple | None:
    if quantization is None:
        return None
    examples = quantization.examples
    shown = None if examples is None else tuple((a.dtype.str, a.shape, hashlib.sha256(a).digest()) for a in examples)
    return quantization.weights_bits, quantization.integer_io, shown


def keep_shapes(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Has Shapes take over what was made before of the same network, units and way to convert."""
    init = Shapes.__init__

    def kept(self: Shapes, pruning: Pruner, to_tflite: Callable | None = None, seed: int = 0) -> None:
        def made() -> dict[str, Any]:
            init(self, pruning, to_tflite, seed)
            return vars(self) | {"probes": tuple(self.probes)}

        converter = _name(to_tflite)
        if converter is None:
            made()
        else:
            attributes = _kept(folder, (converter, seed, *_network(pruning)), made)
            vars(self).update(attributes | {"probes": list(attributes["probes"])})  # Candidates shortens its list

    patch.setattr(Shapes, "__init__", kept)


def _name(to_tflite: Any) -> tuple | None:
    """What tells one way to convert from another; None where nothing does."""
    if to_tflite in (None, convert):
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
