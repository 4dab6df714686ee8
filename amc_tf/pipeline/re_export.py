"""Re-export: a result with another model in its place, trained by fine-tuning or by the caller (Result.with_model)."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from amc_tf.graph import keras_reader
from amc_tf.graph.identity import difference
from amc_tf.latency.search_latency import comparison_record
from amc_tf.pipeline.exporter import Exporter
from amc_tf.pipeline.measurement import MeasurementSession, MeasurementSpec
from amc_tf.pruning.kernels import masks
from amc_tf.pruning.plan import WEIGHTS
from amc_tf.report import page
from amc_tf.report.amounts import amount
from amc_tf.result import FINETUNING, Result


def re_export(
    result: Result, trained: Any, exporter: Exporter, session: MeasurementSession, base: bytes, **changes: Any
) -> Result:
    """Puts a trained model in the place of a result's: makes, checks, scores, times and writes its files.

    Args:
        result: of before.
        trained: in the place of its model.
        exporter, session: of the search.
        base: the .tflite of the base network.
        changes: other fields of the new result.

    Raises:
        AmcError: as Exporter.export.
    """
    exported = exporter.export(trained, session)
    float_file = exported.formats[0]
    compressed = replace(
        result.compressed, accuracy=float_file.accuracy, size_bytes=float_file.size_bytes,
        gzip_bytes=float_file.gzip_bytes, latency_ms=session.ms(exported.comparison),
    )  # fmt: skip
    latency = result.latency
    if latency is not None and exported.comparison is not None:
        latency = latency | comparison_record(exported.comparison)
    new = replace(
        result, model=trained, compressed=compressed, untrained=result.untrained or result.compressed,
        formats=exported.formats, difference=exported.difference, latency=latency,
        stopped=None if result.stopped == FINETUNING else result.stopped, **changes,
    )  # fmt: skip
    new.save(base, exported.files)
    _warn_of_limit(new)
    return new


def with_model(exporter: Exporter, spec: MeasurementSpec, base: bytes, result: Result, trained: Any) -> Result:
    """See Result.with_model: `re_export` after the measurement session of the search was closed."""
    check_same(result, trained)  # before a device is needed
    with spec.session() as session:
        new = re_export(result, trained, exporter, session, base, training=None)
    if (new.run_dir / page.PAGE).exists():
        page.write_or_warn(new.run_dir)
    return new


def _warn_of_limit(result: Result) -> None:
    """Another training leaves other zeros and scales, and a device is never twice the same."""
    line = result.compressed
    cost = {"latency": line.latency_ms and line.latency_ms * 1e3, "size": line.size_bytes}.get(result.target)
    if cost is None or result.limit is None or cost <= result.limit:
        return
    warnings.warn(
        f"The trained network takes {amount(result.target, cost)}, but its limit is "
        f"{amount(result.target, result.limit)}; search again with a smaller budget, or measure again with "
        f"result.with_model(result.model).",
        stacklevel=4,
    )


def check_same(result: Result, trained: Any) -> None:
    """Raises where a model is not the result's with other weights."""
    result_keras, model_keras = keras_reader.keras_of(result.model), keras_reader.keras_of(trained)
    if result_keras is not model_keras:
        raise TypeError(
            f"The model is one of {model_keras.__name__}, but the result's of {result_keras.__name__}; give the same."
        )
    graph, weights = keras_reader.read(trained)
    shapes, expected = _shapes(weights), _shapes(keras_reader.read(result.model)[1])
    if shapes != expected:
        path = next(path for path in (*expected, *sorted(shapes)) if shapes.get(path) != expected.get(path))
        raise ValueError(
            f"The model is not the result's: the weights of its layer {path!r} have shapes {shapes.get(path)}, those "
            f"of the result's {expected.get(path)}; give result.model, trained."
        )
    layer = difference(result.model, trained)
    if layer is not None:
        raise ValueError(
            f"The model is not the result's: its layer {layer!r} has other settings than that of the result; give "
            f"result.model, trained."
        )
    for path, arrays in weights.items():
        if not all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f"):
            raise ValueError(f"The weights of layer {path!r} hold NaN or infinity; give the model of an earlier epoch.")
    if result.plan.of != WEIGHTS:
        return
    for path, (index, mask) in masks(graph, result.plan).items():
        revived = int(np.count_nonzero(weights[path][index][~mask]))
        if revived:
            raise ValueError(
                f"{revived} weights of layer {path!r} that were pruned are not zero any more; train with "
                f"amc_tf.finetune(model, data, plan=result.plan), which keeps them so."
            )


def _shapes(weights: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[tuple[int, ...]]]:
    return {path: [array.shape for array in arrays] for path, arrays in weights.items()}
