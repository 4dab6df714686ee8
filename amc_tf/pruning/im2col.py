"""Patches: what the kernel of a layer reads at one place of its input; a row of a regression on that input."""

from dataclasses import dataclass

import numpy as np

from amc_tf.graph.network import Node


@dataclass(frozen=True)
class Reader:
    """How a plain convolution or a Dense layer reads its input.

    Attributes:
        kernel, strides, dilation: of the convolution, one number a spatial axis; empty for a Dense layer, which reads
            every place of its input by itself, however many axes there are.
        padding: "valid", "same" or "causal".
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str

    def positions(self, sides: tuple[int, ...]) -> tuple[int, ...]:
        """The sides of the output for an input of these sides."""
        if self.padding == "valid":
            windows = zip(sides, self._spans, self.strides, strict=True)
            return tuple((side - span) // stride + 1 for side, span, stride in windows)
        return tuple(-(-side // stride) for side, stride in zip(sides, self.strides, strict=True))

    def sample(self, inputs: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
        """Patches at random places, other ones in each example.

        Args:
            inputs: (examples, *sides, channels).
            most: patches an example; all of them where there are fewer.
            rng: where the chance comes from.

        Returns:
            (patches, kernel positions * channels), as a row of the kernel (*kernel, channels, ...) flattened.
        """
        if not self.kernel:
            return _DENSE.sample(inputs.reshape(len(inputs), -1, inputs.shape[-1]), most, rng)
        examples, sides = len(inputs), inputs.shape[1:-1]
        outputs = self.positions(sides)
        places = int(np.prod(outputs))
        count = min(most, places)
        chosen = np.argsort(rng.random((examples, places)), axis=1)[:, :count].ravel()  # without repetition
        margins = [self._margins(axis, side) for axis, side in enumerate(sides)]
        padded = np.pad(inputs, [(0, 0), *margins, (0, 0)])
        rank = len(sides)
        index = [np.repeat(np.arange(examples), count).reshape(-1, *[1] * rank)]
        for axis, place in enumerate(np.unravel_index(chosen, outputs)):
            taps = np.arange(self.kernel[axis]) * self.dilation[axis]
            along = place[:, None] * self.strides[axis] + taps
            index.append(along.reshape(len(place), *[-1 if other == axis else 1 for other in range(rank)]))
        return padded[tuple(index)].reshape(len(chosen), -1)

    @property
    def _spans(self) -> tuple[int, ...]:
        """How many positions the kernel covers, from its first tap to its last."""
        return tuple((side - 1) * step + 1 for side, step in zip(self.kernel, self.dilation, strict=True))

    def _margins(self, axis: int, side: int) -> tuple[int, int]:
        """The zeros before and behind an axis."""
        span, stride = self._spans[axis], self.strides[axis]
        if self.padding == "valid":
            return 0, 0
        if self.padding == "causal":
            return span - 1, 0
        total = max((-(-side // stride) - 1) * stride + span - side, 0)
        return total // 2, total - total // 2


_DENSE = Reader((1,), (1,), (1,), "valid")  # a Dense layer, once its places lie on one axis


def reader(node: Node) -> Reader | None:
    """How a node reads its input; None where it is not a plain convolution or Dense layer with the channels last."""
    settings = node.settings
    if [weight.name for weight in node.weights] not in (["kernel"], ["kernel", "bias"]) or len(node.inputs) != 1:
        return None
    rank = len(node.weights[0].shape) - 2
    if node.kind == "Dense" and rank == 0:
        return Reader((), (), (), "valid")
    plain = node.kind in ("Conv1D", "Conv2D", "Conv3D") and (settings.get("groups") or 1) == 1
    if not plain or settings.get("data_format") == "channels_first":
        return None
    kernel = node.weights[0].shape[:rank]
    steps = (tuple(np.broadcast_to(settings[name], rank).tolist()) for name in ("strides", "dilation_rate"))
    return Reader(kernel, *steps, settings["padding"])
