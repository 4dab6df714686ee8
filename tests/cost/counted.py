"""Counting the MACs of a live model in two ways that share nothing with amc_tf."""

from math import prod

import numpy as np

# Class name -> what one call multiplies, by the shapes without batch (input, output) and its kernels' shapes.
_LAST = {"channels_last": slice(0, -1), "channels_first": slice(1, None)}


def macs_by_calls(model, inputs: list[np.ndarray]) -> int:
    """Runs the model on one example and adds up what every call of every layer multiplied.

    Every element of a kernel meets every output position once; of a transposed convolution, every input position.
    """
    total = 0
    undo = []

    def count(layer, call):
        def counting(x, *args, **kwargs):
            nonlocal total
            result = call(x, *args, **kwargs)
            total += _macs(layer, tuple(x.shape)[1:], tuple(result.shape)[1:])
            return result

        return counting

    layers = {id(layer): layer for layer in model._flatten_layers() if not hasattr(layer, "layers")}
    for layer in layers.values():
        if _kernels(layer):
            undo.append((layer, layer.call))
            layer.call = count(layer, layer.call)
    try:
        from tests import toys

        toys.outputs(model, inputs)
    finally:
        for layer, call in undo:
            layer.call = call
    return total


def _kernels(layer) -> list[tuple[int, ...]]:
    """Shapes of the arrays that a convolution or Dense layer multiplies with."""
    return [tuple(w.shape) for w in layer.weights if "kernel" in w.name.split("/")[-1]]


def _macs(layer, shape: tuple[int, ...], out_shape: tuple[int, ...]) -> int:
    place = _LAST[getattr(layer, "data_format", "channels_last")]
    positions = prod((shape if "Transpose" in type(layer).__name__ else out_shape)[place])
    return positions * sum(prod(kernel) for kernel in _kernels(layer))


def macs_by_profiler(model) -> int:
    """Half of the floating point operations that TensorFlow's own profiler finds in convolutions and products."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = [tf.TensorSpec((1, *tuple(t.shape)[1:]), t.dtype) for t in model.inputs]
    function = tf.function(lambda x: model(x, training=False), autograph=False)
    graph = convert_variables_to_constants_v2(function.get_concrete_function(*specs)).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    found = tf.compat.v1.profiler.profile(graph, options=options)
    kinds = {operation.name: operation.type for operation in graph.get_operations()}
    products = {"Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2", "Conv2DBackpropInput"}
    total, pending = 0, [found]
    while pending:
        node = pending.pop()
        pending.extend(node.children)
        if kinds.get(node.name) in products:
            total += node.float_ops
    return total // 2
