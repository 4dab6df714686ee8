"""SparsePrices: predicted microseconds of a network whose 1x1 convolutions run in XNNPACK's sparse kernels.

A sparse kernel multiplies once per nonzero weight and pixel; the rest of the network costs the same for every plan. So
the latency of a plan is a constant plus a rate per multiplication. A few measured plans give both.
"""

import time
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from amc_tf.errors import DeviceError
from amc_tf.pruning.magnitude import MagnitudePruner

_VERSION = 1
_PLANS = 6  # measured plans, for a fit of two numbers
_MOST = 0.32  # largest keep ratio of a measured plan: above 1/3 XNNPACK does not use its sparse kernels


class SparsePrices:
    """Predicts the microseconds of plans on one device. It is a Cost.

    Args:
        full: Weights of each unit, (units,).
        work: Multiplications of a sparse kernel per kept weight of each unit; 0 for units without a sparse kernel.
        fixed, rate: Microseconds of the rest of the network, and of one multiplication.
        seconds: Time that the measurement took.
    """

    unit = "us"

    def __init__(self, full: Sequence[int], work: Sequence[int], fixed: float, rate: float, seconds: float = 0.0):
        self.full, self.work = np.array(full), np.array(work)
        self.fixed, self.rate, self.seconds = float(fixed), float(rate), seconds
        self._base = np.inf

    def __call__(self, widths: Sequence[int]) -> float:
        """Microseconds of one inference if unit i keeps `widths[i]` weights; non-decreasing in each."""
        sparse = self.work > 0
        kept, total = int(np.sum(np.array(widths)[sparse])), int(self.full[sparse].sum())
        if 3 * kept >= total:  # XNNPACK uses sparse kernels only if more than 2/3 of the weights are zero
            return float(self._base)
        return float(min(self._base, self.fixed + self.rate * float(self.work @ np.array(widths))))

    def fit(self, base_us: float) -> None:
        """Sets the latency of the whole network with dense kernels. No plan costs more."""
        self._base = base_us

    def to_dict(self) -> dict[str, Any]:
        """Plain types; `from_dict` is its inverse."""
        return {
            "version": _VERSION, "full": self.full.tolist(), "work": self.work.tolist(), "fixed": self.fixed,
            "rate": self.rate, "seconds": self.seconds,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "SparsePrices":
        """The prices of `to_dict`.

        Raises:
            LookupError, TypeError, ValueError: They are not prices of this version.
        """
        if stored["version"] != _VERSION:
            raise ValueError(f"The prices are of version {stored['version']!r}, expected {_VERSION}.")
        return cls(*(stored[name] for name in ("full", "work", "fixed", "rate", "seconds")))


def measure(
    pruner: MagnitudePruner,
    candidates: Callable[[Sequence[Sequence[int]]], list[float]],
    on_progress: Callable[[int, int], None] | None = None,
) -> SparsePrices:
    """Measures the prices of a network whose operators all have sparse kernels, see tflite.sparse.

    Args:
        pruner: Of the network.
        candidates: Widths of several plans -> microseconds of their files.
        on_progress: Called with (number of plans measured, number of all).

    Raises:
        DeviceError: A measurement failed; or fewer weights do not save time, so the device has no sparse kernels.
    """
    started = time.monotonic()
    work = multiplications_per_weight(pruner)
    lowest = max(unit.widths[0] / unit.size for unit, own in zip(pruner.units, work, strict=True) if own)
    plans = []
    for ratio in np.linspace(min(lowest, _MOST), _MOST, _PLANS):
        pairs = zip(pruner.units, work, strict=True)
        plans.append([max(u.widths[0], round(ratio * u.size)) if own else u.size for u, own in pairs])
    times = []
    for number, plan in enumerate(plans, 1):
        times += candidates([plan])
        if on_progress is not None:
            on_progress(number, len(plans))
    columns = np.column_stack([np.ones(len(plans)), [float(work @ np.array(plan)) for plan in plans]])
    (fixed, rate), *_ = np.linalg.lstsq(columns / columns.max(axis=0), np.array(times), rcond=None)
    fixed, rate = fixed / columns[:, 0].max(), rate / columns[:, 1].max()
    if not rate > 0:
        raise DeviceError(
            f"With fewer weights the network takes no less time on the device ({min(times):.4g} to {max(times):.4g} us "
            f"for {_PLANS} plans), so that its runtime has no sparse kernels; give target='params' or 'size'."
        )
    return SparsePrices(pruner.full, work, max(fixed, 0.0), rate, round(time.monotonic() - started, 1))


def multiplications_per_weight(pruner: MagnitudePruner) -> np.ndarray:
    """Multiplications of a sparse kernel per kept weight of each unit, int (units,); 0 without a sparse kernel."""
    pixels: dict[str, int] = {}
    for node in pruner.graph.nodes:
        kernel = pruner.kernels.get(node.layer)
        if kernel is not None and node.kind == "Conv2D" and kernel.shape[:2] == (1, 1):
            values = prod(pruner.graph.shapes[node.outputs[0]])
            pixels[node.layer] = pixels.get(node.layer, 0) + values // kernel.shape[-1]
    return np.array([pixels.get(unit.name, 0) for unit in pruner.units])
