"""Images to calibrate integer models with, and what integers cost: how far the joints have moved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ehrnet.data.annotations import Dataset, Sample
from keras_ehrnet.images import ImageError, list_images, read_image
from keras_ehrnet.metadata import Drift
from keras_ehrnet.poses import Poses
from keras_ehrnet.prediction.pipeline import Settings, box_geometry, estimate, whole_geometry
from keras_ehrnet.runtime.keras import KerasNetwork
from keras_ehrnet.runtime.network import Fitted, Network, in_batches
from keras_ehrnet.support.messages import is_whole, warn

if TYPE_CHECKING:
    import keras

MEDIAN_LIMIT = 0.02
"""A median distance beyond this share of the input's side is worth a warning."""

LOST_LIMIT = 0.1
"""So is this share of lost joints."""

_FOUND = 0.1  # score above which the Keras model's joints count
_ELSEWHERE = 0.1  # share of the input's side beyond which a joint is another one
_MOST_COMPARED = 16  # images: models with 16-bit activations take seconds for each


@dataclass(frozen=True)
class Calibration:
    """Images as prediction passes them to a network: fitted into its input, black where there is none.

    Args:
        network: `Fitted`, such as a `Network`, that they are fitted for.
        views: sequence of (what `read_image` takes or a `Sample`, box of a person or None for the whole image).
    """

    network: Fitted
    views: Sequence[tuple[Any, np.ndarray | None]]

    @classmethod
    def of(cls, source: Any, network: Fitted, count: int, multi_person: bool = False) -> Calibration:
        """At most `count` images of a source, spread over it where its length is known.

        Args:
            source: a folder, a pattern such as `"photos/*.jpg"`, a `Dataset` (networks for one person get the persons
                in it), or an iterable of paths or RGB arrays.
            network: `Network` to calibrate.
            count: int. At least 1.
            multi_person: bool. Whether the network is to find several people, so that it sees whole images.

        Returns:
            `Calibration`.

        Raises:
            FileNotFoundError: if there is no such folder, or no image in it.
            ValueError: if the source or the count is none of these.
        """
        if not is_whole(count):
            raise ValueError(f"Calibration takes a whole number of images, at least 1. Received: {count!r}")
        views = _spread(_views(source, not (network.multi_person or multi_person)), count)
        if not views:
            raise ValueError(f"Calibration needs at least one image. Received: {source!r}")
        return cls(network, views)

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Uint8 RGB arrays of shape `(1, height, width, 3)`; images that cannot be read are left out with a warning."""
        failed: list[str] = []
        for source, box in self.views:
            try:
                image = source.read() if isinstance(source, Sample) else read_image(source)
            except (ImageError, OSError) as error:
                failed.append(str(error))
                continue
            geometry = whole_geometry(self.network, image) if box is None else box_geometry(self.network, box)
            yield geometry.warp(image)[None]
        if len(failed) == len(self.views):
            raise ImageError(f"No image for calibration can be read. Received: {failed[0]}")
        if failed:
            text = f"{len(failed)} of {len(self.views)} images for calibration left out: {failed[0]}"
            warn(text)

    def spread(self, count: int) -> Calibration:
        """At most `count` of them."""
        return Calibration(self.network, _spread(self.views, count))


def _views(source: Any, one_person: bool) -> Iterable[tuple[Any, np.ndarray | None]]:
    if isinstance(source, Dataset):
        if not one_person:
            return [(sample, None) for sample in source]
        return [(sample, person.box.astype(np.float64)) for sample in source for person in sample.targets]
    if isinstance(source, (str, os.PathLike)):
        source = list_images(source)
    elif isinstance(source, np.ndarray) and source.ndim == 3:
        source = [source]
    if not isinstance(source, Iterable):
        raise ValueError(
            "Calibration images are a folder, a pattern, a data set, or an iterable of paths or RGB arrays. "
            f"Received: {type(source).__name__}"
        )
    views = ((image, None) for image in source)
    return list(views) if hasattr(source, "__len__") else views


def _spread(items: Iterable[Any], count: int) -> list[Any]:
    if not isinstance(items, Sequence):
        return list(islice(items, count))
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


class StaticNetwork:
    """The model that is exported, before it is, behind the interface of `Network`.

    Args:
        network: `KerasNetwork` that it was made from.
        model: `keras.Model` of `keras_ehrnet.export.litert.rules.static_model`.
    """

    def __init__(self, network: KerasNetwork, model: keras.Model) -> None:
        self.name, self.family, self.skeleton = network.name, network.family, network.skeleton
        self.input_size, self.any_size, self.min_score = network.input_size, False, 0.0
        self.decode, self.multi_person = "none", network.multi_person
        self._network, self._model = network, model

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return in_batches(self._model.predict_on_batch, images.astype(np.float32), self._model.inputs[0].shape[0])

    def digest(self) -> str:
        """Checksum of the weights, which are the network's."""
        return self._network.digest()


def measure_drift(expected: Network, actual: Network, images: Calibration, multi_person: bool = False) -> Drift | None:
    """How far the joints that one network finds lie from those of another, on some of the images.

    Args:
        expected: `Network` that is right.
        actual: `Network` that is asked; of the same family, and input size.
        images: `Calibration`.
        multi_person: bool. Whether several people are told apart by their limbs, see `Settings`.

    Returns:
        `Drift`, or None if `expected` finds nobody.
    """
    settings, side = Settings(protocol="fast", multi_person=multi_person), max(expected.input_size)
    distances: list[np.ndarray] = []
    compared = list(images.spread(_MOST_COMPARED))
    for image in compared:
        (right,) = estimate(expected, list(image), settings)
        # Whoever is just sure enough in one may not be in the other: that moves no joint.
        (asked,) = estimate(actual, list(image), replace(settings, min_score=0.0))
        distances += [_distances(person, asked) / side for person in right.keypoints]
    distance = np.concatenate(distances) if distances else np.zeros(0)
    if not len(distance):
        return None
    found = distance[np.isfinite(distance)]
    median, p95 = (float(np.percentile(found, percent)) if len(found) else 1.0 for percent in (50, 95))
    lost = float(np.mean(distance > _ELSEWHERE))
    return Drift(len(compared), len(distance), round(median, 5), round(p95, 5), round(lost, 5))


def warn_of_drift(drift: Drift | None, name: str, precision: str) -> None:
    """A warning with figures where joints have moved too far, or where nobody can tell."""
    if drift is None:
        warn(f"What precision {precision!r} costs {name!r} is unknown: it finds nobody in the images for calibration.")
    elif drift.median > MEDIAN_LIMIT or drift.lost > LOST_LIMIT:
        warn(
            f"Precision {precision!r} costs {name!r} much: of {drift.joints} joints in {drift.images} images for "
            f"calibration {drift.lost:.0%} are lost or elsewhere, and the median distance is {drift.median:.1%} of the "
            "input's side. Calibrate with more images such as the model will see, or choose another precision."
        )


def _distances(person: np.ndarray, others: Poses) -> np.ndarray:
    """For each joint found of a person, how far off the most similar other person has it; infinite where missing."""
    found = person[:, 2] > _FOUND
    joints = others.keypoints[:, found]
    distance = np.where(joints[..., 2] > 0, np.linalg.norm(joints[..., :2] - person[found, :2], axis=-1), np.inf)
    if not len(distance):
        return np.full(found.sum(), np.inf)
    return distance[np.median(distance, axis=1).argmin()] if found.any() else np.zeros(0)
