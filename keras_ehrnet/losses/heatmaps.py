"""Losses of maps that are drawn from joints: heatmaps and part affinity fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ehrnet.losses.maps import render_heatmaps, render_pafs, window_radius
from keras_ehrnet.support.pinned import FLOATX

Tensor = Any
_serializable = keras.saving.register_keras_serializable("keras_ehrnet")


def _counting(labelled: Tensor) -> Tensor:
    """Which channels of an image count where unlabelled ones are ignored: labelled `(B, P, C)` to `(B, 1, 1, C)`.

    Those that somebody in the image has labelled; all of them in an image without people, which is background.
    """
    in_image = ops.any(labelled, axis=1)
    counts = in_image | ops.logical_not(ops.any(in_image, axis=1, keepdims=True))
    return ops.cast(counts, "float32")[:, None, None]


class _MapLoss(keras.losses.Loss):
    """A loss whose value is a map `(B, H, W)`, weighted by a mask of any resolution."""

    def __init__(self, stride: float, ignore_unlabelled: bool, name: str, reduction: str, dtype: Any) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not stride > 0:
            raise ValueError(f"A stride must be positive. Received: stride={stride!r}")
        self.stride = stride
        self.ignore_unlabelled = ignore_unlabelled

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        if sample_weight is not None:
            weight: Tensor = ops.cast(sample_weight, "float32")
            if len(weight.shape) == 1:
                sample_weight = weight[:, None, None]
            else:
                size = ops.shape(y_pred)[1:3]
                sample_weight = ops.image.resize(weight[..., None], size, "nearest", data_format="channels_last")[
                    ..., 0
                ]
        return super().__call__(y_true, y_pred, sample_weight)

    def _mean_squared(self, true: Tensor, pred: Tensor, labelled: Tensor) -> Tensor:
        squared = ops.square(pred - true)
        return ops.mean(squared * _counting(labelled) if self.ignore_unlabelled else squared, axis=-1)

    def get_config(self) -> dict[str, Any]:
        config = {"stride": self.stride, "ignore_unlabelled": self.ignore_unlabelled}
        return {**super().get_config(), **config}


@_serializable
class HeatmapLoss(_MapLoss):
    """Mean squared error of heatmaps against gaussians on the joints.

    Args:
        stride: number. Input pixels per cell of the heatmaps.
        sigma: float. Width of the gaussian, in cells. May be changed during training, see `schedules.StepwiseSigma`;
            the window it is drawn in stays that of the first one.
        spread: float. 2 for EfficientHRNet's gaussian `exp(-d^2 / (2 sigma^2))`, 1 for EfficientPose's.
        ignore_unlabelled: bool. Whether a joint that nobody in an image has labelled is left out of the loss there,
            rather than being background. To be set where the data do not know all joints of the skeleton.
        name: str. Name of the loss.
        reduction: str. As Keras has it.

    Raises:
        ValueError: if the stride or sigma is not positive.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.losses import HeatmapLoss
        >>> loss = HeatmapLoss(stride=4)
        >>> bool(loss(np.zeros((1, 30, 17, 3)), np.ones((1, 16, 16, 17)), np.ones((1, 16, 16))) == 1)
        True
    """

    def __init__(
        self,
        stride: float = 4,
        sigma: float = 2.0,
        spread: float = 2.0,
        ignore_unlabelled: bool = False,
        name: str = "heatmap_loss",
        reduction: str = "sum_over_batch_size",
        dtype: Any = FLOATX,
    ) -> None:
        super().__init__(stride, ignore_unlabelled, name, reduction, dtype)
        if not (sigma > 0 and spread > 0):
            raise ValueError(f"sigma and spread must be positive. Received: sigma={sigma!r}, spread={spread!r}")
        self.initial_sigma = self.sigma = float(sigma)
        self.spread = float(spread)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        _, height, width, _ = ops.shape(y_pred)
        radius = window_radius(self.initial_sigma)
        heatmaps = render_heatmaps(
            y_true, height, width, stride=self.stride, sigma=self.sigma, spread=self.spread, radius=radius
        )
        return self._mean_squared(heatmaps, y_pred, y_true[..., 2] > 0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sigma": self.initial_sigma, "spread": self.spread}


@_serializable
class PafLoss(_MapLoss):
    """Mean squared error of part affinity fields; see `render_pafs`.

    Args:
        limbs: L pairs of joints, such as `skeletons.MPII_16.limbs`.
        stride: number. Input pixels per cell of the maps.
        limb_width: float. How far from its line a limb reaches, in cells.
        ignore_unlabelled: bool. Whether a limb that nobody in an image has is left out of the loss there.
        name: str. Name of the loss.
        reduction: str. As Keras has it.
    """

    def __init__(
        self,
        limbs: Sequence[Sequence[int]],
        stride: float = 8,
        limb_width: float = 1.0,
        ignore_unlabelled: bool = False,
        name: str = "paf_loss",
        reduction: str = "sum_over_batch_size",
        dtype: Any = FLOATX,
    ) -> None:
        super().__init__(stride, ignore_unlabelled, name, reduction, dtype)
        if not len(limbs):
            raise ValueError(f"Part affinity fields need limbs. Received: limbs={limbs!r}")
        self.limbs = tuple((int(first), int(second)) for first, second in limbs)
        self.limb_width = float(limb_width)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        _, height, width, _ = ops.shape(y_pred)
        pafs = render_pafs(y_true, self.limbs, height, width, stride=self.stride, limb_width=self.limb_width)
        first, second = (ops.take(y_true[..., 2], [limb[end] for limb in self.limbs], axis=2) for end in (0, 1))
        labelled = ops.repeat((first > 0) & (second > 0), 2, axis=2)
        return self._mean_squared(pafs, y_pred, labelled)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limbs": self.limbs, "limb_width": self.limb_width}
