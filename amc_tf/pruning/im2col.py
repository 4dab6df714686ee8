"""im2col rows: the values that a kernel reads at one position of its input, as the row of a regression."""

from dataclasses import dataclass

import numpy as np

from amc_tf.graph.network import Node


@dataclass(frozen=True)
class Im2col:
    """How a plain convolution or a Dense layer reads its input.

    Attributes:
        kernel, strides, dilation: of the convolution, one number per spatial axis. All are empty for a Dense layer: it
            reads every position of its input alone, whatever the number of axes.
        padding: "valid", "same" or "causal".
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str

    def output_sides(self, sides: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial sides of the output for an input with these sides."""
        if self.padding == "valid":
            windows = zip(sides, self._spans, self.strides, strict=True)
            return tuple((side - span) // stride + 1 for side, span, stride in windows)
        return tuple(-(-side // stride) for side, stride in zip(sides, self.strides, strict=True))

    def sample(self, inputs: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """im2col rows at random positions, drawn anew for each example.

        Args:
            inputs: (examples, *sides, channels).
            count: rows per example. If there are fewer positions, all of them are returned.
            rng: source of the random positions.

        Returns:
            (rows, kernel positions * channels), in the order of a kernel (*kernel, channels, ...) that is flattened.
        """
        if not self.kernel:
            return _DENSE.sample(inputs.reshape(len(inputs), -1, inputs.shape[-1]), count, rng)
        examples, sides = len(inputs), inputs.shape[1:-1]
        outputs = self.output_sides(sides)
        positions = int(np.prod(outputs))
        count = min(count, positions)
        chosen = np.argsort(rng.random((examples, positions)), axis=1)[:, :count].ravel()  # without repetition
        margins = [self._margins(axis, side) for axis, side in enumerate(sides)]
        padded = np.pad(inputs, [(0, 0), *margins, (0, 0)])
        rank = len(sides)
        index = [np.repeat(np.arange(examples), count).reshape(-1, *[1] * rank)]
        for axis, position in enumerate(np.unravel_index(chosen, outputs)):
            taps = np.arange(self.kernel[axis]) * self.dilation[axis]
            along = position[:, None] * self.strides[axis] + taps  # (rows, kernel side)
            index.append(along.reshape(len(position), *[-1 if other == axis else 1 for other in range(rank)]))
        return padded[tuple(index)].reshape(len(chosen), -1)

    @property
    def _spans(self) -> tuple[int, ...]:
        """Number of input positions from the first tap of the kernel to the last, per axis."""
        return tuple((side - 1) * step + 1 for side, step in zip(self.kernel, self.dilation, strict=True))

    def _margins(self, axis: int, side: int) -> tuple[int, int]:
        """Number of zeros before and after an axis."""
        span, stride = self._spans[axis], self.strides[axis]
        if self.padding == "valid":
            return 0, 0
        if self.padding == "causal":
            return span - 1, 0
        total = max((-(-side // stride) - 1) * stride + span - side, 0)
        return total // 2, total - total // 2


_DENSE = Im2col((1,), (1,), (1,), "valid")  # a Dense layer, after its positions are flattened into one axis


def im2col_of(node: Node) -> Im2col | None:
    """How a node reads its input; None if it is not a plain channels-last convolution or Dense layer."""
    settings = node.settings
    if [weight.name for weight in node.weights] not in (["kernel"], ["kernel", "bias"]) or len(node.inputs) != 1:
        return None
    rank = len(node.weights[0].shape) - 2
    if node.kind == "Dense" and rank == 0:
        return Im2col((), (), (), "valid")
    plain = node.kind in ("Conv1D", "Conv2D", "Conv3D") and (settings.get("groups") or 1) == 1
    if not plain or settings.get("data_format") == "channels_first":
        return None
    kernel = node.weights[0].shape[:rank]
    strides, dilation = (tuple(np.broadcast_to(settings[name], rank).tolist()) for name in ("strides", "dilation_rate"))
    return Im2col(kernel, strides, dilation, settings["padding"])
