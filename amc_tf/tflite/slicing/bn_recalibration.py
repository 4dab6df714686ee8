"""BN recalibration: BatchNorm statistics of a pruned network, measured by running a .tflite that outputs them.

That file is rewritten for each plan like a candidate, and runs at the speed of the pruned network, which TensorFlow and
a full-width copy do not.
"""

import math
import warnings
from collections.abc import Callable, Collection, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from amc_tf.graph import keras_builder, keras_reader
from amc_tf.pruning.plan import Plan
from amc_tf.pruning.pruner import Pruner
from amc_tf.tflite.conversion.keras_to_tflite import arguments, from_function
from amc_tf.tflite.runtime.scorer import Scorer
from amc_tf.tflite.slicing.candidate import Candidates, Converted
from amc_tf.tflite.slicing.weight_formulas import Weights

# Of a batch. More examples cost nothing where images are small; where they are large, their maps leave the cache.
_POSITIONS = 384  # that a mean is taken over, where the other limits allow
_LARGE = 100_000  # positions of the largest maps of all examples together, about eight of 112x112
_TOO_LARGE = 400_000  # such positions at most, for the sake of memory: 100 MB a map with 64 channels
_TINY = 1e-12  # stands for an epsilon of 0, where a channel never changes
_FEWEST, _USUAL, _MOST = 8, 32, 128  # examples


class Statistics:
    """Measures the mean and the variance of every BatchNormalization of pruned networks.

    As in training, each batch is normalized by its own statistics on its way; those of all batches are merged. The
    whole network's are measured likewise, and a pruned one's are taken relative to them: what it was trained with
    (other examples, augmented ones, more of them) then cancels, and a network that lost next to nothing keeps its
    accuracy.

    Args:
        pruning: of the network.
        inputs: calibration examples, one array (examples, ...) an input of the model.
        scorer: runs the file.
        make: Candidates or Converted, which make the file of a plan.

    Attributes:
        batch: examples in one batch.

    Raises:
        ConversionError: the network that measures cannot be converted, or not be rewritten.
    """

    def __init__(
        self,
        pruning: Pruner,
        inputs: Sequence[np.ndarray],
        scorer: Scorer,
        make: type[Candidates] | type[Converted] = Candidates,
    ):
        self._pruning, self._scorer = pruning, scorer
        layers = _measurable(pruning.model)
        norms = [node for node in pruning.graph.nodes if node.layer in layers]
        self._calls = sorted(node.layer for node in norms)
        self.batch = _batch(len(inputs[0]), [pruning.graph.shapes[node.inputs[0]] for node in norms])
        self._make, self._held = None, None
        if norms:
            self._make = make(pruning, partial(to_tflite, layers=set(self._calls), batch=self.batch))
            self._held = scorer.share([array[: len(array) // self.batch * self.batch] for array in inputs])
        self._epsilons = {node.layer: max(float(node.settings["epsilon"]), _TINY) for node in norms}
        self._own = self._compared()

    def __call__(self, plan: Plan, sliced: Weights) -> dict[str, tuple[np.ndarray, ...]]:
        """The weights of the smaller network with the statistics that it has.

        Args:
            plan: what stays.
            sliced: layer path -> arrays of the smaller network, see Pruning.sliced.
        """
        weights = dict(sliced)
        own = self._pruning.sliced(plan, self._own)
        for layer, (mean, variance) in self.measured(plan, sliced).items():
            described, small = self._pruning.graph.weights[layer], self._epsilons[layer]
            at = {weight.name: index for index, weight in enumerate(described)}
            offset, ratio = own[layer][at["moving_mean"]], own[layer][at["moving_variance"]]
            new = {
                "moving_mean": mean + offset * np.sqrt(variance + small),
                "moving_variance": np.maximum((variance + small) * ratio - small, 0),
            }
            weights[layer] = tuple(
                new.get(weight.name, array).astype(array.dtype)
                for weight, array in zip(described, weights[layer], strict=True)
            )
        return weights

    def _compared(self) -> dict[str, tuple[np.ndarray, ...]]:
        """The network's weights with, for each statistic, how it compares with what is measured of the whole network.

        That is the mean's offset in standard deviations, and the ratio of the variances.
        """
        compared = dict(self._pruning.weights)
        whole = self._pruning.plan(self._pruning.full)
        for layer, (mean, variance) in self.measured(whole, self._pruning.weights).items():
            described, small = self._pruning.graph.weights[layer], self._epsilons[layer]
            own = {weight.name: array for weight, array in zip(described, compared[layer], strict=True)}
            own["moving_mean"] = (own["moving_mean"] - mean) / np.sqrt(variance + small)
            own["moving_variance"] = (own["moving_variance"] + small) / (variance + small)
            compared[layer] = tuple(own[weight.name] for weight in described)
        return compared

    def measured(self, plan: Plan, sliced: Weights) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Layer -> mean and variance (channels,) over all batches and calls, in double precision; see a call."""
        if self._make is None:
            return {}
        # Before the scoring of an earlier candidate, which keeps the workers busy until this one is made.
        outputs = self._scorer.run(self._make(plan, sliced), self._held, urgent=True)  # each (batches, channels)
        of_layer: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for call, layer in enumerate(self._calls):
            of_layer.setdefault(layer, []).append((outputs[2 * call], outputs[2 * call + 1]))
        found = {}
        for layer, measured in of_layer.items():
            means = np.concatenate([mean for mean, _ in measured]).astype(np.float64)  # (batches and calls, channels)
            variances = np.concatenate([variance for _, variance in measured]).astype(np.float64)
            mean = means.mean(axis=0)
            found[layer] = mean, np.maximum((variances + means**2).mean(axis=0) - mean**2, 0)
        return found


def to_tflite(model: Any, layers: Collection[str], batch: int) -> bytes:
    """The .tflite of a network whose BatchNormalizations normalize by the statistics of the batch.

    Its outputs are those: for every call of such a layer, ordered by the paths of the layers and then as they are
    called, the means (channels,) and the variances (channels,).

    Args:
        model: Keras model; it is not changed.
        layers: paths of its BatchNormalizations.
        batch: examples that the file takes at a time.

    Raises:
        ConversionError: it cannot be converted.
    """
    import tensorflow as tf

    measured: list[tuple[str, Any, Any]] = []

    def normalized(path: str) -> Callable:
        return partial(_normalized, lambda *found: measured.append((path, *found)))

    copy = keras_builder.override_calls(model, {path: normalized(path) for path in layers})
    structure = keras_reader.input_structure(copy)

    @tf.function(autograph=False)
    def measure(*values):
        measured.clear()
        copy(tf.nest.pack_sequence_as(structure, values), training=False)
        return [number for _, *pair in sorted(measured, key=itemgetter(0)) for number in pair]

    return from_function(measure, arguments(copy, batch), model.name)


def _normalized(note: Callable[[Any, Any], None], layer: Any, inputs: Any, *_, **__) -> Any:
    """What a BatchNormalization does in training, in plain operations; the statistics go to `note` as (channels,)."""
    import tensorflow as tf

    rank = inputs.shape.rank
    axis = np.atleast_1d(layer.axis).item() % rank  # tf_keras has it in a list
    others = [other for other in range(rank) if other != axis]
    along = [-1 if other == axis else 1 for other in range(rank)]
    mean = tf.reduce_mean(inputs, others, keepdims=True)
    centred = inputs - mean
    variance = tf.reduce_mean(centred * centred, others, keepdims=True)
    note(tf.reshape(mean, (-1,)), tf.reshape(variance, (-1,)))
    scale = tf.math.rsqrt(variance + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * tf.reshape(layer.gamma, along)
    outputs = centred * scale
    return outputs if layer.beta is None else outputs + tf.reshape(layer.beta, along)


def _measurable(model: Any) -> set[str]:
    """Paths of the BatchNormalizations whose statistics can be measured."""
    kind = keras_reader.keras_of(model).layers.BatchNormalization
    norms = {path: layer for path, layer in keras_reader.layers(model).items() if isinstance(layer, kind)}
    own = [path for path, layer in norms.items() if type(layer).call is not kind.call]
    if own:
        warnings.warn(
            f"The BatchNormalizations {own} compute in a way of their own, so that their statistics cannot be measured "
            f"anew for a pruned network: they keep those of the whole one.",
            stacklevel=2,
        )
    return norms.keys() - own


def _batch(examples: int, shapes: Sequence[tuple[int, ...]]) -> int:
    """How many examples to take statistics over at a time.

    Args:
        examples: that there are.
        shapes: of the input of every BatchNormalization, without the batch and with the channels last.
    """
    positions = [math.prod(shape[:-1]) for shape in shapes] or [1]
    wanted = max(_POSITIONS // min(positions), min(_USUAL, _LARGE // max(positions)))
    wanted = max(min(wanted, _MOST, _TOO_LARGE // max(positions)), _FEWEST)
    return examples // math.ceil(examples / min(wanted, examples))
