"""The reader of COCO: official data as it is, and annotation files with something wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from keras_ehrnet.data import Sample, crowd_mask, joints_box, read_coco
from keras_ehrnet.skeletons import COCO_17

WIDTH, HEIGHT = 64, 48


def coco_annotation(**changes: Any) -> dict:
    """A person whose 17 joints lie on a diagonal, in COCO's form."""
    keypoints = [value for joint in range(17) for value in (10 + joint, 12 + joint, 2)]
    entry = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "area": 400.0, "bbox": [8, 10, 20, 20]}
    return {**entry, "keypoints": keypoints, "num_keypoints": 17, **changes}


def coco_file(folder: Path, annotations: list[dict], **changes: Any) -> Path:
    """Writes an annotation file with one image, and the image."""
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_17.joint_names)}],
        "annotations": annotations,
        **changes,
    }
    path = folder / "coco.json"
    path.write_text(json.dumps(content))
    cv2.imwrite(str(folder / "a.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return path


def without(entry: dict, key: str) -> dict:
    return {name: value for name, value in entry.items() if name != key}


def test_coco_samples(reference: Path) -> None:
    folder = reference / "data/coco_samples"
    dataset = read_coco(folder / "person_keypoints.json", folder / "images")
    assert dataset.skeleton is COCO_17 and dataset.problems == {} and dataset.report() == ""
    assert len(dataset) == 32 and sum(len(sample.persons) for sample in dataset) == 161
    assert dataset.num_persons == 161 - 63 and sum(p.is_crowd for s in dataset for p in s.persons) == 5
    assert repr(dataset) == "Dataset(person_keypoints, coco_17, 32 images, 98 persons)"
    content = json.loads((folder / "person_keypoints.json").read_text())
    by_id = {entry["id"]: entry for entry in content["annotations"]}
    for sample in dataset:
        assert sample.read().shape[1::-1] == sample.image_size
        for person in sample.persons:
            entry = by_id[person.person_id]
            np.testing.assert_allclose(person.joints.reshape(-1), entry["keypoints"])
            assert person.num_labelled == entry["num_keypoints"] and person.area == pytest.approx(entry["area"])


@pytest.mark.parametrize(("split", "images", "persons"), [("train", 1866, 4999), ("val", 180, 470)])
def test_coco_pose(reference: Path, split: str, images: int, persons: int) -> None:
    folder = reference / "data/coco_pose"
    dataset = read_coco(folder / f"person_keypoints_{split}.json", folder / split)
    assert (len(dataset), dataset.num_persons, dataset.problems) == (images, persons, {})
    assert dataset.joints.shape == (persons, 17, 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools' own, with NumPy 2.
def test_crowd_masks_match_the_segmentations(reference: Path) -> None:
    from pycocotools.coco import COCO

    folder = reference / "data/coco_samples"
    dataset = read_coco(folder / "person_keypoints.json")
    official = COCO(str(folder / "person_keypoints.json"))
    masked = 0
    for sample in dataset:
        entries = official.loadAnns(official.getAnnIds(imgIds=[sample.image_id]))
        expected = np.ones(sample.image_size[::-1], bool)
        for entry in entries:
            if entry["iscrowd"] or entry["num_keypoints"] == 0:
                expected &= official.annToMask(entry) == 0
        np.testing.assert_array_equal(crowd_mask(sample), expected)
        masked += not expected.all()
    assert masked == 14


def test_compressed_run_lengths_are_those_of_pycocotools(tmp_path: Path) -> None:
    from pycocotools import mask

    random = np.random.default_rng(5)
    for share in (0.001, 0.1, 0.5, 0.999):
        region = random.random((HEIGHT, WIDTH)) < share
        region[20:30, 5:60] = True
        counts = mask.encode(np.asfortranarray(region, np.uint8))["counts"].decode()
        entry = coco_annotation(iscrowd=1, segmentation={"size": [HEIGHT, WIDTH], "counts": counts})
        np.testing.assert_array_equal(crowd_mask(read_coco(coco_file(tmp_path, [entry]))[0]), ~region)


def test_crowd_mask_from_boxes_polygons_and_run_lengths(tmp_path: Path) -> None:
    counts = [HEIGHT * 10, HEIGHT * 5, HEIGHT * (WIDTH - 15)]  # Columns 10 to 14.
    unlabelled = {"keypoints": [0] * 51, "num_keypoints": 0}
    path = coco_file(
        tmp_path,
        [
            coco_annotation(),
            coco_annotation(id=2, iscrowd=1, segmentation={"size": [HEIGHT, WIDTH], "counts": counts}, **unlabelled),
            coco_annotation(id=3, bbox=[40.5, 20.5, 3, 4], **unlabelled),
            coco_annotation(id=4, segmentation=[[0, 0, 4, 0, 4, 4, 0, 4]], **unlabelled),
        ],
    )
    sample = read_coco(path)[0]
    expected = np.ones((HEIGHT, WIDTH), bool)
    expected[:, 10:15] = False
    expected[20:25, 40:44] = False
    expected[:4, :4] = False
    np.testing.assert_array_equal(crowd_mask(sample), expected)
    assert len(sample.targets) == 1 and len(sample.ignored) == 3
    with pytest.raises(ValueError, match=r"size of the image.*Received: image 'x'"):
        crowd_mask(Sample("x", None, None, ()))


@pytest.mark.parametrize("key", ["id", "image_id", "category_id"])
def test_coco_names_the_missing_field(tmp_path: Path, key: str) -> None:
    path = coco_file(tmp_path, [without(coco_annotation(), key)])
    with pytest.raises(ValueError, match=rf"coco\.json: annotation \d has no field '{key}'\. Received"):
        read_coco(path)


@pytest.mark.parametrize("value", [0, False, "0", 0.0, "false"])
def test_crowds_however_they_are_written(tmp_path: Path, value: Any) -> None:
    dataset = read_coco(coco_file(tmp_path, [coco_annotation(iscrowd=value)]))
    assert dataset.num_persons == 1 and not dataset[0].persons[0].is_crowd
    crowd = {False: True, "0": "1", "false": "True"}.get(value, 1)
    assert read_coco(coco_file(tmp_path, [coco_annotation(iscrowd=crowd)]))[0].persons[0].is_crowd


@pytest.mark.parametrize("absent", [{}, {"iscrowd": None, "keypoints": None, "bbox": None, "area": None}])
def test_fields_that_other_programs_leave_out(tmp_path: Path, absent: dict) -> None:
    entries = [
        {**without(coco_annotation(id=row), key), **({key: absent[key]} if key in absent else {})}
        for row, key in enumerate(("iscrowd", "keypoints", "bbox", "area"), start=1)
    ]
    dataset = read_coco(coco_file(tmp_path, entries), tmp_path)
    assert dataset.problems == {
        "persons without 'iscrowd', taken as single persons": ("annotation 1",),
        "persons without 'keypoints', taken as unlabelled": ("annotation 2",),
        "persons without 'bbox', measured by their joints": ("annotation 3",),
        "persons without 'area', given that of their box": ("annotation 4",),
    }
    first, second, third, fourth = dataset[0].persons
    assert first.is_target and not first.is_crowd
    assert second.num_labelled == 0 and second.box.tolist() == [8, 10, 28, 30]
    assert third.box.tolist() == [10, 12, 26, 28] and third.area == 400
    assert fourth.area == 400 and dataset.num_persons == 3


def test_persons_and_images_with_little(tmp_path: Path) -> None:
    entry = coco_annotation(keypoints=[], bbox=[60, 40, 20, 20])
    joints_only = without(without(coco_annotation(id=2), "bbox"), "area")
    crowd = coco_annotation(id=3, iscrowd=1, segmentation=[[]])
    image = {"id": 7, "file_name": "a.png"}
    path = coco_file(tmp_path, [entry, joints_only, crowd], images=[image])
    sample = read_coco(path, tmp_path)[0]
    assert sample.image_size is None and sample.read().shape == (HEIGHT, WIDTH, 3)
    assert sample.persons[0].box.tolist() == [60, 40, 80, 60] and sample.persons[0].num_labelled == 0
    assert sample.persons[1].area == 16 * 16 and sample.persons[2].segmentation is None
    assert "images without 'width' and 'height': 1 (image 7)" in read_coco(path).report()
    for size in ({"width": float(WIDTH), "height": float(HEIGHT)}, {"height": HEIGHT}, {"width": None}, {}):
        crowd["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH - 9, 9]}
        sample = read_coco(coco_file(tmp_path, [crowd], images=[{**image, **size}]))[0]
        assert sample.image_size == (WIDTH, HEIGHT) and (~crowd_mask(sample)).sum() == 9


def test_keypoints_flat_here_and_in_triples_there(tmp_path: Path) -> None:
    flat = coco_annotation()
    nested = coco_annotation(id=2, keypoints=np.reshape(flat["keypoints"], (17, 3)).tolist())
    first, second = read_coco(coco_file(tmp_path, [flat, nested]))[0].persons
    np.testing.assert_array_equal(first.joints, second.joints)
    assert first.joints[1].tolist() == [11, 13, 2]
    by_axis = coco_annotation(id=2, keypoints=np.reshape(flat["keypoints"], (17, 3)).T.tolist())
    with pytest.raises(ValueError, match=r"coco\.json: annotation 2 must have 51 finite numbers in 'keypoints'"):
        read_coco(coco_file(tmp_path, [flat, by_axis]))


def test_categories_with_empty_keypoints_are_no_people(tmp_path: Path) -> None:
    person = {"id": 1, "name": "person", "keypoints": list(COCO_17.joint_names)}
    categories = [person, {"id": 2, "name": "car", "keypoints": [], "skeleton": []}]
    dataset = read_coco(
        coco_file(tmp_path, [coco_annotation(), coco_annotation(id=2, category_id=2)], categories=categories)
    )
    assert dataset.num_persons == 1
    assert dataset.problems == {"annotations of other categories, left out": ("annotation 2",)}


def test_ids_here_numbers_and_there_text(tmp_path: Path) -> None:
    dataset = read_coco(coco_file(tmp_path, [coco_annotation(id="x", image_id="7", category_id="1")]), tmp_path)
    assert dataset.num_persons == 1 and dataset.problems == {}
    assert dataset[0].image_id == 7 and dataset.persons[0].person_id == "x"


COCO_FAULTS: list[tuple[list[dict], dict, str]] = [
    ([coco_annotation(), coco_annotation()], {}, r"coco\.json: annotations has the same 'id'.*Received: \[1\]"),
    ([coco_annotation(image_id=8)], {}, r"'image_id' that no image has\. Received: \[8\]"),
    ([coco_annotation(keypoints=[1, 2, 2])], {}, r"annotation 1 must have 51 finite numbers in 'keypoints'"),
    ([coco_annotation(keypoints=[None] * 51)], {}, r"annotation 1 must have 51 finite numbers in 'keypoints'"),
    ([coco_annotation(keypoints=[5] * 51)], {}, r"annotation 1 must have 0, 1 or 2 .*Received: \[5\.0\]"),
    (
        [coco_annotation(), coco_annotation(id=2, bbox=[0, 0, 1])],
        {},
        r"annotation 2 must have 4 finite numbers in 'bbox'",
    ),
    ([coco_annotation(area=float("nan"))], {}, r"annotation 1 must have a finite number in 'area'"),
    ([coco_annotation(area="big")], {}, r"annotation 1 must have a finite number in 'area'. Received: 'big'"),
    ([coco_annotation(iscrowd="perhaps")], {}, r"annotation 0 must have 0 or 1 in 'iscrowd'\. Received: 'perhaps'"),
    ([coco_annotation(id=1.5)], {}, r"annotation 0 must have a whole number or a text in 'id'\. Received: 1\.5"),
    ([coco_annotation(id=[1])], {}, r"annotation 0 has a wrong value in 'id'\. Received: \[1\]"),
    ([["no", "object"]], {}, r"annotation 0 must be an object"),
    ([], {"categories": [{"id": 1, "name": "person"}]}, r"none of the 'categories' has 'keypoints'"),
    ([], {"images": [{"id": 7, "width": 1, "height": 1}]}, r"image 7 has no field 'file_name'"),
    ([], {"images": [{"id": 7, "file_name": "a", "width": 0, "height": 1}]}, r"image 7 must have a positive 'width'"),
    ([], {"images": [{"id": 7}, {"id": 7}]}, r"images has the same 'id'"),
    ([], {"images": [7]}, r"image 0 must be an object"),
    ([], {"images": {}}, r"coco\.json has a wrong value in 'images'"),
]


@pytest.mark.parametrize(("annotations", "changes", "message"), COCO_FAULTS)
def test_coco_faults(tmp_path: Path, annotations: list[dict], changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_coco(coco_file(tmp_path, annotations, **changes))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3]], "flat lists"),
        ([{"x": 1}], "flat lists"),
        ({"counts": [1, 2]}, "has no field 'size'"),
        ({"size": [2, 2], "counts": [4]}, "size of the image"),
        ({"size": [HEIGHT, WIDTH], "counts": [1, 2]}, "run lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": "Tag"}, "run lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "run lengths"),
        ({"size": [HEIGHT, WIDTH], "counts": [-1, 1 + HEIGHT * WIDTH]}, "run lengths"),
    ],
)
def test_faulty_segmentations_are_found_while_reading(tmp_path: Path, segmentation: Any, message: str) -> None:
    path = coco_file(tmp_path, [coco_annotation(iscrowd=1, segmentation=segmentation)])
    with pytest.raises(ValueError, match=rf"annotation 1: 'segmentation'.*{message}"):
        read_coco(path)


def test_coco_corrections_are_told(tmp_path: Path) -> None:
    keypoints = coco_annotation()["keypoints"]
    outside = [-5, 3, 2, WIDTH + 1, 3, 1, *keypoints[6:]]
    unlabelled = {"keypoints": [0] * 51, "num_keypoints": 0}
    path = coco_file(
        tmp_path,
        [
            coco_annotation(id=1, keypoints=outside),
            coco_annotation(id=2, bbox=[-10, 5, 100, 20]),
            coco_annotation(id=3, bbox=[70, 5, 10, 20]),
            coco_annotation(id=4, area=0),
            coco_annotation(id=5, area=0, bbox=[3, 3, 0, 0], **unlabelled),
            coco_annotation(id=6, category_id=3),
        ],
    )
    dataset = read_coco(path, tmp_path)
    assert dataset.problems == {
        "annotations of other categories, left out": ("annotation 6",),
        "joints outside the image, taken as unlabelled": ("annotation 1", "annotation 1"),
        "boxes outside the image, clipped": ("annotation 2", "annotation 3"),
        "persons with zero area, measured by their joints": ("annotation 3", "annotation 4"),
        "persons with neither area nor labelled joints, left out": ("annotation 5",),
    }
    assert "coco: boxes outside the image, clipped: 2 (annotation 2, annotation 3)" in dataset.report()
    first, second, third, fourth = dataset[0].persons
    assert first.num_labelled == 15 and not first.joints[:2].any()
    assert second.box.tolist() == [0, 5, WIDTH, 25]
    assert third.box.tolist() == joints_box(third.joints).tolist() and third.area == 400
    assert fourth.area == 400  # That of the box.


def test_coco_files_that_are_not_there(tmp_path: Path) -> None:
    path = coco_file(tmp_path, [coco_annotation()])
    with pytest.raises(FileNotFoundError, match=r"annotation file\. Received: .*gone\.json"):
        read_coco(tmp_path / "gone.json")
    with pytest.raises(FileNotFoundError, match=r"folder or archive of images\. Received: .*gone"):
        read_coco(path, tmp_path / "gone")
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"coco\.json: 1 of 1 image files are missing in .*Received: \['a\.png'\]"
    ):
        read_coco(path, tmp_path)
    dataset = read_coco(path, tmp_path, skip_missing=True)
    assert len(dataset) == 0 and dataset.problems == {"images without file, left out": ("a.png",)}
    assert len(read_coco(path)) == 1
    with pytest.raises(ValueError, match="read without its images"):
        read_coco(path)[0].read()
    for text, message in (("{", "not valid JSON"), ("[]", r"must hold a dict\. Received: list")):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"{message}.*coco\.json"):
            read_coco(path)


def test_coco_without_people(tmp_path: Path) -> None:
    dataset = read_coco(coco_file(tmp_path, []), tmp_path)
    assert len(dataset) == 1 and dataset[0].persons == () and dataset.joints.shape == (0, 17, 3)
    assert crowd_mask(dataset[0]).all()
    with pytest.raises(ValueError, match="No image has a person"):
        dataset.with_people()


def test_coco_with_a_skeleton_of_its_own(tmp_path: Path) -> None:
    category = {"id": 1, "name": "hand", "keypoints": ["wrist", "thumb"], "skeleton": [[1, 2]]}
    path = coco_file(tmp_path, [coco_annotation(keypoints=[10, 10, 2, 20, 20, 1])], categories=[category])
    dataset = read_coco(path, tmp_path)
    assert dataset.skeleton.joint_names == ("wrist", "thumb") and dataset.skeleton.limbs == ((0, 1),)
    assert dataset.skeleton.name == "hand"


@pytest.mark.parametrize(
    ("limbs", "expected"),
    [([[1, 2], [2, 3]], ((0, 1), (1, 2))), ([[0, 1], [1, 2]], ((0, 1), (1, 2))), ([], ()), (None, ())],
)
def test_limbs_counted_from_one_or_from_zero(tmp_path: Path, limbs: Any, expected: tuple) -> None:
    category = {"id": 1, "name": "dog", "keypoints": ["L_Eye", "R_Eye", "nose"], "skeleton": limbs}
    skeleton = read_coco(coco_file(tmp_path, [], categories=[category])).skeleton
    assert skeleton.limbs == expected and skeleton.flip_permutation == (1, 0, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skeleton": [[1, 9]]}, r"must have joints 1 to 3 \(or, counted from 0, 0 to 2\) in 'skeleton'.*\[\[1, 9\]\]"),
        ({"skeleton": [[0, 3]]}, r"must have joints 1 to 3"),
        ({"skeleton": [[-1, 2]]}, r"must have joints 1 to 3"),
        ({"skeleton": [["a", "b"]]}, r"must have pairs of joint numbers in 'skeleton'"),
        ({"skeleton": 7}, r"must have pairs of joint numbers in 'skeleton'"),
        ({"keypoints": ["a", "a", "b"]}, r"must have names in 'keypoints', each once"),
        ({"keypoints": [1, 2, 3]}, r"must have names in 'keypoints', each once"),
    ],
)
def test_faulty_categories(tmp_path: Path, changes: dict, message: str) -> None:
    category = {"id": 4, "name": "dog", "keypoints": ["a", "b", "c"], **changes}
    with pytest.raises(ValueError, match=rf"coco\.json: category 4 {message}"):
        read_coco(coco_file(tmp_path, [], categories=[category]))


def test_other_spellings_are_known_joints_and_own_names_are_not(tmp_path: Path) -> None:
    for respelt in (
        [name.replace("_", "-") for name in COCO_17.joint_names],
        [name.replace("_", " ").title() for name in COCO_17.joint_names],
    ):
        category = {"id": 1, "name": "person", "keypoints": respelt}
        assert read_coco(coco_file(tmp_path, [coco_annotation()], categories=[category])).skeleton is COCO_17
    category = {"id": 1, "name": "dog", "keypoints": [f"joint {joint}" for joint in range(17)]}
    dataset = read_coco(coco_file(tmp_path, [coco_annotation()], categories=[category]))
    assert dataset.skeleton.name == "dog" and dataset.skeleton.sigmas is None and dataset.num_persons == 1
    assert dataset.in_skeleton(COCO_17).num_persons == 0
