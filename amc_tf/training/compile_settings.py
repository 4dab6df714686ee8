"""Arguments of compile() for fine-tuning: the caller's own settings, or defaults for a classifier."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from amc_tf.graph import keras_reader
from amc_tf.graph.network import Graph, KerasModel, KerasModule

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4  # ResNet paper (arXiv 1512.03385, section 4.2); Nesterov momentum is our choice
LEARNING_RATE = 0.01  # our choice: a tenth of that paper's 0.1, its rate after the first half of the training
WARM_UP = 0.1  # our choice: in this share of all steps the learning rate rises from a tenth of its highest value

# Layers whose outputs are their inputs, possibly in another shape or order.
_PASSING = {"Reshape", "Flatten", "Permute", "Identity", "Dropout", "op:reshape", "op:identity"}


def own(model: KerasModel, copy: KerasModel, learning_rate: float | None = None) -> dict[str, Any] | None:
    """The settings that the caller compiled a model with, as arguments of compile() for a copy of the model.

    Args:
        model: the caller's model; it is not changed. Optimizer and metrics are new objects with fresh states.
        copy: a model with the same layer paths.
        learning_rate: replaces the optimizer's; None keeps it.

    Returns:
        The arguments, or None if the model is not compiled.

    Raises:
        ValueError: the model was compiled without a loss, or its optimizer cannot be created again.
    """
    stored = getattr(model, "_compile_config", None)  # in both Kerases; get_compile_config() loses functions
    if stored is None or model.optimizer is None:
        return None
    settings = dict(stored.config)
    if settings.get("loss") is None:
        raise ValueError(
            f"The model {model.name!r} was compiled without a loss, so there is nothing to train it by; compile it "
            f"with one."
        )
    settings["optimizer"] = _fresh_optimizer(model, copy, learning_rate)
    for kind in ("metrics", "weighted_metrics"):
        settings[kind] = _fresh_metrics(settings.get(kind), keras_reader.keras_of(model))
    return settings


def _fresh_optimizer(model: KerasModel, copy: KerasModel, learning_rate: float | None) -> Any:
    optimizer = model.optimizer
    settings = optimizer.get_config()
    if learning_rate is not None:
        inner = settings.get("inner_optimizer")  # mixed precision: the optimizer inside a LossScaleOptimizer
        (inner["config"] if inner else settings)["learning_rate"] = learning_rate
    try:
        new = type(optimizer).from_config(settings)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The optimizer {type(optimizer).__name__} of the model cannot be made again from its own configuration "
            f"({str(error).splitlines()[0]}); compile the model with one that Keras could save."
        ) from error
    uses_decay = getattr(optimizer, "_use_weight_decay", None)  # the configuration lacks the excluded variables
    if uses_decay and settings.get("weight_decay"):
        new_layers = keras_reader.layers(copy)
        layers = keras_reader.layers(model).items()
        pairs = [pair for path, layer in layers for pair in zip(layer.weights, new_layers[path].weights, strict=True)]
        new.exclude_from_weight_decay(var_list=[variable for old, variable in pairs if not uses_decay(old)])
    return new


def _fresh_metrics(metrics: Any, keras: KerasModule) -> Any:
    """New metrics of the same settings, in the same structure of lists and dicts."""
    if isinstance(metrics, Mapping):
        return {key: _fresh_metrics(item, keras) for key, item in metrics.items()}
    if isinstance(metrics, (list, tuple)):
        return [_fresh_metrics(item, keras) for item in metrics]
    if not isinstance(metrics, keras.metrics.Metric):
        return metrics
    config = metrics.get_config()
    if type(metrics) is keras.metrics.MeanMetricWrapper:  # its from_config would look the function up by name
        return type(metrics)(**config | {"fn": metrics._fn})
    return type(metrics).from_config(config)


def default(
    model: KerasModel, graph: Graph, labels: Any, steps: int | None, epochs: int, learning_rate: float | None
) -> dict[str, Any]:
    """Default arguments of compile(), for a classifier that is not compiled.

    Args:
        model: the model to train.
        graph: its Graph.
        labels: some labels or their spec; None if unknown.
        steps: batches per epoch; None if unknown, for a constant learning rate.
        epochs: epochs of the training.
        learning_rate: the highest learning rate; None for LEARNING_RATE.

    Raises:
        ValueError: no loss fits labels and outputs, or the labels are no classes of the model.
    """
    keras = keras_reader.keras_of(model)
    rate = LEARNING_RATE if learning_rate is None else learning_rate
    optimizer = keras.optimizers.SGD(
        _schedule(keras, steps, epochs, rate), momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    # Scales, shifts and biases are vectors, kernels are not.
    optimizer.exclude_from_weight_decay(var_list=[w for w in model.trainable_variables if len(w.shape) < 2])
    return {"optimizer": optimizer, "loss": _loss(graph, keras, labels, model), "metrics": ["accuracy"]}


def _schedule(keras: KerasModule, steps: int | None, epochs: int, rate: float) -> Any:
    """A learning rate that rises during the warm-up and then falls along a cosine; constant without `steps`."""
    if steps is None:
        return rate
    rise = int(steps * epochs * WARM_UP)
    cosine = keras.optimizers.schedules.CosineDecay
    if not rise:
        return cosine(rate, steps * epochs)
    return cosine(rate / 10, steps * epochs - rise, warmup_target=rate, warmup_steps=rise)


def _loss(graph: Graph, keras: KerasModule, labels: Any, model: KerasModel) -> Any:
    """The cross-entropy that fits the shapes of labels and outputs."""
    losses = keras.losses
    activation = output_activation(graph)
    if len(model.outputs) == 1 and hasattr(labels, "shape") and activation != "unknown":
        outputs = tuple(model.outputs[0].shape)[1:]
        label_shape = tuple(labels.shape)[1:]
        classes = outputs[-1] if outputs else 1
        if classes > 1 and activation in ("linear", "softmax"):
            if label_shape in (outputs[:-1], (*outputs[:-1], 1)) and _are_class_numbers(labels):
                _check_classes(labels, classes)
                return losses.SparseCategoricalCrossentropy(from_logits=activation == "linear")
            if label_shape == outputs and _are_probabilities(labels, activation):
                return losses.CategoricalCrossentropy(from_logits=activation == "linear")
        if classes == 1 and activation == "sigmoid" and label_shape in (outputs, outputs[:-1]):
            return losses.BinaryCrossentropy()
    form = f"{labels.dtype} of shape {tuple(labels.shape)}" if hasattr(labels, "shape") else "of an unknown form"
    raise ValueError(
        f"No loss fits the model {model.name!r}, which ends in {activation} outputs of shape "
        f"{[tuple(tensor.shape) for tensor in model.outputs]}, and labels {form}; compile the model with its own loss "
        f"before it is given here."
    )


def output_activation(graph: Graph, output: int = 0) -> str:
    """The activation behind output number `output` of a model: "linear", "softmax", "sigmoid" or "unknown"."""
    producers = {tensor: node for node in graph.nodes for tensor in node.outputs}
    tensor = graph.outputs[output]
    while tensor in producers:
        node = producers[tensor]
        activation = node.settings.get("activation", "linear")
        if node.kind in ("Softmax", "op:softmax"):
            return "softmax"
        if node.kind == "op:sigmoid":
            return "sigmoid"
        if node.kind in _PASSING or (node.kind == "Activation" and activation == "linear"):
            tensor = node.inputs[0]
            continue
        if node.kind.startswith("Global"):  # averages of channels: scores, if a convolution computed them
            return "linear"
        plain = node.kind in ("Activation", "Dense", "Conv1D", "Conv2D", "Conv3D") and isinstance(activation, str)
        return activation if plain and activation in ("linear", "softmax", "sigmoid") else "unknown"
    return "unknown"


def _are_class_numbers(labels: Any) -> bool:
    """Whether labels can be class numbers: by their values, or by the dtype of a spec."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "f":
        return bool((labels == np.trunc(labels)).all())
    return np.dtype(getattr(labels.dtype, "as_numpy_dtype", labels.dtype)).kind in "iub"


def _are_probabilities(labels: Any, activation: str) -> bool:
    """Whether labels can be one-hot or probabilities: by their values; for a spec, if the model ends in softmax."""
    if not isinstance(labels, np.ndarray):
        return activation == "softmax"
    return bool((labels >= 0).all() and np.allclose(labels.sum(axis=-1), 1, atol=1e-3))


def _check_classes(labels: Any, classes: int) -> None:
    if isinstance(labels, np.ndarray) and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"The labels go from {labels.min()} to {labels.max()}, but the model has {classes} classes, 0 to "
            f"{classes - 1}; number them so."
        )
