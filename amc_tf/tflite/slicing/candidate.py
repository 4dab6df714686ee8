"""Candidates: a plan and its weights -> the .tflite that the converter would make of them, in milliseconds."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from amc_tf.errors import ConversionError
from amc_tf.pruning.plan import Plan
from amc_tf.pruning.pruner import Pruner
from amc_tf.tflite import flatbuffer
from amc_tf.tflite.conversion.keras_to_tflite import convert
from amc_tf.tflite.slicing import weight_mapping
from amc_tf.tflite.slicing.shapes import Probe, Shapes, rewritten
from amc_tf.tflite.slicing.weight_formulas import Weights

_CONVERTING = threading.Lock()  # one at a time in this process, whose output the converter's silence redirects


class Candidates:
    """Makes the candidates of one network by rewriting one .tflite: no conversion, nothing built or traced.

    Args:
        pruning: of the network.
        to_tflite: what would convert a candidate, Keras model -> .tflite.

    Attributes:
        shapes: of the file.

    Raises:
        ConversionError: the converter makes files of another structure at other widths, or a constant in the file is
            made of the network's weights in a way that is not known.
    """

    def __init__(self, pruning: Pruner, to_tflite: Callable[[Any], bytes] = convert):
        self._pruning = pruning
        self.shapes = Shapes(pruning, to_tflite)
        varying = {place[1:] for place in self.shapes.places if place[0] == "dim"}
        self._formulas = weight_mapping.find(pruning.graph, *self.shapes.probes[:2], varying)
        for probe in self.shapes.probes[1:]:
            self._check(probe)
        del self.shapes.probes[1:]  # a network's size each

    def __call__(self, plan: Plan, sliced: Weights) -> bytes:
        """The .tflite of a plan.

        Args:
            plan: what stays.
            sliced: layer path -> arrays of the smaller network, see Pruning.sliced.
        """
        return self._make(self._pruning.widths(plan), sliced)

    def _make(self, widths: Sequence[int], sliced: Weights) -> bytes:
        numbers = self.shapes.numbers(widths)
        constants = {tensor: partial(formula, sliced) for tensor, formula in self._formulas.items()}
        return rewritten(self.shapes.model, numbers, constants)

    def _check(self, probe: Probe) -> None:
        """Compares what is made of a probe's weights with what the converter made of them, number by number."""
        made = flatbuffer.unpack(self._make(probe.widths, probe.weights))
        for tensor, expected in enumerate(probe.file.subgraphs[0].tensors):
            found = made.subgraphs[0].tensors[tensor]
            data, wanted = made.buffers[found.buffer].data, probe.file.buffers[expected.buffer].data
            if tensor in self._formulas:
                same = weight_mapping.near(*(np.frombuffer(bytes(values), np.float32) for values in (data, wanted)))
            else:
                same = np.array_equal(data, wanted)  # both None where it is no constant
            if not same or not np.array_equal(found.shape, expected.shape):
                raise ConversionError(
                    f"The tensor {(expected.name or b'').decode()!r} in the .tflite changes with the widths in a way "
                    f"that is not known"
                )


class Converted:
    """The same by the converter, in seconds, for networks whose .tflite cannot be rewritten."""

    def __init__(self, pruning: Pruner, to_tflite: Callable[[Any], bytes] = convert):
        self._pruning, self._to_tflite = pruning, to_tflite

    def __call__(self, plan: Plan, sliced: Weights) -> bytes:
        """The .tflite of a plan.

        Raises:
            ConversionError: the converter cannot make it.
        """
        with _CONVERTING:
            return self._to_tflite(self._pruning.apply(plan, sliced))
