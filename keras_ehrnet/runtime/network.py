"""Networks as a predictor sees them: images in, named maps out, whatever runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from keras_ehrnet.families import FAMILIES
from keras_ehrnet.metadata import Metadata
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.errors import ModelError


class Fitted(Protocol):
    """What fitting images into an input asks of a network; attributes as of `Network`."""

    input_size: tuple[int, int]
    multi_person: bool


class Network(Fitted, Protocol):
    """What a predictor needs of a network.

    Attributes:
        name: str. For people to read.
        family: str. Key of `keras_ehrnet.families.FAMILIES`; decides how its maps are decoded.
        skeleton: `Skeleton` of its keypoints.
        input_size: tuple (height, width) that it was made for, in pixels.
        any_size: bool. Whether it takes other sizes too.
        decode: str. `"none"`: it gives maps. `"peaks"`, `"poses"`: what an exported model decodes by itself (its
            layouts are those of `keras_ehrnet.export.tflite`).
        multi_person: bool. Whether it finds several people in an image by itself, rather than one.
        min_score: float. Score of a person below which there is nobody, as measured for its weights; 0 where it was
            not.
    """

    name: str
    family: str
    skeleton: Skeleton
    any_size: bool
    decode: str
    min_score: float

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Maps (or what is decoded from them) for a batch of uint8 RGB images of shape `(B, H, W, 3)`."""
        ...

    def digest(self) -> str:
        """Checksum of the weights: tells one checkpoint of a model from another."""
        ...


Shapes = Mapping[str, tuple[Any, ...]]
"""Names of tensors, and their shapes; what is not a whole number may be any."""


def in_batches(
    run: Callable[[np.ndarray], Mapping[str, np.ndarray]], images: np.ndarray, count: int | None
) -> dict[str, np.ndarray]:
    """Outputs for any number of images from what takes `count` at a time, or None: all at once.

    The last batch is filled up with black images.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.runtime.network import in_batches
        >>> in_batches(lambda images: {"sum": images.sum(axis=1)}, np.ones((3, 5)), 2)["sum"]
        array([5., 5., 5.])
    """
    results, count = [], count or max(len(images), 1)
    for first in range(0, len(images), count):
        batch = images[first : first + count]
        missing = [(0, count - len(batch))] + [(0, 0)] * (batch.ndim - 1)
        filled = np.pad(batch, missing) if len(batch) < count else batch
        results.append({name: np.asarray(values)[: len(batch)] for name, values in run(filled).items()})
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}


def need_agreement(about: Metadata, inputs: Shapes, outputs: Shapes, source: object) -> None:
    """Checks that a file's metadata are of the model beside them.

    Raises:
        ModelError: naming the input or output that is missing, or not of the shape that decoding needs.
    """
    problem = _disagreement(about, inputs, outputs)
    if problem is not None:
        raise ModelError(
            f"The model is not what its metadata say: {problem}. Export it again with this version. Received: {source}"
        )


def _disagreement(about: Metadata, inputs: Shapes, outputs: Shapes) -> str | None:
    if about.family not in FAMILIES:
        return f"there is no family {about.family!r}"
    size = inputs.get(about.input.name, ())[1:3]
    if size != about.input_size:
        return f"input {about.input.name!r} has height and width {size or 'of nothing'}, not {about.input_size}"
    for name, sides in _needed_sides(about).items():
        shape = outputs.get(name, ())
        if any(axis >= len(shape) or shape[axis] != side for axis, side in sides.items()):
            joints = f"skeleton {about.skeleton.name!r} has {about.skeleton.num_joints} joints"
            return f"output {name!r} has shape {shape}, while {joints}" if shape else f"it has no output {name!r}"
    return None


def _needed_sides(about: Metadata) -> dict[str, dict[int, int]]:
    """What decoding asks of outputs: sides by axis."""
    joints = about.skeleton.num_joints
    if about.decode == "peaks":
        return {"peaks": {1: joints, 3: 4}}
    if about.decode == "poses":
        return {"poses": {2: 3 * joints + 5} if about.multi_person else {2: joints, 3: 3}}
    family, given = FAMILIES[about.family], {output.name for output in about.outputs}
    # What several people are told apart by suffices, where there are no maps for one person.
    needed = family.by_limbs if family.by_limbs and not given.issuperset(family.decoded) else family.decoded
    return {name: {3: joints} for name in needed if name != "pafs"}
