"""Builds a Keras model again from fresh layers, with edited settings, other weights or other computations."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from amc_tf.errors import UnsupportedModel
from amc_tf.graph.keras_internals import (
    call_arguments,
    calls,
    copy_lambda,
    copy_operation,
    first_line,
    flatten,
    functional_graph,
    input_name,
    is_array,
    is_lambda_operation,
    is_part_of_keras,
    kind_of,
    loose_variables,
    named_arguments,
    nested_structure,
    operation_of,
    set_untrainable,
    substitute,
)
from amc_tf.graph.keras_reader import keras_of, layers
from amc_tf.graph.network import KerasLayer, KerasModel, KerasModule, WeightArrays

Edit = Callable[[str, dict[str, Any]], dict[str, Any]]  # (layer path, settings) -> settings


def rebuild(model: KerasModel, edit: Edit | None = None, weights: WeightArrays | None = None) -> KerasModel:
    """Builds the model again from fresh layers.

    Args:
        model: a model that `keras_reader.read` accepts; it is not changed.
        edit: (layer path, settings) -> settings, for layers and for the arguments of operations; default: no change.
        weights: layer path -> arrays. Layers that it does not name keep the model's own weights.

    Returns:
        A new model of the same Keras and sort (functional or Sequential), with the same layer names.

    Raises:
        UnsupportedModel: a layer cannot be made again from its settings and weights.
    """
    for path, layer in layers(model).items():
        _check_state(layer, path)
    builder = _Builder(keras_of(model), edit or (lambda path, settings: settings))
    with builder.custom_objects(model):
        shapes = [tuple(t.shape)[1:] for t in flatten(functional_graph(model).inputs)]
        new = builder.build_model(model, "", shapes)
    for path, (old_layer, new_layer) in builder.layers.items():
        values = (weights or {}).get(path)
        values = old_layer.get_weights() if values is None else list(values)
        if values:
            new_layer.set_weights(values)
            if type(new_layer).__name__ == "Normalization":  # computes its tensors from the weights on request only
                new_layer.finalize_state()
    return new


def _check_state(layer: KerasLayer, path: str) -> None:
    """Refuses a layer whose copy would not have all of its state."""
    loose = loose_variables(layer)
    if loose:
        raise UnsupportedModel(
            f"The layer {path!r} (class {type(layer).__name__}) holds the variable {next(iter(loose))!r} beside its "
            f"weights, where Keras neither copies nor saves it; make it with self.add_weight(..., trainable=False)."
        )


def override_calls(model: KerasModel, functions: Mapping[str, Callable[..., Any]]) -> KerasModel:
    """Builds the model again and replaces the `call` of some layers.

    Args:
        model: a model that `keras_reader.read` accepts; it is not changed.
        functions: layer path -> (layer, inputs, ...) -> outputs, called instead of the layer's own `call`.
    """
    copy = rebuild(model)
    for path, layer in layers(copy).items():
        if path in functions:
            layer.call = partial(functions[path], layer)
    return copy


class _Builder:
    """Builds fresh layers from edited settings and repeats the calls of the old layers.

    Args:
        keras: the Keras module of the model.
        edit: (layer path, settings) -> settings.

    Attributes:
        layers: layer path -> (old layer, new layer).
    """

    def __init__(self, keras: KerasModule, edit: Edit):
        self.keras = keras
        self.edit = edit
        self.layers: dict[str, tuple[KerasLayer, KerasLayer]] = {}
        self._new_layers: dict[int, KerasLayer] = {}  # id of an old layer or nested model -> the new one
        self._paths: dict[int, str] = {}

    @contextlib.contextmanager
    def custom_objects(self, model: KerasModel) -> Iterator[None]:
        """Registers the custom classes and functions of the caller's model while it is built again."""
        objects: dict[str, Any] = {}
        for layer in layers(model).values():
            if not is_part_of_keras(type(layer)):
                name = self.keras.saving.get_registered_name(type(layer))
                objects |= {type(layer).__name__: type(layer), name: type(layer)}
            for value in vars(layer).values():
                if inspect.isfunction(value) and not is_part_of_keras(value):
                    objects |= {value.__name__: value, self.keras.saving.get_registered_name(value): value}
        with self.keras.saving.custom_object_scope(objects):
            yield

    def build_model(self, model: KerasModel, prefix: str, shapes: list[tuple[int | None, ...]]) -> KerasModel:
        """Builds a model.

        Args:
            model: the outermost or a nested one.
            prefix: path of a nested model with a slash, "" for the outermost.
            shapes: of its inputs, without the batch axis.
        """
        functional = functional_graph(model)
        old_inputs = flatten(functional.inputs)
        new_inputs = [
            self.keras.Input(
                shape=shape, batch_size=None if prefix else old.shape[0], dtype=old.dtype, name=input_name(old)
            )
            for shape, old in zip(shapes, old_inputs, strict=True)
        ]
        tensors = {id(old): new for old, new in zip(old_inputs, new_inputs, strict=True)}
        order: list[KerasLayer] = []
        for node in calls(functional):
            args, kwargs = (substitute(part, tensors) for part in call_arguments(node))
            new = self._repeat_call(operation_of(node), prefix, args, kwargs, order)
            for old_output, new_output in zip(flatten(node.outputs), flatten(new), strict=True):
                tensors[id(old_output)] = new_output
        if isinstance(model, self.keras.Sequential):
            new_model = self.keras.Sequential([new_inputs[0], *order], name=model.name)
        else:
            inputs, outputs = (substitute(nested_structure(functional, s), tensors) for s in ("inputs", "outputs"))
            new_model = self.keras.Model(inputs, outputs, name=model.name)
        if not model.trainable:
            set_untrainable(new_model)
        return new_model

    def _repeat_call(
        self, operation: KerasLayer, prefix: str, args: tuple, kwargs: dict[str, Any], order: list[KerasLayer]
    ) -> Any:
        """Calls the new layer as the old one was called, and appends it to `order`; returns its outputs."""
        path = self._paths.setdefault(id(operation), prefix + operation.name)
        if kind_of(operation).startswith("op:"):
            return self._call_operation(operation, path, args, kwargs)
        if id(operation) not in self._new_layers:
            if functional_graph(operation) is not None:
                tensors = [t for t in flatten((args, kwargs)) if is_array(t) and hasattr(t, "name")]
                new = self.build_model(operation, path + "/", _inner_shapes(operation, tensors))
            else:
                new = self._build_layer(operation, path)
                self.layers[path] = operation, new
            self._new_layers[id(operation)] = new
        new = self._new_layers[id(operation)]
        order.append(new)
        return _call(new, path, args, kwargs)

    def _build_layer(self, layer: KerasLayer, path: str) -> KerasLayer:
        cls = type(layer)
        if cls.__name__ == "Lambda" and is_part_of_keras(cls):
            return copy_lambda(layer)
        try:
            new = cls.from_config(self.edit(path, layer.get_config()))
        except (NotImplementedError, TypeError, ValueError) as error:
            raise UnsupportedModel(
                f"The layer {path!r} (class {cls.__name__}) cannot be made again from its own settings "
                f"({first_line(error)}); give the class a get_config() that returns all arguments of its constructor."
            ) from error

        if new.name != layer.name:
            raise UnsupportedModel(
                f"The layer {path!r} (class {cls.__name__}) cannot be made again from its own settings, which lack its "
                f"name; let its get_config() start from super().get_config() and its constructor pass on **kwargs."
            )
        return new

    def _call_operation(self, operation: KerasLayer, path: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Calls a copy of an operation with edited arguments; returns its outputs."""
        old = named_arguments(operation, args, kwargs)
        edited = self.edit(path, dict(old))
        changed = {k: v for k, v in edited.items() if v is not old.get(k)}
        if is_lambda_operation(operation):
            new = type(operation).from_config(operation.get_config())
            if changed:
                bound = inspect.signature(operation.function).bind(*args, **kwargs)
                bound.arguments.update(changed)
                args, kwargs = bound.args, bound.kwargs
        elif changed:
            new = type(operation).from_config(operation.get_config() | changed)
        else:
            new = copy_operation(operation)
        return _call(new, path, args, kwargs)


def _call(layer: KerasLayer, path: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    try:
        return layer(*args, **kwargs)
    except Exception as error:  # a layer may raise anything
        raise UnsupportedModel(
            f"The layer {path!r} cannot be called again as it was called ({first_line(error)}); name it, or the "
            f"layers before it, in frozen=[...]."
        ) from error


def _inner_shapes(model: KerasModel, tensors: list[Any]) -> list[tuple[int | None, ...]]:
    """Input shapes of a nested model: those of `tensors`. Sizes that the model leaves open stay open."""
    old_shapes = [tuple(t.shape)[1:] for t in flatten(functional_graph(model).inputs)]
    new_shapes = [tuple(t.shape)[1:] for t in tensors]
    return [
        tuple(None if old is None else new for old, new in zip(*shapes, strict=True))
        for shapes in zip(old_shapes, new_shapes, strict=True)
    ]
