"""Readers of MPII and Leeds Sports Pose, and mapping between skeletons: real data, and files with something wrong."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from keras_ehrnet.data import (
    Dataset,
    ImageError,
    Person,
    Sample,
    map_joints,
    read_coco,
    read_lspet,
    read_mpii,
)
from keras_ehrnet.data.mpii import MPII_FILE_ORDER
from keras_ehrnet.skeletons import COCO_17, LSP_14, MPII_16

WIDTH, HEIGHT = 64, 48


def without(entry: dict, key: str) -> dict:
    return {name: value for name, value in entry.items() if name != key}


# MPII


def mpii_entry(**changes: Any) -> dict:
    joints = [[float(joint), 2.0 * joint] for joint in range(16)]
    entry = {"image": "a.png", "joints": joints, "joints_vis": [1] * 15 + [0], "center": [50, 60], "scale": 0.5}
    return {**entry, "visible": [0] + [1] * 15, "head_size": 12.0, "person": 0, **changes}


def test_mpii_validation_set(reference: Path) -> None:
    dataset = read_mpii(reference / "data/mpii/mpii_valid.json")
    assert (len(dataset), dataset.num_persons, dataset.problems) == (2729, 2958, {})
    assert dataset.skeleton is MPII_16 and len(dataset.per_person()) == 2958
    joints = dataset.joints
    assert np.bincount(joints[..., 2].astype(int).ravel()).tolist() == [3088, 10243, 33997]
    entries = json.loads((reference / "data/mpii/mpii_valid.json").read_text())
    for person in dataset.persons[::100]:
        entry = entries[person.person_id]
        wrist = MPII_16.index("right_wrist")
        if entry["joints_vis"][10]:
            assert person.joints[wrist, :2].tolist() == entry["joints"][10]
    # Upper neck and head top lie on the diagonal of the head box. Were the head size the whole diagonal, it could not
    # be shorter than their distance: it already holds the factor 0.6 of PCKh.
    top, neck = joints[:, MPII_16.index("head_top")], joints[:, MPII_16.index("upper_neck")]
    both = (top[:, 2] > 0) & (neck[:, 2] > 0)
    ratio = dataset.head_sizes[both] / np.linalg.norm(top[both, :2] - neck[both, :2], axis=1)
    assert ratio.max() < 0.8 and np.median(ratio) == pytest.approx(0.75, abs=0.01)


def test_mpii_images(reference: Path) -> None:
    folder = reference / "data/mpii"
    dataset = read_mpii(folder / "samples.json", folder / "images")
    assert [sample.read().ndim for sample in dataset] == [3] * 5
    with pytest.raises(FileNotFoundError, match="2724 of 2729 image files are missing"):
        read_mpii(folder / "mpii_valid.json", folder / "images")
    dataset = read_mpii(folder / "mpii_valid.json", folder / "images", skip_missing=True)
    assert len(dataset) == 5 and len(dataset.problems["images without file, left out"]) == 2724


def test_mpii_fields(tmp_path: Path) -> None:
    path = tmp_path / "mpii.json"
    path.write_text(json.dumps([mpii_entry(), without(without(mpii_entry(person=1), "head_size"), "visible")]))
    dataset = read_mpii(path)
    first, second = dataset[0].persons
    for row, joint in enumerate(MPII_FILE_ORDER):
        flag = {0: 1, 15: 0}.get(row, 2)
        assert first.joints[MPII_16.index(joint)].tolist() == ([row, 2 * row, flag] if flag else [0, 0, 0])
    assert first.box.tolist() == [0, 10, 100, 110] and first.head_size == 12 and first.person_id == 0
    assert second.head_size is None and second.joints[MPII_16.index("right_ankle"), 2] == 2
    assert np.isnan(dataset.head_sizes).tolist() == [False, True]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([mpii_entry(), mpii_entry()], r"same 'image and person' more than once\. Received: \[\('a\.png', 0\)\]"),
        ([without(mpii_entry(), "joints")], r"mpii\.json: person 0 has no field 'joints'"),
        ([without(mpii_entry(), "image")], r"person 0 has no field 'image'"),
        ([mpii_entry(joints=[[1, 2]])], r"person 0 must have 32 finite numbers in 'joints'"),
        ([mpii_entry(), mpii_entry(person=1, head_size=0)], r"person 1 must have a positive 'head_size'\. Received: 0"),
        ([mpii_entry(scale=-1)], r"person 0 must have a positive 'scale'\. Received: -1"),
    ],
)
def test_mpii_faults(tmp_path: Path, entries: list[dict], message: str) -> None:
    path = tmp_path / "mpii.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=message):
        read_mpii(path)


# Leeds Sports Pose


def lspet_content(**changes: Any) -> dict:
    entry = {
        "file_name": "im1.png",
        "width": WIDTH,
        "height": HEIGHT,
        "joints": [[joint, joint] for joint in range(14)],
        "labelled": [1] * 14,
    }
    return {"joint_names": list(LSP_14.joint_names), "images": [{**entry, **changes}]}


def lspet_files(folder: Path, content: dict) -> Path:
    path = folder / "val.json"
    path.write_text(json.dumps(content))
    with zipfile.ZipFile(folder / "val.zip", "w") as archive:
        archive.writestr("im1.png", cv2.imencode(".png", np.zeros((HEIGHT, WIDTH), np.uint8))[1].tobytes())
    return path


def test_lspet(reference: Path) -> None:
    dataset = read_lspet(reference / "data/lspet/val.json")
    assert (len(dataset), dataset.num_persons, dataset.problems) == (500, 500, {})
    assert dataset.skeleton is LSP_14
    for sample in dataset.samples[::25]:
        assert sample.read().shape[1::-1] == sample.image_size
    train = read_lspet(reference / "data/lspet/train.json")
    assert len(train) == 9000
    assert {what: len(places) for what, places in train.problems.items()} == {
        "joints outside the image, taken as unlabelled": 8
    }


def test_lspet_orders_joints_by_name_and_reads_the_archive(tmp_path: Path) -> None:
    content = lspet_content(labelled=[1] * 13 + [0], visible=[0] + [1] * 13)
    content["joint_names"].reverse()
    path = lspet_files(tmp_path, content)
    dataset = read_lspet(path)
    assert dataset[0].read().shape == (HEIGHT, WIDTH, 3)
    joints = dataset[0].persons[0].joints
    assert joints[LSP_14.index("head_top")].tolist() == [0, 0, 1]
    assert joints[LSP_14.index("right_knee")].tolist() == [12, 12, 2]
    assert joints[LSP_14.index("right_ankle")].tolist() == [0, 0, 0]


def lspet_twice(content: dict) -> None:
    content["images"] *= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("joint_names"), r"val\.json has no field 'joint_names'"),
        (lambda content: content["joint_names"].pop(), r"must have the joints of LSP in 'joint_names'"),
        (lambda content: content["images"][0].pop("labelled"), r"image im1\.png has no field 'labelled'"),
        (lambda content: content["images"][0].pop("file_name"), r"image 0 has no field 'file_name'"),
        (lambda content: content["images"][0].update(width=0), r"image im1\.png must have a positive 'width'"),
        (lambda content: content["images"][0].update(joints=[[0, 0]]), r"must have 28 finite numbers in 'joints'"),
        (lspet_twice, r"the same 'file_name' more than once\. Received: \['im1\.png'\]"),
    ],
)
def test_lspet_faults(tmp_path: Path, change: Callable[[dict], None], message: str) -> None:
    content = copy.deepcopy(lspet_content())
    change(content)
    with pytest.raises(ValueError, match=message):
        read_lspet(lspet_files(tmp_path, content))


def test_lspet_corrections_and_missing_files(tmp_path: Path) -> None:
    content = lspet_content()
    content["images"] += lspet_content(file_name="im2.png", labelled=[0] * 14)["images"]
    content["images"][0]["joints"][3] = [WIDTH + 5, 3]
    path = lspet_files(tmp_path, content)
    with pytest.raises(FileNotFoundError, match=r"1 of 2 image files are missing in .*val\.zip.*\['im2\.png'\]"):
        read_lspet(path)
    dataset = read_lspet(path, skip_missing=True)
    assert len(dataset) == 1 and dataset.persons[0].num_labelled == 13
    assert dataset.problems == {
        "joints outside the image, taken as unlabelled": ("im1.png",),
        "images without labelled joints, left out": ("im2.png",),
        "images without file, left out": ("im2.png",),
    }
    (tmp_path / "val.zip").unlink()
    with pytest.raises(FileNotFoundError, match=r"Received: .*val\.zip"):
        read_lspet(path)
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    with pytest.raises(ImageError, match=r"archive of images is damaged .*Received: .*bad\.zip"):
        read_lspet(path, tmp_path / "bad.zip")


# Skeletons


def test_mapping_and_stand_ins(reference: Path) -> None:
    folder = reference / "data/coco_samples"
    coco = read_coco(folder / "person_keypoints.json")
    plain, filled = coco.in_skeleton(MPII_16), coco.in_skeleton(MPII_16, stand_ins=True)
    assert plain.skeleton is MPII_16 and plain.joints.shape[1:] == (16, 3)
    absent = [MPII_16.index(name) for name in ("head_top", "upper_neck", "thorax", "pelvis")]
    assert not plain.joints[:, absent].any()
    others = [joint for joint in range(16) if joint not in absent]
    # People of whom only the face is labelled have no joint left that MPII knows.
    body = {person.person_id for person in plain.persons}
    kept = np.array([person.joints for person in coco.persons if person.person_id in body])
    order = [index for index in COCO_17.mapping_to(MPII_16) if index is not None]
    np.testing.assert_array_equal(plain.joints[:, others], kept[:, order])
    np.testing.assert_array_equal(filled.joints[:, others], plain.joints[:, others])
    assert (filled.joints[:, absent[1:], 2] > 0).any(axis=0).all() and not filled.joints[:, absent[0]].any()


def test_mpii_midpoints_are_the_stand_ins(reference: Path) -> None:
    mpii = read_mpii(reference / "data/mpii/mpii_valid.json").joints
    through = map_joints(map_joints(mpii, MPII_16, COCO_17), COCO_17, MPII_16, stand_ins=True)
    for name in ("thorax", "pelvis"):
        both = (mpii[:, MPII_16.index(name), 2] > 0) & (through[:, MPII_16.index(name), 2] > 0)
        distance = np.linalg.norm((mpii - through)[both, MPII_16.index(name), :2], axis=1)
        assert both.sum() > 2000 and np.median(distance) <= 1 and np.percentile(distance, 95) <= 1.5


def test_map_joints_takes_one_or_many_and_refuses_others() -> None:
    joints = np.ones((2, 3, 14, 3))
    assert map_joints(joints, LSP_14, MPII_16).shape == (2, 3, 16, 3)
    neck = map_joints(joints[0, 0], LSP_14, MPII_16)[MPII_16.index("upper_neck")]
    assert neck.tolist() == [1, 1, 1]  # LSP's neck, under its other name.
    with pytest.raises(ValueError, match=r"'lsp_14' must have shape \(\.\.\., 14, 3\)\. Received: shape \(17, 3\)"):
        map_joints(np.ones((17, 3)), LSP_14, MPII_16)


def test_person_shapes() -> None:
    with pytest.raises(ValueError, match=r"Received: joints \(17, 2\), box \(4,\)"):
        Person(np.zeros((17, 2)), box=[0, 0, 1, 1], area=1.0)
    sample = Sample(1, np.zeros((4, 5, 3), np.uint8), (5, 4), ())
    assert sample.read().shape == (4, 5, 3)
    assert len(Dataset("none", COCO_17, (sample,))) == 1
    with pytest.raises(ValueError, match=r"annotated size \(4, 5\)\. Received: an image of \(5, 4\)"):
        replace(sample, image_size=(4, 5)).read()


def test_a_folder_in_the_place_of_annotations(tmp_path):
    for read in (read_coco, read_mpii, read_lspet):
        with pytest.raises(ValueError, match="a file, images a folder. Received: the folder"):
            read(tmp_path, tmp_path / "a.json")
