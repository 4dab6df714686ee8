"""Sparse-encoded files compute the same, are as large as foretold, and are encoded as the converter does it."""

from collections import Counter

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from amc_tf.errors import ConversionError
from amc_tf.tflite.conversion.keras_to_tflite import arguments, check, convert
from amc_tf.tflite.flatbuffer import pack, unpack
from amc_tf.tflite.operators import operators
from amc_tf.tflite.sparse import encoding
from tests.toys import randomized

SHARED_BY_ALL = 140  # bytes
PADDING = 32  # a kernel


def thinned(model, share, seed=0):
    """Zeros that share of every kernel at random; in place."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        weights = layer.get_weights()
        if weights and weights[0].ndim > 1 and "Depthwise" not in type(layer).__name__:
            weights[0][rng.permutation(weights[0].size).reshape(weights[0].shape) < share * weights[0].size] = 0
            layer.set_weights(weights)
    return model


def network(keras):
    """Kernels of every kind, some with few and some with many input channels, one read twice, one too small to gain."""
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(24, 3, padding="same", activation="relu")(image)
    shared = layers.Conv2D(24, 3, padding="same")
    x = shared(shared(x))
    x = layers.Conv2D(300, 1, activation="relu")(layers.DepthwiseConv2D(3)(x))
    x = layers.Conv2DTranspose(16, 3)(x)
    x = layers.Dense(40, activation="relu")(layers.Flatten()(x))
    return randomized(keras.Model(image, [layers.Dense(1, name="tiny")(x), layers.Dense(200, name="wide")(x)]))


def outputs(tflite, kernels):
    interpreter = Interpreter(model_content=tflite, num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], np.random.default_rng(0).uniform(-1, 1, detail["shape"]).astype(np.float32))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]).copy() for detail in interpreter.get_output_details()]


def encodings(tflite):
    """{shape: all that says how a constant is encoded} of the sparse ones that are no depthwise kernels."""
    file = unpack(tflite)
    found = {}
    for tensor in file.subgraphs[0].tensors:
        shape, encoding = tuple(map(int, tensor.shape)), tensor.sparsity
        if encoding is None or shape[0] == 1:
            continue
        dimensions = [
            (d.format, d.denseSize * (d.format == 0))
            + tuple((type(v).__name__, np.asarray(v.values).tolist()) for v in (d.arraySegments, d.arrayIndices) if v)
            for d in encoding.dimMetadata
        ]
        values = file.buffers[tensor.buffer].data.view(np.float32).tolist()
        found[shape] = list(encoding.traversalOrder), dimensions, values
    return found


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def dense(request):
    return convert(thinned(network(pytest.importorskip(request.param)), 0.8))


@pytest.mark.parametrize("kernels", [OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES])
def test_the_outputs_are_the_same_to_the_bit(dense, kernels):
    encoded = encoding.encoded(dense)
    check(encoded)
    assert len(encoded) < 0.4 * len(dense)
    for before, after in zip(outputs(dense, kernels), outputs(encoded, kernels), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_kernel_is_unpacked_once_and_a_small_one_stays_dense(dense):
    encoded = encoding.encoded(dense)
    assert operators(encoded) - operators(dense) == Counter(DENSIFY=6)  # of 7 kernels and a depthwise one
    assert len(unpack(encoded).operatorCodes) == len(unpack(dense).operatorCodes) + 1


def test_the_encoding_is_the_converters():
    import keras
    import tensorflow as tf

    model = thinned(network(keras), 0.8)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(*arguments(model, 1))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    theirs, ours = encodings(converter.convert()), encodings(encoding.encoded(convert(model)))
    assert len(ours) == 6 and ours == {shape: theirs[shape] for shape in ours}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
def test_the_size_is_foretold(share):
    import keras

    model = thinned(network(keras), share)
    dense = convert(model)
    kernels = {layer.name: layer.get_weights()[0] for layer in model.layers
               if layer.get_weights() and "Depthwise" not in type(layer).__name__}  # fmt: skip
    expected = len(pack(unpack(dense)))
    for kernel in kernels.values():
        in_tflite = np.moveaxis(kernel, -1, 0).shape
        if kernel.ndim == 4 and kernel.shape == (3, 3, 16, 300):  # the transposed one has its inputs last already
            in_tflite = (16, 3, 3, 300)
        expected += encoding.kernel_bytes(in_tflite, np.count_nonzero(kernel)) - kernel.nbytes
    encoded = encoding.encoded(dense)
    assert abs(len(encoded) - expected) <= SHARED_BY_ALL + PADDING * len(kernels)
    assert share > 0 or encoded == pack(unpack(dense))


@pytest.mark.parametrize("shape", [(3, 1), (10, 256), (4, 3, 3, 257), (2, 70000), (300, 1, 1, 300)])
def test_bytes_never_fall_with_more_weights(shape):
    size = int(np.prod(shape))
    some = sorted({*range(min(size, 700)), *range(0, size, 97), size})  # the types of the indices change within
    bytes_of = [encoding.kernel_bytes(shape, kept) for kept in some]
    assert bytes_of == sorted(bytes_of)
    assert bytes_of[-1] == 4 * size


@pytest.mark.parametrize("kept", [-1, 13])
def test_more_weights_than_there_are(kept):
    with pytest.raises(ValueError, match=rf"kept is {kept}; a kernel of shape \(4, 3\) has 0 to 12"):
        encoding.kernel_bytes((4, 3), kept)


def test_a_file_that_is_none():
    with pytest.raises(ConversionError, match=r"is no \.tflite"):
        encoding.encoded(b"nothing")
