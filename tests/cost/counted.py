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


def macs_by_graph(model) -> int:
    """Half of the floating point operations of all products in the graph that TensorFlow traces, loops included.

    Only what the outputs need is counted, and no product of constants, which is computed before the first inference.
    """
    import tensorflow as tf

    specs = [tf.TensorSpec((1, *tuple(t.shape)[1:]), t.dtype) for t in tf.nest.flatten(model.inputs)]
    structure = getattr(model, "input", model.inputs[0])

    @tf.function(autograph=False)
    def infer(*values):
        return tf.nest.flatten(model(tf.nest.pack_sequence_as(structure, values), training=False))

    return _macs_of_graph(infer.get_concrete_function(*specs).graph)


def _macs_of_graph(graph) -> int:
    needed, pending = {}, [tensor.op for tensor in graph.outputs]
    while pending:
        op = pending.pop()
        if op.name not in needed:
            needed[op.name] = op
            pending.extend(tensor.op for tensor in op.inputs)
    return sum(_macs_of_op(op) for op in needed.values() if not _is_constant(op))


def _is_constant(op) -> bool:
    if op.type in ("Const", "VarHandleOp") or (op.type == "Placeholder" and op.outputs[0].dtype.name == "resource"):
        return True
    return bool(op.inputs) and all(_is_constant(tensor.op) for tensor in op.inputs)


def _macs_of_op(op) -> int:
    shapes = [tuple(tensor.shape) for tensor in op.inputs]
    if op.type in ("While", "StatelessWhile"):
        return _turns(op) * _macs_of_graph(_function(op, "body"))
    if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
        return _macs_of_graph(_function(op, "f"))
    if op.type in ("Conv2D", "Conv3D", "DepthwiseConv2dNative"):
        kernel = shapes[1][:2] if op.type.startswith("Depthwise") else shapes[1][:-1]
        return prod(_after_space_to_batch(op)) * prod(kernel)
    if op.type in ("Conv2DBackpropInput", "Conv3DBackpropInputV2"):  # the inputs: output shape, kernel, x
        return prod(shapes[2]) * prod(shapes[1][:-1])
    if op.type == "MatMul":
        return prod(tuple(op.outputs[0].shape)) * shapes[0][0 if op.get_attr("transpose_a") else 1]
    if op.type in ("BatchMatMul", "BatchMatMulV2"):
        return prod(tuple(op.outputs[0].shape)) * shapes[0][-2 if op.get_attr("adj_x") else -1]
    if op.type == "Einsum":
        letters = op.get_attr("equation").decode().partition("->")[0].split(",")
        return prod(dict(zip("".join(letters), [side for shape in shapes for side in shape], strict=True)).values())
    return 0


def _function(op, attribute: str):
    """The graph of a function that an operation calls."""
    return op.graph._get_function(op.get_attr(attribute).name).graph


def _after_space_to_batch(op) -> tuple[int, ...]:
    """The output of a convolution; of a dilated one that of the BatchToSpaceND behind it, without padding."""
    behind = [reader for reader in op.outputs[0].consumers() if reader.type == "BatchToSpaceND"]
    return tuple((behind or [op])[0].outputs[0].shape)


def _turns(loop) -> int:
    """A recurrent layer's loop turns once for every entry of the list that it reads."""
    lists = (tensor.op for tensor in loop.inputs if tensor.op.type == "TensorListFromTensor")
    (turns,) = {int(op.inputs[0].shape[0]) for op in lists}
    return turns
