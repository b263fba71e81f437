"""Evaluations of any keypoints, and of models that have other joints than the data."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from keras_ehrnet import evaluation
from keras_ehrnet.cli.evaluate import evaluate_app
from keras_ehrnet.data import map_joints
from keras_ehrnet.data.mpii import MPII_FILE_ORDER
from keras_ehrnet.images import write_image
from keras_ehrnet.poses import Poses
from keras_ehrnet.prediction.pipeline import Settings
from keras_ehrnet.skeletons import COCO_17, LSP_14, MPII_16, Skeleton

SIDE = 100
DOG = Skeleton("dog", ("nose", "left_paw", "right_paw"), ((0, 1), (0, 2)))
BODY = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


class Knowing:
    """A predictor that knows what is in every image, in joints of its own, and finds it there, moved a bit.

    Args:
        people: array of shape `(images, N, K, 3)`. The people of every image.
        source: `Skeleton`. What their joints are.
        own: `Skeleton`. The joints that it finds.
    """

    settings, refine = Settings(), None

    def __init__(self, people: np.ndarray, source: Skeleton, own: Skeleton, multi_person: bool = True) -> None:
        self.people = map_joints(people, source, own)
        size = (64, 64)
        self.network = SimpleNamespace(
            name="knowing", skeleton=own, multi_person=multi_person, input_size=size, digest=lambda: "0"
        )

    def __call__(self, image: np.ndarray, boxes: np.ndarray | None = None) -> Poses:
        people = self.people[image[0, 0, 0]]
        return Poses(people, np.linspace(0.9, 0.8, len(people)), self.network.skeleton)


def people(skeleton: Skeleton, images: int = 3, persons: int = 2) -> np.ndarray:
    """Whole persons, side by side."""
    rng = np.random.default_rng(0)
    points = rng.uniform(2, 38, (images, persons, skeleton.num_joints, 2)).round(1)
    points[..., 0] += np.arange(persons)[:, None] * 45
    return np.concatenate([points, np.full((*points.shape[:3], 1), 2.0)], axis=-1)


def write_images(folder: Path, count: int) -> None:
    (folder / "images").mkdir()
    for number in range(count):
        write_image(folder / "images" / f"{number}.png", np.full((SIDE, SIDE, 3), number, np.uint8))


def write_coco(folder: Path, truth: np.ndarray, skeleton: Skeleton) -> Path:
    """Annotations as a program writes them that leaves out all that can be."""
    write_images(folder, len(truth))
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(len(truth))],
        "annotations": [
            {"id": 10 * number + index, "image_id": number, "category_id": 0, "keypoints": person.ravel().tolist()}
            for number, persons in enumerate(truth)
            for index, person in enumerate(persons)
        ],
        "categories": [{"id": 0, "name": "own", "keypoints": skeleton.joint_names}],
    }
    path = folder / "own.json"
    path.write_text(json.dumps(content))
    return path


def test_a_model_of_mpii_is_scored_on_coco_by_the_joints_of_both(tmp_path):
    truth = people(COCO_17)
    annotations = write_coco(tmp_path, truth, COCO_17)
    predictor = Knowing(truth, COCO_17, MPII_16)
    scores = evaluation.coco(predictor, tmp_path / "images", annotations, output=tmp_path / "out", progress=False)
    assert scores.ap == 1.0 and scores.persons == 6
    joint, problems = scores.notes[0], scores.notes[1:]
    absent = "nose, left_eye, right_eye, left_ear, right_ear"
    assert joint == f"Scored on 12 of 17 joints: knowing has no {absent}."
    assert sum("persons without 'area', given that of their box: 6" in note for note in problems) == 1
    assert json.loads((tmp_path / "out/scores.json").read_text())["notes"] == list(scores.notes)
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert {len(result["keypoints"]) for result in results} == {51} and results[0]["keypoints"][:3] == [0, 0, 0]

    # A joint of twelve that is far off leaves an OKS of 0.917, which is enough for nine of the ten thresholds.
    worse = predictor.people.copy()
    worse[..., MPII_16.index("left_knee"), 0] += 30
    predictor.people = worse
    assert evaluation.coco(predictor, tmp_path / "images", annotations, progress=False).ap == pytest.approx(0.9)


def test_a_model_of_coco_is_scored_on_mpii_by_the_joints_of_both(tmp_path):
    truth = people(MPII_16)
    write_images(tmp_path, len(truth))
    order = [MPII_16.index(name) for name in MPII_FILE_ORDER]
    entries = [
        {
            "image": f"{number}.png",
            "joints": person[order, :2].tolist(),
            "joints_vis": [1] * 16,
            "center": [50, 50],
            "scale": 0.5,
            "head_size": 10.0,
        }
        for number, persons in enumerate(truth)
        for person in persons
    ]
    (tmp_path / "mpii.json").write_text(json.dumps(entries))
    predictor = Knowing(truth, MPII_16, COCO_17, multi_person=False)
    scores = evaluation.mpii(predictor, tmp_path / "images", tmp_path / "mpii.json", progress=False)
    assert scores.notes == ("Scored on 12 of 16 joints: knowing has no head_top, upper_neck, thorax, pelvis.",)
    measured = dict(zip(scores.joint_names, scores.counts.tolist(), strict=True))
    assert scores.mean.tolist() == [1, 1] and {measured[f"left_{part}"] for part in BODY} == {6}
    assert measured["head_top"] == 0 and np.isnan(scores.groups["Head"]).all() and scores.rows()[1][1] == "-"


def test_nothing_in_common_is_refused(tmp_path):
    truth = people(Skeleton("hand", ("thumb", "index"), ()))
    annotations = write_coco(tmp_path, truth, Skeleton("hand", ("thumb", "index"), ()))
    predictor = Knowing(people(COCO_17), COCO_17, COCO_17)
    for evaluate in (evaluation.coco, evaluation.coco_pck):
        with pytest.raises(ValueError, match="scored with the joints of 'own'.*Received: model 'knowing'"):
            evaluate(predictor, tmp_path / "images", annotations, progress=False)


@pytest.mark.parametrize("boxes", [True, False])
def test_pck_of_any_keypoints(tmp_path, boxes):
    truth = people(DOG)
    annotations = write_coco(tmp_path, truth, DOG)
    predictor = Knowing(truth, DOG, DOG)
    sizes = np.ptp(truth[..., :2], axis=2).max(axis=-1)
    predictor.people[..., DOG.index("left_paw"), 0] += 0.15 * sizes
    predictor.people[0, :, DOG.index("nose"), 2] = 0.0  # Not found, in one image of three.
    if not boxes:
        predictor.people = predictor.people[:, ::-1]  # Found in another order.
    scores = evaluation.coco_pck(predictor, tmp_path / "images", annotations, boxes=boxes, progress=False)
    np.testing.assert_allclose(scores.per_joint, [[2 / 3, 0, 1], [2 / 3, 0, 1], [2 / 3, 1, 1]])
    assert scores.rows()[0] == ("joint", "PCK@0.05", "PCK@0.1", "PCK@0.2")
    assert scores.rows()[1] == ("nose", "66.7", "66.7", "66.7") and scores.rows()[-1][0] == "Mean"


def test_pck_by_the_torso_is_that_of_lsp(tmp_path):
    truth = people(LSP_14, persons=1)
    annotations = write_coco(tmp_path, truth, LSP_14)
    predictor = Knowing(truth, LSP_14, LSP_14)
    predictor.people[..., 0] += 3
    options = {"reference": "torso", "threshold": 0.1, "progress": False}
    scores = evaluation.coco_pck(predictor, tmp_path / "images", annotations, **options)
    xy, labelled = truth[:, 0, :, :2], truth[:, 0, :, 2]
    assert scores.mean == evaluation.pck(xy + np.array([3, 0]), xy, labelled, threshold=0.1).mean
    with pytest.raises(ValueError, match="Did you mean 'torso'"):
        evaluation.coco_pck(predictor, tmp_path / "images", annotations, reference="torsos")


def test_command_line_tells_what_is_scored(tmp_path, monkeypatch):
    truth = people(COCO_17)
    annotations = write_coco(tmp_path, truth, COCO_17)
    predictor = Knowing(truth, COCO_17, MPII_16)
    monkeypatch.setattr("keras_ehrnet.cli.evaluate._evaluated", lambda *args: predictor)
    for command in ("coco", "pck"):
        result = CliRunner().invoke(evaluate_app, [command, str(tmp_path / "images"), str(annotations), "-m", "any"])
        assert result.exit_code == 0 and "Scored on 12 of 17 joints: knowing has no nose, left_eye" in result.output
        assert result.output.count("persons without 'area', given that of their box: 6") == 1
