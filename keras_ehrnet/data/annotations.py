"""Annotated images: what every reader of a data set returns and every training or evaluation pipeline takes.

A `Dataset` holds `Sample`s (images), which hold `Person`s. Nothing is loaded before it is asked for: a sample knows
where its picture is, not its pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from keras_ehrnet.data._checks import need_inside
from keras_ehrnet.images import ImageSource, find_images, read_image
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.errors import AnnotationError
from keras_ehrnet.support.messages import cut

UNLABELLED, HIDDEN, VISIBLE = 0, 1, 2
"""What a joint's third value means: no coordinates; coordinates of a joint that something covers; seen."""

_STAND_INS = {
    "neck": ("left_shoulder", "right_shoulder"),
    "upper_neck": ("left_shoulder", "right_shoulder"),
    "thorax": ("left_shoulder", "right_shoulder"),
    "pelvis": ("left_hip", "right_hip"),
}


@dataclass(frozen=True, eq=False)
class Person:
    """One annotated person.

    Args:
        joints: float32 array of shape `(K, 3)`. x, y in pixels of the image, and 0 (unlabelled), 1 (labelled, hidden)
            or 2 (labelled, visible). Unlabelled joints are all zeros.
        box: float32 array of shape `(4,)`. Left, top, right, bottom in pixels.
        area: float. Area of the person in square pixels, the scale of COCO's OKS.
        is_crowd: bool. Whether the region holds a crowd rather than one person.
        head_size: float, or None. The length that PCKh divides by.
        segmentation: COCO's polygons or run lengths, or None where there is only the box.
        person_id: int or str, or None. The annotation's id, or its number in the file.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.data import Person, joints_box
        >>> joints = np.array([[10, 20, 2], [30, 60, 1], [0, 0, 0]])
        >>> Person(joints, box=joints_box(joints), area=800.0)
        Person(2 of 3 joints, box 10 20 30 60)
    """

    joints: np.ndarray
    box: np.ndarray
    area: float
    is_crowd: bool = False
    head_size: float | None = None
    segmentation: list | dict | None = None
    person_id: int | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "joints", np.asarray(self.joints, np.float32))
        object.__setattr__(self, "box", np.asarray(self.box, np.float32))
        if self.joints.ndim != 2 or self.joints.shape[1] != 3 or self.box.shape != (4,):
            raise ValueError(
                "A person needs joints of shape (K, 3) and a box of shape (4,). "
                f"Received: joints {self.joints.shape}, box {self.box.shape}"
            )

    @cached_property
    def num_labelled(self) -> int:
        """Number of labelled joints, hidden ones included."""
        return int(np.count_nonzero(self.joints[:, 2] > 0))

    @property
    def is_target(self) -> bool:
        """Whether a model is to find this person: not a crowd, and with at least one labelled joint."""
        return not self.is_crowd and self.num_labelled > 0

    def __repr__(self) -> str:
        crowd = ", crowd" if self.is_crowd else ""
        box = " ".join(f"{value:g}" for value in self.box)
        return f"Person({self.num_labelled} of {len(self.joints)} joints, box {box}{crowd})"


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and the people in it.

    Args:
        image_id: int or str. The image's id in its data set.
        source: what `read_image` takes: a path, a member of an archive, an encoded image, an RGB array; or None where
            only the annotations are at hand.
        image_size: tuple (width, height) of the annotated image in pixels, or None where the data set does not tell.
        persons: tuple of `Person`, crowds and persons without joints included.
    """

    image_id: int | str
    source: ImageSource | None
    image_size: tuple[int, int] | None
    persons: tuple[Person, ...]

    @property
    def targets(self) -> tuple[Person, ...]:
        """The persons a model is to find."""
        return tuple(person for person in self.persons if person.is_target)

    @property
    def ignored(self) -> tuple[Person, ...]:
        """Crowds and persons without labelled joints: regions where a model is neither right nor wrong."""
        return tuple(person for person in self.persons if not person.is_target)

    def read(self) -> np.ndarray:
        """The picture, as a uint8 RGB array of shape `(H, W, 3)`.

        Raises:
            ImageError: if the file is not an intact image.
            AnnotationError: if the image is not of the annotated size.
            ValueError: if the data set was read without its images.
        """
        if self.source is None:
            raise ValueError(f"The data set was read without its images. Received: image {self.image_id!r}")
        image = read_image(self.source)
        size = (image.shape[1], image.shape[0])
        if self.image_size not in (None, size):
            where = "array" if isinstance(self.source, (np.ndarray, bytes)) else self.source
            raise AnnotationError(
                f"{where} must be of the annotated size {self.image_size}. Received: an image of {size}"
            )
        return image


@dataclass(frozen=True, eq=False)
class Dataset:
    """Annotated images with one skeleton.

    Args:
        name: str. Short name, for tables and logs.
        skeleton: `Skeleton`. What the joints of all persons are.
        samples: tuple of `Sample`.
        problems: dict of str to tuple of str. What was corrected or left out while reading, and where.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.data import Dataset, Person, Sample
        >>> from keras_ehrnet.skeletons import LSP_14
        >>> person = Person(np.full((14, 3), 2.0), box=[0, 0, 2, 2], area=4.0)
        >>> dataset = Dataset("toy", LSP_14, (Sample("a", None, (8, 8), (person,)), Sample("b", None, (8, 8), ())))
        >>> dataset
        Dataset(toy, lsp_14, 2 images, 1 person)
        >>> len(dataset.with_people()), dataset.joints.shape, dataset.report()
        (1, (1, 14, 3), '')
    """

    name: str
    skeleton: Skeleton
    samples: tuple[Sample, ...]
    problems: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __repr__(self) -> str:
        people = self.num_persons
        persons = f"{people} person" + ("" if people == 1 else "s")
        return f"Dataset({self.name}, {self.skeleton.name}, {len(self)} images, {persons})"

    @property
    def persons(self) -> tuple[Person, ...]:
        """All persons a model is to find, image by image."""
        return tuple(person for sample in self.samples for person in sample.targets)

    @property
    def num_persons(self) -> int:
        """Number of persons a model is to find."""
        return len(self.persons)

    @property
    def joints(self) -> np.ndarray:
        """Joints of `persons`, as a float32 array of shape `(N, K, 3)`."""
        joints = [person.joints for person in self.persons]
        return np.stack(joints) if joints else np.zeros((0, self.skeleton.num_joints, 3), np.float32)

    @property
    def head_sizes(self) -> np.ndarray:
        """Head sizes of `persons`, shape `(N,)`; NaN where there is none."""
        return np.array([np.nan if p.head_size is None else p.head_size for p in self.persons], np.float64)

    def with_people(self) -> Dataset:
        """The images with at least one person to find.

        Raises:
            ValueError: if there is no such image.
        """
        samples = tuple(sample for sample in self.samples if sample.targets)
        if not samples:
            raise ValueError(f"No image has a person with labelled joints. Received: {self!r}")
        return replace(self, samples=samples)

    def per_person(self) -> Dataset:
        """One sample for each person to find, as models for a single person are trained and scored."""
        samples = [replace(sample, persons=(person,)) for sample in self.samples for person in sample.targets]
        return replace(self, samples=tuple(samples))

    def in_skeleton(self, skeleton: Skeleton, stand_ins: bool = False) -> Dataset:
        """The same people with the joints of another skeleton; see `map_joints`."""

        def mapped(person: Person) -> Person:
            return replace(person, joints=map_joints(person.joints, self.skeleton, skeleton, stand_ins))

        samples = (replace(sample, persons=tuple(map(mapped, sample.persons))) for sample in self.samples)
        return replace(self, skeleton=skeleton, samples=tuple(samples), problems=self._unmapped(skeleton))

    def _unmapped(self, skeleton: Skeleton) -> dict[str, tuple[str, ...]]:
        """The problems, with the joints that only one of both skeletons has."""
        sources = self.skeleton.mapping_to(skeleton)
        lost = tuple(name for joint, name in enumerate(self.skeleton.joint_names) if joint not in sources)
        absent = tuple(name for name, joint in zip(skeleton.joint_names, sources, strict=True) if joint is None)
        told = {
            f"joints that {skeleton.name!r} has not, left out": lost,
            f"joints of {skeleton.name!r} that nobody has labelled": absent,
        }
        return {**self.problems, **{what: names for what, names in told.items() if names}}

    def report(self, examples: int = 5) -> str:
        """What was corrected or left out while reading, one line for each kind, with the first few places."""
        lines = []
        for what, places in self.problems.items():
            shown = ", ".join(places[:examples]) + (", ..." if len(places) > examples else "")
            lines.append(f"{self.name}: {what}: {len(places)} ({shown})")
        return "\n".join(lines)


class Problems:
    """Collects what a reader corrects or leaves out, so that nothing happens without being told."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}

    def add(self, what: str, places: Sequence[str]) -> None:
        """Notes that `what` happened at all of `places`."""
        if len(places):
            self._places.setdefault(what, []).extend(places)

    def to_dict(self) -> dict[str, tuple[str, ...]]:
        """Plain values for `Dataset.problems`."""
        return {what: tuple(places) for what, places in self._places.items()}


def map_joints(joints: np.ndarray, source: Skeleton, target: Skeleton, stand_ins: bool = False) -> np.ndarray:
    """Joints of one skeleton in the order of another; what has no counterpart is unlabelled (zeros).

    Args:
        joints: array of shape `(..., K, 3)`. x, y and visibility (or score) in the order of `source`.
        source: `Skeleton`. What the joints are.
        target: `Skeleton`. What they are to be.
        stand_ins: bool. Whether to fill a missing neck, upper neck or thorax with the midpoint of the shoulders, and
            a missing pelvis with that of the hips, where both are labelled. MPII's thorax and pelvis are these
            midpoints; its upper neck lies higher, so that this is a rough stand-in there.

    Returns:
        Float32 array of shape `(..., target.num_joints, 3)`.

    Raises:
        ValueError: if the joints are not those of `source`.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.data import map_joints
        >>> from keras_ehrnet.skeletons import COCO_17, MPII_16
        >>> joints = np.zeros((17, 3))
        >>> joints[5], joints[6] = (10, 20, 2), (30, 24, 1)
        >>> thorax = MPII_16.index("thorax")
        >>> print(map_joints(joints, COCO_17, MPII_16)[thorax])
        [0. 0. 0.]
        >>> print(map_joints(joints, COCO_17, MPII_16, stand_ins=True)[thorax])
        [20. 22.  1.]
    """
    joints = np.asarray(joints, np.float32)
    if joints.ndim < 2 or joints.shape[-2:] != (source.num_joints, 3):
        raise ValueError(
            f"Joints of skeleton {source.name!r} must have shape (..., {source.num_joints}, 3). "
            f"Received: shape {joints.shape}"
        )
    mapped = np.zeros((*joints.shape[:-2], target.num_joints, 3), np.float32)
    for row, origin in enumerate(source.mapping_to(target)):
        pair = _STAND_INS.get(target.joint_names[row], ())
        if origin is not None:
            mapped[..., row, :] = joints[..., origin, :]
        elif stand_ins and pair and set(pair) <= set(source.joint_names):
            left, right = (joints[..., source.index(name), :] for name in pair)
            # A midpoint is only as visible, or as certain, as the worse of its ends.
            weakest = np.minimum(left[..., 2], right[..., 2])[..., None]
            middle = np.concatenate([(left[..., :2] + right[..., :2]) / 2, weakest], axis=-1)
            mapped[..., row, :] = np.where(weakest > 0, middle, 0)
    return mapped


def joints_box(joints: np.ndarray) -> np.ndarray:
    """Box around the labelled joints of one person: left, top, right, bottom; zeros where none is labelled."""
    points = np.asarray(joints, np.float32)
    points = points[points[:, 2] > 0, :2]
    if not len(points):
        return np.zeros(4, np.float32)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def box_area(box: np.ndarray) -> float:
    """Area of a box of left, top, right, bottom."""
    return float(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))


def clean_joints(joints: np.ndarray, sizes: np.ndarray | None, places: Sequence[str], problems: Problems) -> np.ndarray:
    """Joints as `Person` wants them: unlabelled ones zero, those outside the image unlabelled and noted.

    Args:
        joints: float array of shape `(N, K, 3)`.
        sizes: float array of shape `(N, 2)`: width and height of the image of each person; None if not known.
        places: N texts that say where each person is annotated.
        problems: `Problems`. Where to note.

    Returns:
        Float32 array of shape `(N, K, 3)`.
    """
    xy, labelled = joints[..., :2], joints[..., 2] > 0
    if sizes is not None:
        outside = labelled & ((xy < 0) | (xy > sizes[:, None])).any(axis=-1)
        labelled = labelled & ~outside
        problems.add("joints outside the image, taken as unlabelled", [places[int(i)] for i in np.nonzero(outside)[0]])
    return np.where(labelled[..., None], joints, 0).astype(np.float32)


def locate_images(
    files: dict[Any, str], place: str | os.PathLike | None, where: str, skip_missing: bool, problems: Problems
) -> dict[Any, ImageSource | None]:
    """What to read each image from, by image id, without those that are missing; None for all where `place` is None.

    Raises:
        FileNotFoundError: if the folder or archive is missing, or files are and `skip_missing` is not set.
        AnnotationError: if a name leads out of the folder.
    """
    if place is None:
        return dict.fromkeys(files)
    for name in files.values():
        need_inside(name, where)
    found = find_images(files.values(), place)
    missing = [name for name in files.values() if name not in found]
    if missing and not skip_missing:
        raise FileNotFoundError(
            f"{where}: {len(missing)} of {len(files)} image files are missing in {place} "
            f"(skip_missing=True leaves them out). Received: {cut(missing)}"
        )
    problems.add("images without file, left out", missing)
    return {key: found[name] for key, name in files.items() if name in found}
