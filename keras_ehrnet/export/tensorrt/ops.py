"""Which operations TF-TRT can hand to TensorRT: the converters registered in the CUDA build of TensorFlow 2.17.1."""

from __future__ import annotations

CONVERTIBLE = frozenset(
    [
        "Abs", "Acos", "Acosh", "Add", "AddN", "AddV2", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AvgPool",
        "AvgPool3D", "BatchMatMul", "BatchMatMulV2", "BiasAdd", "Cast", "Ceil", "ClipByValue",
        "CombinedNonMaxSuppression", "ConcatV2", "Const", "Conv2D", "Conv2DBackpropInput", "Conv3D",
        "Conv3DBackpropInputV2", "Cos", "Cosh", "DataFormatVecPermute", "DepthToSpace", "DepthwiseConv2dNative", "Div",
        "Einsum", "Elu", "Equal", "Erf", "Exp", "ExpandDims", "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars",
        "Fill", "Floor", "FloorDiv", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3",
        "FusedConv2DBiasActivation", "GatherV2", "Greater", "GreaterEqual", "Identity", "IdentityN", "LeakyRelu",
        "Less", "LessEqual", "Log", "LogSoftmax", "LogicalAnd", "LogicalNot", "LogicalOr", "MatMul", "Max", "MaxPool",
        "MaxPool3D", "Maximum", "Mean", "Min", "Minimum", "Mul", "Neg", "OnesLike", "Pack", "Pad", "Pow", "Prod",
        "QuantizeAndDequantizeV2", "QuantizeAndDequantizeV3", "Range", "ReadVariableOp", "RealDiv", "Reciprocal",
        "Relu", "Relu6", "Reshape", "ResizeBilinear", "ResizeNearestNeighbor", "Round", "Rsqrt", "Select", "SelectV2",
        "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Sinh", "Slice", "Snapshot", "Softmax", "Softplus", "Softsign",
        "SpaceToDepth", "Split", "Sqrt", "Square", "SquaredDifference", "Squeeze", "StopGradient", "StridedSlice",
        "Sub", "Sum", "Tan", "Tanh", "Tile", "TopKV2", "Transpose", "Unpack", "VariableV2", "ZerosLike",
        "_CopyFromHostToGpu", "ones_like", "zeros_like",
    ]
)  # fmt: skip
