"""BatchNorm statistics measured anew, because those of the whole network are wrong for a pruned one.

Without this the accuracy of a pruned, untrained network says next to nothing about the network (EagleEye, ECCV 2020).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from amc_tf.graph import keras_graph


class Network:
    """A private copy of a model that takes new weights and new BatchNorm statistics without being traced again.

    Everything but BatchNorm always runs in inference mode, so that dropout or random augmentation cannot disturb what
    is measured.

    Args:
        model: Keras model; it is not changed.
        batch_size: images a step; also what the statistics of one step are taken over.
    """

    def __init__(self, model, batch_size: int = 128):
        import tensorflow as tf

        self.batch_size = batch_size
        self._model = keras_graph.rebuild(model)
        self._layers = keras_graph.layers(self._model)
        kind = keras_graph.keras_of(model).layers.BatchNormalization
        self._norms = [layer for layer in self._layers.values() if isinstance(layer, kind)]
        self._seen: dict[int, list] = {}  # id of a BatchNorm layer -> (mean, variance) of each of its calls
        self._measuring = False  # read while a function is traced, not while it runs
        for layer in self._norms:
            layer.momentum = 0.0  # what a call leaves behind is the statistics of its own batch
            layer.trainable = True  # a frozen layer would use its old statistics whatever it is told
            layer.call = self._with_mode(layer, layer.call)
        specs = [tf.TensorSpec((None, *tuple(t.shape)[1:]), t.dtype) for t in self._model.inputs]

        def forward(*inputs):
            structure = keras_graph.input_structure(self._model)
            return tf.nest.flatten(self._model(tf.nest.pack_sequence_as(structure, inputs), training=False))

        def measure(*inputs):
            self._seen = {id(layer): [] for layer in self._norms}
            forward(*inputs)
            return [_joined(self._seen[id(layer)]) for layer in self._norms]

        self._forward = tf.function(forward, input_signature=specs, autograph=False).get_concrete_function()
        self._measuring = True
        self._measure = tf.function(measure, input_signature=specs, autograph=False).get_concrete_function()
        self._measuring = False

    def predict(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of the model, one array (images, ...) an output, for one array (images, ...) an input."""
        steps = [[np.asarray(out) for out in self._forward(*batch)] for batch in self._batches(inputs)]
        return [np.concatenate(parts) for parts in zip(*steps, strict=True)]

    def recalibrate(self, inputs: Sequence[np.ndarray]) -> None:
        """Sets every BatchNorm layer's mean and variance to those that `inputs` give with the present weights."""
        if not self._norms:
            return
        count, total, square = 0, None, None
        for batch in self._batches(inputs):
            images = len(batch[0])
            step = [(np.asarray(mean, np.float64), np.asarray(var, np.float64)) for mean, var in self._measure(*batch)]
            means = [images * mean for mean, _ in step]
            squares = [images * (var + mean**2) for mean, var in step]
            total = means if total is None else [a + b for a, b in zip(total, means, strict=True)]
            square = squares if square is None else [a + b for a, b in zip(square, squares, strict=True)]
            count += images
        for layer, first, second in zip(self._norms, total, square, strict=True):
            mean = first / count
            layer.moving_mean.assign(mean.astype(np.float32))
            layer.moving_variance.assign(np.maximum(second / count - mean**2, 0).astype(np.float32))

    @property
    def weights(self) -> dict[str, tuple[np.ndarray, ...]]:
        """Layer path -> arrays, as `keras_graph.read` gives them."""
        return {path: tuple(layer.get_weights()) for path, layer in self._layers.items()}

    @weights.setter
    def weights(self, values: Mapping[str, tuple[np.ndarray, ...]]) -> None:
        for path, layer in self._layers.items():
            for variable, value in zip(layer.weights, values[path], strict=True):
                variable.assign(value)

    def _with_mode(self, layer, call):
        import tensorflow as tf

        def wrapped(inputs, *args, **kwargs):
            kwargs.pop("training", None)
            outputs = call(inputs, training=self._measuring, **kwargs)
            if self._measuring:  # noted at once: a layer that is called again leaves the next call's statistics
                self._seen[id(layer)].append((tf.identity(layer.moving_mean), tf.identity(layer.moving_variance)))
            return outputs

        return wrapped

    def _batches(self, inputs: Sequence[np.ndarray]):
        for start in range(0, len(inputs[0]), self.batch_size):
            yield [np.asarray(x[start : start + self.batch_size]) for x in inputs]


def _joined(calls: list):
    """Mean and variance over all calls of a layer; each call has the same weight."""
    mean = sum(mean for mean, _ in calls) / len(calls)
    square = sum(variance + mean**2 for mean, variance in calls) / len(calls)
    return mean, square - mean**2
