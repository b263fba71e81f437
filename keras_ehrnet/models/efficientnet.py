"""EfficientNet and its compact forms: a classifier, or the feature maps that a pose network stands on."""

from __future__ import annotations

import keras
from keras import layers

from keras_ehrnet.families import FAMILIES
from keras_ehrnet.models import blocks
from keras_ehrnet.models.blocks import Style, Tensor
from keras_ehrnet.models.scaling import (
    EFFICIENTNET_SCALING,
    EFFICIENTNET_STAGES,
    EFFICIENTNET_STEM,
    EFFICIENTNET_TOP,
    BackboneScaling,
    lookup,
)
from keras_ehrnet.support.messages import suggests_keywords
from keras_ehrnet.support.pinned import pinned
from keras_ehrnet.weights.formats import WeightsSource

STYLE = Style("silu", squeeze_excitation=True)
LITE_STYLE = Style("relu6")

FEATURE_STAGES = {4: 2, 8: 3, 16: 5, 32: 7}
"""Stride of a feature map -> the stage (counted from 1) whose output it is."""


@suggests_keywords
@pinned
def EfficientNet(  # noqa: N802
    phi: int = 0,
    *,
    classes: int = 1000,
    include_top: bool = True,
    lite: bool = False,
    input_shape: tuple[int | None, int | None, int] | None = None,
    include_preprocessing: bool = True,
    weights: WeightsSource | None = None,
    drop_rate: float = 0.2,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
) -> keras.Model:
    """EfficientNet B-4..B3: the compact backbones of EfficientHRNet, B0, and the first three steps upward.

    Args:
        phi: int. Compound coefficient, from -4 to 3; B0 is 0.
        classes: int. Number of classes of the classifier.
        include_top: bool. If False the model returns feature maps.
        lite: bool. The form for integer hardware: no squeeze-excitation, ReLU6; stem, first and last stage keep their
            unscaled size.
        input_shape: tuple (height, width, 3), or None. Sides may be None (any size); the default leaves both free.
            Feature maps need multiples of 32.
        include_preprocessing: bool. If True the input is RGB in [0, 255], normalized inside the graph; if False it is
            normalized already.
        weights: str, path or mapping, or None. What `keras_ehrnet.weights.load` takes.
        drop_rate: float. Largest rate of stochastic depth, and dropout before the classifier.
        classifier_activation: str or None. None returns logits.
        name: str or None. Name of the model.

    Returns:
        `keras.Model`. With the top: probabilities of shape `(B, classes)`. Without: a dict of `"features_4"`,
        `"features_8"`, `"features_16"` and `"features_32"`, of shape `(B, H / stride, W / stride, C)`.

    Raises:
        ValueError: for an unknown phi, or an input shape that does not divide.

    References:
        Tan and Le 2019, arXiv 1905.11946; the compact forms: section 3.1 of Neff et al. 2020, arXiv 2007.08090.

    Example:
        >>> import keras_ehrnet as ke
        >>> ke.EfficientNet(phi=-4, classes=100).output_shape
        (None, 100)
    """
    scaling = lookup({phi: EFFICIENTNET_SCALING[phi] for phi in range(-4, 4)}, phi, "phi of EfficientNet")
    blocks.check_count(classes, "classes")
    multiple = 1 if include_top else FAMILIES["efficientnet"].multiple
    shape = blocks.check_input_shape(input_shape, (None, None, 3), multiple)
    style = LITE_STYLE if lite else STYLE
    inputs = blocks.image_input(shape)
    x = blocks.preprocess(inputs, lite=lite) if include_preprocessing else inputs
    stages = backbone(x, style, scaling, lite=lite, drop_rate=drop_rate)
    if include_top:
        top = EFFICIENTNET_TOP if lite else scaling.channels(EFFICIENTNET_TOP)
        outputs = _classifier(stages[-1], style, top, classes, drop_rate, classifier_activation)
    else:
        outputs = {f"features_{stride}": stages[stage - 1] for stride, stage in FEATURE_STAGES.items()}
    model = keras.Model(inputs, outputs, name=name or f"efficientnet-b{phi}" + ("-lite" if lite else ""))
    return blocks.finish(model, weights)


def backbone(
    x: Tensor,
    style: Style,
    scaling: BackboneScaling,
    *,
    num_stages: int = len(EFFICIENTNET_STAGES),
    lite: bool = False,
    drop_rate: float = 0.0,
    last_residual: bool = True,
    suffix: str = "",
) -> list[Tensor]:
    """Stem and stages of an EfficientNet.

    Args:
        x: tensor of shape `(B, H, W, 3)`, normalized.
        style: `Style`.
        scaling: `BackboneScaling`.
        num_stages: int. How many of the seven stages to build.
        lite: bool. Whether stem, first and last stage keep their unscaled size.
        drop_rate: float. Stochastic depth: rises linearly over the blocks to this rate.
        last_residual: bool. Whether the last block built adds its input (EfficientPose's low-level backbone does not).
        suffix: str. Ends the names of all layers.

    Returns:
        List of tensors, the output of each stage.
    """
    stages = EFFICIENTNET_STAGES
    repeats = [scaling.repeats(stage.repeats) for stage in stages]
    if lite:
        repeats[0], repeats[-1] = stages[0].repeats, stages[-1].repeats
    stem = EFFICIENTNET_STEM if lite else scaling.channels(EFFICIENTNET_STEM)
    x = blocks.conv(x, style, stem, 3, strides=2, name=f"stem_conv{suffix}")
    x = blocks.batch_norm(x, style, f"stem_bn{suffix}")
    x = blocks.activation(x, style.activation, f"stem_activation{suffix}")
    outputs = []
    for number, stage in enumerate(stages[:num_stages], start=1):
        for block in range(repeats[number - 1]):
            index = sum(repeats[: number - 1]) + block
            is_last = number == num_stages and block == repeats[number - 1] - 1
            x = blocks.inverted_residual(
                x,
                style,
                filters=scaling.channels(stage.channels),
                kernel=stage.kernel,
                expanded=x.shape[-1] * stage.expansion,
                strides=stage.strides if block == 0 else 1,
                squeezed=max(1, x.shape[-1] // 4),
                residual=last_residual or not is_last,
                drop_rate=drop_rate * index / sum(repeats),
                name=f"block{number}{'abcdefghijklmnop'[block]}{suffix}",
            )
        outputs.append(x)
    return outputs


def _classifier(
    x: Tensor, style: Style, channels: int, classes: int, drop_rate: float, activation: str | None
) -> Tensor:
    x = blocks.conv(x, style, channels, 1, name="top_conv")
    x = blocks.batch_norm(x, style, "top_bn")
    x = blocks.activation(x, style.activation, "top_activation")
    x = layers.GlobalAveragePooling2D(name="top_pool")(x)
    x = layers.Dropout(drop_rate, name="top_dropout")(x)
    return layers.Dense(classes, activation=activation, dtype=blocks.full_precision(), name="predictions")(x)
