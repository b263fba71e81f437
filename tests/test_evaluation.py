"""Scores: one for what is annotated, hand-computed values for what is shifted, clear messages for what is wrong."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_ehrnet.data import read_lspet, read_mpii
from keras_ehrnet.evaluation import efficiency, oks_average_precision, pck, pckh, torso_lengths
from keras_ehrnet.skeletons import COCO_17, LSP_14, MPII_16


def perfect_results(content: dict) -> list[dict]:
    """Every annotated person as if a model had found it."""
    results = []
    for entry in content["annotations"]:
        if entry["num_keypoints"] and not entry["iscrowd"]:
            keypoints = [float(value) for value in entry["keypoints"]]
            results.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": 1,
                    "keypoints": keypoints,
                    "score": 0.5 + len(results) / 1e4,
                }
            )
    return results


def toy(num_joints: int = 17, area: float = 10000.0) -> dict:
    """One image with one person, all of whose joints lie at (100, 100)."""
    names = list(COCO_17.joint_names) if num_joints == 17 else [f"joint_{joint}" for joint in range(num_joints)]
    person = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "area": area, "bbox": [50, 50, 100, 100]}
    return {
        "images": [{"id": 7, "width": 200, "height": 200}, {"id": 8, "width": 200, "height": 200}],
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
        "annotations": [{**person, "keypoints": [100, 100, 2] * num_joints, "num_keypoints": num_joints}],
    }


def toy_result(shift: float = 0.0, num_joints: int = 17, **changes: Any) -> dict:
    keypoints = [100 + shift, 100, 1] * num_joints
    return {"image_id": 7, "category_id": 1, "keypoints": keypoints, "score": 0.9, **changes}


@pytest.mark.parametrize(
    ("file", "persons"), [("coco_samples/person_keypoints.json", 98), ("coco_pose/person_keypoints_val.json", 470)]
)
def test_perfect_results_score_one(reference: Path, capfd: pytest.CaptureFixture, file: str, persons: int) -> None:
    path = reference / "data" / file
    results = perfect_results(json.loads(path.read_text()))
    before = copy.deepcopy(results)
    scores = oks_average_precision(results, path)
    assert results == before
    assert scores.persons == scores.detections == persons
    for name, value in scores.to_dict().items():
        if name.startswith("a"):
            assert value == pytest.approx(1.0), name
    assert scores.rows()[:2] == [("figure", "percent"), ("AP", "100.0")] and len(scores.rows()) == 11
    assert capfd.readouterr() == ("", "")
    assert oks_average_precision(results, json.loads(path.read_text())) == scores


def test_scores_equal_those_of_pycocotools_itself(reference: Path, capfd: pytest.CaptureFixture) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    path = reference / "data/coco_samples/person_keypoints.json"
    results = perfect_results(json.loads(path.read_text()))
    random = np.random.default_rng(3)
    for result in results:
        points = np.reshape(result["keypoints"], (17, 3))
        points[:, :2] += random.normal(0, 6, (17, 2))
        result["keypoints"], result["score"] = points.reshape(-1).tolist(), float(random.random())
    results = results[::2] + results[: len(results) // 2]
    truth = COCO(str(path))
    scorer = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    scores = oks_average_precision(results, path)
    assert [value for name, value in scores.to_dict().items() if name.startswith("a")] == scorer.stats.tolist()
    assert 0.1 < scores.ap < 0.9


def test_shifted_person_scores_what_oks_says() -> None:
    area, shift = 10000.0, 12.0
    variances = (2 * np.array(COCO_17.sigmas)) ** 2
    oks = np.exp(-(shift**2) / (2 * area * variances)).mean()
    passed = np.arange(0.5, 0.96, 0.05) <= oks
    assert 0 < passed.sum() < 10
    scores = oks_average_precision([toy_result(shift)], toy(area=area))
    assert (scores.ap, scores.ar) == pytest.approx((passed.mean(), passed.mean()))
    assert scores.ap_large == scores.ap and math.isnan(scores.ap_medium)
    assert scores.to_dict()["ap_medium"] is None and ("AP medium", "-") in scores.rows()
    # Half the area halves the square of the scale: the same shift counts as sqrt(2) times as far.
    nearer = oks_average_precision([toy_result(shift / math.sqrt(2))], toy(area=area / 2))
    assert nearer.ap == scores.ap


def test_false_positives_and_misses() -> None:
    right, wrong = toy_result(score=0.5), toy_result(90, score=0.9)
    assert oks_average_precision([right, wrong], toy()).ap == pytest.approx(0.5)
    assert oks_average_precision([{**right, "score": 0.95}, wrong], toy()).ap == pytest.approx(1.0)
    content = toy()
    content["annotations"].append({**content["annotations"][0], "id": 2, "image_id": 8})
    half = oks_average_precision([right], content)
    assert half.ar == pytest.approx(0.5) and half.ap == pytest.approx(51 / 101)  # 101 recall points, 0 to 0.5 reached.
    assert oks_average_precision([right], content, image_ids=[7]).ap == pytest.approx(1.0)
    assert oks_average_precision([right], content, image_ids=[8]).to_dict()["ap"] == 0


def test_only_twenty_results_of_an_image_count() -> None:
    wrong = [toy_result(90, score=0.9)] * 20
    assert oks_average_precision([*wrong, toy_result(score=0.1)], toy()).ap == 0


def test_nothing_found_and_nobody_there() -> None:
    nothing = oks_average_precision([], toy())
    assert (nothing.ap, nothing.ar, nothing.persons, nothing.detections) == (0, 0, 1, 0)
    nobody = oks_average_precision([], {**toy(), "annotations": []})
    assert math.isnan(nobody.ap) and nobody.to_dict()["ap"] is None and nobody.persons == 0
    assert math.isnan(oks_average_precision([toy_result()], {**toy(), "annotations": []}).ap)


def test_other_skeletons_bring_their_sigmas() -> None:
    results = [toy_result(10, num_joints=3)]
    with pytest.raises(ValueError, match=r"needs sigmas, one for each of its 3 joints\. Received: None"):
        oks_average_precision(results, toy(3))
    assert oks_average_precision(results, toy(3), sigmas=[0.1] * 3).ap == pytest.approx(0.8)
    assert math.exp(-100 / (2 * 10000 * 0.04)) == pytest.approx(0.882, abs=1e-3)  # Passes 0.50 to 0.85.
    with pytest.raises(ValueError, match="sigmas"):
        oks_average_precision(results, toy(3), sigmas=[0.1] * 4)


def three_people(ids: list[Any], image_ids: list[Any] = [1, 2, 3], category_id: Any = 1) -> dict:  # noqa: B006
    content = toy()
    person = content["annotations"][0]
    content["images"] = [{"id": image_id, "width": 200, "height": 200} for image_id in image_ids]
    content["categories"][0]["id"] = category_id
    content["annotations"] = [
        {**person, "id": own, "image_id": image_id, "category_id": category_id}
        for own, image_id in zip(ids, image_ids, strict=True)
    ]
    return content


@pytest.mark.parametrize(
    "content",
    [
        three_people([0, 1, 2]),
        three_people(["0", "1", "2"]),
        three_people(["a", "b", "c"]),
        three_people([0, "1", 2.0]),
        three_people([1, 2, 3], image_ids=[0, "1", "b"]),
        three_people([1, 2, 3], category_id=0),
        three_people([1, 2, 3], category_id="person"),
    ],
)
def test_any_ids_score_the_same(content: dict) -> None:
    results = perfect_results(content)
    for result, entry in zip(results, content["annotations"], strict=True):
        result["category_id"] = entry["category_id"]
    scores = oks_average_precision(results, content)
    assert (scores.ap, scores.ar, scores.persons) == (1.0, 1.0, 3)
    assert oks_average_precision(results[1:], content).ar == pytest.approx(2 / 3)
    first = content["images"][0]["id"]
    assert oks_average_precision(results, content, image_ids=[first]).to_dict()["persons"] == 1


def test_annotations_in_memory_may_be_arrays() -> None:
    content = toy()
    content["annotations"][0].update(keypoints=np.full((17, 3), 2.0), bbox=np.array([1.0, 1.0, 9.0, 9.0]))
    assert oks_average_precision([toy_result(keypoints=np.full(51, 2.0))], content).ap == pytest.approx(1)
    content["annotations"][0]["keypoints"] = np.zeros(0)
    assert oks_average_precision([], content).persons == 0


def test_ids_that_are_here_numbers_and_there_text() -> None:
    content = three_people([1, 2, 3])
    for entry in content["annotations"]:
        entry.update(image_id=str(entry["image_id"]), category_id="1", iscrowd="0")
    results = [{**toy_result(), "image_id": image_id} for image_id in (1, "2", 3.0)]
    scores = oks_average_precision(results, content, image_ids=[1, 2, "3"])
    assert (scores.ap, scores.persons, scores.detections) == (1.0, 3, 3)
    content["images"].append({"id": "3", "width": 9, "height": 9})
    with pytest.raises(ValueError, match=r"annotations: images has the same 'id' more than once\. Received: \['3'\]"):
        oks_average_precision(results, content)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"image_id": 7}, "Result 0 has no field 'category_id'"),
        (toy_result(image_id=99), "Result 0 has an 'image_id' that annotations has not. Received: 99"),
        (toy_result(category_id=2), r"one of \(1,\) as 'category_id'. Received: 2"),
        (toy_result(keypoints=[1, 2, 3]), "Result 0 must have 51 finite numbers in 'keypoints'"),
        (toy_result(math.nan), "Result 0 must have 51 finite numbers in 'keypoints'"),
        (toy_result(score=None), "Result 0 must have a finite number in 'score'"),
        ("person", "Result 0 must be an object"),
    ],
)
def test_faulty_results(result: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        oks_average_precision([result], toy())


def test_faulty_annotations_and_images(tmp_path: Path) -> None:
    content = toy()
    with pytest.raises(ValueError, match=r"no images of these ids\. Received: \[9\]"):
        oks_average_precision([], content, image_ids=[7, 9])
    with pytest.raises(ValueError, match="at least one image"):
        oks_average_precision([], content, image_ids=[])
    with pytest.raises(ValueError, match="same 'id' more than once"):
        oks_average_precision([], content, image_ids=[7, 7])
    for key in ("id", "image_id", "category_id"):
        broken = toy()
        del broken["annotations"][0][key]
        with pytest.raises(ValueError, match=rf"annotations: annotation \d has no field '{key}'"):
            oks_average_precision([], broken)
    for key in ("area", "bbox", "iscrowd"):
        sparse = toy()
        del sparse["annotations"][0][key]
        assert oks_average_precision([toy_result()], sparse).ap == pytest.approx(1.0)
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        oks_average_precision([], tmp_path / "gone.json")
    del content["annotations"][0]["num_keypoints"]  # Counted instead.
    assert oks_average_precision([toy_result()], content).ap == pytest.approx(1.0)


# PCK


def test_pckh_of_mpii(reference: Path) -> None:
    dataset = read_mpii(reference / "data/mpii/mpii_valid.json")
    truth, labelled, sizes = dataset.joints[..., :2], dataset.joints[..., 2], dataset.head_sizes
    perfect = pckh(truth, truth, labelled, sizes)
    assert perfect.persons == 2958 and perfect.left_out == 0 and perfect.counts.sum() == 16 * 2958 - 3088
    assert (perfect.per_joint == 1).all() and (perfect.mean == 1).all()
    assert perfect.rows()[1] == ("PCKh@0.5", *["100.0"] * 8)
    assert perfect.rows()[0] == ("", "Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Mean")
    shift = np.stack([0.3 * sizes, np.zeros_like(sizes)], axis=-1)[:, None]
    assert pckh(truth + shift, truth, labelled, sizes).mean.tolist() == [1, 0]


def test_pckh_by_hand() -> None:
    truth = np.zeros((2, 16, 2))
    labelled = np.ones((2, 16))
    predicted = np.zeros((2, 16, 2))
    predicted[0, MPII_16.index("left_knee")] = (6, 8)  # 10 pixels: on the limit of 0.5 * 20, which still counts.
    predicted[1, MPII_16.index("left_knee")] = (6, 8)  # Beyond 0.5 * 10.
    predicted[:, MPII_16.index("pelvis")] = 1000  # Not in the mean.
    predicted[0, MPII_16.index("head_top")] = np.nan  # Not found.
    labelled[1, MPII_16.index("right_ankle")] = 0
    predicted[1, MPII_16.index("right_ankle")] = 1000
    scores = pckh(predicted, truth, labelled, [20.0, 10.0])
    groups = {name: share.tolist() for name, share in scores.groups.items()}
    assert groups["Knee"] == [0.75, 0.5] and groups["Head"] == [0.5, 0.5] and groups["Ankle"] == [1, 1]
    assert scores.per_joint[:, MPII_16.index("pelvis")].tolist() == [0, 0]
    assert scores.counts[MPII_16.index("right_ankle")] == 1
    # 14 joints of two persons, one not labelled: 27, of which two (at 0.1: three) are wrong.
    assert scores.mean.tolist() == [25 / 27, 24 / 27]
    as_dict = scores.to_dict()
    assert json.loads(json.dumps(as_dict)) == as_dict
    assert as_dict["scores"][0]["joints"]["left_knee"] == 0.5 and as_dict["persons"] == 2
    nobody = pckh(predicted, truth, labelled * 0, [20.0, 10.0])
    assert nobody.to_dict()["scores"][0]["mean"] is None and nobody.rows()[1][1:] == ("-",) * 8


def test_pck_of_lspet(reference: Path) -> None:
    dataset = read_lspet(reference / "data/lspet/val.json")
    truth, labelled = dataset.joints[..., :2], dataset.joints[..., 2]
    perfect = pck(truth, truth, labelled)
    assert (perfect.persons, perfect.left_out) == (362, 138)
    assert (perfect.per_joint == 1).all() and perfect.thresholds == (0.2,)
    lengths = np.nan_to_num(torso_lengths(truth, labelled))
    for part, expected in ((0.19, 1), (0.21, 0)):
        shift = np.stack([np.zeros_like(lengths), part * lengths], axis=-1)[:, None]
        assert pck(truth + shift, truth, labelled).mean.tolist() == [expected]


def test_torso_by_hand() -> None:
    truth, labelled = np.zeros((3, 14, 2)), np.ones((3, 14))
    truth[0, LSP_14.index("left_shoulder")] = (3, 4)
    truth[1, LSP_14.index("left_shoulder")] = (30, 40)
    labelled[1, LSP_14.index("right_hip")] = 0
    np.testing.assert_array_equal(torso_lengths(truth, labelled), [5, np.nan, 0])
    scores = pck(truth, truth, labelled, threshold=(0.2, 0.5))
    assert (scores.persons, scores.left_out, scores.thresholds) == (1, 2, (0.2, 0.5))
    own = pck(truth + 1, truth, labelled, reference_lengths=[1, 10, 10], skeleton=LSP_14)
    assert own.persons == 3 and own.mean[0] == pytest.approx(27 / 41)


def test_pck_refuses_what_does_not_fit() -> None:
    truth, labelled = np.zeros((2, 16, 2)), np.ones((2, 16))
    with pytest.raises(ValueError, match=r"Head sizes must be positive\. Received: nan for person 1"):
        pckh(truth, truth, labelled, [1.0, np.nan])
    with pytest.raises(ValueError, match=r"shape \(N, 16, 2\).*Received: \(2, 16, 3\)"):
        pckh(np.zeros((2, 16, 3)), truth, labelled, [1.0, 1.0])
    with pytest.raises(ValueError, match=r"Received: .*\(3,\)"):
        pckh(truth, truth, labelled, [1.0, 1.0, 1.0])


def test_efficiency() -> None:
    assert efficiency(ap=35.7, fps=10, watts=5) == pytest.approx(71.4)
    for wrong in ((0.5, 10, 0), (-1, 10, 5), (0.5, math.nan, 5)):
        with pytest.raises(ValueError, match="Watts must be positive"):
            efficiency(*wrong)


def test_importing_loads_no_heavy_packages() -> None:
    program = "import sys, keras_ehrnet.data, keras_ehrnet.evaluation; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert not {"tensorflow", "keras", "pycocotools", "scipy"} & set(done.stdout.split())
