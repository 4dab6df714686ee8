"""Exporter: makes the files of a compressed model in every format, and checks, scores and times them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from amc_tf.data.splits import Split
from amc_tf.devices.interleave import Comparison
from amc_tf.graph import keras_reader
from amc_tf.pipeline.measurement import MeasurementSession
from amc_tf.result import FLOAT, Format, packed
from amc_tf.tflite.conversion import agreement, keras_to_tflite, quantize

_EXAMPLES = 8  # that file and model are compared on


@dataclass(frozen=True)
class Exported:
    """A model's files and their figures.

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
    """Makes the files of one search's networks.

    Attributes:
        shipped: the converter's .tflite -> the one that ships, see PruningMethod.shipped.
        formats: formats to make beside float.
        timed_format: the format whose latency stands for the network.
        calibration: examples that int8 is calibrated on, one array (examples, ...) per input.
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
        """Model -> .tflite of a format, fast; only its latency is right, its weights are not."""
        return quantize.rough(format, self.calibration, self._integer_io(format))

    def _integer_io(self, format: str) -> bool:
        return self.integer_io and format == "int8"

    def export(
        self, model: Any, session: MeasurementSession, known: Mapping[str, tuple[bytes, Comparison | None]] = {}
    ) -> Exported:
        """Makes, checks, scores and times all files of a model.

        Args:
            model: the compressed network.
            session: scores and times them.
            known: format -> (file, comparison) of files that were made before.

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
            file, compared[format] = files[format], compared[format] or session.compare(files[format])
            accuracy, ms = session.evalset.accuracy(file), session.ms(compared[format])
            formats.append(Format(format, accuracy, ms, len(file), packed(file)))
        difference = agreement.verify(model, files[FLOAT], structured(model, self.examples))
        return Exported(files, tuple(formats), compared[self.timed_format], difference)


def structured(model: Any, inputs: Sequence[np.ndarray]) -> Any:
    """The inputs in the structure that the model was built with: an array, a list or a dict of arrays."""
    import tensorflow as tf

    return tf.nest.pack_sequence_as(keras_reader.input_structure(model), list(inputs))


def agreement_inputs(split: Split) -> tuple[np.ndarray, ...]:
    """The inputs of a few examples, on which file and model are compared."""
    return split.take(np.arange(min(_EXAMPLES, len(split)))).inputs
