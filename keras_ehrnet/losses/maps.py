"""Ground-truth maps, rendered from joints on whatever device trains: for the losses, and for pictures of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

Tensor = Any


def window_radius(sigma: float) -> int:
    """Cells from the center of a gaussian to the edge of the square outside of which it is zero."""
    return math.ceil(3 * sigma) + 1


def render_heatmaps(
    joints: Tensor,
    height: int,
    width: int,
    *,
    stride: float = 1,
    sigma: float = 2.0,
    spread: float = 2.0,
    radius: int | None = None,
) -> Tensor:
    """Ground-truth heatmaps: a gaussian `exp(-d^2 / (spread sigma^2))` on the cell of every labelled joint.

    Where gaussians of several persons overlap, the largest value counts. Joints outside the maps are left out.

    Args:
        joints: tensor of shape `(B, P, K, 3)`. x, y and visibility.
        height: int. Rows of the maps, H.
        width: int. Columns of the maps, W.
        stride: number. Input pixels per cell.
        sigma: float. Width of the gaussian, in cells.
        spread: float. 2 for EfficientHRNet's gaussian, 1 for EfficientPose's.
        radius: int or None. Half side of the square window around the joint; by default `window_radius(sigma)`.

    Returns:
        Tensor of shape `(B, H, W, K)`, float32.

    Example:
        >>> from keras import ops
        >>> from keras_ehrnet.losses import maps
        >>> heatmaps = maps.render_heatmaps([[[[3.5, 1.2, 2.0]]]], height=2, width=4, sigma=1.0)
        >>> print(ops.convert_to_numpy(heatmaps)[0, :, :, 0].round(2))
        [[0.01 0.08 0.37 0.61]
         [0.01 0.14 0.61 1.  ]]
    """
    joints = ops.convert_to_tensor(joints, "float32")
    batch, _, num_joints, _ = ops.shape(joints)
    column, row, inside = joint_cells(joints, height, width, stride)
    radius = window_radius(sigma) if radius is None else radius
    offsets = ops.arange(-radius, radius + 1, dtype="int32")
    profile = ops.exp(-ops.square(ops.cast(offsets, "float32")) / (spread * sigma**2))

    if joints.shape[1] == 1:
        # Nobody to overlap with: every map is the product of two profiles.
        row_map, column_map = (
            ops.where(
                (ops.abs(distance) <= radius) & inside[:, 0, :, None],
                ops.exp(-ops.square(ops.cast(distance, "float32")) / (spread * sigma**2)),
                0.0,
            )
            for distance in (
                ops.arange(side, dtype="int32") - cell[:, 0, :, None] for cell, side in ((row, height), (column, width))
            )
        )
        return ops.transpose(row_map, (0, 2, 1))[:, :, None] * ops.transpose(column_map, (0, 2, 1))[:, None]

    # A window is small against a map: scattering windows costs a fraction of drawing every person's whole map.
    rows = ops.expand_dims(row, -1) + offsets
    columns = ops.expand_dims(column, -1) + offsets
    row_profile = ops.where((rows >= 0) & (rows < height) & ops.expand_dims(inside, -1), profile, 0.0)
    column_profile = ops.where((columns >= 0) & (columns < width), profile, 0.0)
    values = ops.expand_dims(row_profile, -1) * ops.expand_dims(column_profile, -2)

    image = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1, 1))
    channel = ops.reshape(ops.arange(num_joints, dtype="int32"), (-1, 1, 1))
    row_index = image * height + ops.clip(rows, 0, height - 1)
    cells = ops.expand_dims(row_index, -1) * width + ops.expand_dims(ops.clip(columns, 0, width - 1), -2)
    # What lies outside has the value 0 and is clipped to the edge, where it changes nothing.
    maps = ops.segment_max(
        ops.reshape(values, (-1,)),
        ops.reshape(cells * num_joints + channel, (-1,)),
        num_segments=batch * height * width * num_joints,
    )
    return ops.reshape(ops.maximum(maps, 0.0), (-1, height, width, num_joints))


def render_pafs(
    joints: Tensor,
    limbs: Sequence[Sequence[int]],
    height: int,
    width: int,
    *,
    stride: float = 8,
    limb_width: float = 1.0,
) -> Tensor:
    """Ground-truth part affinity fields (pafs): on every limb the unit vector from its first to its second joint.

    Args:
        joints: tensor of shape `(B, P, K, 3)`. x, y and visibility.
        limbs: L pairs of joints.
        height: int. Rows of the maps, H.
        width: int. Columns of the maps, W.
        stride: number. Input pixels per cell.
        limb_width: float. How far from its line a limb reaches, in cells.

    Returns:
        Tensor of shape `(B, H, W, 2L)`, float32: channel 2l is x and 2l + 1 is y of limb l. Where limbs of several
        persons overlap, their mean.

    Example:
        >>> from keras import ops
        >>> from keras_ehrnet.losses import maps
        >>> joints = [[[[0.5, 0.5, 2], [2.5, 0.5, 2]]]]
        >>> pafs = maps.render_pafs(joints, [(0, 1)], 3, 4, stride=1, limb_width=0.5)
        >>> print(ops.convert_to_numpy(pafs)[0, :, :, 0])
        [[1. 1. 1. 0.]
         [0. 0. 0. 0.]
         [0. 0. 0. 0.]]
    """
    joints = ops.convert_to_tensor(joints, "float32")
    first, second = (ops.take(joints, [limb[end] for limb in limbs], axis=2) for end in (0, 1))
    start, vector = first[..., :2] / stride, (second[..., :2] - first[..., :2]) / stride
    length = ops.sqrt(ops.sum(ops.square(vector), axis=-1, keepdims=True))
    unit = vector / ops.maximum(length, 1e-6)
    exists = (first[..., 2] > 0) & (second[..., 2] > 0) & (length[..., 0] > 1e-6)

    # Coordinates of every cell's center along and across every limb: (B, P, L, H, W).
    across_y, across_x = ops.arange(height, dtype="float32") + 0.5, ops.arange(width, dtype="float32") + 0.5
    dx = ops.reshape(across_x, (1, width)) - start[..., 0, None, None]
    dy = ops.reshape(across_y, (height, 1)) - start[..., 1, None, None]
    unit_x, unit_y = unit[..., 0, None, None], unit[..., 1, None, None]
    along, across = dx * unit_x + dy * unit_y, dx * unit_y - dy * unit_x
    # Limbs shorter than a cell still have to be seen: the ends may be half a cell away.
    on_limb = (along >= -0.5) & (along <= length[..., None] + 0.5) & (ops.abs(across) <= limb_width)
    on_limb = ops.cast(on_limb & exists[..., None, None], "float32")
    total = ops.einsum("bplhw,bplc->bhwlc", on_limb, unit)
    count = ops.transpose(ops.sum(on_limb, axis=1), (0, 2, 3, 1))
    pafs = total / ops.expand_dims(ops.maximum(count, 1.0), -1)
    return ops.reshape(pafs, (-1, height, width, 2 * len(limbs)))


def joint_cells(joints: Tensor, height: int, width: int, stride: float) -> tuple[Tensor, Tensor, Tensor]:
    """Column and row of the cell that every joint lies in, and whether it is labelled and inside the map."""
    # Casting cuts towards zero, as the published targets do: less than a cell left of the map is in its first column.
    cells = ops.cast(joints[..., :2] / stride, "int32")
    column, row = cells[..., 0], cells[..., 1]
    inside = (joints[..., 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return column, row, inside
