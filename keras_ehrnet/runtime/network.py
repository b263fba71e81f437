"""Networks as a predictor sees them: images in, named maps out, whatever runs them."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from keras_ehrnet.skeletons import Skeleton


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
