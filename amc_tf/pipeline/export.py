"""Finishing: from a compressed model to what ships: its file in every format, checked, scored and measured."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.data.splits import Split
from amc_tf.devices.choose import choose
from amc_tf.devices.interleave import Comparison
from amc_tf.errors import DeviceError
from amc_tf.graph import keras_reader
from amc_tf.graph.identity import difference
from amc_tf.latency.session import comparison_record
from amc_tf.latency.stopwatch import Stopwatch
from amc_tf.pruning.kernels import masks
from amc_tf.pruning.plan import WEIGHTS
from amc_tf.report import page
from amc_tf.report.amounts import amount
from amc_tf.result import FINETUNING, FLOAT, Format, Result, packed
from amc_tf.search.scoring.evalset import EvalSet
from amc_tf.tflite.conversion import agreement, keras_to_tflite, quantize
from amc_tf.tflite.runtime.scorer import Scorer

_AGREEMENT = 8


@dataclass(frozen=True)
class MeasurementSession:
    """Where finished files are scored and measured.

    Attributes:
        sample: the examples that are reported.
        stopwatch: measures a .tflite in turns with the base network; None where nothing is measured.
    """

    sample: EvalSet
    stopwatch: Stopwatch | None = None

    def compare(self, tflite: bytes) -> Comparison | None:
        """A .tflite beside the base network, where that is measured."""
        return None if self.stopwatch is None else self.stopwatch.compare(tflite)

    def ms(self, comparison: Comparison | None) -> float | None:
        """Milliseconds of a file that was compared with the base."""
        return None if comparison is None else self.stopwatch.us(comparison) / 1e3


@dataclass(frozen=True)
class MeasurementSpec:
    """What it takes to have the bench of a search again when its own is closed.

    Attributes:
        sample: the examples that are reported.
        base: the .tflite that others are measured in turns with.
        device: as compress() was given it; base_us None where nothing was measured.
        identity: of the device that it was.
    """

    sample: EvalSet
    base: bytes
    device: Any
    base_us: float | None
    identity: dict[str, Any] | None

    @contextlib.contextmanager
    def bench(self) -> Iterator[MeasurementSession]:
        """The bench, as long as it is needed.

        Raises:
            DeviceError: the device is not there any more.
        """
        with contextlib.ExitStack() as stack:
            sample = self.sample.on(stack.enter_context(Scorer()))
            if self.base_us is None:
                yield MeasurementSession(sample)
                return
            device, opened = choose(self.device)
            if opened:
                stack.callback(device.close)
            if dict(device.identity) != self.identity:
                raise DeviceError(
                    f"The network was measured on {self.identity}, but the device is now {dict(device.identity)}; "
                    f"connect the same one."
                )
            stopwatch = Stopwatch(device, self.base, base_us=self.base_us)
            stack.callback(stopwatch.close)
            yield MeasurementSession(sample, stopwatch)


@dataclass(frozen=True)
class Exported:
    """A model with its files.

    Attributes:
        files: format -> the .tflite; float first.
        formats: the same in numbers.
        comparison: of the file that the latency is told of, where that was measured.
        difference: between float file and model, see agreement.verify.
    """

    files: Mapping[str, bytes]
    formats: tuple[Format, ...]
    comparison: Comparison | None
    difference: float


@dataclass(frozen=True)
class Exporter:
    """How the models of one search are finished.

    Attributes:
        shipped: a .tflite as the converter makes it -> the one that ships, see Method.finished.
        formats: formats to make beside float.
        timed_format: the one whose latency stands for the network.
        calibration: examples that int8 is calibrated on, one array (examples, ...) an input.
        integer_io: whether int8 files take and give int8.
        examples: a few inputs that file and model are compared on.
    """

    shipped: Callable[[bytes], bytes]
    formats: tuple[str, ...]
    timed_format: str
    calibration: tuple[np.ndarray, ...]
    integer_io: bool
    examples: tuple[np.ndarray, ...] = field(repr=False)

    def file(self, model: Any, format: str) -> bytes:
        """The .tflite of a model in one format.

        Raises:
            ConversionError: the model cannot be expressed so.
        """
        if format == FLOAT:
            return self.shipped(keras_to_tflite.convert(model))
        return quantize.quantized(model, format, self.calibration, self._integer_io(format))

    def check(self, model: Any, format: str) -> None:
        """Raises what `file` would, before the work of a search."""
        quantize.check(model, format, self.calibration, self._integer_io(format))

    def rough(self, format: str) -> Callable[[Any], bytes]:
        """What makes files of a format of which the time alone matters."""
        return quantize.rough(format, self.calibration, self._integer_io(format))

    def _integer_io(self, format: str) -> bool:
        return self.integer_io and format == "int8"

    def __call__(self, model: Any, bench: MeasurementSession, known: Mapping[str, tuple[bytes, Comparison | None]] = {}) -> Exported:
        """Makes, checks, scores and measures all files of a model.

        Args:
            model: compressed.
            bench: where that is done.
            known: format -> (file, comparison) where they were made before.

        Raises:
            ConversionError: a file cannot be made, or does not compute what the model does.
            BadPredictions: its outputs hold NaN.
            DeviceError: the measurement failed.
        """
        files: dict[str, bytes] = {}
        compared: dict[str, Comparison | None] = {}
        formats = []
        for format in (FLOAT, *self.formats):
            files[format], compared[format] = known.get(format) or (self.file(model, format), None)
            file, compared[format] = files[format], compared[format] or bench.compare(files[format])
            accuracy, ms = bench.sample.accuracy(file), bench.ms(compared[format])
            formats.append(Format(format, accuracy, ms, len(file), packed(file)))
        difference = agreement.verify(model, files[FLOAT], structured(model, self.examples))
        return Exported(files, tuple(formats), compared[self.timed_format], difference)


def finished_again(result: Result, trained: Any, finishing: Exporter, bench: MeasurementSession, base: bytes, **changes) -> Result:
    """A result with its model trained on, its files made, scored and measured anew and written.

    Args:
        result: of before.
        trained: in the place of its model.
        finishing, bench: of the search.
        base: the .tflite of the base network.
        changes: other fields of the new result.

    Raises:
        AmcError: see Finishing.
    """
    found = finishing(trained, bench)
    line = found.formats[0]
    compressed = replace(
        result.compressed, accuracy=line.accuracy, size_bytes=line.size_bytes, gzip_bytes=line.gzip_bytes,
        latency_ms=bench.ms(found.comparison),
    )  # fmt: skip
    latency = result.latency
    if found.comparison is not None:
        latency = latency | comparison_record(found.comparison)
    new = replace(
        result, model=trained, compressed=compressed, untrained=result.untrained or result.compressed,
        formats=found.formats, difference=found.difference, latency=latency,
        stopped=None if result.stopped == FINETUNING else result.stopped, **changes,
    )  # fmt: skip
    new.save(base, found.files)
    _warn_of_limit(new)
    return new


def _warn_of_limit(result: Result) -> None:
    """Another training leaves other zeros and scales, and a device is never twice the same."""
    line = result.compressed
    found = {"latency": line.latency_ms and line.latency_ms * 1e3, "size": line.size_bytes}.get(result.target)
    if found is None or result.limit is None or found <= result.limit:
        return
    warnings.warn(
        f"The trained network takes {amount(result.target, found)}, but its limit is "
        f"{amount(result.target, result.limit)}; search again with a smaller budget, or measure again with "
        f"result.with_model(result.model).",
        stacklevel=4,
    )


def again(finishing: Exporter, reopening: MeasurementSpec, base: bytes, result: Result, trained: Any) -> Result:
    """`finished_again` after the search's own bench was closed; see Result.with_model."""
    check_same(result, trained)  # before a device is asked for
    with reopening.bench() as bench:
        new = finished_again(result, trained, finishing, bench, base, training=None)
    if (new.run_dir / page.PAGE).exists():
        write_page(new.run_dir)
    return new


def check_same(result: Result, trained: Any) -> None:
    """Raises where a model is not the result's with other weights."""
    ours, its = keras_reader.keras_of(result.model), keras_reader.keras_of(trained)
    if ours is not its:
        raise TypeError(f"The model is one of {its.__name__}, but the result's of {ours.__name__}; give the same.")
    graph, weights = keras_reader.read(trained)
    wanted = keras_reader.read(result.model)[1]
    shapes = [{path: [a.shape for a in arrays] for path, arrays in found.items()} for found in (weights, wanted)]
    if shapes[0] != shapes[1]:
        both = [path for path in wanted if shapes[0].get(path) != shapes[1][path]]
        both = both or sorted(set(weights) - set(wanted))
        raise ValueError(
            f"The model is not the result's: the weights of its layer {both[0]!r} have shapes "
            f"{shapes[0].get(both[0])}, those of the result's {shapes[1].get(both[0])}; give result.model, trained."
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
        back = int(np.count_nonzero(weights[path][index][~mask]))
        if back:
            raise ValueError(
                f"{back} weights of layer {path!r} that were pruned are not zero any more; train with "
                f"amc_tf.finetune(model, data, plan=result.plan), which keeps them so."
            )


def write_page(run_dir: Path) -> None:
    """Writes the report of a run directory; a warning where that is not possible, since the result itself is safe."""
    try:
        page.write(run_dir)
    except Exception as error:  # hours of work must not end in a stack trace about a picture
        warnings.warn(f"The report was not written ({type(error).__name__}: {error}); the result is.", stacklevel=3)


def ends(model: Any) -> dict[str, tuple[dict[str, Any], ...]]:
    """Inputs and outputs of a model's .tflite as plain types, by the names of the fields of a Result."""
    specs = [(spec.shape, spec.dtype.name) for spec in keras_to_tflite.arguments(model, 1)]
    made = [((1, *tensor.shape[1:]), getattr(tensor.dtype, "name", tensor.dtype)) for tensor in model.outputs]
    sides = {"inputs": (keras_to_tflite.input_names(model), specs), "outputs": (keras_to_tflite.output_names(model), made)}
    return {
        side: tuple(
            {"name": name, "shape": [int(size) for size in shape], "dtype": str(dtype)}
            for name, (shape, dtype) in zip(names, found, strict=True)
        )
        for side, (names, found) in sides.items()
    }


def structured(model: Any, inputs: Sequence[np.ndarray]) -> Any:
    """The inputs in the structure that the model was built with: an array, a list or a dict of arrays."""
    import tensorflow as tf

    return tf.nest.pack_sequence_as(keras_reader.input_structure(model), list(inputs))


def few(split: Split) -> tuple[np.ndarray, ...]:
    """The inputs of a few examples, on which file and model are compared."""
    return split.take(np.arange(min(_AGREEMENT, len(split)))).inputs
