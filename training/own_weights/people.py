"""One COCO file of many people: COCO's own labels, LSP-extended with a teacher's faces, and what a teacher labelled.

    python training/own_weights/people.py FOLDER --coco coco_pose/person_keypoints_train.json \\
        --coco-images coco_pose/train --lspet lspet/train.json --thunder lspet/thunder_train.json \\
        --lspet-images lspet/ --labelled stanford40.json --labelled-images stanford40/

FOLDER receives `people.json`, whose file names begin with `coco/`, `lspet/` and `labelled/`: links to the folders of
images. In LSP-extended the labels are people's, the faces are MoveNet Thunder's, and an image where the two disagree is
left out. Of a teacher's people, such as `keras-ehrnet label` writes them, joints below 0.3 count as unlabelled; whoever
scores below 0.2 is masked.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_ehrnet.prediction.labels import annotation, person_box
from keras_ehrnet.skeletons import COCO_17, LSP_14
from keras_ehrnet.support.files import write_file

SURE_JOINT, SURE_PERSON, FAINTEST_PERSON = 0.3, 0.2, 0.05
NEAR, AGREEING = 0.1, 0.8
"""A teacher's joint agrees with the label within this part of the person's extent; so many of them must."""


def person(joints: np.ndarray, size: tuple[int, int], score: float = 1.0) -> dict[str, Any]:
    box = person_box(joints[joints[:, 2] > 0, :2], size)
    return annotation(joints, box, score, is_crowd=score < SURE_PERSON)


def of_lspet(annotations: Path, thunder: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Images of LSP-extended on whose person label and teacher agree, with COCO's joints."""
    found = []
    rows = [index if index is not None else -1 for index in LSP_14.mapping_to(COCO_17)]
    images = json.loads(annotations.read_text(encoding="utf-8"))["images"]
    for image, points in zip(images, json.loads(thunder.read_text(encoding="utf-8")), strict=True):
        teacher = np.array(points)
        own = np.concatenate([np.array(image["joints"]), 2.0 * np.array(image["labelled"])[:, None]], axis=1)
        own = np.where((np.array(rows) >= 0)[:, None], own[rows], 0)
        labelled = own[own[:, 2] > 0, :2]
        if len(labelled) < 6:
            continue
        extent = np.ptp(labelled, axis=0).max()
        sure = teacher[:, 2] >= SURE_JOINT
        both = sure & (own[:, 2] > 0)
        near = both & (np.hypot(*(teacher - own)[:, :2].T) <= NEAR * extent)
        if both.sum() < 4 or near.sum() < AGREEING * both.sum():
            continue
        # Where they agree the truth lies between; COCO's hips are the teacher's.
        joints = own.copy()
        joints[near, :2] = (own[near, :2] + teacher[near, :2]) / 2
        faces = sure & (own[:, 2] == 0) & (np.arange(17) < 5)
        joints[faces] = np.column_stack([teacher[faces, :2], np.full(faces.sum(), 2.0)])
        joints[both & ~near] = 0
        inside = (joints[:, :2] >= 0).all(axis=1) & (joints[:, :2] < (image["width"], image["height"])).all(axis=1)
        joints[~inside] = 0
        size = image["width"], image["height"]
        found.append((image, [person(joints, size)]))
    return found


def of_teacher(annotations: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Images whose people a teacher found: the sure ones as they are, fainter ones as crowds, which are masked."""
    content = json.loads(annotations.read_text(encoding="utf-8"))
    people: dict[int, list] = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        people[entry["image_id"]].append(entry)
    found = []
    for image in content["images"]:
        size, entries = (image["width"], image["height"]), []
        for entry in people[image["id"]]:
            joints = np.array(entry["keypoints"], float).reshape(-1, 3)
            if "keypoint_scores" in entry:  # Otherwise who labelled them left out the unsure ones.
                joints[:, 2] = np.where(np.array(entry["keypoint_scores"]) >= SURE_JOINT, 2, 0)
            inside = (joints[:, :2] >= 0).all(axis=1) & (joints[:, :2] < size).all(axis=1)
            joints[~inside] = 0
            if entry["score"] < FAINTEST_PERSON or (joints[:, 2] > 0).sum() < 3:
                continue
            entries.append(person(joints, size, entry["score"]))
        if any(not entry["iscrowd"] for entry in entries):
            found.append((image, entries))
    return found


def of_coco(annotations: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    content = json.loads(annotations.read_text(encoding="utf-8"))
    people: dict[int, list] = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        people[entry["image_id"]].append(entry)
    return [(image, people[image["id"]]) for image in content["images"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for kind in ("coco", "lspet", "labelled"):
        parser.add_argument(f"--{kind}", type=Path)
        parser.add_argument(f"--{kind}-images", type=Path)
    parser.add_argument("--thunder", type=Path)
    parser.add_argument("--repeat-coco", type=int, default=1, help="how often COCO's images are in the list")
    options = parser.parse_args()
    for given, needed in (
        ("coco", "coco_images"),
        ("lspet", "lspet_images"),
        ("lspet", "thunder"),
        ("labelled", "labelled_images"),
    ):
        if getattr(options, given) and not getattr(options, needed):
            parser.error(f"--{given} goes with --{needed.replace('_', '-')}")
    options.folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    if options.coco:
        parts["coco"] = options.repeat_coco * of_coco(options.coco), options.coco_images
    if options.lspet:
        parts["lspet"] = of_lspet(options.lspet, options.thunder), options.lspet_images
    if options.labelled:
        parts["labelled"] = of_teacher(options.labelled), options.labelled_images
    images, annotations = [], []
    for kind, (entries, folder) in parts.items():
        link = options.folder / kind
        if not link.exists():
            link.symlink_to(folder.resolve(), target_is_directory=True)
        for image, people in entries:
            number = len(images) + 1
            name = f"{kind}/{image['file_name']}"
            images.append({"id": number, "file_name": name, "width": image["width"], "height": image["height"]})
            for person in people:
                own = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
                annotations.append({**person, **own})
        print(f"{kind}: {len(entries)} images, {sum(len(people) for _, people in entries)} people")
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.joint_names), "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    write_file(options.folder / "people.json", json.dumps(content))


if __name__ == "__main__":
    main()
