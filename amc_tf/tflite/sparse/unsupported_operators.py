"""Operators that XNNPACK's sparse kernels do not support, and whether sparse encoding is safe for a network.

XNNPACK looks for a part of the network that it can run with the channels first: from one kind of convolution, through
some kinds of operators, to a mean over the pixels. It takes its sparse kernels there if more than 2/3 of the weights of
the part's 1x1 convolutions are zero, and if one kernel of the file is sparse-encoded (amc_tf.tflite.sparse.encoding).

The conditions come from runs of pairs of files, dense and sparse-encoded. The networks differ in a single property from
one that XNNPACK supports. The runtimes were ai-edge-litert 2.1 and tflite-runtime 2.14 on an emulated 64-bit Arm,
ai-edge-litert 2.3 on an emulated x86 without AVX, and ai-edge-litert 2.3 and TensorFlow 2.19 on x86 with XNNPACK's flag
for AVX cleared. Results for users:

* If the part begins with a supported convolution but is interrupted, most of these runtimes start their sparse kernels
  nevertheless and give WRONG outputs, or cannot load the file. If no supported convolution begins a part, all of them
  run as with a dense file.
* On x86 with AVX, XNNPACK never takes its sparse kernels, and tflite-runtime 2.14 for x86 was built without them.
* TensorFlow 2.19 counts the weights of the dense layer behind the mean among those of which 2/3 must be zero.

XNNPACK's own list is longer (tensorflow/lite/delegates/xnnpack/README.md). Operators that were not run are not allowed
here.
"""

import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from amc_tf.tflite.flatbuffer import unpack
from amc_tf.tflite.layer_names import layer_of
from amc_tf.tflite.operators import names

# Element-wise with one input.
_UNARY = {"ELU", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "RELU", "RELU6", "TANH"}
_BINARY = {"ADD", "MUL"}
_INSIDE = {"CONV_2D", "DEPTHWISE_CONV_2D", "PAD", "RESIZE_BILINEAR", "MEAN", *_UNARY, *_BINARY}
_SAME = 0  # Padding.SAME of the schema
_HEIGHT, _WIDTH = 1, 2  # axes


def find_unsupported(tflite: bytes | str | Path, layers: Iterable[str] = ()) -> tuple[str, ...]:
    """Why the structure of a network keeps XNNPACK from its sparse kernels.

    Args:
        tflite: the network with dense kernels, as convert() makes it; contents or path.
        layers: names of the Keras layers, for the sentences; without them, the names in the file are used.

    Returns:
        One sentence for each unsupported operator; empty if XNNPACK supports the network.

    Raises:
        ConversionError: there is no such file, or it is no .tflite.
    """
    return tuple(_Network(tflite, layers).unsupported())


def safe(tflite: bytes | str | Path) -> bool:
    """Whether the sparse-encoded file of a network computes the same as the dense one in every runtime.

    It does if XNNPACK supports the whole network. It also does if no convolution can begin a part for sparse kernels,
    since nothing changes then.

    Raises:
        ConversionError: there is no such file, or it is no .tflite.
    """
    network = _Network(tflite, ())
    return not any(network.first_convolutions()) or not any(network.unsupported())


def enough_zeros(kernels: Iterable[tuple[int, int]]) -> bool:
    """Whether XNNPACK takes its sparse kernels: more than 2/3 of all weights must be zero.

    Args:
        kernels: (weights, nonzero weights) of each 1x1 convolution; for TensorFlow 2.19 also of the dense layer behind
            the mean.
    """
    counts = np.array(list(kernels), dtype=np.int64).reshape(-1, 2).sum(axis=0)
    return bool(3 * (counts[0] - counts[1]) > 2 * counts[0])


def zeros_missing(tflite: bytes | str | Path) -> str | None:
    """The sentence for a supported network with too few zeros for sparse kernels; None if it has enough.

    Args:
        tflite: the pruned network with dense kernels.

    Raises:
        ConversionError: there is no such file, or it is no .tflite.
    """
    kernels = [(values.size, int(np.count_nonzero(values))) for values in _Network(tflite, ()).pointwise()]
    if enough_zeros(kernels):
        return None
    size, kept = np.sum(kernels, axis=0)
    return (
        f"Only {1 - kept / size:.1%} of the weights of the 1x1 convolutions are zero, and XNNPACK takes its sparse "
        f"kernels where more than 2/3 are."
    )


def unsupported_processor() -> str | None:
    """Why no network runs with sparse kernels on this computer; None if its processor supports them."""
    if platform.machine().lower() in ("x86_64", "amd64", "i686", "x86") and _has_avx():
        return (
            "XNNPACK does not use its sparse kernels on x86 processors with AVX, such as this computer's: measure on a "
            "phone or another Arm machine."
        )
    return None


def _has_avx() -> bool:
    try:
        return " avx " in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux; x86 without AVX is rare
        return True


class _Network:
    """The first subgraph of a file, and the questions about it."""

    def __init__(self, tflite: bytes | str | Path, layers: Iterable[str]):
        self._file = unpack(tflite)
        self._graph = self._file.subgraphs[0]
        self._operators = list(zip(names(self._file), self._graph.operators, strict=True))
        self._maker = {int(output): pair for pair in self._operators for output in pair[1].outputs}
        self._layers = tuple(layers)

    def first_convolutions(self) -> Iterator[Any]:
        """The convolutions that can begin a part with channels first."""
        return (operator for name, operator in self._operators if name == "CONV_2D" and not self._first(operator))

    def pointwise(self) -> Iterator[np.ndarray]:
        """The kernels of the 1x1 convolutions."""
        for name, operator in self._operators:
            if name == "CONV_2D" and self._shape(operator.inputs[1])[1:3] == (1, 1):
                yield self._file.buffers[self._graph.tensors[operator.inputs[1]].buffer].data.view(np.float32)

    def unsupported(self) -> Iterator[str]:
        """One sentence for each unsupported operator."""
        convolutions = [operator for name, operator in self._operators if name == "CONV_2D"]
        if not convolutions:
            yield "The network has no convolution, and XNNPACK's sparse kernels are for those of 1x1."
            return
        start = convolutions[0]
        why = self._first(start)
        if why:
            yield (
                f"{self._layer(start)}: the first convolution must be 3x3 with stride 2 over 3 channels, behind "
                f"ZeroPadding2D(1) and with padding 'valid'; it {why}."
            )
        inside, ended, pointwise = {int(start.outputs[0])}, False, 0
        for name, operator in self._operators[self._position(start) + 1 :]:
            if not inside.intersection(map(int, operator.inputs)):
                continue
            output = int(operator.outputs[0])
            if name == "MEAN" and not self._goes_on(output):
                ended = True
                yield from self._end(operator)
                continue
            why = self._unfit(name, operator, inside)
            if why:
                yield f"{self._layer(operator)}: {why}."
            pointwise += name == "CONV_2D"
            if len(self._shape(output)) == 4:
                inside.add(output)
        for tensor in sorted(inside.intersection(map(int, self._graph.outputs))):
            operator = self._maker[tensor][1]
            yield f"{self._layer(operator)}: an output of the network must lie behind the mean over all pixels."
        if not ended:
            yield "The network must end in GlobalAveragePooling2D without keepdims, which a dense layer may follow."
        if not pointwise:
            yield "The network has no 1x1 convolution, and XNNPACK's sparse kernels are for those."

    def _first(self, operator: Any) -> str:
        """Why a convolution cannot be the first; empty if it can."""
        _, height, width, channels = self._shape(operator.inputs[1])
        options = operator.builtinOptions
        if (height, width) != (3, 3):
            return f"is {height}x{width}"
        if (options.strideH, options.strideW) != (2, 2):
            return f"has stride {options.strideH}x{options.strideW}"
        if (options.dilationHFactor, options.dilationWFactor) != (1, 1):
            return f"is dilated by {options.dilationHFactor}x{options.dilationWFactor}"
        if channels != 3 or self._shape(operator.inputs[0])[-1] != 3:
            return f"reads {self._shape(operator.inputs[0])[-1]} channels"
        return self._padding(operator, 1)

    def _unfit(self, name: str, operator: Any, inside: set[int]) -> str:
        """Why an operator cannot lie between the first convolution and the mean; empty if it can."""
        options = operator.builtinOptions
        if name not in _INSIDE:
            return f"{name} cannot stand between sparse kernels"
        if name == "CONV_2D":
            return self._unfit_convolution(operator)
        if name == "DEPTHWISE_CONV_2D":
            return self._unfit_depthwise(operator)
        if name == "PAD":
            readers = [reader for reader, _ in self._readers(operator)]
            return "" if readers == ["DEPTHWISE_CONV_2D"] else "zeros may be padded for a depthwise convolution alone"
        if name in _BINARY and not inside.issuperset(map(int, operator.inputs)):
            return f"{name} must take both inputs from the layers before it, none may be a constant or a model input"
        if name == "MEAN" and not options.keepDims:
            return "a mean over pixels whose channels go back into convolutions needs keepdims"
        return ""

    def _unfit_convolution(self, operator: Any) -> str:
        _, height, width, channels = self._shape(operator.inputs[1])
        options = operator.builtinOptions
        if (height, width) != (1, 1):
            return f"a convolution behind the first must be 1x1, it is {height}x{width}"
        if (options.strideH, options.strideW) != (1, 1):
            return f"a 1x1 convolution must have stride 1, it has {options.strideH}x{options.strideW}"
        if channels != self._shape(operator.inputs[0])[-1]:
            return "a 1x1 convolution must not have groups"
        return ""

    def _unfit_depthwise(self, operator: Any) -> str:
        _, height, width, outputs = self._shape(operator.inputs[1])
        options = operator.builtinOptions
        if (height, width) not in ((3, 3), (5, 5)):
            return f"a depthwise convolution must be 3x3 or 5x5, it is {height}x{width}"
        if (options.strideH, options.strideW) not in ((1, 1), (2, 2)):
            return f"a depthwise convolution must have stride 1 or 2, it has {options.strideH}x{options.strideW}"
        if (options.dilationHFactor, options.dilationWFactor) != (1, 1):
            return "a depthwise convolution must not be dilated"
        if outputs != self._shape(operator.inputs[0])[-1]:
            return "a depthwise convolution must have depth_multiplier 1"
        if options.strideH == 1 and options.padding == _SAME:
            return ""
        why = self._padding(operator, height // 2)
        return why and (
            f"a depthwise convolution needs {height // 2} rows and columns of padding on every side (with stride 2: "
            f"ZeroPadding2D({height // 2}) and padding 'valid'), but it {why}"
        )

    def _padding(self, operator: Any, expected: int) -> str:
        """What is wrong with the zeros around a convolution's input; empty if each side has the expected number."""
        if operator.builtinOptions.padding == _SAME:
            height = self._shape(operator.inputs[0])[_HEIGHT]
            # For an even height 'same' pads unevenly. For an odd one it pads as expected, but XNNPACK refuses it too.
            return "has padding 'same'" + (
                f", as the converter writes it for a height of {height} in any case: let heights be even" * (height % 2)
            )
        name, pad = self._maker.get(int(operator.inputs[0]), ("", None))
        if name != "PAD":
            return "has no padding"
        amounts = self._constant(pad.inputs[1]).reshape(-1, 2)
        if amounts.tolist() != [[0, 0], [expected, expected], [expected, expected], [0, 0]]:
            return f"has padding {amounts[1:3].tolist()}"
        return ""

    def _end(self, mean: Any) -> Iterator[str]:
        """What is wrong with the mean at the end and with its readers."""
        axes = sorted(self._constant(mean.inputs[1]).tolist())
        if axes != [_HEIGHT, _WIDTH]:
            yield f"{self._layer(mean)}: the mean must be over height and width."
        if mean.builtinOptions.keepDims:
            yield f"{self._layer(mean)}: the mean at the end must not have keepdims."
        for name, dense in self._readers(mean):
            if name == "FULLY_CONNECTED":  # TensorFlow 2.19 cannot load a file with two of them
                for second in (reader for kind, reader in self._readers(dense) if kind == name):
                    yield f"{self._layer(second)}: there must be no second dense layer directly behind the first."

    def _goes_on(self, tensor: int) -> bool:
        """Whether the output of a mean goes back into operators on pixels, as in squeeze-and-excitation."""
        maker = self._maker[tensor][1]
        return len(self._shape(tensor)) == 4 and any(name in _INSIDE for name, _ in self._readers(maker))

    def _readers(self, operator: Any) -> list[tuple[str, Any]]:
        """The operators that read the output of an operator, with their names."""
        return [pair for pair in self._operators if operator.outputs[0] in pair[1].inputs]

    def _position(self, operator: Any) -> int:
        return next(k for k, (_, other) in enumerate(self._operators) if other is operator)

    def _shape(self, tensor: int) -> tuple[int, ...]:
        shape = self._graph.tensors[tensor].shape
        return () if shape is None else tuple(map(int, shape))

    def _constant(self, tensor: int) -> np.ndarray:
        data = self._file.buffers[self._graph.tensors[tensor].buffer].data
        return np.array([]) if data is None else data.view(np.int32)

    def _layer(self, operator: Any) -> str:
        """The name of an operator in messages: the Keras layer in the name of its output, else a part of that name."""
        output = (self._graph.tensors[int(operator.outputs[0])].name or b"").decode()
        layer = layer_of(output, self._layers)
        if layer is not None:
            return layer
        parts = output.split(";")[0].split("/")
        return parts[-2] if len(parts) > 1 else parts[0]
