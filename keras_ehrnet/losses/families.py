"""The losses of each family of networks, by the names of its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import keras

from keras_ehrnet.families import FAMILIES
from keras_ehrnet.losses.heatmaps import HeatmapLoss, PafLoss
from keras_ehrnet.losses.tags import TagLoss
from keras_ehrnet.support.messages import suggestion

EFFICIENTPOSE_STRIDES: dict[str, int] = {**FAMILIES["efficientpose"].strides}
"""The outputs of EfficientPose that are supervised, and their strides."""


def efficienthrnet_losses(
    sigma: float = 2.0, tag_weight: float = 1e-3, ignore_unlabelled: bool = False
) -> dict[str, keras.losses.Loss]:
    """The paper's loss of EfficientHRNet: heatmaps at both strides, and tags.

    Args:
        sigma: float. Width of the gaussians, in cells, at either stride.
        tag_weight: float. Weight of pull and push.
        ignore_unlabelled: bool. See `HeatmapLoss`. The paper's is False: in COCO, what nobody has labelled is
            mostly not there. To be set for data of another skeleton.

    Returns:
        dict of output name to loss, for `model.compile(loss=...)`.
    """

    def loss(output: str, stride: int) -> keras.losses.Loss:
        if output == "tags_4":
            return TagLoss(stride, tag_weight, tag_weight, name=output)
        return HeatmapLoss(stride, sigma, ignore_unlabelled=ignore_unlabelled, name=output)

    return {output: loss(output, stride) for output, stride in FAMILIES["efficienthrnet"].strides.items()}


def efficientpose_losses(
    limbs: Sequence[Sequence[int]],
    sigma: float = 16.0,
    limb_width: float = 1.0,
    ignore_unlabelled: bool = True,
    outputs: Iterable[str] = tuple(EFFICIENTPOSE_STRIDES),
) -> dict[str, keras.losses.Loss]:
    """The paper's loss of EfficientPose: every pass is supervised, the last one also at full size.

    Args:
        limbs: L pairs of joints.
        sigma: float. Width of the gaussian `exp(-d^2 / sigma^2)` in pixels of the input, the same at every stride.
            The paper gives no number; this is two cells of the coarse maps. `schedules.StepwiseSigma` lowers it.
        limb_width: float. In cells of stride 8.
        ignore_unlabelled: bool. See `HeatmapLoss`.
        outputs: names of the outputs that the model has; Lite variants have only the last two heatmaps.

    Returns:
        dict of output name to loss, for `model.compile(loss=...)`.

    Raises:
        ValueError: for an output that EfficientPose does not have.
    """

    def loss(output: str) -> keras.losses.Loss:
        if output not in EFFICIENTPOSE_STRIDES:
            hint = suggestion(output, EFFICIENTPOSE_STRIDES)
            raise ValueError(f"EfficientPose has no output of that name. {hint} Received: {output!r}")
        stride = EFFICIENTPOSE_STRIDES[output]
        if output == "pafs":
            return PafLoss(limbs, stride, limb_width, ignore_unlabelled, name=output)
        return HeatmapLoss(stride, sigma / stride, 1.0, ignore_unlabelled, name=output)

    return {output: loss(output) for output in outputs}


def efficientpose_nas_losses(sigma: float = 2.0) -> dict[str, keras.losses.Loss]:
    """The loss of EfficientPose-A/B/C: heatmaps at stride 4, unlabelled joints ignored."""
    stride = FAMILIES["efficientpose_nas"].strides["heatmaps"]
    return {"heatmaps": HeatmapLoss(stride, sigma, ignore_unlabelled=True, name="heatmaps")}
