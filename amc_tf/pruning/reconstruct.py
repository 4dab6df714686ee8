"""Reconstruction: weights for the kept input channels that make up for the dropped ones, by least squares.

Let X be what a layer reads on calibration examples, a patch a row, and W its kernel. With the columns S kept and D
dropped, the layer should still put out X W. The correction V of the kept rows of W that comes nearest solves

    (C_SS + ridge I) V = C_SD W_D

with C the covariance of X. So a plan costs one small system a layer, and none where another plan kept the same
channels. X is what the layer reads in the original network, as in the paper (AMC, He et al., ECCV 2018), which keeps C
the same for all plans. Unlike the paper's, the correction knows kernels of any size, a constant term and a ridge.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from amc_tf.graph import keras_builder, keras_reader, rewrite
from amc_tf.graph.network import Graph, Node
from amc_tf.pruning.im2col import Reader, reader
from amc_tf.pruning.kernels import masks
from amc_tf.pruning.plan import WEIGHTS, Plan
from amc_tf.pruning.pruner import Pruner

RIDGE = 1e-3  # of the mean variance of a column: enough for columns that are sums of others, too little to be felt else
FEW = 0.1  # likewise, times columns / patches: what few patches say of many columns is mostly chance
PATCHES = 32  # an example and layer; neighbours tell little news
_BATCH = 32  # examples that the original network is run on at a time
_CACHE = 256 << 20  # bytes of corrections that are kept for other plans
_STEPS = 20  # of conjugate gradients
_NORMS = ("BatchNormalization", "SyncBatchNormalization")


@dataclass(frozen=True)
class Moments:
    """What is known of a layer's patches.

    Attributes:
        mean: (columns,), zeros where the layer has no constant to correct.
        covariance: (columns, columns) around that mean; None where there are fewer patches than columns.
        patches: (patches, columns) less the mean, over the root of their number; there alone.
        ridge: added to the diagonal of the covariance.
    """

    mean: np.ndarray
    covariance: np.ndarray | None
    patches: np.ndarray | None
    ridge: float

    def correction(self, kernel: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """What to add to the kept rows of a kernel.

        Args:
            kernel: (columns, outputs).
            kept: bool (columns,).

        Returns:
            (kept columns, outputs).
        """
        if self.covariance is not None:
            across = self.covariance[np.ix_(kept, ~kept)] @ kernel[~kept]
            return _solved(self.covariance[np.ix_(kept, kept)], self.ridge, across)
        rows, lost = self.patches[:, kept], self.patches[:, ~kept] @ kernel[~kept]
        return rows.T @ _solved(rows @ rows.T, self.ridge, lost)  # the same by the matrix inversion lemma

    def refitted(self, kernel: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """What to add to the kept weights of a kernel where each output has kept others.

        Every output is a system of its own; conjugate gradients work on all of them at once, with products of matrices
        only. A few steps are enough, and what they leave undone is mostly chance.

        Args:
            kernel: (columns, outputs).
            mask: bool (columns, outputs).

        Returns:
            (columns, outputs), zero where nothing is kept.
        """
        few = self.covariance is None
        diagonal = np.square(self.patches).sum(axis=0) if few else np.diagonal(self.covariance)
        inverse = mask / np.maximum(diagonal + self.ridge, np.finfo(np.float32).tiny)[:, None]
        rest = np.where(mask, self._times(np.where(mask, 0, kernel)), 0)
        found = np.zeros_like(kernel)
        direction = eased = inverse * rest
        size = (rest * eased).sum(axis=0)
        for _ in range(_STEPS):
            image = np.where(mask, self._times(direction) + self.ridge * direction, 0)
            step = size / np.maximum((direction * image).sum(axis=0), np.finfo(np.float32).tiny)
            found += step * direction
            rest -= step * image
            eased = inverse * rest
            before, size = size, (rest * eased).sum(axis=0)
            direction = eased + size / np.maximum(before, np.finfo(np.float32).tiny) * direction
        return found

    def _times(self, columns: np.ndarray) -> np.ndarray:
        """The covariance times a matrix."""
        if self.covariance is not None:
            return self.covariance @ columns
        return self.patches.T @ (self.patches @ columns)


class Reconstruction:
    """Reconstructs the weights of pruned networks.

    Layers that read channels which may go are corrected: convolutions (1x1, kxk; behind a depthwise one too) and Dense
    layers. Others, as grouped and transposed convolutions, keep their weights as they are.

    Args:
        pruning: of the network.
        inputs: calibration examples, one array (examples, ...) an input of the model.
        seed: of the places that patches are taken from.

    Attributes:
        layers: paths of the layers that it corrects.
    """

    def __init__(self, pruning: Pruner, inputs: Sequence[np.ndarray], seed: int = 0):
        self._pruning = pruning
        readers = {node.layer: found for node in pruning.graph.nodes if (found := reader(node)) is not None}
        if pruning.of == WEIGHTS:
            self.layers = tuple(unit.name for unit in pruning.units if unit.name in readers)
        else:
            self._sources = _shrinking(pruning, readers)
            self.layers = tuple(self._sources)
        self._constants = {layer: constant_place(pruning.graph, layer) for layer in self.layers}
        self._moments = self._measured({layer: readers[layer] for layer in self.layers}, inputs, seed)
        self._corrections: dict[tuple[str, bytes], tuple[np.ndarray, np.ndarray]] = {}
        self._lock = threading.Lock()

    def __call__(self, plan: Plan, sliced: Mapping) -> dict[str, tuple[np.ndarray, ...]]:
        """The weights of the smaller network, reconstructed.

        Args:
            plan: what stays.
            sliced: layer path -> arrays of the smaller network, see ChannelPruner.sliced.
        """
        if plan.of == WEIGHTS:
            return self._refitted(plan, sliced)
        kept = plan.kept(self._pruning.groups)
        weights = {layer: list(arrays) for layer, arrays in sliced.items()}
        for layer in self.layers:
            rows = rewrite.kept_positions(kept, self._sources[layer])
            if rows.all():
                continue
            correction, constant = self._correction(layer, rows)
            kernel = weights[layer][0]
            made = self._pruning.groups.axes.get((layer, 0, kernel.ndim - 1))
            outputs = slice(None) if made is None else rewrite.kept_positions(kept, made)
            added = correction[:, outputs].reshape(kernel.shape)
            weights[layer][0] = (kernel + added).astype(kernel.dtype)
            self._shift(weights, layer, constant[outputs])
        return {layer: tuple(arrays) for layer, arrays in weights.items()}

    def _refitted(self, plan: Plan, sliced: Mapping) -> dict[str, tuple[np.ndarray, ...]]:
        """The same for a plan of weights."""
        weights = {layer: list(arrays) for layer, arrays in sliced.items()}
        places = masks(self._pruning.graph, plan)
        for layer in (layer for layer in self.layers if layer in places):
            index, mask = places[layer]
            kernel = self._pruning.weights[layer][index]
            if not (kernel[~mask] != 0).any():
                continue
            flat = kernel.reshape(-1, kernel.shape[-1]).astype(np.float32, copy=False)
            kept, moments = mask.reshape(flat.shape), self._moments[layer]
            added = moments.refitted(flat, kept)
            weights[layer][index] = np.where(mask, kernel + added.reshape(kernel.shape), 0).astype(kernel.dtype)
            self._shift(weights, layer, moments.mean @ (np.where(kept, 0, flat) - added))
        return {layer: tuple(arrays) for layer, arrays in weights.items()}

    def _shift(self, weights: Mapping[str, list[np.ndarray]], layer: str, constant: np.ndarray) -> None:
        """Adds a constant (outputs,) to what a layer puts out, where there is a place for it."""
        if self._constants[layer] is not None:
            owner, index, sign = self._constants[layer]
            old = weights[owner][index]
            weights[owner][index] = (old + sign * constant).astype(old.dtype)

    def _correction(self, layer: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What to add to the kernel, (kept columns, outputs), and to each output, (outputs,)."""
        key = layer, rows.tobytes()
        with self._lock:
            if key in self._corrections:
                self._corrections[key] = self._corrections.pop(key)  # the last used is the last to go
                return self._corrections[key]
        kernel = self._pruning.weights[layer][0]
        kept, moments = np.tile(rows, int(np.prod(kernel.shape[:-2]))), self._moments[layer]
        kernel = kernel.reshape(-1, kernel.shape[-1]).astype(np.float32, copy=False)
        found = moments.correction(kernel, kept)
        constant = moments.mean[~kept] @ kernel[~kept] - moments.mean[kept] @ found
        if found.nbytes <= _CACHE:
            with self._lock:
                self._corrections[key] = found, constant
                while sum(added.nbytes for added, _ in self._corrections.values()) > _CACHE:
                    del self._corrections[next(iter(self._corrections))]
        return found, constant

    def _measured(self, readers: Mapping[str, Reader], inputs: Sequence[np.ndarray], seed: int) -> dict[str, Moments]:
        """Runs the original network and looks at what the layers read."""
        import tensorflow as tf

        kernels = {layer: self._pruning.weights[layer][0] for layer in readers}
        sums = {layer: _Sums(kernel[..., 0].size, bool(self._constants[layer])) for layer, kernel in kernels.items()}
        rng = np.random.default_rng([seed, 0])

        def watching(layer: str):
            def call(live, values, *args, **kwargs):
                sums[layer].add(readers[layer].sample(np.asarray(values, np.float32), PATCHES, rng))
                return type(live).call(live, values, *args, **kwargs)

            return call

        watched = keras_builder.override_calls(self._pruning.model, {layer: watching(layer) for layer in readers})
        structure = keras_reader.input_structure(watched)
        for start in range(0, len(inputs[0]), _BATCH):
            with tf.device("CPU:0"):  # a GPU does not compute the same twice, and a search that goes on must
                batch = [tf.convert_to_tensor(array[start : start + _BATCH]) for array in inputs]
                watched(tf.nest.pack_sequence_as(structure, batch), training=False)
        return {layer: collected.moments() for layer, collected in sums.items()}


class _Sums:
    """Collects patches: as sums of products once there are more of them than columns.

    Args:
        columns: of a patch.
        centred: whether moments are taken around the mean, which a constant can make up for.
    """

    def __init__(self, columns: int, centred: bool):
        self._patches: list[np.ndarray] = []
        self._count, self._total = 0, np.zeros(columns, np.float64)
        self._products: np.ndarray | None = None
        self._centred = centred
        self._origin: np.ndarray | None = None  # near the mean, so that large squares do not swallow small variances

    def add(self, patches: np.ndarray) -> None:
        """Takes in patches (patches, columns)."""
        if self._origin is None:
            self._origin = patches.mean(axis=0) * np.float32(self._centred)
        patches = patches - self._origin
        self._count += len(patches)
        self._total += patches.sum(axis=0, dtype=np.float64)
        self._patches.append(patches)
        if self._products is not None or self._count > len(self._total):
            rows = np.concatenate(self._patches)
            products = rows.T @ rows
            self._products = products if self._products is None else self._products + products
            self._patches = []

    def moments(self) -> Moments:
        """What was found."""
        shift = (self._total / self._count * self._centred).astype(np.float32)
        mean = self._origin + shift
        # Channels that never change still seem to, by what their values are rounded to.
        least = float(np.mean(np.square(mean))) * np.finfo(np.float32).eps ** 2
        share = RIDGE + FEW * len(mean) / self._count
        if self._products is not None:
            covariance = self._products / np.float32(self._count) - np.outer(shift, shift)
            return Moments(mean, covariance, None, max(share * float(np.trace(covariance)) / len(mean), least))
        patches = (np.concatenate(self._patches) - shift) / np.float32(np.sqrt(self._count))
        return Moments(mean, None, patches, max(share * float(np.square(patches).sum()) / len(mean), least))


def _shrinking(pruning: Pruner, readers: Mapping[str, Reader]) -> dict[str, np.ndarray]:
    """The layers that read channels which may go -> those channels, one a position of the axis."""
    units = {unit.name for unit in pruning.units}
    shrinking = np.zeros(pruning.groups.channels + 1, dtype=bool)  # the last entry answers for FIXED
    for group in pruning.groups.groups:
        shrinking[group.start : group.start + group.channels] = group.name in units
    return {
        layer: pruning.groups.axes[layer, 0, len(found.kernel)]
        for layer, found in readers.items()
        if shrinking[pruning.groups.axes.get((layer, 0, len(found.kernel)), -1)].any()
    }


def constant_place(graph: Graph, layer: str) -> tuple[str, int, int] | None:
    """Where a constant can be added to a layer's outputs: (layer, weight index, sign), or None.

    That is its bias or, as what is added before a BatchNormalization may as well be taken off its mean, that of the
    BatchNormalization which alone reads it.
    """
    calls = [node for node in graph.nodes if node.layer == layer]
    if len(calls[0].weights) == 2:
        return layer, 1, 1
    made = {call.outputs[0] for call in calls}
    reading = [node for node in graph.nodes if made & set(node.inputs)]
    norms = [node for node in graph.nodes if reading and node.layer == reading[0].layer]
    if made & set(graph.outputs) or not norms or reading != norms:
        return None
    if calls[0].settings.get("activation") not in (None, "linear") or not all(_by_channel(graph, n) for n in norms):
        return None
    return norms[0].layer, [weight.name for weight in norms[0].weights].index("moving_mean"), -1


def _by_channel(graph: Graph, node: Node) -> bool:
    """Whether a node is a BatchNormalization over the last axis."""
    last = len(graph.shapes[node.inputs[0]])  # the batch is axis 0
    return node.kind in _NORMS and np.ravel(node.settings["axis"]).tolist() in ([-1], [last])


def _solved(matrix: np.ndarray, ridge: float, right: np.ndarray) -> np.ndarray:
    """(matrix + ridge I)^-1 right, solved in double precision."""
    matrix = matrix.astype(np.float64)
    matrix[np.diag_indices(len(matrix))] += max(ridge, np.finfo(np.float32).tiny)
    return np.linalg.solve(matrix, right.astype(np.float64)).astype(np.float32)
