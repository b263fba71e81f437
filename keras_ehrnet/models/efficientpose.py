"""EfficientPose RT, I-IV and Lite: single-person pose with part affinity fields, in three passes."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from keras_ehrnet.families import FAMILIES
from keras_ehrnet.models import blocks, efficientnet
from keras_ehrnet.models.blocks import Style, Tensor
from keras_ehrnet.models.scaling import EFFICIENTNET_SCALING, lookup
from keras_ehrnet.support.messages import suggests_keywords
from keras_ehrnet.support.pinned import pinned
from keras_ehrnet.weights.formats import WeightsSource

EPSILON = 1e-3
BACKBONE_STYLE = Style("silu", EPSILON, 0.99, squeeze_excitation=True)
DETECTION_STYLE = Style("eswish", EPSILON, 0.99, squeeze_excitation=True)
LITE_STYLE = Style("relu6", EPSILON, 0.99)
UPSCALING_STEPS = 3


@dataclass(frozen=True)
class EfficientPoseScaling:
    """Sizes of one variant (Table 2 of arXiv 2004.12186).

    Args:
        resolution: int. Side of the square input image, in pixels.
        high_level: int. Which EfficientNet (B0..B7) gives the high-level backbone.
        low_level: int or None. The same for the low-level backbone; None where there is none.
        dense_blocks: int. Mobile DenseNets per pass.
        lite: bool. Whether the network is for integer hardware: no squeeze-excitation, ReLU6.
    """

    resolution: int
    high_level: int
    low_level: int | None
    dense_blocks: int
    lite: bool = False


EFFICIENTPOSE_SCALING: dict[str, EfficientPoseScaling] = {
    "RT": EfficientPoseScaling(224, 0, None, 1),
    "I": EfficientPoseScaling(256, 2, 0, 1),
    "II": EfficientPoseScaling(368, 4, 0, 2),
    "III": EfficientPoseScaling(480, 5, 1, 3),
    "IV": EfficientPoseScaling(600, 7, 3, 4),
    "RT_LITE": EfficientPoseScaling(224, 0, None, 1, lite=True),
    "I_LITE": EfficientPoseScaling(256, 2, None, 1, lite=True),
    "II_LITE": EfficientPoseScaling(368, 4, None, 2, lite=True),
}


@suggests_keywords
@pinned
def EfficientPose(  # noqa: N802
    variant: str = "RT",
    *,
    num_keypoints: int = 16,
    num_limbs: int = 14,
    input_shape: tuple[int | None, int | None, int] | None = None,
    include_preprocessing: bool = True,
    intermediate_outputs: bool | None = None,
    weights: WeightsSource | None = None,
    name: str | None = None,
) -> keras.Model:
    """EfficientPose: one person per image, or several through its part affinity fields.

    A high-level backbone sees the image, a low-level one its half-size copy. The first pass draws the part affinity
    fields (pafs), the second coarse heatmaps, the third fine ones, each seeing what the one before it saw; three
    transposed convolutions that start as bilinear interpolation bring the last heatmaps to full size.

    Args:
        variant: str. `"RT"`, `"I"`, `"II"`, `"III"`, `"IV"`, `"RT_LITE"`, `"I_LITE"` or `"II_LITE"`.
        num_keypoints: int. K, joints per person.
        num_limbs: int. L, limbs of the part affinity fields.
        input_shape: tuple (height, width, 3), or None. Multiples of 8; sides may be None (any size). The default is
            the variant's own square size.
        include_preprocessing: bool. If True the input is RGB in [0, 255], normalized inside the graph; if False it is
            normalized already.
        intermediate_outputs: bool or None. Whether the first two passes have outputs: training supervises them, and
            the part affinity fields tell several people apart. None: as published, with them, but for Lite without.
        weights: str, path or mapping, or None. What `keras_ehrnet.weights.load` takes.
        name: str or None. Name of the model.

    Returns:
        `keras.Model` whose outputs are a dict: `"heatmaps_fine"` of shape `(B, H/8, W/8, K)`, `"heatmaps"` of shape
        `(B, H, W, K)` and, with the intermediate outputs, `"pafs"` of shape `(B, H/8, W/8, 2L)` and
        `"heatmaps_coarse"` of shape `(B, H/8, W/8, K)`.

    Raises:
        ValueError: for an unknown variant, or an input shape that does not divide.

    References:
        Groos et al. 2020, arXiv 2004.12186, section 3 and Table 2.

    Example:
        >>> import keras_ehrnet as ke
        >>> ke.EfficientPose("RT").output["heatmaps"].shape
        (None, 224, 224, 16)
    """
    scaling = lookup(EFFICIENTPOSE_SCALING, variant, "variant of EfficientPose")
    blocks.check_count(num_keypoints, "num_keypoints")
    blocks.check_count(num_limbs, "num_limbs")
    side = scaling.resolution
    shape = blocks.check_input_shape(input_shape, (side, side, 3), FAMILIES["efficientpose"].multiple)
    inputs = blocks.image_input(shape)
    x = blocks.preprocess(inputs, lite=scaling.lite) if include_preprocessing else inputs
    features = _cross_resolution_features(x, scaling)
    # The detection blocks are as wide as the high-level backbone's last stage.
    width = features[0].shape[-1]

    skeleton = _detection_pass(features, scaling, width, "pass1")
    coarse = _detection_pass([skeleton, *features], scaling, width, "pass2")
    fine = _detection_pass([coarse, *features], scaling, width, "pass3")
    heatmaps_fine = blocks.map_conv(fine, num_keypoints, "heatmaps_fine")
    outputs = {"heatmaps_fine": heatmaps_fine, "heatmaps": _upscaled(heatmaps_fine, num_keypoints)}
    if intermediate_outputs or (intermediate_outputs is None and not scaling.lite):
        outputs["pafs"] = blocks.map_conv(skeleton, 2 * num_limbs, "pafs")
        outputs["heatmaps_coarse"] = blocks.map_conv(coarse, num_keypoints, "heatmaps_coarse")
    model = keras.Model(inputs, outputs, name=name or f"efficientpose-{variant.lower().replace('_', '-')}")
    return blocks.finish(model, weights)


def _cross_resolution_features(x: Tensor, scaling: EfficientPoseScaling) -> list[Tensor]:
    """Features at stride 8: from the image (three stages), and from its half-size copy (two stages)."""
    style = LITE_STYLE if scaling.lite else BACKBONE_STYLE
    high_scaling = EFFICIENTNET_SCALING[scaling.high_level]
    features = [efficientnet.backbone(x, style, high_scaling, num_stages=3, lite=scaling.lite, suffix="_high")[-1]]
    if scaling.low_level is not None:
        half = layers.AveragePooling2D(2, name="half_size")(x)
        low_scaling = EFFICIENTNET_SCALING[scaling.low_level]
        low = efficientnet.backbone(half, style, low_scaling, num_stages=2, last_residual=False, suffix="_low")
        features.append(low[-1])
    return features


def _detection_pass(features: list[Tensor], scaling: EfficientPoseScaling, width: int, name: str) -> Tensor:
    """Mobile DenseNets: three MBConv blocks each, whose outputs are concatenated newest first."""
    x = features[0] if len(features) == 1 else layers.Concatenate(name=f"{name}_concat")(features)
    for block in range(1, scaling.dense_blocks + 1):
        x = _mobile_dense_net(x, scaling, width, f"{name}_block{block}")
    return x


def _mobile_dense_net(x: Tensor, scaling: EfficientPoseScaling, width: int, name: str) -> Tensor:
    style = LITE_STYLE if scaling.lite else DETECTION_STYLE
    dense = None
    for number in range(1, 4):
        new = blocks.inverted_residual(
            x if dense is None else dense,
            style,
            filters=width,
            kernel=5,
            expanded=6 * width,
            squeezed=width // 4,
            residual=False,
            name=f"{name}_mbconv{number}",
        )
        dense = new if dense is None else layers.Concatenate(name=f"{name}_dense{number}")([new, dense])
    return dense


def _upscaled(heatmaps: Tensor, num_keypoints: int) -> Tensor:
    """Enlarged eight times by transposed convolutions that training may change."""
    names = [f"upscaling{step}" for step in range(1, UPSCALING_STEPS)] + ["heatmaps"]
    for name in names:
        layer = layers.Conv2DTranspose(num_keypoints, 4, 2, "same", dtype=blocks.full_precision(), name=name)
        heatmaps = layer(heatmaps)
        layer.kernel.assign(bilinear_kernel(num_keypoints))
    return heatmaps


def bilinear_kernel(channels: int) -> np.ndarray:
    """The 4x4/2 transposed convolution that interpolates bilinearly, each channel for itself.

    Example:
        >>> from keras_ehrnet.models.efficientpose import bilinear_kernel
        >>> bilinear_kernel(1)[0, :, 0, 0].tolist()
        [0.0625, 0.1875, 0.1875, 0.0625]
    """
    tent = np.array([0.25, 0.75, 0.75, 0.25], np.float32)
    kernel = np.zeros((4, 4, channels, channels), np.float32)
    kernel[..., np.arange(channels), np.arange(channels)] = np.outer(tent, tent)[..., None]
    return kernel
