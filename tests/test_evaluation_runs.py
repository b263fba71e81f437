"""Whole evaluations: results on disk, going on after an interruption, and the published models' scores."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import tiny

import keras_ehrnet as ke
from keras_ehrnet import evaluation


@pytest.fixture(scope="module")
def predictor(reference):
    return ke.PosePredictor.load("efficientpose-rt", weights=reference / "weights/EfficientPoseRT.h5")


class InterruptedRunError(Exception):
    pass


def test_goes_on_where_it_stopped(reference, predictor, tmp_path):
    annotations = reference / "data/lspet/val.json"
    calls = []

    class Counting(ke.PosePredictor):
        def __call__(self, images, boxes=None):
            calls.append(1)
            if len(calls) == 7:
                raise InterruptedRunError
            return super().__call__(images, boxes)

    counting = Counting(predictor.network)
    with pytest.raises(InterruptedRunError):
        evaluation.lspet(counting, None, annotations, output=tmp_path, limit=10, progress=False)
    journal = tmp_path / "journal.jsonl"
    journal.write_text(journal.read_text()[:-9])  # the power went in the middle of a line
    resumed = evaluation.lspet(counting, None, annotations, output=tmp_path, limit=10, progress=False)
    assert len(calls) == 7 + 5
    whole = evaluation.lspet(predictor, None, annotations, limit=10, progress=False)
    assert resumed.to_dict() == whole.to_dict()
    assert json.loads((tmp_path / "scores.json").read_text()) == whole.to_dict()
    assert len(json.loads((tmp_path / "results.json").read_text())) == 10


def test_folder_of_another_evaluation_is_refused(reference, predictor, tmp_path):
    annotations = reference / "data/lspet/val.json"
    evaluation.lspet(predictor, None, annotations, output=tmp_path, limit=1, progress=False)
    flipping = ke.PosePredictor(predictor.network, flip=True)
    with pytest.raises(ValueError, match="holds another evaluation"):
        evaluation.lspet(flipping, None, annotations, output=tmp_path, limit=1, progress=False)


def test_other_weights_are_another_evaluation(reference, predictor, tmp_path):
    annotations = reference / "data/lspet/val.json"
    evaluation.lspet(predictor, None, annotations, output=tmp_path, limit=1, progress=False)
    untrained = ke.PosePredictor(ke.EfficientPose("RT"))
    with pytest.raises(ValueError, match="holds another evaluation"):
        evaluation.lspet(untrained, None, annotations, output=tmp_path, limit=1, progress=False)


def test_unreadable_image_counts_as_empty_and_is_told(reference, tmp_path):
    folder = reference / "data/coco_samples"
    images = tmp_path / "images"
    shutil.copytree(folder / "images", images)
    broken = images / "000000000785.jpg"
    broken.chmod(0o644)
    whole = broken.read_bytes()
    broken.write_bytes(whole[:3000])
    predictor = ke.PosePredictor(ke.EfficientPoseNAS(tiny.SEARCHED))
    options = {"limit": 2, "progress": False, "output": tmp_path / "scores"}
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 2 images cannot be read and count as empty"):
            scores = evaluation.coco(predictor, images, folder / "person_keypoints.json", **options)
        assert scores.images == 2
    found = scores.detections
    broken.write_bytes(whole)
    assert evaluation.coco(predictor, images, folder / "person_keypoints.json", **options).detections == found + 1


def test_damaged_journal_names_the_line(reference, predictor, tmp_path):
    annotations = reference / "data/lspet/val.json"
    evaluation.lspet(predictor, None, annotations, output=tmp_path, limit=2, progress=False)
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    (tmp_path / "journal.jsonl").write_text("\n".join([lines[0], "damaged", lines[2]]) + "\n")
    with pytest.raises(ValueError, match="damaged in line 2"):
        evaluation.lspet(predictor, None, annotations, output=tmp_path, limit=2, progress=False)


@pytest.mark.parametrize("category_id", [0, 7, "person"])
def test_any_category_id_is_scored(reference, tmp_path, category_id):
    folder = reference / "data/coco_samples"
    content = json.loads((folder / "person_keypoints.json").read_text())
    content["categories"][0]["id"] = category_id
    for entry in content["annotations"]:
        entry["category_id"] = category_id
    (tmp_path / "own.json").write_text(json.dumps(content))
    predictor = ke.PosePredictor(ke.EfficientPoseNAS(tiny.SEARCHED))
    scores = evaluation.coco(
        predictor, folder / "images", tmp_path / "own.json", output=tmp_path, limit=2, progress=False
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert scores.images == 2 and {result["category_id"] for result in results} == {category_id}


def test_annotations_are_checked_before_any_image(reference, tmp_path):
    content = json.loads((reference / "data/coco_samples/person_keypoints.json").read_text())
    person = content["categories"][0]
    predictor = ke.PosePredictor(ke.EfficientPoseNAS(tiny.SEARCHED))
    for categories, message in (
        ([{**person, "keypoints": [f"p{number}" for number in range(17)]}], "scored with the joints of 'person'"),
        ([{**person, "name": "x"}, {**person, "id": 2, "name": "y"}], "one of them must be called 'person'"),
    ):
        (tmp_path / "own.json").write_text(json.dumps({**content, "categories": categories}))
        with pytest.raises(ValueError, match=message):
            evaluation.coco(predictor, tmp_path / "no such folder", tmp_path / "own.json", progress=False)


def test_coco_results_are_in_the_official_format(reference, tmp_path):
    folder = reference / "data/coco_samples"
    predictor = ke.PosePredictor(ke.EfficientPoseNAS(tiny.SEARCHED))
    scores = evaluation.coco(
        predictor, folder / "images", folder / "person_keypoints.json", output=tmp_path, limit=3, progress=False
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results[0]) == {"image_id", "category_id", "keypoints", "score"}
    assert len(results[0]["keypoints"]) == 51
    again = evaluation.oks_average_precision(
        results, folder / "person_keypoints.json", image_ids={result["image_id"] for result in results}
    )
    assert again.ap == pytest.approx(scores.ap)


def test_published_weights_on_sport(reference, predictor):
    """Gymnasts upside down are not what the published model was trained on: it is known to reach about 26 %."""
    scores = evaluation.lspet(predictor, None, reference / "data/lspet/val.json", limit=150, progress=False)
    assert 0.18 < scores.mean[0] < 0.36


def test_command_line(reference, tmp_path, monkeypatch, run_here):
    monkeypatch.setenv("KERAS_EHRNET_HOME", str(reference / "weights"))
    command = ["evaluate", "mpii", str(reference / "data/mpii/images")]
    command += [str(reference / "data/mpii/mpii_valid.json"), "-o", str(tmp_path)]
    missing = run_here(*command)
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr
    program = [sys.executable, "-m", "keras_ehrnet"]
    result = subprocess.run([*program, *command, "--skip-missing"], capture_output=True, text=True)
    assert result.returncode == 0
    assert "PCKh@0.5" in result.stdout
    assert json.loads((tmp_path / "scores.json").read_text())["persons"] >= 5
