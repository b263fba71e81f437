"""Associative embedding: tags that are equal within a person and different between persons."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_ehrnet.losses.maps import joint_cells
from keras_ehrnet.support.pinned import FLOATX

Tensor = Any
_serializable = keras.saving.register_keras_serializable("keras_ehrnet")


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
    place = (row * width + column) * num_joints + ops.arange(num_joints, dtype="int32")
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

    different = is_person[:, :, None] * is_person[:, None] * (1.0 - ops.eye(persons, dtype="float32"))
    nearness = ops.exp(-ops.square(reference[:, :, None] - reference[:, None])) * different
    num_pairs = ops.maximum(num_persons * (num_persons - 1.0), 1.0)
    return pull, 0.5 * ops.sum(nearness, axis=(1, 2)) / num_pairs


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
        dtype: Any = FLOATX,
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
