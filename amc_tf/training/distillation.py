"""Knowledge distillation: a model learns from the outputs of a teacher as well as from labels (arXiv 1503.02531).

This module extends the loss of the trained model. Keras 3's own Distiller, a model around both, does not fit: it
needs logits, which most models do not put out; it passes another model to the caller's callbacks; and tf_keras has
none. For logits the numbers equal those of Keras's LogitsDistillation(T, loss=KLDivergence()). Its default loss in
Keras 3.15 differs: it takes the divergence of the logits themselves, without a softmax.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amc_tf.checks import is_number
from amc_tf.graph import keras_builder, keras_reader
from amc_tf.graph.network import KerasModel
from amc_tf.training.compile_settings import output_activation

TEMPERATURE, WEIGHT = 3.0, 0.5  # the defaults of Keras's LogitsDistillation and Distiller


@dataclass(frozen=True)
class Distillation:
    """A teacher and how much it counts.

    Attributes:
        teacher: model with the same inputs and outputs; it is not changed.
        temperature: both outputs are softened by it before they are compared; above 0.
        weight: weight of the teacher's loss, 0 to 1. The labels have the rest.

    Raises:
        TypeError, ValueError: a number has the wrong type or is out of range.
    """

    teacher: KerasModel
    temperature: float = TEMPERATURE
    weight: float = WEIGHT

    def __post_init__(self):
        for name, value, is_valid, expected in (
            ("temperature", self.temperature, lambda x: x > 0, "above 0"),
            ("distill_weight", self.weight, lambda x: 0 <= x <= 1, "from 0 to 1"),
        ):
            if not is_number(value):
                raise TypeError(f"{name} is {value!r}; a number {expected} is expected.")
            if not (math.isfinite(value) and is_valid(value)):
                raise ValueError(f"{name} is {value!r}; a number {expected} is expected.")

    def check(self, model: KerasModel) -> None:
        """Raises TypeError or ValueError if inputs, outputs or Keras of teacher and model differ."""
        keras_reader.check(self.teacher)
        student, teacher = (keras_reader.keras_of(m).__name__ for m in (model, self.teacher))
        if student != teacher:
            raise TypeError(
                f"The teacher is a model of {teacher}, but the model to train is one of {student}; give the same."
            )
        for side in ("inputs", "outputs"):
            student, teacher = ([tuple(t.shape[1:]) for t in getattr(m, side)] for m in (model, self.teacher))
            if student != teacher:
                raise ValueError(
                    f"The teacher has {side} of shapes {teacher}, but the model {student}; they must be equal."
                )
        graphs = [keras_reader.read(m)[0] for m in (model, self.teacher)]
        for number in range(len(model.outputs)):
            student, teacher = (output_activation(graph, number) for graph in graphs)
            if student != teacher and "softmax" in (student, teacher):
                raise ValueError(
                    f"Output {number} of the teacher ends in {teacher!r}, that of the model in {student!r}; both must "
                    f"put out probabilities, or both logits."
                )

    def teach(self, model: KerasModel, loss: Any) -> None:
        """Adds the teacher's loss to a model's training loss. The validation loss stays the model's own.

        Args:
            model: the compiled model to train; changed, so use it for this training only.
            loss: the loss that it was compiled with.
        """
        import tensorflow as tf

        own_loss, teacher = model.compute_loss, keras_builder.rebuild(self.teacher)  # the caller's is not changed
        distances = _distances(model, loss, self.temperature)
        switch = _Switch()

        def compute_loss(
            x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
        ) -> Any:
            extra = {"training": training} if keras_reader.keras_of(model).__name__ == "keras" else {}
            label_loss = own_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, **extra)
            if not (training and switch.on):
                return label_loss
            targets = tf.nest.flatten(teacher(x, training=False))
            outputs = tf.nest.flatten(y_pred)
            teacher_loss = tf.add_n([f(*pair) for f, *pair in zip(distances, targets, outputs, strict=True)])
            return (1 - self.weight) * label_loss + self.weight * tf.cast(teacher_loss, label_loss.dtype)

        model.compute_loss = compute_loss
        own_test_step = model.test_step

        def test_step(data: Any) -> Any:  # tf_keras does not pass `training` to compute_loss
            with switch.off():
                return own_test_step(data)

        model.test_step = test_step


class _Switch:
    """Switches the teacher's loss on and off while TensorFlow traces a step."""

    on = True

    def off(self) -> "_Switch":
        return self

    def __enter__(self) -> None:
        self.on = False

    def __exit__(self, *_: object) -> None:
        self.on = True


def _distances(model: KerasModel, loss: Any, temperature: float) -> Sequence[Callable[[Any, Any], Any]]:
    """For each output a function (teacher's outputs, model's outputs) -> distance, one number."""
    import tensorflow as tf

    def divergence(target: Any, output: Any, logits: bool) -> Any:
        pair = (tf.cast(t, tf.float32) for t in (target, output))
        if not logits:  # the logarithm of a softmax is its logits minus a constant, which another softmax removes
            pair = (tf.math.log(tf.maximum(t, 1e-7)) for t in pair)
        target, output = (tf.nn.log_softmax(t / temperature) for t in pair)
        per_example = tf.reduce_sum(tf.exp(target) * (target - output), axis=-1)
        return temperature**2 * tf.reduce_mean(per_example)  # soft targets' gradients scale with 1/T² (section 2)

    def squared_error(target: Any, output: Any) -> Any:
        return tf.reduce_mean(tf.square(tf.cast(target, tf.float32) - tf.cast(output, tf.float32)))

    graph, names = keras_reader.read(model)[0], getattr(model, "output_names", None)

    def distance(number: int) -> Callable[[Any, Any], Any]:
        activation = output_activation(graph, number)
        if activation == "softmax":
            return lambda target, output: divergence(target, output, logits=False)
        # Linear outputs with any other loss are no logits but plain numbers, as in a regression.
        if activation == "linear" and "categorical" in _loss_name(loss, number, names):
            return lambda target, output: divergence(target, output, logits=True)
        return squared_error

    return [distance(number) for number in range(len(model.outputs))]


def _loss_name(losses: Any, output: int, names: Sequence[str] | None) -> str:
    """The lower-case name of the loss of output number `output`; `names` are the names of the outputs."""
    loss = losses
    if isinstance(losses, Mapping):
        loss = losses.get(names[output]) if names else None
    elif isinstance(losses, (list, tuple)):
        loss = losses[output]
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name.lower()
