"""Candidates: a plan and sliced weights -> the .tflite that the converter would make of them, in milliseconds."""

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

_CONVERTING = threading.Lock()  # one conversion at a time, since `silence` redirects the stderr of the whole process


class Candidates:
    """Makes the candidates of one network by rewriting one .tflite. No candidate is built in Keras or converted.

    Args:
        pruning: of the network.
        to_tflite: the converter, Keras model -> .tflite.

    Attributes:
        shapes: of the file.

    Raises:
        ConversionError: files of other widths have another structure, or no known formula computes a constant of the
            file from the network's weights.
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
            plan: of the network.
            sliced: layer path -> arrays of the smaller network, see Pruner.sliced.
        """
        return self._make(self._pruning.widths(plan), sliced)

    def _make(self, widths: Sequence[int], sliced: Weights) -> bytes:
        numbers = self.shapes.numbers(widths)
        constants = {tensor: partial(formula, sliced) for tensor, formula in self._formulas.items()}
        return rewritten(self.shapes.model, numbers, constants)

    def _check(self, probe: Probe) -> None:
        """Compares a candidate with the probe conversion of the same widths and weights, number by number."""
        candidate = flatbuffer.unpack(self._make(probe.widths, probe.weights))
        for tensor, expected in enumerate(probe.file.subgraphs[0].tensors):
            actual = candidate.subgraphs[0].tensors[tensor]
            pair = candidate.buffers[actual.buffer].data, probe.file.buffers[expected.buffer].data
            if tensor in self._formulas:
                same = weight_mapping.near(*(np.frombuffer(bytes(data), np.float32) for data in pair))
            else:
                same = np.array_equal(*pair)  # both are None for a tensor that is no constant
            if not same or not np.array_equal(actual.shape, expected.shape):
                raise ConversionError(
                    f"The tensor {(expected.name or b'').decode()!r} in the .tflite changes with the widths in a way "
                    f"that is not known"
                )


class Converted:
    """Makes candidates by the converter, in seconds, for networks with a .tflite that cannot be rewritten.

    Args:
        pruning: of the network.
        to_tflite: the converter, Keras model -> .tflite.
    """

    def __init__(self, pruning: Pruner, to_tflite: Callable[[Any], bytes] = convert):
        self._pruning, self._to_tflite = pruning, to_tflite

    def __call__(self, plan: Plan, sliced: Weights) -> bytes:
        """The .tflite of a plan; arguments as for Candidates.

        Raises:
            ConversionError: the converter cannot make it.
        """
        with _CONVERTING:
            return self._to_tflite(self._pruning.apply(plan, sliced))
