"""Weight formulas: how a constant of a .tflite is computed from the network's weights.

The converter folds BatchNormalization into the layer before it, transposes kernels and merges biases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Weights = Mapping[str, tuple[np.ndarray, ...]]  # layer path -> arrays, of the whole network or of a narrower one


@dataclass(frozen=True)
class Norm:
    """A BatchNormalization in inference: x * scale + shift, one of each a channel.

    Attributes:
        layer: its path.
        epsilon: its own.
        gamma, beta, mean, variance: indices into its weights; gamma and beta None where it has none.
    """

    layer: str
    epsilon: float
    gamma: int | None
    beta: int | None
    mean: int
    variance: int

    def scale(self, weights: Weights) -> np.ndarray:
        """What it multiplies each channel by, (channels,)."""
        own = weights[self.layer]
        scale = 1 / np.sqrt(own[self.variance].astype(np.float64) + self.epsilon)
        return scale if self.gamma is None else own[self.gamma] * scale

    def shift(self, weights: Weights, bias: np.ndarray | float) -> np.ndarray:
        """What it adds to each channel, (channels,), taking in a bias that was added before it."""
        own = weights[self.layer]
        shift = (bias - own[self.mean].astype(np.float64)) * self.scale(weights)
        return shift if self.beta is None else own[self.beta] + shift


@dataclass(frozen=True)
class Shift:
    """The shift of a BatchNormalization, or of a bias and the BatchNormalization behind it.

    Attributes:
        norm: the BatchNormalization.
        bias: (layer, index) of the bias, if any.
    """

    norm: Norm
    bias: tuple[str, int] | None = None

    def __call__(self, weights: Weights, shape: Sequence[int]) -> np.ndarray:
        """The constant at these weights."""
        bias = 0.0 if self.bias is None else weights[self.bias[0]][self.bias[1]]
        return self.norm.shift(weights, bias).reshape(shape)


@dataclass(frozen=True)
class Scale:
    """The scale of a BatchNormalization that stands alone."""

    norm: Norm

    def __call__(self, weights: Weights, shape: Sequence[int]) -> np.ndarray:
        """The constant at these weights."""
        return self.norm.scale(weights).reshape(shape)


@dataclass(frozen=True)
class Kernel:
    """A weight in another order of its axes, reshaped; and scaled by the BatchNormalization behind it.

    Attributes:
        weight: (layer, index).
        order: of its axes.
        norm: the BatchNormalization, if any.
        axis: of the constant, along which it scales.
        factors: what else it is multiplied by, an array to broadcast: a scaling of the network's inputs, which the
            converter takes into the first convolution.
    """

    weight: tuple[str, int]
    order: tuple[int, ...]
    norm: Norm | None = None
    axis: int = 0
    factors: np.ndarray | None = field(default=None, compare=False)

    def __call__(self, weights: Weights, shape: Sequence[int]) -> np.ndarray:
        """The constant at these weights."""
        values = weights[self.weight[0]][self.weight[1]].transpose(self.order).reshape(shape)
        values = values if self.factors is None else values * self.factors
        if self.norm is None:
            return values
        along = [1] * len(shape)
        along[self.axis] = -1
        return values * self.norm.scale(weights).astype(np.float32).reshape(along)


@dataclass(frozen=True)
class Bias:
    """The bias of a dense layer that takes in the shift of a BatchNormalization before it.

    Attributes:
        kernel: (layer, index) of a weight (inputs, channels).
        norm: the BatchNormalization; the inputs hold its channels once or, behind Flatten, several times over.
        bias: (layer, index), if any.
    """

    kernel: tuple[str, int]
    norm: Norm
    bias: tuple[str, int] | None

    def __call__(self, weights: Weights, shape: Sequence[int]) -> np.ndarray:
        """The constant at these weights."""
        kernel = weights[self.kernel[0]][self.kernel[1]]
        shift = self.norm.shift(weights, 0.0)
        added = np.resize(shift, len(kernel)) @ kernel
        return (added if self.bias is None else added + weights[self.bias[0]][self.bias[1]]).reshape(shape)


Formula = Shift | Scale | Kernel | Bias
