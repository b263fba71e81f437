"""Losses, for every backend of Keras: ground-truth maps are rendered inside them, from joints.

All of them take the same ground truth, the joints of the people in each image: a tensor of shape `(B, P, K, 3)` with x
and y in pixels of the network's input (pixel centres at +0.5) and a visibility, of which 0 means unlabelled, padded to
P persons with zeros. What is to be left out, crowds and persons without joints, travels as Keras `sample_weight`: a
mask of shape `(B, h, w)` (1 counts, 0 does not), of any resolution, so that one serves all outputs. Plain Keras trains:

    model.compile("adam", loss=losses.efficienthrnet_losses())
    model.fit(batches)  # of (images, {output name: joints}, {output name: mask})

A `sample_weight` of shape `(B,)` weighs whole images, as usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from keras_ehrnet.errors import suggestion
from keras_ehrnet.ground_truth import joint_cells, render_heatmaps, render_pafs, window_radius

Tensor = Any
_serializable = keras.saving.register_keras_serializable("keras_ehrnet")

EFFICIENTPOSE_STRIDES: dict[str, int] = {"heatmaps_coarse": 8, "heatmaps_fine": 8, "heatmaps": 1, "pafs": 8}
"""The outputs of EfficientPose that are supervised, and their strides."""


def associative_embedding(tags: Tensor, joints: Tensor, *, stride: float = 4) -> tuple[Tensor, Tensor]:
    """How far tags of one person are apart (pull), and how near those of different persons (push).

    A person's reference is the mean of the tags at its labelled joints. Pull is the mean squared distance to it, over
    joints, then persons. Push is half the mean of `exp(-d^2)` over ordered pairs of different references. Both are 0
    for an image without people.

    Args:
        tags: tensor of shape `(B, H, W, K)`.
        joints: tensor of shape `(B, P, K, 3)`. x, y and visibility.
        stride: number. Input pixels per cell.

    Returns:
        Two tensors of shape `(B,)`: pull and push.
    """
    tags, joints = ops.convert_to_tensor(tags, "float32"), ops.convert_to_tensor(joints, "float32")
    _, height, width, num_joints = ops.shape(tags)
    persons = ops.shape(joints)[1]
    column, row, inside = joint_cells(joints, height, width, stride)
    column, row = ops.clip(column, 0, width - 1), ops.clip(row, 0, height - 1)
    place = (row * width + column) * num_joints + ops.arange(num_joints)
    flat_tags = ops.reshape(tags, (-1, height * width * num_joints))
    at_joints = ops.take_along_axis(flat_tags, ops.reshape(place, (-1, persons * num_joints)), axis=1)
    at_joints = ops.reshape(at_joints, (-1, persons, num_joints))

    labelled = ops.cast(inside, "float32")
    num_labelled = ops.maximum(ops.sum(labelled, axis=2), 1.0)
    reference = ops.sum(at_joints * labelled, axis=2) / num_labelled
    spread = ops.sum(ops.square(at_joints - reference[..., None]) * labelled, axis=2) / num_labelled
    is_person = ops.cast(ops.any(inside, axis=2), "float32")
    num_persons = ops.sum(is_person, axis=1)
    pull = ops.sum(spread * is_person, axis=1) / ops.maximum(num_persons, 1.0)

    different = is_person[:, :, None] * is_person[:, None] * (1.0 - ops.eye(persons))
    nearness = ops.exp(-ops.square(reference[:, :, None] - reference[:, None])) * different
    num_pairs = ops.maximum(num_persons * (num_persons - 1.0), 1.0)
    return pull, 0.5 * ops.sum(nearness, axis=(1, 2)) / num_pairs


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
            sample_weight = ops.cast(sample_weight, "float32")
            if len(sample_weight.shape) == 1:
                sample_weight = sample_weight[:, None, None]
            else:
                size = ops.shape(y_pred)[1:3]
                sample_weight = ops.image.resize(sample_weight[..., None], size, "nearest")[..., 0]
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
        dtype: Any = None,
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
        dtype: Any = None,
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


@_serializable
class TagLoss(keras.losses.Loss):
    """Associative embedding: equal tags within a person, different ones between persons.

    Crowds and persons without joints have no tags to speak of: of a `sample_weight` with a mask it takes nothing, one
    of shape `(B,)` weighs the images.

    Args:
        stride: number. Input pixels per cell of the tags.
        pull_weight: float. Weight of the distances within persons.
        push_weight: float. Weight of the nearness of persons.
        name: str. Name of the loss.
        reduction: str. As Keras has it.
    """

    def __init__(
        self,
        stride: float = 4,
        pull_weight: float = 1e-3,
        push_weight: float = 1e-3,
        name: str = "tag_loss",
        reduction: str = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.stride = stride
        self.pull_weight = float(pull_weight)
        self.push_weight = float(push_weight)

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        per_image = sample_weight is not None and len(sample_weight.shape) == 1
        return super().__call__(y_true, y_pred, sample_weight if per_image else None)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        pull, push = associative_embedding(y_pred, y_true, stride=self.stride)
        return self.pull_weight * pull + self.push_weight * push

    def get_config(self) -> dict[str, Any]:
        config = {"stride": self.stride, "pull_weight": self.pull_weight, "push_weight": self.push_weight}
        return {**super().get_config(), **config}


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
    return {
        "heatmaps_4": HeatmapLoss(4, sigma, ignore_unlabelled=ignore_unlabelled, name="heatmaps_4"),
        "tags_4": TagLoss(4, tag_weight, tag_weight, name="tags_4"),
        "heatmaps_2": HeatmapLoss(2, sigma, ignore_unlabelled=ignore_unlabelled, name="heatmaps_2"),
    }


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
    return {"heatmaps": HeatmapLoss(4, sigma, ignore_unlabelled=True, name="heatmaps")}
