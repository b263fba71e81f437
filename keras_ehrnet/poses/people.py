"""Poses: the people found in one image. What every decoder returns and every drawing, writing and scoring takes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ehrnet.poses import interchange
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.errors import NobodyError
from keras_ehrnet.support.messages import check_threshold

if TYPE_CHECKING:
    from pathlib import Path

    from keras_ehrnet.poses import draw


@dataclass(frozen=True, eq=False)
class Poses:
    """People in one image: their joints, in pixels of that image, and how sure the model is.

    Args:
        keypoints: float32 array of shape `(N, K, 3)`. x and y in pixels (pixel centers at +0.5) and a score in [0, 1]
            for each joint of each of N persons. A joint with score 0 was not found.
        scores: float32 array of shape `(N,)`. Score of each person.
        skeleton: `Skeleton`. What the K joints are.
        image_size: tuple (width, height) of the image in pixels, or None where it is not known.
        ids: int array of shape `(N,)`, or None. Identity of each person over the frames of a video.
        image: uint8 RGB array of shape `(H, W, 3)`, or None. Kept where notebooks are to show the result.

    Raises:
        ValueError: if the shapes do not fit each other.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import Poses, skeletons
        >>> poses = Poses(np.ones((2, 17, 3)), np.array([0.9, 0.8]), skeletons.COCO_17, image_size=(640, 480))
        >>> poses
        Poses(2 persons, coco_17, image 640x480, scores 0.90 0.80)
        >>> poses[0].joint("nose")
        (1.0, 1.0, 1.0)
    """

    keypoints: np.ndarray
    scores: np.ndarray
    skeleton: Skeleton
    image_size: tuple[int, int] | None = None
    ids: np.ndarray | None = None
    image: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        keypoints = np.asarray(self.keypoints, np.float32)
        scores = np.asarray(self.scores, np.float32)
        joints = self.skeleton.num_joints
        if keypoints.size == 0:
            keypoints = keypoints.reshape(0, joints, 3)
        if keypoints.ndim != 3 or keypoints.shape[1:] != (joints, 3) or scores.shape != keypoints.shape[:1]:
            raise ValueError(
                f"Poses of skeleton {self.skeleton.name!r} need keypoints of shape (N, {joints}, 3) and scores of "
                f"shape (N,). Received: keypoints {keypoints.shape}, scores {scores.shape}"
            )
        ids = None if self.ids is None else np.asarray(self.ids, int)
        if ids is not None and ids.shape != scores.shape:
            raise ValueError(f"Every person has one identity. Received: {len(scores)} persons, ids {ids.shape}")
        object.__setattr__(self, "keypoints", keypoints)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "ids", ids)

    @classmethod
    def empty(cls, skeleton: Skeleton, image_size: tuple[int, int] | None = None) -> Poses:
        """Nobody: an image without people."""
        return cls(np.zeros((0, skeleton.num_joints, 3)), np.zeros(0), skeleton, image_size)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: int | slice | np.ndarray | list[int]) -> Poses:
        """The persons at `index` (an int, a slice, a list or a mask), as `Poses`."""
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"There are {len(self)} persons in this image. Received: index {index}")
            index = [int(index)]
        ids = None if self.ids is None else self.ids[index]
        return replace(self, keypoints=self.keypoints[index], scores=self.scores[index], ids=ids)

    def __eq__(self, other: object) -> bool:
        """Whether both are the same people, to the last bit; the pictures do not count."""
        if not isinstance(other, Poses):
            return NotImplemented
        same_frame = (self.skeleton, self.image_size) == (other.skeleton, other.image_size)
        return same_frame and all(
            np.array_equal(own, others)
            for own, others in (
                (self.keypoints, other.keypoints),
                (self.scores, other.scores),
                (np.asarray(self.ids, object), np.asarray(other.ids, object)),
            )
        )

    def __hash__(self) -> int:
        return hash((self.skeleton, self.image_size, len(self)))

    def __iter__(self) -> Iterator[Poses]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        persons = f"{len(self)} person" + ("" if len(self) == 1 else "s")
        size = "" if self.image_size is None else f", image {self.image_size[0]}x{self.image_size[1]}"
        shown = " ".join(f"{score:.2f}" for score in self.scores[:8]) + (" ..." if len(self) > 8 else "")
        return f"Poses({persons}, {self.skeleton.name}{size}" + (f", scores {shown})" if len(self) else ")")

    @property
    def xy(self) -> np.ndarray:
        """Coordinates alone, shape `(N, K, 2)`, in pixels."""
        return self.keypoints[..., :2]

    @property
    def confidence(self) -> np.ndarray:
        """Scores of the joints, shape `(N, K)`."""
        return self.keypoints[..., 2]

    def joint(self, name: str, person: int = 0) -> tuple[float, float, float]:
        """x, y and score of one joint by name.

        Args:
            name: str. As the skeleton has it.
            person: int. The person's number, from 0, the best one first; -1 is the last one.

        Raises:
            ValueError: if the skeleton has no such joint.
            NobodyError: if there is no such person, as where nobody was found.
        """
        joint = self.skeleton.index(name)
        if not -len(self) <= person < len(self):
            raise NobodyError(
                f"There is no such person: {len(self)} were found, which len(poses) tells. Received: person={person}"
            )
        x, y, score = self.keypoints[person, joint]
        return float(x), float(y), float(score)

    def boxes(self, threshold: float = 0.0) -> np.ndarray:
        """Bounding boxes of the found joints.

        Args:
            threshold: float. Joints with a score at or below it are left out.

        Returns:
            Float32 array of shape `(N, 4)`: left, top, right, bottom in pixels; zeros for a person without joints.

        Raises:
            ValueError: if the threshold is no number.
        """
        check_threshold(threshold)
        found = (self.confidence > threshold)[..., None]
        low = np.where(found, self.xy, np.inf).min(axis=1)
        high = np.where(found, self.xy, -np.inf).max(axis=1)
        boxes = np.concatenate([low, high], axis=1).astype(np.float32)
        return np.where(found.any(axis=1), boxes, 0)

    def resized(self, scale: tuple[float, float], offset: tuple[float, float] = (0.0, 0.0)) -> Poses:
        """The same people with coordinates `xy * scale + offset`."""
        keypoints = self.keypoints.copy()
        keypoints[..., :2] = keypoints[..., :2] * np.asarray(scale, np.float32) + np.asarray(offset, np.float32)
        return replace(self, keypoints=keypoints)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values: persons with named points, for JSON and the like."""
        persons = []
        for index in range(len(self)):
            points = {
                name: {"x": round(float(x), 3), "y": round(float(y), 3), "score": round(float(score), 5)}
                for name, (x, y, score) in zip(self.skeleton.joint_names, self.keypoints[index], strict=True)
            }
            person: dict[str, Any] = {"score": round(float(self.scores[index]), 5), "keypoints": points}
            if self.ids is not None:
                person["id"] = int(self.ids[index])
            persons.append(person)
        size = None if self.image_size is None else dict(zip(("width", "height"), self.image_size, strict=True))
        return {"skeleton": self.skeleton.name, "image_size": size, "persons": persons}

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """People in COCO's result format: one entry each, `keypoints` flat as x, y, score.

        Args:
            image_id: int. The image's id in the annotation file.
            category_id: int. COCO's person is 1.

        Returns:
            List of dicts, ready for `pycocotools.coco.COCO.loadRes`.
        """
        return [
            {
                "image_id": int(image_id),
                "category_id": int(category_id),
                "keypoints": [round(float(value), 4) for value in person.reshape(-1)],
                "score": float(score),
            }
            for person, score in zip(self.keypoints, self.scores, strict=True)
        ]

    def to_csv(self) -> str:
        """A table as text: one row per person and joint (`person,joint,x,y,score`)."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["person", "joint", "x", "y", "score"])
        for index, person in enumerate(self.keypoints):
            for name, (x, y, score) in zip(self.skeleton.joint_names, person, strict=True):
                writer.writerow([index, name, f"{x:.3f}", f"{y:.3f}", f"{score:.5f}"])
        return text.getvalue()

    def to_supervision(self) -> Any:
        """The people as `supervision.KeyPoints`, for its annotators; joints that were not found are at 0, 0.

        Scores and identities of persons are in `data`. Needs `pip install supervision`.
        """
        return interchange.to_key_points(self)

    def to_detections(self, threshold: float = 0.0) -> Any:
        """The people as boxes, `supervision.Detections`, for its trackers and zones.

        Args:
            threshold: float. Joints with a score at or below it do not count for the boxes.

        Returns:
            `Detections` with the joints in `data`, so that `from_supervision` finds them again.
        """
        return interchange.to_detections(self, threshold)

    @classmethod
    def from_supervision(cls, source: Any, skeleton: Skeleton, image_size: tuple[int, int] | None = None) -> Poses:
        """The people of `supervision.KeyPoints`, or of `Detections` that `to_detections` gave.

        Args:
            source: what `to_supervision` or `to_detections` returns, whatever became of it since.
            skeleton: `Skeleton`. What the joints are.
            image_size: tuple (width, height) of the image in pixels, or None.

        Raises:
            ValueError: if there are no joints in it, or not those of the skeleton.
        """
        return cls(**interchange.from_supervision(source, skeleton), skeleton=skeleton, image_size=image_size)

    def to_fiftyone(self) -> Any:
        """The people as `fiftyone.Keypoints`, in parts of the image; joints that were not found are NaN.

        Raises:
            ValueError: if the size of the image is not known.
        """
        return interchange.to_fiftyone(self)

    @classmethod
    def from_fiftyone(cls, source: Any, skeleton: Skeleton, image_size: tuple[int, int]) -> Poses:
        """The people of `fiftyone.Keypoints`.

        Args:
            source: what `to_fiftyone` returns.
            skeleton: `Skeleton`. What the joints are.
            image_size: tuple (width, height) of the image in pixels.
        """
        return cls(**interchange.from_fiftyone(source, skeleton, image_size), skeleton=skeleton, image_size=image_size)

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`: a row for each joint of each person, with `person`, `joint`, `x`, `y`, `score`,
        `person_score` and, where there are identities, `id`.
        """
        return interchange.to_pandas(self)

    @classmethod
    def from_pandas(cls, table: Any, skeleton: Skeleton, image_size: tuple[int, int] | None = None) -> Poses:
        """The people of a table with the columns of `to_pandas`, the last two of which it may lack.

        Args:
            table: `pandas.DataFrame`, or any mapping of names of columns to their values.
            skeleton: `Skeleton`. What the joints are.
            image_size: tuple (width, height) of the image in pixels, or None.

        Raises:
            ValueError: if columns are missing, or there are other joints in it.

        Example:
            >>> from keras_ehrnet import Poses, skeletons
            >>> table = {"person": [0, 0], "joint": ["nose", "left_eye"], "x": [5, 6], "y": [7, 8], "score": [0.9, 0.7]}
            >>> Poses.from_pandas(table, skeletons.COCO_17)
            Poses(1 person, coco_17, scores 0.80)
        """
        return cls(**interchange.from_pandas(table, skeleton), skeleton=skeleton, image_size=image_size)

    def draw(
        self, image: np.ndarray | None = None, threshold: float = 0.2, *, style: draw.Style | None = None
    ) -> np.ndarray:
        """The image with the people drawn on it.

        Args:
            image: uint8 RGB array of shape `(H, W, 3)`. Defaults to the image these poses were found in.
            threshold: float. Joints with a score below it are not drawn.
            style: `draw.Style`: boxes, names of joints, line width. None: joints and limbs alone.

        Returns:
            A new uint8 RGB array of the same shape.
        """
        from keras_ehrnet.poses import draw

        return draw.poses(self._shown(image, "draw"), self, threshold=threshold, style=style)

    def crops(
        self, image: np.ndarray | None = None, threshold: float = 0.0, *, margin: float | None = None
    ) -> list[np.ndarray]:
        """Everyone cut out of the image: for another network, for faces to be covered, for labels.

        Args:
            image: uint8 RGB array of shape `(H, W, 3)`. Defaults to the image these poses were found in.
            threshold: float. Joints with a score at or below it do not count, as in `boxes`.
            margin: float. What a person's box is enlarged by, about its middle; None: by as much as where networks look
                at one person. What lies outside the image is left out.

        Returns:
            A new uint8 RGB array for each person, of shape `(0, 0, 3)` for one without joints in the image.

        Example:
            >>> import numpy as np
            >>> from keras_ehrnet import Poses, Skeleton
            >>> stick = Skeleton("stick", ("top", "bottom"), ((0, 1),))
            >>> poses = Poses(np.array([[[30, 10, 0.9], [60, 50, 0.8]]]), np.array([0.9]), stick)
            >>> [crop.shape for crop in poses.crops(np.zeros((80, 100, 3), np.uint8), margin=1.0)]
            [(40, 30, 3)]
        """
        from keras_ehrnet.geometry import BOX_MARGIN, box_region

        image, margin = self._shown(image, "crops"), BOX_MARGIN if margin is None else margin
        height, width = image.shape[:2]
        cut = []
        found = self.confidence > threshold
        for box, joints in zip(self.boxes(threshold), found, strict=True):
            region = box_region(box, margin)
            middle, half = np.array(region.center), np.array(region.size) / 2
            left, top = np.clip(np.floor(middle - half), 0, (width, height)).astype(int)
            right, bottom = np.clip(np.ceil(middle + half), 0, (width, height)).astype(int)
            is_shown = joints.any() and left < right and top < bottom
            cut.append(image[top:bottom, left:right].copy() if is_shown else np.zeros((0, 0, 3), np.uint8))
        return cut

    def _shown(self, image: np.ndarray | None, method: str) -> np.ndarray:
        """The image given, or else that in which these poses were found."""
        image = self.image if image is None else image
        if image is None:
            raise ValueError(f"These poses do not carry their image. Pass it: poses.{method}(image)")
        return image

    def save(
        self,
        path: str | Path,
        image: np.ndarray | None = None,
        threshold: float = 0.2,
        *,
        style: draw.Style | None = None,
    ) -> None:
        """Writes the picture that `draw` makes to an image file."""
        from keras_ehrnet.images import write_image

        write_image(path, self.draw(image, threshold, style=style))

    def _repr_png_(self) -> bytes | None:
        if self.image is None:
            return None
        from keras_ehrnet.poses import draw

        return draw.encode_png(self.draw())
