"""EfficientPose-A/B/C: the backbone found by architecture search, with a slim head; one person per crop."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from keras_ehrnet.models import blocks
from keras_ehrnet.models.blocks import Style, Tensor
from keras_ehrnet.models.scaling import lookup

STYLE = Style("relu", symmetric_padding=True)
STEM = 32
DECONVOLUTION_WIDTHS = (64, 32)


@dataclass(frozen=True)
class SearchedBackbone:
    """What the search found for one variant.

    Args:
        stem: int. Channels after the stem's linear 1x1 convolution.
        blocks: tuple of (kernel, expansion, channels, stride), or None where the search dropped the block.
    """

    stem: int
    blocks: tuple[tuple[int, int, int, int] | None, ...]


SEARCHED_BACKBONES: dict[str, SearchedBackbone] = {
    "A": SearchedBackbone(
        16,
        (
            (3, 6, 24, 2), (7, 3, 24, 1), (3, 6, 24, 1), (3, 3, 24, 1), (3, 6, 32, 2), (3, 3, 32, 1), (5, 3, 32, 1),
            (3, 3, 32, 1), (3, 3, 32, 1), (3, 3, 32, 1), (5, 6, 64, 2), (7, 3, 64, 1), (7, 3, 64, 1), (7, 3, 64, 1),
            (7, 3, 64, 1), (7, 3, 64, 1), (7, 3, 64, 1), (7, 3, 64, 1), (5, 6, 96, 1), (5, 6, 96, 1), (7, 6, 96, 1),
            (5, 6, 96, 1), (7, 3, 96, 1), (7, 3, 96, 1), (7, 3, 96, 1), (7, 6, 96, 1),
        ),
    ),
    "B": SearchedBackbone(
        24,
        (
            (3, 6, 32, 2), (3, 6, 32, 1), (5, 3, 32, 1), (7, 3, 32, 1), (5, 3, 32, 1), (7, 3, 32, 1), (5, 6, 64, 2),
            (5, 3, 64, 1), (7, 3, 64, 1), (7, 3, 64, 1), (7, 3, 64, 1), (7, 3, 64, 1), (7, 3, 64, 1), (7, 3, 64, 1),
            (7, 6, 96, 2), (5, 6, 96, 1), (5, 6, 96, 1), (7, 3, 96, 1), (7, 3, 96, 1), (3, 6, 96, 1), (7, 3, 96, 1),
            (7, 6, 96, 1), (7, 6, 96, 1), (7, 3, 96, 1), (7, 3, 160, 1), (7, 3, 160, 1), (7, 3, 160, 1),
            (7, 3, 160, 1), (7, 3, 160, 1), (7, 3, 160, 1), None, (7, 3, 160, 1), (7, 6, 160, 1), (7, 3, 160, 1),
        ),
    ),
    "C": SearchedBackbone(
        24,
        (
            (5, 3, 32, 2), (3, 6, 32, 1), (3, 3, 32, 1), (3, 3, 32, 1), None, (5, 3, 32, 1), (3, 6, 64, 2),
            (7, 6, 64, 1), (5, 6, 64, 1), (3, 6, 64, 1), (5, 6, 64, 1), (3, 6, 64, 1), (3, 6, 64, 1), (3, 6, 64, 1),
            (7, 6, 96, 2), (7, 6, 96, 1), (7, 6, 96, 1), (7, 6, 96, 1), (7, 6, 96, 1), (7, 6, 96, 1), (7, 6, 96, 1),
            (7, 6, 96, 1), (7, 3, 96, 1), (7, 6, 96, 1), (7, 6, 160, 1), (7, 6, 160, 1), (7, 3, 160, 1),
            (7, 3, 160, 1), (7, 6, 160, 1), (7, 6, 160, 1), (7, 6, 160, 1), (7, 6, 160, 1), (7, 6, 160, 1),
            (7, 6, 160, 1),
        ),
    ),
}  # fmt: skip


def EfficientPoseNAS(  # noqa: N802
    variant: str = "A",
    *,
    num_keypoints: int = 17,
    input_shape: tuple[int | None, int | None, int] | None = None,
    include_preprocessing: bool = True,
    weights: object = None,
    name: str | None = None,
) -> keras.Model:
    """EfficientPose-A, -B or -C: the searched networks, for crops of one person.

    Args:
        variant: str. `"A"`, `"B"` or `"C"`.
        num_keypoints: int. K, joints per person: 17 for COCO, 16 for MPII.
        input_shape: tuple (height, width, 3), or None. Multiples of 16; sides may be None (any size). The default is
            (256, 192, 3), the paper's for COCO; for MPII it is (256, 256, 3).
        include_preprocessing: bool. If True the input is RGB in [0, 255], normalized inside the graph; if False it is
            normalized already (ImageNet mean and deviation).
        weights: str, path or mapping, or None. What `keras_ehrnet.weights.load` takes.
        name: str or None. Name of the model.

    Returns:
        `keras.Model` whose output is the dict `{"heatmaps": (B, H/4, W/4, K)}`.

    Raises:
        ValueError: for an unknown variant, or an input shape that does not divide.

    References:
        Zhang et al. 2021, doi 10.1007/s41095-021-0214-z.

    Example:
        >>> import keras_ehrnet as ke
        >>> ke.EfficientPoseNAS("A").output["heatmaps"].shape
        (None, 64, 48, 17)
    """
    searched = lookup(SEARCHED_BACKBONES, variant, "variant of EfficientPoseNAS")
    blocks.check_count(num_keypoints, "num_keypoints")
    inputs = blocks.image_input(blocks.check_input_shape(input_shape, (256, 192, 3), 16))
    x = blocks.preprocess(inputs, lite=False) if include_preprocessing else inputs
    outputs = {"heatmaps": _head(_backbone(x, searched), num_keypoints)}
    model = keras.Model(inputs, outputs, name=name or f"efficientpose-{variant.lower()}")
    return blocks.finish(model, weights)


def _backbone(x: Tensor, searched: SearchedBackbone) -> Tensor:
    x = blocks.conv(x, STYLE, STEM, 3, strides=2, name="stem_conv")
    x = blocks.batch_norm(x, STYLE, "stem_bn")
    x = blocks.activation(x, STYLE.activation, "stem_activation")
    x = blocks.inverted_residual(
        x, STYLE, filters=searched.stem, kernel=3, expanded=STEM, residual=False, name="stem_separable"
    )
    for index, block in enumerate(searched.blocks):
        if block is None:
            continue
        kernel, expansion, channels, strides = block
        x = blocks.inverted_residual(
            x,
            STYLE,
            filters=channels,
            kernel=kernel,
            expanded=x.shape[-1] * expansion,
            strides=strides,
            name=f"block{index}",
        )
    return x


def _head(x: Tensor, num_keypoints: int) -> Tensor:
    """Two transposed convolutions, the spatial information correction (a depthwise 3x3), and the heatmaps."""
    for step, width in enumerate(DECONVOLUTION_WIDTHS):
        x = layers.Conv2DTranspose(width, 4, 2, "same", use_bias=False, name=f"head_deconv{step}")(x)
        x = blocks.batch_norm(x, STYLE, f"head_bn{step}")
        x = blocks.activation(x, STYLE.activation, f"head_relu{step}")
    x = blocks.depthwise_conv(x, STYLE, 3, name="correction_dwconv")
    x = blocks.activation(x, STYLE.activation, "correction_relu")
    return blocks.map_conv(x, num_keypoints, "heatmaps")
