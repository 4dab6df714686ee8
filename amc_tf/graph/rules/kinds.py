"""The table kind of layer -> rule.

A kind that is not in the table is frozen, with the layer's name (`unknown`). Nothing is guessed.
"""

from amc_tf.graph.channel_ids import Tracer
from amc_tf.graph.network import Node
from amc_tf.graph.rules import weighted, weightless
from amc_tf.graph.rules.common import ELEMENTWISE_OPERATIONS, Rule, unknown


def trace(tracer: Tracer, node: Node) -> None:
    """Applies the rule of `node` and stores the labels of its outputs."""
    inputs = [tracer.labels[i] for i in node.inputs]
    rule = RULES.get(node.kind, unknown)
    if rule is unknown or not inputs:
        labels = unknown(tracer, node, *inputs)
    elif len(inputs) > 1 and rule not in (weightless.merge, weightless.concatenate):
        labels = unknown(tracer, node, *inputs, why="it is called with more tensors than one")
    else:
        labels = rule(tracer, node, *inputs)
    if labels is None:
        tracer.labels |= {tensor: (None,) * len(tracer.shape(tensor)) for tensor in node.outputs}
    else:
        (tensor,) = node.outputs
        tracer.labels[tensor] = labels


_LAYERS: dict[Rule, str] = {
    weighted.convolution: "Conv1D Conv2D Conv3D",
    weighted.transposed_convolution: "Conv1DTranspose Conv2DTranspose Conv3DTranspose",
    weighted.depthwise_convolution: "DepthwiseConv1D DepthwiseConv2D",
    weighted.separable_convolution: "SeparableConv1D SeparableConv2D",
    weighted.dense: "Dense",
    weighted.batch_normalization: "BatchNormalization SyncBatchNormalization",
    weighted.joint_normalization: "LayerNormalization GroupNormalization UnitNormalization RMSNormalization "
    "Normalization",
    weighted.parametric_relu: "PReLU",
    weighted.layer_scale: "LayerScale",
    weightless.activation: "Activation",
    weightless.softmax: "Softmax",
    weightless.same: "ReLU LeakyReLU ELU ThresholdedReLU SpatialDropout1D SpatialDropout2D SpatialDropout3D "
    "GaussianDropout GaussianNoise ActivityRegularization Identity StochasticDepth",
    weightless.dropout: "Dropout AlphaDropout",
    weightless.rescaling: "Rescaling",
    weightless.spatial: "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D "
    "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D GlobalAveragePooling2D "
    "GlobalAveragePooling3D UpSampling1D UpSampling2D UpSampling3D Resizing CenterCrop RandomFlip RandomRotation "
    "RandomZoom RandomTranslation RandomCrop RandomContrast RandomBrightness",
    weightless.padding: "ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D Cropping3D",
    weightless.flatten: "Flatten",
    weightless.reshape: "Reshape",
    weightless.permute: "Permute",
    weightless.repeat_vector: "RepeatVector",
    weightless.concatenate: "Concatenate",
    weightless.merge: "Add Subtract Multiply Average Maximum Minimum",
}
_OPERATIONS: dict[Rule, str] = {
    weightless.merge: " ".join(sorted(ELEMENTWISE_OPERATIONS)),
    weightless.softmax: "softmax log_softmax",
    weightless.reduction: "mean max min sum prod",
    weightless.concatenate: "concatenate",
    weightless.reshape: "reshape",
    weightless.permute: "transpose",
    weightless.pad: "pad",
    weightless.spatial: "resize",
    weightless.expand_dims: "expand_dims",
    weightless.squeeze: "squeeze",
    weightless.getitem: "getitem",
}
RULES: dict[str, Rule] = {kind: rule for rule, kinds in _LAYERS.items() for kind in kinds.split()} | {
    "op:" + name: rule for rule, names in _OPERATIONS.items() for name in names.split()
}
