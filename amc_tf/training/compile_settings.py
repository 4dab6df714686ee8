"""Settings of a training, as compile() takes them: the caller's own, or what a classifier is trained by."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from amc_tf.graph import keras_reader
from amc_tf.graph.network import Graph

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4  # of the ResNet paper (arXiv 1512.03385, section 4.2); Nesterov's is ours
LEARNING_RATE = 0.01  # ours: where that paper's training ends its first half, a tenth of its 0.1
WARM_UP = 0.1  # ours: the share of all steps in which the learning rate rises, from a tenth of its highest

# Layers that pass on each value that they receive.
_PASSING = {"Reshape", "Flatten", "Permute", "Identity", "Dropout", "op:reshape", "op:identity"}


def own(model: Any, copy: Any, learning_rate: float | None = None) -> dict[str, Any] | None:
    """The arguments of compile() that a model was compiled with, for a copy of it.

    Args:
        model: not changed; its optimizer's and metrics' states are left to it.
        copy: with the same layers by path.
        learning_rate: in the place of the optimizer's.

    Returns:
        None where the model is not compiled.

    Raises:
        ValueError: it was compiled without a loss, or with an optimizer that cannot be made again.
    """
    stored = getattr(model, "_compile_config", None)  # the same in both Kerases; get_compile_config() loses functions
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


def _fresh_optimizer(model: Any, copy: Any, learning_rate: float | None) -> Any:
    optimizer = model.optimizer
    settings = optimizer.get_config()
    if learning_rate is not None:
        inner = settings.get("inner_optimizer")  # of a LossScaleOptimizer, for mixed precision
        (inner["config"] if inner else settings)["learning_rate"] = learning_rate
    try:
        new = type(optimizer).from_config(settings)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The optimizer {type(optimizer).__name__} of the model cannot be made again from its own configuration "
            f"({str(error).splitlines()[0]}); compile the model with one that Keras could save."
        ) from error
    uses = getattr(optimizer, "_use_weight_decay", None)  # what was left out of the decay is not in the configuration
    if uses and settings.get("weight_decay"):
        mine = keras_reader.layers(copy)
        layers = keras_reader.layers(model).items()
        both = [pair for path, layer in layers for pair in zip(layer.weights, mine[path].weights, strict=True)]
        new.exclude_from_weight_decay(var_list=[new_one for old, new_one in both if not uses(old)])
    return new


def _fresh_metrics(metrics: Any, keras: Any) -> Any:
    """The same metrics with states of their own, in the structure that they came in."""
    if isinstance(metrics, Mapping):
        return {key: _fresh_metrics(item, keras) for key, item in metrics.items()}
    if isinstance(metrics, (list, tuple)):
        return [_fresh_metrics(item, keras) for item in metrics]
    if not isinstance(metrics, keras.metrics.Metric):
        return metrics
    config = metrics.get_config()
    if type(metrics) is keras.metrics.MeanMetricWrapper:  # not through its from_config, which looks the function up
        return type(metrics)(**config | {"fn": metrics._fn})
    return type(metrics).from_config(config)


def default(
    model: Any, graph: Graph, labels: Any, steps: int | None, epochs: int, learning_rate: float | None
) -> dict[str, Any]:
    """The arguments of compile() for a classifier that comes without.

    Args:
        model: that is to be trained.
        graph: of it.
        labels: some of them or their spec, None where unknown.
        steps: batches an epoch; None where unknown, which leaves the learning rate constant.
        epochs: of the training.
        learning_rate: the highest one, None for ours.

    Raises:
        ValueError: no loss can be told from labels and outputs, or labels are no classes of the model.
    """
    keras = keras_reader.keras_of(model)
    rate = LEARNING_RATE if learning_rate is None else learning_rate
    optimizer = keras.optimizers.SGD(
        _schedule(keras, steps, epochs, rate), momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    # Scales, shifts and biases are vectors, kernels are not.
    optimizer.exclude_from_weight_decay(var_list=[w for w in model.trainable_variables if len(w.shape) < 2])
    return {"optimizer": optimizer, "loss": _loss(graph, keras, labels, model), "metrics": ["accuracy"]}


def _schedule(keras: Any, steps: int | None, epochs: int, rate: float) -> Any:
    if steps is None:  # a data set that does not say how long it is
        return rate
    rise = int(steps * epochs * WARM_UP)
    cosine = keras.optimizers.schedules.CosineDecay
    if not rise:
        return cosine(rate, steps * epochs)
    return cosine(rate / 10, steps * epochs - rise, warmup_target=rate, warmup_steps=rise)


def _loss(graph: Graph, keras: Any, labels: Any, model: Any) -> Any:
    """The cross-entropy that fits the form of labels and outputs."""
    losses = keras.losses
    ending = end(graph)
    if len(model.outputs) == 1 and hasattr(labels, "shape") and ending != "unknown":
        outputs = tuple(model.outputs[0].shape)[1:]
        given = tuple(labels.shape)[1:]
        classes = outputs[-1] if outputs else 1
        if classes > 1 and ending in ("linear", "softmax"):
            if given in (outputs[:-1], (*outputs[:-1], 1)) and _whole(labels):
                _check_classes(labels, classes)
                return losses.SparseCategoricalCrossentropy(from_logits=ending == "linear")
            if given == outputs and _shares(labels, ending):
                return losses.CategoricalCrossentropy(from_logits=ending == "linear")
        if classes == 1 and ending == "sigmoid" and given in (outputs, outputs[:-1]):
            return losses.BinaryCrossentropy()
    form = f"{labels.dtype} of shape {tuple(labels.shape)}" if hasattr(labels, "shape") else "of an unknown form"
    raise ValueError(
        f"No loss can be told for the model {model.name!r}, which ends in {ending} outputs of shape "
        f"{[tuple(tensor.shape) for tensor in model.outputs]}, and labels {form}; compile the model with its own loss "
        f"before it is given here."
    )


def end(graph: Graph, output: int = 0) -> str:
    """The activation that makes an output of a model: "linear", "softmax", "sigmoid", or "unknown"."""
    makers = {tensor: node for node in graph.nodes for tensor in node.outputs}
    tensor = graph.outputs[output]
    while tensor in makers:
        node = makers[tensor]
        activation = node.settings.get("activation", "linear")
        if node.kind in ("Softmax", "op:softmax"):
            return "softmax"
        if node.kind == "op:sigmoid":
            return "sigmoid"
        if node.kind in _PASSING or (node.kind == "Activation" and activation == "linear"):
            tensor = node.inputs[0]
            continue
        if node.kind.startswith("Global"):  # averages of channels: scores, if a convolution made them
            return "linear"
        known = node.kind in ("Activation", "Dense", "Conv1D", "Conv2D", "Conv3D") and isinstance(activation, str)
        return activation if known and activation in ("linear", "softmax", "sigmoid") else "unknown"
    return "unknown"


def _whole(labels: Any) -> bool:
    """Whether labels can be numbers of classes; of a spec only the type is known."""
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "f":
        return bool((labels == np.trunc(labels)).all())
    return np.dtype(getattr(labels.dtype, "as_numpy_dtype", labels.dtype)).kind in "iub"


def _shares(labels: Any, end: str) -> bool:
    """Whether labels can be one-hot, or probabilities; of a spec that is believed where the model ends in softmax."""
    if not isinstance(labels, np.ndarray):
        return end == "softmax"
    return bool((labels >= 0).all() and np.allclose(labels.sum(axis=-1), 1, atol=1e-3))


def _check_classes(labels: Any, classes: int) -> None:
    if isinstance(labels, np.ndarray) and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(
            f"The labels go from {labels.min()} to {labels.max()}, but the model has {classes} classes, 0 to "
            f"{classes - 1}; number them so."
        )
