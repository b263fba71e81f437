"""EfficientPose-A/B/C: the backbone found by architecture search, with a slim head; one person per crop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from keras_ehrnet.models import blocks as parts
from keras_ehrnet.models.blocks import Style, Tensor
from keras_ehrnet.models.searched import STRIDE, SearchedBackbone, read_backbone
from keras_ehrnet.support.messages import suggests_keywords
from keras_ehrnet.support.pinned import pinned
from keras_ehrnet.weights.formats import WeightsSource

STYLE = Style("relu", symmetric_padding=True)
STEM = 32
DECONVOLUTION_WIDTHS = (64, 32)


@suggests_keywords
@pinned
def EfficientPoseNAS(  # noqa: N802
    blocks: str | os.PathLike | Mapping[str, Any] | SearchedBackbone = "A",
    *,
    num_keypoints: int = 17,
    input_shape: tuple[int | None, int | None, int] | None = None,
    include_preprocessing: bool = True,
    weights: WeightsSource | None = None,
    name: str | None = None,
) -> keras.Model:
    """EfficientPose-A, -B or -C, or what a search of your own found: networks for crops of one person.

    Args:
        blocks: `"A"`, `"B"` or `"C"`; the path of a JSON file that `keras-ehrnet search` wrote, or its content; or a
            `SearchedBackbone`.
        num_keypoints: int. K, joints per person: 17 for COCO, 16 for MPII.
        input_shape: tuple (height, width, 3), or None. Multiples of 16; sides may be None (any size). The default is
            what was searched for: (256, 192, 3), the paper's for COCO; for MPII it is (256, 256, 3).
        include_preprocessing: bool. If True the input is RGB in [0, 255], normalized inside the graph; if False it is
            normalized already (ImageNet mean and deviation).
        weights: str, path or mapping, or None. What `keras_ehrnet.weights.load` takes.
        name: str or None. Name of the model.

    Returns:
        `keras.Model` whose output is the dict `{"heatmaps": (B, H/4, W/4, K)}`.

    Raises:
        FileNotFoundError: if there is no such file of blocks.
        ValueError: for an unknown variant, a file of blocks that is damaged or of another version, or an input shape
            that does not divide.

    References:
        Zhang et al. 2021, doi 10.1007/s41095-021-0214-z.

    Example:
        >>> import keras_ehrnet as ke
        >>> ke.EfficientPoseNAS("A").output["heatmaps"].shape
        (None, 64, 48, 17)
    """
    searched = read_backbone(blocks)
    parts.check_count(num_keypoints, "num_keypoints")
    inputs = parts.image_input(parts.check_input_shape(input_shape, (*searched.input_size, 3), STRIDE))
    x = parts.preprocess(inputs, lite=False) if include_preprocessing else inputs
    outputs = {"heatmaps": head(_blocks(stem(x, searched.stem), searched), num_keypoints)}
    model = keras.Model(inputs, outputs, name=name or searched.name)
    return parts.finish(model, weights)


def stem(x: Tensor, width: int) -> Tensor:
    """What every network of the family begins with: half the size, `width` channels."""
    x = parts.conv(x, STYLE, STEM, 3, strides=2, name="stem_conv")
    x = parts.batch_norm(x, STYLE, "stem_bn")
    x = parts.activation(x, STYLE.activation, "stem_activation")
    return parts.inverted_residual(
        x, STYLE, filters=width, kernel=3, expanded=STEM, residual=False, name="stem_separable"
    )


def _blocks(x: Tensor, searched: SearchedBackbone) -> Tensor:
    for index, block in enumerate(searched.blocks):
        if block is None:
            continue
        kernel, expansion, channels, strides = block
        x = parts.inverted_residual(
            x,
            STYLE,
            filters=channels,
            kernel=kernel,
            expanded=x.shape[-1] * expansion,
            strides=strides,
            name=f"block{index}",
        )
    return x


def head(x: Tensor, num_keypoints: int) -> Tensor:
    """Two transposed convolutions, the spatial information correction (a depthwise 3x3), and the heatmaps."""
    for step, width in enumerate(DECONVOLUTION_WIDTHS):
        x = layers.Conv2DTranspose(width, 4, 2, "same", use_bias=False, name=f"head_deconv{step}")(x)
        x = parts.batch_norm(x, STYLE, f"head_bn{step}")
        x = parts.activation(x, STYLE.activation, f"head_relu{step}")
    x = parts.depthwise_conv(x, STYLE, 3, name="correction_dwconv")
    x = parts.activation(x, STYLE.activation, "correction_relu")
    return parts.map_conv(x, num_keypoints, "heatmaps")
