"""Several data sets as one, each with its share; and data sets of one labelled person among people nobody labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keras_ehrnet.data.annotations import Dataset, Person, Sample, joints_box
from keras_ehrnet.skeletons import COCO_17, Skeleton

_HEAD_ENDS = (("upper_neck", "neck"), ("head_top",))
_SHOULDERS = ("left_shoulder", "right_shoulder")
_HEAD_RADIUS = 0.8  # Parts of the distance from neck to top: a head, seen from anywhere, and the gaussians around it.
_CIRCLE_CORNERS = 12
_SMALLEST_MARGIN = 8.0  # Pixels.


def mix(
    parts: Sequence[tuple[Dataset, float]],
    skeleton: Skeleton = COCO_17,
    *,
    length: int | None = None,
    seed: int = 0,
    name: str = "mixture",
) -> Dataset:
    """One data set of several. Of each, all samples occur equally often, give or take one.

    Args:
        parts: pairs of `Dataset` and its share of the samples. Only the shares' proportions count.
        skeleton: `Skeleton` of the result. Joints that a part does not know are unlabelled; see `one_of_many`.
        length: int or None. Number of samples; None: as few as show every sample of every part.
        seed: int. Which samples occur once more than others.
        name: str. Name of the result.

    Returns:
        `Dataset`. Its images are those of the parts, by reference.

    Raises:
        ValueError: if there are no parts, one is empty, a share is not positive, or the length gives a part nothing.

    Example:
        >>> from keras_ehrnet.data import synthetic
        >>> from keras_ehrnet.data.mixture import mix
        >>> people, others = synthetic.dataset(6, seed=1), synthetic.dataset(2, seed=2)
        >>> len(mix([(people, 0.75), (others, 0.25)])), len(mix([(people, 1), (others, 1)], length=4))
        (8, 4)
    """
    if not parts or not all(len(dataset) and share > 0 for dataset, share in parts):
        received = [(dataset, share) for dataset, share in parts]
        raise ValueError(f"A mixture needs data sets with images, and positive shares. Received: {received}")
    shares = np.array([share for _, share in parts], float)
    shares /= shares.sum()
    if length is None:
        # Rounding must not make 8.000000001 images 9.
        lengths = [len(dataset) / share for (dataset, _), share in zip(parts, shares, strict=True)]
        length = int(np.ceil(max(lengths) - 1e-6))
    counts = _counts(shares, length)
    if (counts < 1).any():
        raise ValueError(f"Every part must give a sample. Received: length={length!r} for shares {shares.tolist()}")
    samples: list[Sample] = []
    problems: dict[str, tuple[str, ...]] = {}
    for number, ((dataset, _), count) in enumerate(zip(parts, counts, strict=True)):
        mapped = dataset if dataset.skeleton.joint_names == skeleton.joint_names else dataset.in_skeleton(skeleton)
        named = [replace(sample, image_id=f"{dataset.name}/{sample.image_id}") for sample in mapped]
        rng = np.random.default_rng((seed, number))
        more = rng.permutation(len(named))[: count % len(named)]
        samples += named * (count // len(named)) + [named[index] for index in sorted(more)]
        problems.update({f"{dataset.name}: {what}": places for what, places in dataset.problems.items()})
    return Dataset(name, skeleton, tuple(samples), problems)


def _counts(shares: np.ndarray, length: int) -> np.ndarray:
    """Whole numbers that sum up to the length, in proportion to the shares."""
    exact = shares * length
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: length - counts.sum()]] += 1
    return counts


def one_of_many(dataset: Dataset, skeleton: Skeleton = COCO_17, *, margin: float = 0.15) -> Dataset:
    """Makes a data set that labels one person per image fit for models that find everybody.

    Of the other people in its images nothing is known, so that only what lies in the person's own box is to count in
    the loss. Where the skeleton has joints of the face which the data set lacks, its head counts neither: they are
    there, but nobody has labelled them. Samples whose head cannot be told are left out.

    Args:
        dataset: `Dataset`, one person per sample, such as LSP-extended.
        skeleton: `Skeleton` of the result.
        margin: float. How much the box around the joints is enlarged on every side, in parts of its longer side.

    Returns:
        `Dataset` whose samples have, besides the person, one without joints: the region that does not count.

    Raises:
        ValueError: if the size of an image is not known.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.data import Dataset, Person, Sample, crowd_mask
        >>> from keras_ehrnet.data.mixture import one_of_many
        >>> from keras_ehrnet.skeletons import COCO_17
        >>> joints = np.zeros((17, 3))
        >>> joints[5], joints[11] = (20, 20, 2), (30, 40, 2)
        >>> person = Person(joints, box=[20, 20, 30, 40], area=200.0)
        >>> sample = Sample(1, None, (60, 60), (person,))
        >>> mask = crowd_mask(one_of_many(Dataset("toy", COCO_17, (sample,)))[0])
        >>> bool(mask[30, 25]), bool(mask[30, 50])
        (True, False)
    """
    lacks = [source is None for source in dataset.skeleton.mapping_to(skeleton)]
    hides_head = any(lacks) and any(end in dataset.skeleton.joint_names for end in _HEAD_ENDS[1])
    samples, left_out = [], []
    for sample in dataset.per_person():
        if sample.image_size is None:
            raise ValueError(f"The size of the image must be known. Received: image {sample.image_id!r}")
        (person,) = sample.persons
        head = _head(person, dataset.skeleton) if hides_head else []
        if head is None:
            left_out.append(str(sample.image_id))
            continue
        hidden = [*_outside(person, sample.image_size, margin), *head]
        regions = (_region(hidden, sample.image_size, dataset.skeleton),) if hidden else ()
        samples.append(replace(sample, persons=(person, *regions)))
    problems = {**dataset.problems, "persons whose head is not labelled, left out": tuple(left_out)}
    result = replace(dataset, samples=tuple(samples), problems=problems if left_out else dataset.problems)
    return result.in_skeleton(skeleton)


def _outside(person: Person, image_size: tuple[int, int], margin: float) -> list[np.ndarray]:
    """Rectangles around a person's box, to the edges of the image."""
    width, height = image_size
    box = joints_box(person.joints).astype(float)
    room = max(margin * max(box[2:] - box[:2]), _SMALLEST_MARGIN)
    left, top = np.maximum(box[:2] - room, 0)
    right, bottom = np.minimum(box[2:] + room, image_size)
    sides = [(0, 0, left, height), (right, 0, width, height), (left, 0, right, top), (left, bottom, right, height)]
    return [
        np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float) for x0, y0, x1, y1 in sides if x1 > x0 and y1 > y0
    ]


def _head(person: Person, skeleton: Skeleton) -> list[np.ndarray] | None:
    """A circle around the head, None where it cannot be told where that is."""
    neck = _labelled(person, skeleton, _HEAD_ENDS[0])
    if neck is None:
        # Where the neck is covered, both shoulders tell.
        left, right = (_labelled(person, skeleton, (name,)) for name in _SHOULDERS)
        neck = None if left is None or right is None else (left + right) / 2
    top = _labelled(person, skeleton, _HEAD_ENDS[1])
    if neck is None or top is None:
        return None
    radius = max(_HEAD_RADIUS * float(np.hypot(*(top - neck))), _SMALLEST_MARGIN)
    angles = np.linspace(0, 2 * np.pi, _CIRCLE_CORNERS, endpoint=False)
    return [(neck + top) / 2 + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)]


def _labelled(person: Person, skeleton: Skeleton, names: Sequence[str]) -> np.ndarray | None:
    """Coordinates of the first of these joints that is labelled."""
    for name in names:
        if name in skeleton.joint_names:
            x, y, visibility = person.joints[skeleton.index(name)]
            if visibility > 0:
                return np.array([x, y], float)
    return None


def _region(polygons: Sequence[np.ndarray], image_size: tuple[int, int], skeleton: Skeleton) -> Person:
    """Polygons as what pipelines leave out: a person without joints."""
    width, height = image_size
    segmentation = [polygon.reshape(-1).tolist() for polygon in polygons]
    joints = np.zeros((skeleton.num_joints, 3), np.float32)
    return Person(joints, np.array([0, 0, width, height]), float(width * height), segmentation=segmentation)
