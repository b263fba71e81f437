"""Keras models as networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_ehrnet import skeletons
from keras_ehrnet.families import FAMILIES, family_of
from keras_ehrnet.models.variants import usual_input_size
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.files import sha256
from keras_ehrnet.support.messages import is_size, warn

if TYPE_CHECKING:
    import keras


class KerasNetwork:
    """A Keras model behind the interface of `keras_ehrnet.runtime.Network`.

    Args:
        model: `keras.Model` with preprocessing in its graph, from one of this package's builders.
        skeleton: `Skeleton`, or None for the one that the number of keypoints suggests, which a warning tells.
        input_size: tuple (height, width), or None for the model's own, or its paper's.
        license: str, or None. SPDX identifier of the weights' license.
        min_score: float. Score of a person below which there is nobody, as measured for the weights.
        names_joints: bool. Whether it is known what the joints are: a file that does not say it may be of any.

    Raises:
        ValueError: if the model gives no heatmaps, or its size is not known.
    """

    def __init__(
        self,
        model: keras.Model,
        skeleton: Skeleton | None = None,
        input_size: tuple[int, int] | None = None,
        *,
        license: str | None = None,
        min_score: float = 0.0,
        names_joints: bool = True,
    ) -> None:
        num_keypoints = _num_keypoints(model)
        self.model = model
        self.decode = "none"
        self.license = license
        self.min_score = min_score
        self.name = model.name
        self.family = family_of(model.output)
        self.multi_person = not FAMILIES[self.family].top_down
        if not any(layer.name == "preprocessing" for layer in model.layers):
            raise ValueError(
                "A predictor passes RGB in [0, 255], which the model must normalize itself: build it with "
                f"include_preprocessing=True. Received: model {model.name!r}"
            )
        self.names_joints = names_joints or skeleton is not None
        self.skeleton = skeleton or _guessed_skeleton(model, num_keypoints)
        if self.skeleton.num_joints != num_keypoints:
            raise ValueError(
                f"Model {model.name!r} has {num_keypoints} keypoints. "
                f"Received: skeleton {self.skeleton.name!r} with {self.skeleton.num_joints}"
            )
        self.any_size = tuple(model.input_shape[1:3]) == (None, None)
        self.input_size = checked_size(model, input_size)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self.model.predict_on_batch(images)
        return {name: np.asarray(maps, np.float32) for name, maps in outputs.items()}

    def digest(self) -> str:
        """Checksum of the weights: tells one checkpoint of a model from another."""
        return sha256(np.ascontiguousarray(weight).tobytes() for weight in self.model.get_weights())


def _num_keypoints(model: keras.Model) -> int:
    outputs = model.output if isinstance(model.output, dict) else {}
    heatmaps = outputs.get("heatmaps", outputs.get("heatmaps_4"))
    if heatmaps is None:
        raise ValueError(
            "A pose network has an output named 'heatmaps' or 'heatmaps_4'. "
            f"Received: model {model.name!r} with outputs {sorted(outputs) or model.output_names}"
        )
    return heatmaps.shape[-1]


def checked_size(model: keras.Model, input_size: tuple[int, int] | None = None) -> tuple[int, int]:
    """The (height, width) in pixels that a pose network is to be used at.

    Args:
        model: `keras.Model`, from one of this package's builders.
        input_size: tuple (height, width), or None for the model's own, or its paper's.

    Raises:
        ValueError: if the model gives no heatmaps, does not take the size, or no size is known.
    """
    _num_keypoints(model)
    if input_size is None:
        return usual_input_size(model)
    own, stride = tuple(model.input_shape[1:3]), FAMILIES[family_of(model.output)].multiple
    if not is_size(input_size, stride):
        raise ValueError(f"input_size is (height, width), multiples of {stride}. Received: {input_size!r}")
    height, width = input_size
    if any(side not in (None, given) for side, given in zip(own, (height, width), strict=True)):
        raise ValueError(f"Model {model.name!r} takes images of size {own}. Received: input_size={(height, width)}")
    return height, width


def _guessed_skeleton(model: keras.Model, num_keypoints: int) -> Skeleton:
    guess = skeletons.generic(num_keypoints)
    if guess.limbs:
        warn(
            f"Nothing says what the {num_keypoints} keypoints of model {model.name!r} are: they are taken for "
            f"{guess.name!r}. Pass skeleton=..., or save it with keras_ehrnet.models.save(model, path, skeleton)."
        )
    return guess
