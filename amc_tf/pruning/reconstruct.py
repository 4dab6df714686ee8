"""Least-squares reconstruction: corrects the kept weights of a pruned network for the dropped ones.

Each corrected layer should put out what it did before, given the inputs that it had in the original network, as in the
paper (AMC, He et al., ECCV 2018). So the covariance of those inputs is measured once, for all plans. A plan costs one
small linear system per layer (see moments.py), and none if an earlier plan kept the same channels. Unlike the paper's,
the correction covers kernels of any size, a constant term and a ridge.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from amc_tf.graph import keras_builder, keras_reader, rewrite
from amc_tf.graph.network import Graph, Node, WeightArrays
from amc_tf.pruning.im2col import Im2col, im2col_of
from amc_tf.pruning.kernels import masks
from amc_tf.pruning.moments import Moments, MomentSums
from amc_tf.pruning.plan import WEIGHTS, Plan
from amc_tf.pruning.pruner import Pruner

ROWS = 32  # im2col rows per example and layer; neighbouring positions say nearly the same
_BATCH = 32  # calibration examples per run of the original network
_CACHE = 256 << 20  # bytes of corrections that are kept for other plans
_NORMS = ("BatchNormalization", "SyncBatchNormalization")


class Reconstruction:
    """Reconstructs the weights of pruned networks.

    It corrects convolutions (1x1, kxk, also behind a depthwise one) and Dense layers that read channels of a unit. All
    other layers, such as grouped and transposed convolutions, keep their weights.

    Args:
        pruner: the pruner of the network.
        inputs: calibration examples, one array (examples, ...) per input of the model.
        seed: of the random positions of the im2col rows.

    Attributes:
        layers: paths of the layers that it corrects.
    """

    def __init__(self, pruner: Pruner, inputs: Sequence[np.ndarray], seed: int = 0):
        self._pruner = pruner
        im2cols = {node.layer: im2col for node in pruner.graph.nodes if (im2col := im2col_of(node)) is not None}
        if pruner.of == WEIGHTS:
            self.layers = tuple(unit.name for unit in pruner.units if unit.name in im2cols)
        else:
            self._input_channels = _prunable_inputs(pruner, im2cols)
            self.layers = tuple(self._input_channels)
        self._constant_slots = {layer: constant_slot(pruner.graph, layer) for layer in self.layers}
        self._moments = self._measure_moments({layer: im2cols[layer] for layer in self.layers}, inputs, seed)
        self._corrections: dict[tuple[str, bytes], tuple[np.ndarray, np.ndarray]] = {}
        self._lock = threading.Lock()

    def __call__(self, plan: Plan, sliced: WeightArrays) -> dict[str, tuple[np.ndarray, ...]]:
        """Corrects the weights of a pruned network.

        Args:
            plan: what stays.
            sliced: layer path -> arrays of the pruned network, see Pruner.sliced.

        Returns:
            The corrected weights, layer path -> arrays.
        """
        correct = self._correct_weights if plan.of == WEIGHTS else self._correct_channels
        weights = {layer: list(arrays) for layer, arrays in sliced.items()}
        correct(plan, weights)
        return {layer: tuple(arrays) for layer, arrays in weights.items()}

    def _correct_channels(self, plan: Plan, weights: Mapping[str, list[np.ndarray]]) -> None:
        """Corrects `weights` in place for a plan of channels."""
        kept = plan.kept(self._pruner.groups)
        for layer in self.layers:
            inputs = rewrite.kept_positions(kept, self._input_channels[layer])
            if inputs.all():
                continue
            correction, constant = self._correction(layer, inputs)
            kernel = weights[layer][0]
            output_ids = self._pruner.groups.axes.get((layer, 0, kernel.ndim - 1))
            outputs = slice(None) if output_ids is None else rewrite.kept_positions(kept, output_ids)
            weights[layer][0] = (kernel + correction[:, outputs].reshape(kernel.shape)).astype(kernel.dtype)
            self._add_constant(weights, layer, constant[outputs])

    def _correct_weights(self, plan: Plan, weights: Mapping[str, list[np.ndarray]]) -> None:
        """Corrects `weights` in place for a plan of weights."""
        masks_of_layers = masks(self._pruner.graph, plan)
        for layer in (layer for layer in self.layers if layer in masks_of_layers):
            index, mask = masks_of_layers[layer]
            kernel = self._pruner.weights[layer][index]
            if not (kernel[~mask] != 0).any():
                continue
            flat = kernel.reshape(-1, kernel.shape[-1]).astype(np.float32, copy=False)
            kept, moments = mask.reshape(flat.shape), self._moments[layer]
            correction = moments.masked_correction(flat, kept)
            weights[layer][index] = np.where(mask, kernel + correction.reshape(kernel.shape), 0).astype(kernel.dtype)
            self._add_constant(weights, layer, moments.mean @ (np.where(kept, 0, flat) - correction))

    def _add_constant(self, weights: Mapping[str, list[np.ndarray]], layer: str, constant: np.ndarray) -> None:
        """Adds a constant (outputs,) to the outputs of a layer, if a weight can take it."""
        if self._constant_slots[layer] is not None:
            owner, index, sign = self._constant_slots[layer]
            old = weights[owner][index]
            weights[owner][index] = (old + sign * constant).astype(old.dtype)

    def _correction(self, layer: str, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The corrections of a kernel and of the outputs' constant.

        Args:
            layer: path of the layer.
            inputs: bool (input channels,), which ones stay.

        Returns:
            (kept columns, outputs) and (outputs,), to be added.
        """
        key = layer, inputs.tobytes()
        with self._lock:
            if key in self._corrections:
                self._corrections[key] = self._corrections.pop(key)  # moves it to the end: the oldest is evicted first
                return self._corrections[key]
        kernel = self._pruner.weights[layer][0]
        kept, moments = np.tile(inputs, int(np.prod(kernel.shape[:-2]))), self._moments[layer]
        kernel = kernel.reshape(-1, kernel.shape[-1]).astype(np.float32, copy=False)
        correction = moments.correction(kernel, kept)
        constant = moments.mean[~kept] @ kernel[~kept] - moments.mean[kept] @ correction
        if correction.nbytes <= _CACHE:
            with self._lock:
                self._corrections[key] = correction, constant
                while sum(cached.nbytes for cached, _ in self._corrections.values()) > _CACHE:
                    del self._corrections[next(iter(self._corrections))]
        return correction, constant

    def _measure_moments(
        self, im2cols: Mapping[str, Im2col], inputs: Sequence[np.ndarray], seed: int
    ) -> dict[str, Moments]:
        """Runs the original network on the examples and collects the im2col rows of each layer."""
        import tensorflow as tf

        kernels = {layer: self._pruner.weights[layer][0] for layer in im2cols}
        sums = {
            layer: MomentSums(kernel[..., 0].size, centred=self._constant_slots[layer] is not None)
            for layer, kernel in kernels.items()
        }
        rng = np.random.default_rng([seed, 0])

        def recording(layer: str) -> Callable[..., Any]:
            def call(live: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
                sums[layer].add(im2cols[layer].sample(np.asarray(values, np.float32), ROWS, rng))
                return type(live).call(live, values, *args, **kwargs)

            return call

        model = keras_builder.override_calls(self._pruner.model, {layer: recording(layer) for layer in im2cols})
        structure = keras_reader.input_structure(model)
        for start in range(0, len(inputs[0]), _BATCH):
            with tf.device("CPU:0"):  # a GPU's results differ from run to run, and a resumed search must not
                batch = [tf.convert_to_tensor(array[start : start + _BATCH]) for array in inputs]
                model(tf.nest.pack_sequence_as(structure, batch), training=False)
        return {layer: collected.moments() for layer, collected in sums.items()}


def _prunable_inputs(pruner: Pruner, im2cols: Mapping[str, Im2col]) -> dict[str, np.ndarray]:
    """Layers that read channels of a unit -> the channel ids of their input axis."""
    units = {unit.name for unit in pruner.units}
    prunable = np.zeros(pruner.groups.channels + 1, dtype=bool)  # FIXED (-1) reads the last entry
    for group in pruner.groups.groups:
        prunable[group.start : group.start + group.channels] = group.name in units
    return {
        layer: pruner.groups.axes[layer, 0, len(im2col.kernel)]
        for layer, im2col in im2cols.items()
        if prunable[pruner.groups.axes.get((layer, 0, len(im2col.kernel)), -1)].any()
    }


def constant_slot(graph: Graph, layer: str) -> tuple[str, int, int] | None:
    """The weight that can take a constant to be added to a layer's outputs.

    It is the layer's bias. A layer without one may be read by a single BatchNormalization: there, subtracting the
    constant from the moving mean has the same effect.

    Returns:
        (layer, weight index, sign), or None.
    """
    calls = [node for node in graph.nodes if node.layer == layer]
    if len(calls[0].weights) == 2:
        return layer, 1, 1
    outputs = {call.outputs[0] for call in calls}
    readers = [node for node in graph.nodes if outputs & set(node.inputs)]
    norms = [node for node in graph.nodes if readers and node.layer == readers[0].layer]
    if outputs & set(graph.outputs) or not norms or readers != norms:
        return None
    if calls[0].settings.get("activation") not in (None, "linear") or not all(_is_norm(graph, n) for n in norms):
        return None
    return norms[0].layer, [weight.name for weight in norms[0].weights].index("moving_mean"), -1


def _is_norm(graph: Graph, node: Node) -> bool:
    """Whether a node is a BatchNormalization over the last axis."""
    last = len(graph.shapes[node.inputs[0]])  # the batch is axis 0
    return node.kind in _NORMS and np.ravel(node.settings["axis"]).tolist() in ([-1], [last])
