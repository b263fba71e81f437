"""From frame to frame: who is who, and coordinates without jitter."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from keras_ehrnet.decode.assignment import assign
from keras_ehrnet.poses import Poses
from keras_ehrnet.prediction.colors import blended, color_difference, limb_colors

_NEW = 0.3  # How much the newest frame counts for speed and colors.
_DOUBT = 2.0  # By how much joints may be farther apart for every second that somebody was not seen.
_COLOR = 0.5  # What the greatest difference of colors costs; not to be alike at all costs 1.
_IMPOSSIBLE = 1e3
_HIDDEN, _MIXED = 0.5, 0.1  # Parts of a box in another: somebody is hidden; colors may be another's.


def similarity(first: Poses, second: Poses, reach: float = 1.0) -> np.ndarray:
    """Object keypoint similarity (OKS) between all persons of two results, over the joints that both have.

    Args:
        first: `Poses` with N persons.
        second: `Poses` with M persons, of the same skeleton.
        reach: float. How many times as far apart joints may be.

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
    shared = _shared(first, second).sum(axis=-1)
    return joint_similarity(first, second, reach).sum(axis=-1) / np.maximum(shared, 1)


def joint_similarity(first: Poses, second: Poses, reach: float = 1.0) -> np.ndarray:
    """What each joint adds to `similarity`, `(N, M, K)`; 0 where one of two persons lacks the joint.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import Poses, skeletons
        >>> from keras_ehrnet.prediction.tracking import joint_similarity
        >>> person = Poses(np.random.default_rng(0).uniform(1, 99, (1, 17, 3)), np.ones(1), skeletons.COCO_17)
        >>> joint_similarity(person, person).shape, bool((joint_similarity(person, person) == 1).all())
        ((1, 1, 17), True)
    """
    sigmas = np.array(first.skeleton.oks_sigmas)
    distances = np.square(first.xy[:, None] - second.xy[None]).sum(axis=-1)
    sides = first.boxes()[:, 2:] - first.boxes()[:, :2]
    # COCO takes the area of the person's outline, which is roughly half of its box.
    areas = np.maximum(0.5 * sides.prod(axis=1), 1.0)[:, None, None] * reach**2
    return np.exp(-distances / (2 * areas * np.square(2 * sigmas))) * _shared(first, second)


def _shared(first: Poses, second: Poses) -> np.ndarray:
    """Which joints each two persons have both, `(N, M, K)`."""
    return (first.confidence > 0)[:, None] & (second.confidence > 0)[None]


@dataclass(eq=False)
class _Track:
    """Somebody who is followed."""

    identity: int
    person: Poses
    seconds: float  # When last seen.
    colors: np.ndarray | None
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))  # Pixels per second.
    missing: float = 0.0  # Seconds not seen, though nobody was in the way.

    def at(self, seconds: float) -> Poses:
        """Where somebody is who goes on as before."""
        x, y = self.velocity * (seconds - self.seconds)
        return self.person.resized((1, 1), (float(x), float(y)))

    def seen(self, person: Poses, seconds: float, colors: np.ndarray | None) -> None:
        shared = (self.person.confidence[0] > 0) & (person.confidence[0] > 0)
        if seconds > self.seconds and shared.any():
            step = np.median((person.xy - self.person.xy)[0, shared], axis=0) / (seconds - self.seconds)
            self.velocity = self.velocity + _NEW * (step - self.velocity)
        if colors is not None:
            self.colors = colors if self.colors is None else blended(self.colors, colors, _NEW)
        self.person, self.seconds, self.missing = person, seconds, 0.0


@dataclass
class Tracker:
    """Gives persons the same identity over the frames of a video.

    Who is where somebody is expected, and looks like them, is them. An identity ends when they are not seen though
    nobody stands before them: it is not given to whoever is in that place later. The defaults are measured, see the
    documentation's page on video; `training/benchmark_tracking.py` measures them again.

    Args:
        min_similarity: float. Persons less alike than this (OKS, with where they are expected) are not the same.
        max_color_difference: float. Nor are those whose clothes differ more than this, in units of L*a*b*.
        patience: float. Seconds after which somebody is forgotten who is not seen though nobody is in the way.
        patience_covered: float. Seconds after which somebody is forgotten who is not seen for any reason.
        rate: float. Frames per second of a video whose frames come without times.

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
    max_color_difference: float = 16.0
    patience: float = 0.4
    patience_covered: float = 2.0
    rate: float = 25.0
    _tracks: list[_Track] = field(default_factory=list)
    _seconds: float | None = None
    _newest: int = 0

    def __call__(self, poses: Poses, seconds: float | None = None, image: np.ndarray | None = None) -> Poses:
        """The same people with `ids`, taken from those of earlier frames.

        Args:
            poses: `Poses` of the next frame.
            seconds: float, or None. Time of the frame; None: one frame later than the last.
            image: uint8 RGB array of shape `(H, W, 3)`, or None. The frame, to tell people by their clothes as well.

        Returns:
            `Poses`.
        """
        last = self._seconds
        now = seconds if seconds is not None else 0.0 if last is None else last + 1 / self.rate
        passed, self._seconds = 0.0 if last is None else max(now - last, 0.0), now
        boxes = poses.boxes()
        colors = None if image is None else _own_colors(image, poses, boxes)
        self._tracks = [track for track in self._tracks if now - track.seconds <= self.patience_covered]
        expected = [track.at(now) for track in self._tracks]
        found = self._matched(expected, poses, colors, now)
        followed = []
        for index, person in enumerate(poses):
            look = None if colors is None else colors[index]
            if index in found:
                found[index].seen(person, now, look)
            followed.append(found.get(index) or self._begun(person, now, look))
        for track, place in zip(self._tracks, expected, strict=True):
            if track not in followed and not _is_covered(place.boxes()[0], boxes, _HIDDEN):
                track.missing += passed
        missed = [track for track in self._tracks if track not in followed and track.missing <= self.patience]
        self._tracks = followed + missed
        return replace(poses, ids=np.array([track.identity for track in followed], int))

    def _begun(self, person: Poses, seconds: float, colors: np.ndarray | None) -> _Track:
        self._newest += 1
        return _Track(self._newest, person, seconds, colors)

    def _matched(self, expected: list[Poses], poses: Poses, colors: np.ndarray | None, now: float) -> dict[int, _Track]:
        """Who of those followed is which of the people."""
        if not expected or not len(poses):
            return {}
        # The longer somebody was not seen, the less is known of where they are.
        reach = [1 + _DOUBT * (now - track.seconds) for track in self._tracks]
        alike = np.concatenate([similarity(place, poses, far) for place, far in zip(expected, reach, strict=True)])
        possible = alike >= self.min_similarity
        costs = 1 - alike
        if colors is not None:
            unknown = np.full(colors.shape[1:], np.nan)
            known = np.stack([unknown if track.colors is None else track.colors for track in self._tracks])
            differences = color_difference(known, colors)
            possible &= differences <= self.max_color_difference
            costs = costs + _COLOR * differences / self.max_color_difference
        rows, columns = assign(np.where(possible, costs, _IMPOSSIBLE))
        return {int(c): self._tracks[r] for r, c in zip(rows, columns, strict=True) if possible[r, c]}


def _own_colors(image: np.ndarray, poses: Poses, boxes: np.ndarray) -> np.ndarray:
    """`limb_colors`, unknown for those who overlap with others: they might be the others'."""
    colors = limb_colors(image, poses)
    overlaps = [_is_covered(box, np.delete(boxes, index, axis=0), _MIXED) for index, box in enumerate(boxes)]
    colors[np.array(overlaps, bool)] = np.nan
    return colors


def _is_covered(box: np.ndarray, others: np.ndarray, part: float) -> bool:
    """Whether more than a part of a box lies in one of others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    return bool((shared > part * np.prod(box[2:] - box[:2])).any())


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
