"""SparsePrices: microseconds of a network whose 1x1 convolutions XNNPACK runs with its sparse kernels.

Those multiply by every weight that is not zero once for each pixel, and all else in the network stays as it is. So a
plan costs a constant and a rate for each such multiplication, both of which a few measured plans tell.
"""

import time
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from amc_tf.errors import DeviceError
from amc_tf.pruning.magnitude import MagnitudePruner

_VERSION = 1
_PLANS = 6  # that are measured, for two numbers
_MOST = 0.32  # of the weights that a measured plan keeps: above 1/3 the sparse kernels are not taken


class SparsePrices:
    """Prices plans in microseconds on one device.

    Args:
        full: weights of each unit, (units,).
        work: multiplications for each weight of a unit that is kept, in the sparse kernels; 0 for other units.
        fixed, rate: microseconds of all else, and of a multiplication.
        seconds: that measuring took.
    """

    unit = "us"

    def __init__(self, full: Sequence[int], work: Sequence[int], fixed: float, rate: float, seconds: float = 0.0):
        self.full, self.work = np.array(full), np.array(work)
        self.fixed, self.rate, self.seconds = float(fixed), float(rate), seconds
        self._base = np.inf

    def __call__(self, widths: Sequence[int]) -> float:
        """Microseconds of one inference when unit i keeps `widths[i]` weights; non-decreasing in each."""
        sparse = self.work > 0
        kept, all_ = int(np.sum(np.array(widths)[sparse])), int(self.full[sparse].sum())
        if 3 * kept >= all_:  # XNNPACK wants more than 2/3 of them to be zero
            return float(self._base)
        return float(min(self._base, self.fixed + self.rate * float(self.work @ np.array(widths))))

    def fit(self, base_us: float) -> None:
        """Says what the whole network takes, with dense kernels: no plan costs more."""
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
            LookupError, TypeError, ValueError: they are none of this version.
        """
        if stored["version"] != _VERSION:
            raise ValueError(f"The prices are of version {stored['version']!r}, expected {_VERSION}.")
        return cls(*(stored[name] for name in ("full", "work", "fixed", "rate", "seconds")))


def measure(
    pruning: MagnitudePruner,
    candidates: Callable[[Sequence[Sequence[int]]], list[float]],
    on_progress: Callable[[int, int], None] | None = None,
) -> SparsePrices:
    """Measures the prices of a network without obstacles (tflite.obstacles) on a device.

    Args:
        pruning: of the network.
        candidates: widths of several plans -> microseconds of their files.
        on_progress: called with (plans measured, all of them).

    Raises:
        DeviceError: a measurement failed; or fewer weights take no less time, so that the device has no sparse kernels.
    """
    started = time.monotonic()
    work = work_of(pruning)
    lowest = max(unit.widths[0] / unit.size for unit, each in zip(pruning.units, work, strict=True) if each)
    plans = []
    for share in np.linspace(min(lowest, _MOST), _MOST, _PLANS):
        pairs = zip(pruning.units, work, strict=True)
        plans.append([max(u.widths[0], round(share * u.size)) if each else u.size for u, each in pairs])
    taken = []
    for number, plan in enumerate(plans, 1):
        taken += candidates([plan])
        if on_progress is not None:
            on_progress(number, len(plans))
    columns = np.column_stack([np.ones(len(plans)), [float(work @ np.array(plan)) for plan in plans]])
    (fixed, rate), *_ = np.linalg.lstsq(columns / columns.max(axis=0), np.array(taken), rcond=None)
    fixed, rate = fixed / columns[:, 0].max(), rate / columns[:, 1].max()
    if not rate > 0:
        raise DeviceError(
            f"With fewer weights the network takes no less time on the device ({min(taken):.4g} to {max(taken):.4g} us "
            f"for {_PLANS} plans), so that its runtime has no sparse kernels; give target='params' or 'size'."
        )
    return SparsePrices(pruning.full, work, max(fixed, 0.0), rate, round(time.monotonic() - started, 1))


def work_of(pruning: MagnitudePruner) -> np.ndarray:
    """Multiplications for each weight of a unit that is kept, int (units,); 0 for what has no sparse kernel."""
    pixels: dict[str, int] = {}
    for node in pruning.graph.nodes:
        kernel = pruning.kernels.get(node.layer)
        if kernel is not None and node.kind == "Conv2D" and kernel.shape[:2] == (1, 1):
            values = prod(pruning.graph.shapes[node.outputs[0]])
            pixels[node.layer] = pixels.get(node.layer, 0) + values // kernel.shape[-1]
    return np.array([pixels.get(unit.name, 0) for unit in pruning.units])
