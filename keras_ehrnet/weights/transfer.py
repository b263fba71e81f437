"""Weights from one skeleton into another: the trunk as it is, heads joint by joint, by the joints' names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from keras_ehrnet.families import MAPS
from keras_ehrnet.skeletons import Skeleton, generic
from keras_ehrnet.support.errors import WeightsError
from keras_ehrnet.support.messages import warn
from keras_ehrnet.weights.formats import Tensors

if TYPE_CHECKING:
    import keras


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


def transfer(model: keras.Model, tensors: Tensors, target: Skeleton | None) -> Transferred:
    """Gives a model what fits of other weights: by name and shape, and heads by the names of joints.

    Args:
        model: `keras.Model` of this package.
        tensors: `Tensors` of a file of the same family, or of its backbone.
        target: `Skeleton` the model is of; None: heads are taken only where all of a weight fits.

    Returns:
        `Transferred`.

    Raises:
        WeightsError: if nothing fits, the model then being as it was.
    """
    source = None if target is None else tensors.skeleton or _guessed(model, tensors, target)
    heads = {} if source is None or target is None else _heads(model, source, target)
    whole, by_joint, left = [], [], []
    for slot in tensors.slots(model):
        tensor = tensors.values.get(slot.tensor)
        value = None if tensor is None else slot.value(tensor)
        layer = slot.weight.split("/")[0]
        if value is None or not np.isfinite(value).all():
            left.append(slot.weight)
        elif layer in heads:
            taken = heads[layer].taken(np.array(slot.variable), value)
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
    names: tuple[str, ...] = ()
    if source and target and by_joint:
        origins = source.mapping_to(target)
        names = tuple(name for name, origin in zip(target.joint_names, origins, strict=True) if origin is not None)
    return Transferred(tuple(whole), tuple(by_joint), names, tuple(left))


def _guessed(model: keras.Model, tensors: Tensors, target: Skeleton) -> Skeleton | None:
    """The skeleton of a file that names none: a known one with as many joints."""
    counts = {
        slot.value(tensors.values[slot.tensor]).shape[-1]
        for slot in tensors.slots(model)
        if slot.weight in ("heatmaps/bias", "heatmaps_4/bias") and slot.tensor in tensors.values
    }
    guess = generic(counts.pop()) if len(counts) == 1 else None
    if guess is None or not guess.limbs:
        return None
    if not guess.same_joints(target):
        warn(f"Nothing says what the {guess.num_joints} joints of {tensors.origin} are: taken for {guess.name!r}.")
    return guess


@dataclass(frozen=True)
class _Channels:
    """Which channels of a layer have counterparts in another network's.

    Args:
        there: int. How many the other network has.
        here: int. How many this one has.
        rows, origins: tuple of int. Channels here, and which each of them is there.
        signs: tuple of float. 1, or -1 where what it tells points the other way.
        square: bool. Whether they are what the layer takes as well as what it gives.
    """

    there: int
    here: int
    rows: tuple[int, ...]
    origins: tuple[int, ...]
    signs: tuple[float, ...]
    square: bool = False

    def behind(self, features: int, times: int) -> _Channels:
        """The same so many times, one after the other, behind features that both networks have."""
        starts = range(times)
        return _Channels(
            features + times * self.there,
            features + times * self.here,
            (*range(features), *(features + time * self.here + row for time in starts for row in self.rows)),
            (*range(features), *(features + time * self.there + origin for time in starts for origin in self.origins)),
            (*[1.0] * features, *self.signs * times),
        )

    def taken(self, current: np.ndarray, value: np.ndarray) -> np.ndarray | None:
        """The current weight with what is known replaced; None where the weights are not of that form."""
        axes = min(current.ndim, 2 if self.square else 1)
        fits = value.shape[:-axes] == current.shape[:-axes] and value.ndim == current.ndim
        fits = fits and value.shape[-axes:] == (self.there,) * axes and current.shape[-axes:] == (self.here,) * axes
        if not (fits and self.rows):
            return None
        signs = np.array(self.signs)
        taken = current.copy()
        taken[(..., *np.ix_(*[self.rows] * axes))] = value[(..., *np.ix_(*[self.origins] * axes))] * (
            np.outer(signs, signs) if axes == 2 else signs
        )
        return taken


def _heads(model: keras.Model, source: Skeleton, target: Skeleton) -> Mapping[str, _Channels]:
    """Layers whose channels are told apart by their joints or limbs; none where those are the same."""
    if (source.joint_names, source.limbs) == (target.joint_names, target.limbs):
        return {}
    joints, limbs = _joints(source, target), _limbs(source, target)
    heads = {**dict.fromkeys(MAPS, joints), "pafs": limbs}
    for layer in model.layers:
        if type(layer).__name__ != "Conv2DTranspose":
            continue
        if layer.name == "head_deconv":  # Takes features, heatmaps and tags; they are the last axis of its kernel.
            heads[layer.name] = joints.behind(layer.kernel.shape[-1] - 2 * joints.here, 2)
        elif layer.name.startswith(("upscaling", "heatmaps")):  # Enlarges heatmaps, each from all of them.
            heads[layer.name] = replace(joints, square=True)
    return heads


def _joints(source: Skeleton, target: Skeleton) -> _Channels:
    pairs = [(row, origin, 1.0) for row, origin in enumerate(source.mapping_to(target)) if origin is not None]
    return _channels(source.num_joints, target.num_joints, pairs)


def _limbs(source: Skeleton, target: Skeleton) -> _Channels:
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
    return _channels(2 * len(source.limbs), 2 * len(target.limbs), pairs)


def _channels(there: int, here: int, pairs: list[tuple[int, int, float]]) -> _Channels:
    rows, origins, signs = zip(*pairs, strict=True) if pairs else ((), (), ())
    return _Channels(there, here, rows, origins, signs)
