"""COCO's person keypoints: reading the official JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_ehrnet.data._checks import Ids, flag, identity, load_json, need, optional_numbers
from keras_ehrnet.data.annotations import (
    Dataset,
    Person,
    Problems,
    Sample,
    box_area,
    clean_joints,
    joints_box,
    locate_images,
)
from keras_ehrnet.data.categories import keypoint_categories
from keras_ehrnet.data.masks import check_segmentation
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.errors import AnnotationError, reads
from keras_ehrnet.support.messages import cut

_CLIP_TOLERANCE = 1.0  # Pixels. Official boxes reach over the edge by rounding; that is not worth a line in a report.


@dataclass(frozen=True, eq=False)
class CocoContent:
    """A checked annotation file: every field that readers and scorers rely on is there, or has its usual default.

    An id that one list writes as a number and another as text is everywhere what the list of images or categories has.

    Args:
        name: str. The file, for messages.
        skeleton: `Skeleton`. What the joints are.
        categories: dict of int or str to str. Names of the categories that have keypoints, by id.
        images: list of dict. Entries of `images`.
        persons: list of dict. Entries of `annotations` of those categories; `iscrowd` is 0 or 1.
        keypoints: float64 array of shape `(N, K, 3)`.
        boxes: float64 array of shape `(N, 4)`: left, top, width, height.
        areas: float64 array of shape `(N,)`.
        skipped: tuple of str. Annotations of other categories.
        defaults: dict of str to tuple of str. What was not in the file and is taken from elsewhere, and where.
    """

    name: str
    skeleton: Skeleton
    categories: dict[int | str, str]
    images: list[dict]
    persons: list[dict]
    keypoints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    skipped: tuple[str, ...]
    defaults: dict[str, tuple[str, ...]]

    @property
    def category_ids(self) -> tuple[int | str, ...]:
        """Ids of the categories that have keypoints."""
        return tuple(self.categories)

    def with_joints(self, rows: Sequence[int]) -> CocoContent:
        """The same people with some of their joints, by number."""
        return replace(self, skeleton=self.skeleton.part(rows), keypoints=self.keypoints[:, rows])


@reads(AnnotationError)
def check_coco(
    annotations: str | os.PathLike | dict, skeleton: Skeleton | None = None, category: int | str | None = None
) -> CocoContent:
    """Reads COCO annotations and checks that nothing is missing, doubled or dangling.

    Args:
        annotations: path of a JSON file, or its content.
        skeleton: `Skeleton`. What the joints are; by default what the file's category says.
        category: name or id of the category to read, where several have keypoints; None: all of them.

    Returns:
        `CocoContent`.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: naming the file, the entry and the field that is missing or wrong.
    """
    given = isinstance(annotations, dict)
    name = "annotations" if given else str(annotations)
    content = annotations if given else load_json(annotations, dict)
    categories, file_skeleton = keypoint_categories(need(content, "categories", name, list), name, category)
    skeleton = skeleton or file_skeleton
    images = need(content, "images", name, list)
    image_ids = Ids(
        [identity(image, "id", f"{name}: image {row}") for row, image in enumerate(images)], f"{name}: images"
    )
    images = [{**image, "id": image_ids.find(identity(image, "id", name))} for image in images]
    category_ids = Ids(list(categories), f"{name}: categories")
    entries = _entries(need(content, "annotations", name, list), name)
    unknown = {entry["image_id"] for entry in entries if image_ids.find(entry["image_id"]) is None}
    if unknown:
        raise AnnotationError(
            f"{name}: annotations have an 'image_id' that no image has. Received: {cut(sorted(unknown, key=str))}"
        )
    persons = [
        {**entry, "image_id": image_ids.find(entry["image_id"]), "category_id": category_ids.find(entry["category_id"])}
        for entry in entries
        if category_ids.find(entry["category_id"]) is not None
    ]

    def where(row: int) -> str:
        return f"{name}: annotation {persons[row]['id']}"

    keypoints, no_keypoints = optional_numbers(persons, "keypoints", (skeleton.num_joints, 3), where, default=0.0)
    wrong = ~np.isin(keypoints[..., 2], (0, 1, 2)).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        flags = sorted(set(keypoints[row, :, 2].tolist()))
        raise AnnotationError(
            f"{where(row)} must have 0, 1 or 2 as every third of its 'keypoints'. Received: {cut(flags)}"
        )
    boxes, no_box = optional_numbers(persons, "bbox", (4,), where, default=0.0)
    for row in no_box:
        left, top, right, bottom = joints_box(keypoints[row])
        boxes[row] = left, top, right - left, bottom - top
    areas, no_area = optional_numbers(persons, "area", (), where, default=0.0)
    areas[no_area] = boxes[no_area, 2:].clip(0).prod(axis=1)
    no_crowd = [row for row, entry in enumerate(persons) if entry.get("iscrowd") is None]
    persons = [{**entry, "iscrowd": entry.get("iscrowd") or 0} for entry in persons]
    defaults = Problems()
    for what, rows in (
        ("persons without 'iscrowd', taken as single persons", no_crowd),
        ("persons without 'keypoints', taken as unlabelled", no_keypoints),
        ("persons without 'bbox', measured by their joints", no_box),
        ("persons without 'area', given that of their box", no_area),
    ):
        defaults.add(what, [f"annotation {persons[row]['id']}" for row in rows])
    return CocoContent(
        name=name,
        skeleton=skeleton,
        categories={number: str(category.get("name", number)) for number, category in categories.items()},
        images=images,
        persons=persons,
        keypoints=keypoints,
        boxes=boxes,
        areas=areas,
        skipped=tuple(f"annotation {e['id']}" for e in entries if category_ids.find(e["category_id"]) is None),
        defaults=defaults.to_dict(),
    )


@reads(AnnotationError)
def read_coco(
    annotations: str | os.PathLike,
    images: str | os.PathLike | None = None,
    *,
    skeleton: Skeleton | None = None,
    category: int | str | None = None,
    skip_missing: bool = False,
) -> Dataset:
    """A data set from COCO's person keypoint annotations.

    Every image of the file becomes a sample, also those without people. Corrected, and told in `Dataset.problems`:
    labelled joints outside the image become unlabelled; boxes are clipped to the image; persons whose box or area is
    zero get those of their joints; persons without area and without joints, annotations of other categories and, with
    `skip_missing`, images without file are left out.

    What other programs leave out gets its usual default, and is told likewise: without `iscrowd` it is a single person,
    without `keypoints` none of its joints is labelled, `bbox` becomes that of the joints, `area` that of the box;
    without `width` and `height` the image's size is not known, and nothing is clipped on the right and below.

    Args:
        annotations: path of the JSON file.
        images: folder or zip archive with the image files; None where only the annotations are of interest.
        skeleton: `Skeleton`. What the joints are; by default what the file's category says.
        category: name or id of the category to read, where several have keypoints; None: all of them.
        skip_missing: bool. Whether to leave out images whose file is missing, rather than to stop.

    Returns:
        `Dataset`.

    Raises:
        FileNotFoundError: if the annotations, the folder or an image file do not exist.
        AnnotationError: naming the file, the entry and the field that is missing or wrong.

    Example:
        >>> from keras_ehrnet.data import read_coco
        >>> dataset = read_coco("person_keypoints_val2017.json", "val2017")  # doctest: +SKIP
        >>> print(dataset.report())  # doctest: +SKIP
    """
    content = check_coco(annotations, skeleton, category)
    problems = Problems()
    problems.add("annotations of other categories, left out", content.skipped)
    for what, places in content.defaults.items():
        problems.add(what, places)
    for image in content.images:
        need(image, "file_name", f"{content.name}: image {image['id']}", str)
    sizes = _image_sizes(content, problems)
    by_image = _persons_by_image(content, sizes, problems)
    files = {image["id"]: image["file_name"] for image in content.images}
    paths = locate_images(files, images, content.name, skip_missing, problems)
    samples = tuple(Sample(key, path, sizes[key], tuple(by_image.get(key, ()))) for key, path in paths.items())
    return Dataset(Path(annotations).stem, content.skeleton, samples, problems.to_dict())


def _entries(annotations: list, name: str) -> list[dict]:
    entries = []
    for row, entry in enumerate(annotations):
        where = f"{name}: annotation {row}"
        ids = {key: identity(entry, key, where) for key in ("id", "category_id", "image_id")}
        crowd = None if entry.get("iscrowd") is None else int(flag(entry, "iscrowd", where))
        entries.append({**entry, **ids, "iscrowd": crowd})
    Ids([entry["id"] for entry in entries], f"{name}: annotations")
    return entries


def _image_sizes(content: CocoContent, problems: Problems) -> dict[Any, tuple[int, int] | None]:
    sizes: dict[Any, tuple[int, int] | None] = {}
    for image in content.images:
        where = f"{content.name}: image {image['id']}"
        if image.get("width") is None or image.get("height") is None:
            sizes[image["id"]] = None
            continue
        size = tuple(need(image, key, where, (int, float)) for key in ("width", "height"))
        if not all(side > 0 and float(side).is_integer() for side in size):
            raise AnnotationError(
                f"{where} must have a positive 'width' and 'height' in whole pixels, or neither. Received: {size}"
            )
        sizes[image["id"]] = (int(size[0]), int(size[1]))
    problems.add("images without 'width' and 'height'", [f"image {key}" for key, size in sizes.items() if size is None])
    for entry in content.persons:
        # Run lengths are of the size of their image: crowds can be masked although the image does not tell it.
        region = entry.get("segmentation")
        size = region.get("size") if isinstance(region, dict) and sizes[entry["image_id"]] is None else None
        if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size):
            sizes[entry["image_id"]] = (size[1], size[0])
    return sizes


def _persons_by_image(
    content: CocoContent, sizes: dict[Any, tuple[int, int] | None], problems: Problems
) -> dict[Any, list[Person]]:
    places = [f"annotation {entry['id']}" for entry in content.persons]
    unknown = (np.inf, np.inf)
    image_sizes = np.array([sizes[entry["image_id"]] or unknown for entry in content.persons], np.float64).reshape(
        -1, 2
    )
    joints = clean_joints(content.keypoints, image_sizes, places, problems)
    boxes = np.concatenate([content.boxes[:, :2], content.boxes[:, :2] + content.boxes[:, 2:]], axis=1)
    clipped = np.clip(boxes, 0, np.tile(image_sizes, 2))
    beyond = np.abs(boxes - clipped).max(axis=1, initial=0) > _CLIP_TOLERANCE
    problems.add("boxes outside the image, clipped", [places[row] for row in np.nonzero(beyond)[0]])
    by_image: dict[Any, list[Person]] = {}
    for row, entry in enumerate(content.persons):
        person = _person(entry, joints[row], clipped[row], content.areas[row], places[row], problems)
        if person is not None:
            check_segmentation(person, sizes[entry["image_id"]], f"{content.name}: {places[row]}")
            by_image.setdefault(entry["image_id"], []).append(person)
    return by_image


def _person(
    entry: dict, joints: np.ndarray, box: np.ndarray, area: float, place: str, problems: Problems
) -> Person | None:
    segmentation = entry.get("segmentation") or None
    if isinstance(segmentation, list):  # Some programs write an empty polygon for none.
        segmentation = [polygon for polygon in segmentation if polygon != []] or None
    if area <= 0 or box_area(box) <= 0:
        has_joints = bool((joints[:, 2] > 0).any())
        if not has_joints and segmentation is None and box_area(box) <= 0:
            problems.add("persons with neither area nor labelled joints, left out", [place])
            return None
        problems.add("persons with zero area, measured by their joints", [place])
        box = joints_box(joints) if has_joints and box_area(box) <= 0 else box
        area = area if area > 0 else max(box_area(box), 1.0)
    return Person(
        joints=joints,
        box=box,
        area=float(area),
        is_crowd=bool(entry["iscrowd"]),
        segmentation=segmentation,
        person_id=entry["id"],
    )
