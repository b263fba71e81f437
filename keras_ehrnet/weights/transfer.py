"""Weights from one skeleton into another: the trunk as it is, heads joint by joint, by the joints' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.weights.formats import Tensors, WeightsError

if TYPE_CHECKING:
    import keras

_JOINT_HEADS = ("heatmaps", "heatmaps_2", "heatmaps_coarse", "heatmaps_fine", "heatmaps_4", "tags_4")
_LIMB_HEADS = ("pafs",)


@dataclass(frozen=True)
class Transferred:
    """What a transfer took.

    Args:
        whole: tuple of str. Weights that were taken as they are.
        by_joint: tuple of str. Weights of heads that were taken joint by joint, or limb by limb.
        joints: tuple of str. Joints whose heads were taken.
        left: tuple of str. Weights that kept their values.
    """

    whole: tuple[str, ...]
    by_joint: tuple[str, ...]
    joints: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        some = f" ({', '.join(self.left[:4])}{', ...' if len(self.left) > 4 else ''})" if self.left else ""
        heads = f", heads of {', '.join(self.joints)}" if self.by_joint else ""
        return f"{len(self.whole)} weights taken whole{heads}; {len(self.left)} left as they were{some}"


def transfer(model: keras.Model, tensors: Tensors, source: Skeleton | None, target: Skeleton | None) -> Transferred:
    """Gives a model what fits of other weights: by name and shape, and heads by the names of joints.

    Args:
        model: `keras.Model` of this package.
        tensors: `Tensors` of a file of the same family, or of its backbone.
        source: `Skeleton` the file is of; None: heads are taken only where all of a weight fits.
        target: `Skeleton` the model is of; None likewise.

    Returns:
        `Transferred`.

    Raises:
        WeightsError: if nothing fits.
    """
    heads = {} if source is None or target is None else _heads(source, target)
    whole, by_joint, left = [], [], []
    for slot in tensors.slots(model):
        tensor = tensors.values.get(slot.tensor)
        value = None if tensor is None else slot.value(tensor)
        layer = slot.weight.split("/")[0]
        if value is None or not np.isfinite(value).all():
            left.append(slot.weight)
        elif layer in heads:
            taken = _by_channel(np.array(slot.variable), value, heads[layer])
            (left if taken is None else by_joint).append(slot.weight)
            if taken is not None:
                slot.variable.assign(taken)
        elif value.shape == tuple(slot.variable.shape):
            slot.variable.assign(value)
            whole.append(slot.weight)
        else:
            left.append(slot.weight)
    if not (whole or by_joint):
        raise WeightsError(f"No weight of {model.name!r} fits by name and shape. Received: {tensors.origin!r}")
    taken_over = _joint_channels(source, target)[2] if source and target and by_joint else ()
    names = tuple(target.joint_names[row] for row, _, _ in taken_over) if target else ()
    return Transferred(tuple(whole), tuple(by_joint), names, tuple(left))


_Channels = tuple[int, int, Sequence[tuple[int, int, float]]]


def _heads(source: Skeleton, target: Skeleton) -> dict[str, _Channels]:
    """Layers whose channels are told apart by their joints or limbs; none where those are the same."""
    if source.joint_names == target.joint_names:
        return {}
    joints, limbs = _joint_channels(source, target), _limb_channels(source, target)
    return {**dict.fromkeys(_JOINT_HEADS, joints), **dict.fromkeys(_LIMB_HEADS, limbs)}


def _joint_channels(source: Skeleton, target: Skeleton) -> _Channels:
    """Channels of both heads, and triples of target, origin and factor."""
    pairs = [(row, origin, 1.0) for row, origin in enumerate(source.mapping_to(target)) if origin is not None]
    return source.num_joints, target.num_joints, pairs


def _limb_channels(source: Skeleton, target: Skeleton) -> _Channels:
    """The same of x and y of limbs; one that runs the other way has the opposite sign."""
    origins = source.mapping_to(target)
    there: dict[tuple[int | None, ...], tuple[int, float]] = {
        limb: (number, 1.0) for number, limb in enumerate(source.limbs)
    }
    there |= {limb[::-1]: (number, -1.0) for number, limb in enumerate(source.limbs)}
    pairs = []
    for number, (first, second) in enumerate(target.limbs):
        ends = origins[first], origins[second]
        if ends in there:
            origin, sign = there[ends]
            pairs += [(2 * number + axis, 2 * origin + axis, sign) for axis in (0, 1)]
    return 2 * len(source.limbs), 2 * len(target.limbs), pairs


def _by_channel(current: np.ndarray, value: np.ndarray, channels: _Channels) -> np.ndarray | None:
    """The current weights with the known channels of the last axis replaced; None where heads are not of that form."""
    there, here, pairs = channels
    fits = value.shape[:-1] == current.shape[:-1] and value.shape[-1] == there and current.shape[-1] == here
    if not (fits and pairs):
        return None
    taken = current.copy()
    for row, origin, factor in pairs:
        taken[..., row] = factor * value[..., origin]
    return taken
