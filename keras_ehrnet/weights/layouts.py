"""Names: which tensor of a published file belongs to which weight of our models.

Each layout is a table of rules from our layer names to published ones, and of how each weight's axes are ordered there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_ehrnet.families import family_of

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Slot:
    """One weight of a model, and the published tensor that fills it.

    Args:
        variable: `keras.Variable`. The weight.
        weight: str. Our name of it, `layer/weight`.
        tensor: str. The published name.
        axes: tuple of int, or None. Order in which the tensor's axes become the weight's.
        half: int, or None. Which half of the tensor's first axis belongs to this weight, 0 or 1; None: all of it.
        optional: bool. Whether published files may lack it.
    """

    variable: keras.Variable
    weight: str
    tensor: str
    axes: tuple[int, ...] | None = None
    half: int | None = None
    optional: bool = False

    def value(self, tensor: np.ndarray) -> np.ndarray:
        """The published tensor, cut and turned into the weight's shape."""
        part = np.asarray(tensor)
        if self.half is not None and part.ndim:
            part = np.array_split(part, 2)[self.half]
        if self.axes is None or part.ndim != len(self.axes):
            return part
        return part.transpose(self.axes)


# PyTorch's names and axes for the weights of each kind of layer.
_TORCH_WEIGHTS: dict[str, dict[str, tuple[str, tuple[int, ...] | None]]] = {
    "Conv2D": {"kernel": ("weight", (2, 3, 1, 0)), "bias": ("bias", None)},
    "Conv2DTranspose": {"kernel": ("weight", (2, 3, 1, 0)), "bias": ("bias", None)},
    "DepthwiseConv2D": {"kernel": ("weight", (2, 3, 0, 1)), "bias": ("bias", None)},
    "Dense": {"kernel": ("weight", (1, 0)), "bias": ("bias", None)},
    "BatchNormalization": {
        "gamma": ("weight", None),
        "beta": ("bias", None),
        "moving_mean": ("running_mean", None),
        "moving_variance": ("running_var", None),
    },
}

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""Patterns of names, and what they become."""

_EFFICIENTHRNET_RULES: Rules = (
    (r"transition(\d)_branch(\d)_conv", lambda m: f"trans{m[1]}_branch{int(m[2]) + 1}.0"),
    (r"transition(\d)_branch(\d)_bn", lambda m: f"trans{m[1]}_branch{int(m[2]) + 1}.1"),
    (r"stage(\d)_module(\d)_branch(\d)_block(\d)_(\w+)", r"stage\1.\2.branches.\3.\4.\5"),
    (r"head_deconv", "deconv_layers.0.0.0"),
    (r"head_bn", "deconv_layers.0.0.1"),
    (r"head_block(\d)_(\w+)", lambda m: f"deconv_layers.0.{int(m[1]) + 1}.0.{m[2]}"),
    (r"(heatmaps|tags)_4", "final_layers.0"),
    (r"heatmaps_2", "final_layers.1"),
)

_NAS_RULES: Rules = (
    (r"stem_(conv|bn)", r"first.0.\1"),
    (r"stem_separable_dwconv", "first.1.conv"),
    (r"stem_separable_bn", "first.1.bn"),
    (r"stem_separable_project_conv", "first.2"),
    (r"stem_separable_project_bn", "first.3"),
    (r"head_deconv0", "deconv_layers.0"),
    (r"head_bn0", "deconv_layers.1"),
    (r"head_deconv1", "deconv_layers.3"),
    (r"head_bn1", "deconv_layers.4"),
    (r"correction_dwconv", "final.0"),
    (r"heatmaps", "final.2"),
)
_NAS_BLOCK_PARTS = {
    "expand_conv": "pw.conv",
    "expand_bn": "pw.bn",
    "dwconv": "dw.conv",
    "bn": "dw.bn",
    "project_conv": "pwl.conv",
    "project_bn": "pwl.bn",
}

# Position of each part inside a published EfficientNet block, without and with the expansion convolution.
_BACKBONE_PARTS = {
    "dwconv": ("conv.0.1", "conv.1.1"),
    "bn": ("conv.0.2", "conv.1.2"),
    "se_reduce": ("conv.1.se.1", "conv.2.se.1"),
    "se_expand": ("conv.1.se.3", "conv.2.se.3"),
    "project_conv": ("conv.2", "conv.3"),
    "project_bn": ("conv.3", "conv.4"),
    "expand_conv": ("", "conv.0.1"),
    "expand_bn": ("", "conv.0.2"),
}

_PASSES = {"1": "skeleton", "2": "detection1", "3": "detection2"}
_RESOLUTIONS = {"high": "res1", "low": "res2"}
_MBCONV_PARTS = {
    "expand_conv": "conv1",
    "expand_bn": "conv1_bn",
    "dwconv": "dconv1",
    "bn": "dconv1_bn",
    "se_reduce": "se_se_squeeze_conv",
    "se_expand": "se_se_excite_conv",
    "project_conv": "conv2",
    "project_bn": "conv2_bn",
}
_EFFICIENTPOSE_RULES: Rules = (
    (r"(stem_conv|stem_bn)_(high|low)", lambda m: f"{m[1]}_{_RESOLUTIONS[m[2]]}"),
    (r"block(\d\w)_(high|low)_(\w+)", lambda m: f"block{m[1]}_{m[3]}_{_RESOLUTIONS[m[2]]}"),
    (
        r"pass(\d)_block(\d)_mbconv(\d)_(\w+)",
        lambda m: f"pass{m[1]}_block{m[2]}_mbconv{m[3]}_{_PASSES[m[1]]}_{_MBCONV_PARTS[m[4]]}",
    ),
    (r"pafs", "pass1_skeleton_pafs"),
    (r"heatmaps_coarse", "pass2_detection1_confs"),
    (r"heatmaps_fine", "pass3_detection2_confs"),
    (r"upscaling(\d)", r"upscaled_deconv\1"),
    (r"heatmaps", "upscaled_confs"),
)
_LITE_STEM = {
    "stem_conv_high": "stem/conv2d/Conv2D_0",
    "stem_bn_high": "stem/tpu_batch_normalization/FusedBatchNormV3_0",
}
_LITE_PARTS = {
    "dwconv": ("depthwise_conv2d/depthwise_0", "depthwise_conv2d/depthwise_0"),
    "bn": ("tpu_batch_normalization/FusedBatchNormV3_0", "tpu_batch_normalization_1/FusedBatchNormV3_0"),
    "project_conv": ("conv2d/Conv2D_0", "conv2d_1/Conv2D_0"),
    "project_bn": ("tpu_batch_normalization_1/FusedBatchNormV3_0", "tpu_batch_normalization_2/FusedBatchNormV3_0"),
    "expand_conv": ("", "conv2d/Conv2D_0"),
    "expand_bn": ("", "tpu_batch_normalization/FusedBatchNormV3_0"),
}

_HALVES = {"heatmaps_4": 0, "tags_4": 1}
"""The published network draws heatmaps and tags with one convolution: heatmaps first."""

IGNORED = re.compile(r"(.*\.)?num_batches_tracked")
"""Published tensors that no layer needs."""


def torch_slots(model: keras.Model) -> Iterator[Slot]:
    """The published PyTorch tensors of an EfficientHRNet, EfficientNet or EfficientPose-A/B/C.

    Yields:
        `Slot` for every weight of the model.

    Raises:
        ValueError: if no PyTorch weights of this model were ever published.
    """
    family = family_of(model.output_names if isinstance(model.output, dict) else None)
    naming = _nas_name if family == "efficientpose_nas" else _backbone_or_hrnet_name
    blocks = _block_order(model)
    for layer in model.layers:
        weights = _TORCH_WEIGHTS.get(type(layer).__name__)
        if not weights:
            continue
        prefix = naming(layer, blocks)
        if family == "efficientpose" or prefix is None:
            raise ValueError(
                f"No PyTorch weights are known for layers such as {layer.name!r} of model {model.name!r}: "
                "EfficientHRNet, EfficientNet and EfficientPose-A/B/C have them, their Lite forms and "
                "EfficientPose RT..IV do not."
            )
        for variable in layer.weights:
            suffix, axes = weights[variable.name]
            half = _HALVES.get(layer.name)
            yield Slot(variable, f"{layer.name}/{variable.name}", f"{prefix}.{suffix}", axes, half)


def efficientpose_slots(model: keras.Model) -> Iterator[Slot]:
    """The tensors of a published EfficientPose `.h5` file.

    Yields:
        `Slot` for every weight of the model.

    Raises:
        ValueError: if the model is not an EfficientPose.
    """
    family = family_of(model.output_names if isinstance(model.output, dict) else None)
    if family != "efficientpose":
        raise ValueError(
            "This file holds weights of EfficientPose RT..IV or Lite; build the model with EfficientPose(variant). "
            f"Received: model {model.name!r}"
        )
    lite = not any(layer.name.endswith("se_reduce") for layer in model.layers)
    blocks = _block_order(model)
    for layer in model.layers:
        if type(layer).__name__ not in _TORCH_WEIGHTS:
            continue
        name = _lite_name(layer.name, blocks) if lite else None
        name = name or _apply(_EFFICIENTPOSE_RULES, layer.name)
        # The published Lite files hold the network for inference, without the heads of its first two passes.
        optional = lite and layer.name in ("pafs", "heatmaps_coarse")
        for variable in layer.weights:
            weight = variable.name
            if type(layer).__name__ == "DepthwiseConv2D" and weight == "kernel":
                weight = "depthwise_kernel"
            yield Slot(variable, f"{layer.name}/{variable.name}", f"{name}/{weight}", optional=optional)


def own_slots(model: keras.Model) -> Iterator[Slot]:
    """The tensors of a file that Keras saved: by layer, numbered."""
    for layer in model.layers:
        for index, variable in enumerate(layer.weights):
            yield Slot(variable, f"{layer.name}/{variable.name}", f"{layer.name}/{index}")


def _apply(rules: Rules, name: str) -> str | None:
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return replacement(match) if callable(replacement) else match.expand(replacement)
    return None


def _block_order(model: keras.Model) -> dict[str, int]:
    """Running number of each backbone block of a model, from 0, and whether it expands."""
    names = sorted({match[1] for layer in model.layers if (match := _BLOCK.match(layer.name))})
    return {name: index for index, name in enumerate(names)}


_BLOCK = re.compile(r"(block\d[a-z](?:_high)?)_(?!low)")
_BLOCK_PART = re.compile(r"(block\d[a-z](?:_high)?)_(?!high|low)(\w+)")


def _backbone_or_hrnet_name(layer: keras.Layer, blocks: dict[str, int]) -> str | None:
    fixed = {
        "stem_conv": "features.0.1",
        "stem_bn": "features.0.2",
        "top_conv": f"features.{len(blocks) + 1}.1",
        "top_bn": f"features.{len(blocks) + 1}.2",
        "predictions": "classifier.1",
    }
    if layer.name in fixed:
        return fixed[layer.name]
    match = _BLOCK_PART.fullmatch(layer.name)
    if match:
        # Only the first stage's blocks have no expansion convolution.
        part = _BACKBONE_PARTS.get(match[2], ("", ""))[not match[1].startswith("block1")]
        return f"features.{blocks[match[1]] + 1}.{part}" if part else None
    match = re.fullmatch(r"stage(\d)_module(\d)_fuse(\d)_from(\d)_(conv|bn)(\d)", layer.name)
    if match:
        stage, module, target, source, kind, step = match.groups()
        prefix = f"stage{stage}.{module}.fuse_layers.{target}.{source}"
        position = {"conv": 0, "bn": 1}[kind]
        return f"{prefix}.{position}" if source > target else f"{prefix}.{step}.{position}"
    return _apply(_EFFICIENTHRNET_RULES, layer.name)


def _nas_name(layer: keras.Layer, blocks: dict[str, int]) -> str | None:
    match = re.fullmatch(r"block(\d+)_(\w+)", layer.name)
    if match is None:
        return _apply(_NAS_RULES, layer.name)
    # The published names hold the block's kernel and expansion too; the number alone tells them apart.
    return f"blocks.stages.x{match[1]}.{_NAS_BLOCK_PARTS[match[2]]}"


def _lite_name(layer_name: str, blocks: dict[str, int]) -> str | None:
    if layer_name in _LITE_STEM:
        return _LITE_STEM[layer_name]
    match = _BLOCK_PART.fullmatch(layer_name)
    if match is None:
        return None
    part = _LITE_PARTS[match[2]][not match[1].startswith("block1")]
    return f"blocks_{blocks[match[1]]}/{part}"


def canonical_torch_name(name: str) -> str:
    """A published tensor name without what differs from file to file: `module.`, and the search's block labels."""
    name = name.removeprefix("module.")
    return re.sub(r"^(blocks\.stages\.x\d+)_ir_k\d+_e\d+\.", r"\1.", name)
