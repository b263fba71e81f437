"""MPII Human Pose: annotations as JSON, one entry for each person, in MPII's own joint order."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from keras_ehrnet.data._checks import load_json, need, need_unique, numbers, optional_numbers
from keras_ehrnet.data.annotations import (
    Dataset,
    Person,
    Problems,
    Sample,
    box_area,
    clean_joints,
    locate_images,
)
from keras_ehrnet.geometry import SCALE_UNIT
from keras_ehrnet.skeletons import MPII_16
from keras_ehrnet.support.errors import AnnotationError, reads

MPII_FILE_ORDER = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "upper_neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
"""Order of the joints in MPII's files."""


@reads(AnnotationError)
def read_mpii(
    annotations: str | os.PathLike, images: str | os.PathLike | None = None, *, skip_missing: bool = False
) -> Dataset:
    """A data set from MPII annotations, in the order of `MPII_16`.

    The file is a list of persons with `image`, `joints` (16 pairs), `joints_vis` (1: labelled), `center`, `scale` and,
    where known, `visible` (1: seen, 0: hidden), `head_size` (the length that PCKh divides by: 0.6 times the diagonal
    of the head box), `person` (number within the image) and `index`. Persons of one image come together; a person's
    id is its position in the file. A person's box is the square of 200 * scale pixels around its center, which may
    reach over the edge. The file does not tell image sizes: joints outside are not looked for.

    Args:
        annotations: path of the JSON file.
        images: folder or zip archive with the image files; None where only the annotations are of interest.
        skip_missing: bool. Whether to leave out images whose file is missing, rather than to stop.

    Returns:
        `Dataset`.

    Raises:
        FileNotFoundError: if the annotations, the folder or an image file do not exist.
        AnnotationError: naming the file, the entry and the field that is missing or wrong.

    Example:
        >>> from keras_ehrnet.data import read_mpii
        >>> dataset = read_mpii("mpii_valid.json", "images")  # doctest: +SKIP
    """
    name = str(annotations)
    entries = load_json(annotations, list)
    problems = Problems()

    def where(row: int) -> str:
        return f"{name}: person {row}"

    files = [need(entry, "image", where(row), str) for row, entry in enumerate(entries)]
    need_unique([(e["image"], e["person"]) for e in entries if "person" in e], "image and person", name)
    xy = numbers(entries, "joints", (16, 2), where)
    labelled = numbers(entries, "joints_vis", (16,), where) > 0
    seen = labelled & (optional_numbers(entries, "visible", (16,), where, default=1.0)[0] > 0)
    head_sizes = optional_numbers(entries, "head_size", (), where, default=np.nan)[0]
    scales, centers = numbers(entries, "scale", (), where), numbers(entries, "center", (2,), where)
    for key, values in (("scale", scales), ("head_size", head_sizes)):
        if (values <= 0).any():
            row = int(np.argmax(values <= 0))
            raise AnnotationError(f"{where(row)} must have a positive {key!r}. Received: {values[row]}")
    joints = np.concatenate([xy, (labelled.astype(int) + seen)[..., None]], axis=-1)
    order = [MPII_FILE_ORDER.index(joint) for joint in MPII_16.joint_names]
    joints = clean_joints(joints[:, order], None, [where(row) for row in range(len(entries))], problems)

    persons: dict[str, list[Person]] = {}
    for row, file in enumerate(files):
        reach = SCALE_UNIT * scales[row] / 2
        box = np.concatenate([centers[row] - reach, centers[row] + reach])
        head_size = None if np.isnan(head_sizes[row]) else float(head_sizes[row])
        person = Person(joints[row], box, box_area(box), head_size=head_size, person_id=row)
        persons.setdefault(file, []).append(person)
    paths = locate_images({file: file for file in persons}, images, name, skip_missing, problems)
    samples = tuple(Sample(file, path, None, tuple(persons[file])) for file, path in paths.items())
    return Dataset(Path(annotations).stem, MPII_16, samples, problems.to_dict())
