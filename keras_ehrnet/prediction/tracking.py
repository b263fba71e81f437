"""From frame to frame: who is who, and coordinates without jitter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from keras_ehrnet.poses import Poses


def similarity(first: Poses, second: Poses) -> np.ndarray:
    """Object keypoint similarity (OKS) between all persons of two results, over the joints that both have.

    Args:
        first: `Poses` with N persons.
        second: `Poses` with M persons, of the same skeleton.

    Returns:
        Float array of shape `(N, M)`, in [0, 1]; 0 where two persons share no joint.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import Poses, skeletons
        >>> from keras_ehrnet.prediction.tracking import similarity
        >>> person = Poses(np.random.default_rng(0).uniform(1, 99, (1, 17, 3)), np.ones(1), skeletons.COCO_17)
        >>> similarity(person, person).tolist()
        [[1.0]]
    """
    sigmas = np.array(first.skeleton.oks_sigmas)
    distances = np.square(first.xy[:, None] - second.xy[None]).sum(axis=-1)
    sides = first.boxes()[:, 2:] - first.boxes()[:, :2]
    # COCO takes the area of the person's outline, which is roughly half of its box.
    areas = np.maximum(0.5 * sides.prod(axis=1), 1.0)[:, None, None]
    shared = (first.confidence > 0)[:, None] & (second.confidence > 0)[None]
    likeness = np.exp(-distances / (2 * areas * np.square(2 * sigmas))) * shared
    return likeness.sum(axis=-1) / np.maximum(shared.sum(axis=-1), 1)


@dataclass
class Tracker:
    """Gives persons the same identity over the frames of a video.

    Args:
        min_similarity: float. Persons less alike than this are not the same.
        patience: int. Frames after which a person who is not seen is forgotten.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import Poses, skeletons
        >>> from keras_ehrnet.prediction.tracking import Tracker
        >>> tracker = Tracker()
        >>> person = Poses(np.random.default_rng(0).uniform(1, 99, (1, 17, 3)), np.ones(1), skeletons.COCO_17)
        >>> tracker(person).ids.tolist(), tracker(person).ids.tolist()
        ([1], [1])
    """

    min_similarity: float = 0.3
    patience: int = 30
    _known: list[tuple[int, int, Poses]] = field(default_factory=list)  # identity, frame last seen, person
    _frame: int = 0
    _next_id: int = 1

    def __call__(self, poses: Poses) -> Poses:
        """The same people with `ids`, taken from those of earlier frames, the most alike first."""
        self._frame += 1
        self._known = [known for known in self._known if self._frame - known[1] <= self.patience]
        ids = self._matched(poses)
        for index in np.flatnonzero(ids == 0):
            ids[index] = self._next_id
            self._next_id += 1
        seen = set(ids.tolist())
        self._known = [known for known in self._known if known[0] not in seen]
        self._known += [(int(ids[index]), self._frame, poses[index]) for index in range(len(poses))]
        return replace(poses, ids=ids)

    def _matched(self, poses: Poses) -> np.ndarray:
        ids = np.zeros(len(poses), int)
        if not self._known or not len(poses):
            return ids
        alike = np.concatenate([similarity(known, poses) for _, _, known in self._known])
        while alike.max() >= self.min_similarity:
            row, column = np.unravel_index(alike.argmax(), alike.shape)
            ids[column] = self._known[row][0]
            alike[row, :] = alike[:, column] = -1
        return ids


@dataclass
class OneEuroFilter:
    """Smooths coordinates, more at rest than in motion (Casiez et al. 2012, the 1 euro filter).

    Args:
        rate: float. Frames per second.
        min_cutoff: float. Cut-off frequency at rest, in hertz: lower is smoother.
        speed_coefficient: float. How much the cut-off rises with speed (person sizes per second): higher lags less.
        derivative_cutoff: float. Cut-off frequency of the speed itself, in hertz.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.prediction.tracking import OneEuroFilter
        >>> smooth = OneEuroFilter(rate=25)
        >>> float(smooth(np.zeros(2), 1.0)[0]), 0 < float(smooth(np.ones(2), 1.0)[0]) < 1
        (0.0, True)
    """

    rate: float
    min_cutoff: float = 1.5
    speed_coefficient: float = 3.0
    derivative_cutoff: float = 1.0
    _value: np.ndarray | None = None
    _speed: np.ndarray | float = 0.0

    def __call__(self, value: np.ndarray, size: float) -> np.ndarray:
        """The smoothed value of the next frame; `size` is the person's, in pixels."""
        if self._value is None:
            self._value = np.array(value, np.float64)
            return self._value
        speed = (value - self._value) * self.rate / size
        self._speed = self._blend(self._speed, speed, self.derivative_cutoff)
        cutoff = self.min_cutoff + self.speed_coefficient * np.abs(self._speed)
        self._value = self._blend(self._value, value, cutoff)
        return self._value

    def _blend(self, old: np.ndarray | float, new: np.ndarray, cutoff: np.ndarray | float) -> np.ndarray:
        weight = 1 / (1 + self.rate / (2 * math.pi * cutoff))
        return old + weight * (new - old)


@dataclass
class Smoother:
    """A one-euro filter for every joint of every identified person.

    Args:
        rate: float. Frames per second.
    """

    rate: float
    _filters: dict[tuple[int, int], OneEuroFilter] = field(default_factory=dict)
    _seconds: float | None = None

    def __call__(self, poses: Poses, seconds: float | None = None) -> Poses:
        """The same people with smoothed coordinates; joints that were not found stay as they are.

        Args:
            poses: `Poses` with identities.
            seconds: float, or None. Time of the frame, where frames do not follow each other at one rate.
        """
        if poses.ids is None:
            raise ValueError("Smoothing follows persons by their identity: give them one with Tracker first.")
        rate = self.rate
        if seconds is not None and self._seconds is not None and seconds > self._seconds:
            rate = 1 / (seconds - self._seconds)
        self._seconds = seconds
        keypoints = poses.keypoints.copy()
        boxes = poses.boxes()
        present = set()
        for row, identity in enumerate(poses.ids.tolist()):
            size = max(float((boxes[row, 2:] - boxes[row, :2]).max()), 1.0)
            for joint in np.flatnonzero(keypoints[row, :, 2] > 0).tolist():
                present.add((identity, joint))
                smooth = self._filters.setdefault((identity, joint), OneEuroFilter(rate))
                smooth.rate = rate
                keypoints[row, joint, :2] = smooth(keypoints[row, joint, :2].astype(np.float64), size)
        # A joint that was away starts anew.
        self._filters = {key: value for key, value in self._filters.items() if key in present}
        return replace(poses, keypoints=keypoints)
