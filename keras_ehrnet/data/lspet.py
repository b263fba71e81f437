"""Leeds Sports Pose, extended: one person in each image, images in a zip archive beside the annotations."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from keras_ehrnet.data._checks import load_json, need, need_unique, numbers
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
from keras_ehrnet.skeletons import LSP_14, Skeleton
from keras_ehrnet.support.errors import AnnotationError, reads
from keras_ehrnet.support.messages import cut


@reads(AnnotationError)
def read_lspet(
    annotations: str | os.PathLike, images: str | os.PathLike | None = None, *, skip_missing: bool = False
) -> Dataset:
    """A data set from LSP-extended, in the order of `LSP_14`.

    The file holds `joint_names` and `images`: for each `file_name`, `width`, `height`, `joints` (14 pairs), `labelled`
    and, where known, `visible` (14 of 0 or 1). Joints outside the image become unlabelled, persons without labelled
    joints and, with `skip_missing`, images without file are left out; `Dataset.problems` tells. Boxes and areas are
    those of the joints.

    Args:
        annotations: path of the JSON file.
        images: zip archive or folder with the image files; by default the archive of the same name beside the
            annotations, such as `val.zip` for `val.json`. Images are read straight from the archive.
        skip_missing: bool. Whether to leave out images whose file is missing, rather than to stop.

    Returns:
        `Dataset`.

    Raises:
        FileNotFoundError: if the annotations, the archive or an image file do not exist.
        AnnotationError: naming the file, the entry and the field that is missing or wrong.

    Example:
        >>> from keras_ehrnet.data import read_lspet
        >>> dataset = read_lspet("val.json")  # doctest: +SKIP
        >>> dataset[0].read().shape  # doctest: +SKIP
        (171, 256, 3)
    """
    name = str(annotations)
    content = load_json(annotations, dict)
    joint_names = need(content, "joint_names", name, list)
    order = Skeleton(name, tuple(map(str, joint_names)), ()).mapping_to(LSP_14)
    known = [joint for joint in order if joint is not None]
    if len(known) != len(order) or len(joint_names) != LSP_14.num_joints:
        raise AnnotationError(f"{name} must have the joints of LSP in 'joint_names'. Received: {cut(joint_names)}")
    entries = need(content, "images", name, list)
    files = [need(entry, "file_name", f"{name}: image {row}", str) for row, entry in enumerate(entries)]
    need_unique(files, "file_name", f"{name}: images")

    def where(row: int) -> str:
        return f"{name}: image {files[row]}"

    xy = numbers(entries, "joints", (14, 2), where)
    labelled = numbers(entries, "labelled", (14,), where) > 0
    visible = "visible" if all("visible" in entry for entry in entries) else "labelled"
    seen = labelled & (numbers(entries, visible, (14,), where) > 0)
    sizes = np.stack([numbers(entries, key, (), where) for key in ("width", "height")], axis=-1)
    if (sizes <= 0).any():
        row = int(np.argmax((sizes <= 0).any(axis=1)))
        raise AnnotationError(
            f"{where(row)} must have a positive 'width' and 'height'. Received: {sizes[row].tolist()}"
        )
    problems = Problems()
    joints = np.concatenate([xy, (labelled.astype(int) + seen)[..., None]], axis=-1)
    joints = clean_joints(joints[:, known], sizes, files, problems)

    rows = {file: row for row, file in enumerate(files)}
    nobody = {file for file, row in rows.items() if not joints[row, :, 2].any()}
    problems.add("images without labelled joints, left out", sorted(nobody))
    place = Path(annotations).with_suffix(".zip") if images is None else images
    sources = locate_images({file: file for file in files}, place, name, skip_missing, problems)
    samples = tuple(
        Sample(file, source, tuple(sizes[rows[file]].astype(int).tolist()), (_person(joints[rows[file]], rows[file]),))
        for file, source in sources.items()
        if file not in nobody
    )
    return Dataset(f"lspet_{Path(annotations).stem}", LSP_14, samples, problems.to_dict())


def _person(joints: np.ndarray, row: int) -> Person:
    box = joints_box(joints)
    return Person(joints, box, max(box_area(box), 1.0), person_id=row)
