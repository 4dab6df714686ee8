"""Distillation: a model learns from what another one puts out as well as from labels (arXiv 1503.02531).

Keras 3 has this as a model around both, keras.distillation.Distiller. It takes logits, which most models do not put
out, gives the caller's callbacks a model that is not theirs, and tf_keras has none; so here the trained model's own
loss is extended. For logits the numbers are those of Keras's LogitsDistillation(T, loss=KLDivergence()); by default
that of Keras 3.15 takes the divergence of the logits themselves, without a softmax.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amc_tf.checks import is_number
from amc_tf.graph import keras_builder, keras_reader
from amc_tf.training.compile_settings import end

TEMPERATURE, WEIGHT = 3.0, 0.5  # Keras's own defaults, of LogitsDistillation and Distiller


@dataclass(frozen=True)
class Distillation:
    """What a model learns from.

    Attributes:
        teacher: model with the same inputs and outputs; it is not changed.
        temperature: that both outputs are softened by before they are compared; above 0.
        weight: of what the teacher says, 0 to 1; the labels have the rest.

    Raises:
        TypeError, ValueError: a number is none, or out of range.
    """

    teacher: Any
    temperature: float = TEMPERATURE
    weight: float = WEIGHT

    def __post_init__(self):
        for name, value, fits, wanted in (
            ("temperature", self.temperature, lambda x: x > 0, "above 0"),
            ("distill_weight", self.weight, lambda x: 0 <= x <= 1, "from 0 to 1"),
        ):
            if not is_number(value):
                raise TypeError(f"{name} is {value!r}; a number {wanted} is expected.")
            if not (math.isfinite(value) and fits(value)):
                raise ValueError(f"{name} is {value!r}; a number {wanted} is expected.")

    def check(self, model: Any) -> None:
        """Raises TypeError or ValueError where the teacher cannot teach a model."""
        keras_reader.check(self.teacher)
        ours, its = keras_reader.keras_of(model).__name__, keras_reader.keras_of(self.teacher).__name__
        if ours != its:
            raise TypeError(f"The teacher is a model of {its}, but the model to train is one of {ours}; give the same.")
        for what in ("inputs", "outputs"):
            mine, other = ([tuple(t.shape[1:]) for t in getattr(m, what)] for m in (model, self.teacher))
            if mine != other:
                raise ValueError(f"The teacher has {what} of shapes {other}, but the model {mine}; they must be equal.")
        graphs = [keras_reader.read(each)[0] for each in (model, self.teacher)]
        for number in range(len(model.outputs)):
            mine, other = (end(graph, number) for graph in graphs)
            if mine != other and "softmax" in (mine, other):
                raise ValueError(
                    f"Output {number} of the teacher ends in {other!r}, that of the model in {mine!r}; both must put "
                    f"out probabilities, or both logits."
                )

    def teach(self, model: Any, loss: Any) -> None:
        """Has a model learn from the teacher too, in `fit`; what it is validated by stays its own loss.

        Args:
            model: that will be trained; of no use but that afterwards.
            loss: it was compiled with.
        """
        import tensorflow as tf

        own, teacher = model.compute_loss, keras_builder.rebuild(self.teacher)  # the caller's stays as it is
        differences = _differences(model, loss, self.temperature)
        teaches = _Switch()

        def compute_loss(x=None, y=None, y_pred=None, sample_weight=None, training=True):
            more = {"training": training} if keras_reader.keras_of(model).__name__ == "keras" else {}
            labelled = own(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **more)
            if not (training and teaches.on):
                return labelled
            taught = tf.nest.flatten(teacher(x, training=False))
            learnt = tf.nest.flatten(y_pred)
            told = tf.add_n([f(*pair) for f, *pair in zip(differences, taught, learnt, strict=True)])
            return (1 - self.weight) * labelled + self.weight * tf.cast(told, labelled.dtype)

        model.compute_loss = compute_loss
        tested = model.test_step

        def test_step(data):  # tf_keras does not say for what it computes the loss
            with teaches.off():
                return tested(data)

        model.test_step = test_step


class _Switch:
    """Whether the teacher is heard; looked at while a step is traced."""

    on = True

    def off(self) -> "_Switch":
        return self

    def __enter__(self) -> None:
        self.on = False

    def __exit__(self, *_) -> None:
        self.on = True


def _differences(model: Any, loss: Any, temperature: float) -> Sequence[Callable]:
    """For each output: (what the teacher puts out, what the model does) -> how far they are apart, one number."""
    import tensorflow as tf

    def classes(taught, learnt, logits):
        pair = (tf.cast(t, tf.float32) for t in (taught, learnt))
        if not logits:  # a logarithm gives logits back but for a constant, which softmax takes away
            pair = (tf.math.log(tf.maximum(t, 1e-7)) for t in pair)
        taught, learnt = (tf.nn.log_softmax(t / temperature) for t in pair)
        apart = tf.reduce_sum(tf.exp(taught) * (taught - learnt), axis=-1)
        return temperature**2 * tf.reduce_mean(apart)  # gradients of soft targets fall with its square (section 2)

    def numbers(taught, learnt):
        return tf.reduce_mean(tf.square(tf.cast(taught, tf.float32) - tf.cast(learnt, tf.float32)))

    graph, names = keras_reader.read(model)[0], getattr(model, "output_names", None)

    def of(output: int) -> Callable:
        how = end(graph, output)
        if how == "softmax":
            return lambda taught, learnt: classes(taught, learnt, logits=False)
        # Linear outputs of any other loss are numbers that mean themselves, as in a regression.
        if how == "linear" and "categorical" in _named(loss, output, names):
            return lambda taught, learnt: classes(taught, learnt, logits=True)
        return numbers

    return [of(number) for number in range(len(model.outputs))]


def _named(losses: Any, output: int, names: Sequence[str] | None) -> str:
    """The loss of an output in small letters; of a function or an object its name."""
    loss = losses
    if isinstance(losses, Mapping):
        loss = losses.get(names[output]) if names else None
    elif isinstance(losses, (list, tuple)):
        loss = losses[output]
    named = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return named.lower()
