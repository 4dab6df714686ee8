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
        norms = [layer for layer in self._layers.values() if type(layer).__name__ == "BatchNormalization"]
        self._norms = norms
        self._measuring = False  # read while a function is traced, not while it runs
        for layer in norms:
            layer.momentum = 0.0  # what a step leaves behind is the statistics of its own batch
            layer.trainable = True  # a frozen layer would use its old statistics whatever it is told
            layer.call = self._with_mode(layer.call)
        specs = [tf.TensorSpec((None, *tuple(t.shape)[1:]), t.dtype) for t in self._model.inputs]

        def forward(*inputs):
            return tf.nest.flatten(self._model(_packed(self._model, inputs), training=False))

        def measure(*inputs):
            forward(*inputs)
            return [(tf.identity(n.moving_mean), tf.identity(n.moving_variance)) for n in norms]

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

    def _with_mode(self, call):
        def wrapped(inputs, *args, **kwargs):
            kwargs.pop("training", None)
            return call(inputs, training=self._measuring, **kwargs)

        return wrapped

    def _batches(self, inputs: Sequence[np.ndarray]):
        for start in range(0, len(inputs[0]), self.batch_size):
            yield [np.asarray(x[start : start + self.batch_size]) for x in inputs]


def _packed(model, tensors):
    """One tensor an input, as the model's own call wants them: by name when it was built from a dict."""
    if len(tensors) == 1:
        return tensors[0]
    return list(tensors)
