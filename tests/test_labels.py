"""Labels by a model for pictures nobody has labelled: COCO's format, sure people only, the others masked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.data import read_coco
from keras_ehrnet.prediction import FileResult
from keras_ehrnet.prediction.labels import Trust, coco_labels
from keras_ehrnet.skeletons import COCO_17


def found(path, *scores, joint_scores=0.9):
    rng = np.random.default_rng(0)
    keypoints = np.concatenate(
        [rng.uniform(20, 80, (len(scores), 17, 2)), np.full((len(scores), 17, 1), joint_scores)], axis=2
    )
    return FileResult(path, ke.Poses(keypoints, np.array(scores), COCO_17, (100, 90)))


def test_sure_people_are_labels_faint_ones_masked_others_nobody(tmp_path):
    labels = coco_labels([found(tmp_path / "a" / "1.jpg", 0.6, 0.2, 0.1)], tmp_path, COCO_17)
    assert [entry["iscrowd"] for entry in labels["annotations"]] == [0, 1]
    assert labels["images"] == [{"id": 1, "file_name": "a/1.jpg", "width": 100, "height": 90}]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(labels))
    dataset = read_coco(path)
    assert dataset.skeleton == COCO_17 and dataset.num_persons == 1


def test_unsure_joints_are_unlabelled_and_so_is_who_has_too_few(tmp_path):
    scores = np.full((17, 1), 0.9)
    scores[5:] = 0.1
    (entry,) = coco_labels([found(tmp_path / "1.jpg", 0.6, joint_scores=scores)], tmp_path, COCO_17)["annotations"]
    assert entry["num_keypoints"] == 5 and entry["keypoints"][2::3] == [2.0] * 5 + [0.0] * 12
    scores[2:] = 0.1
    (entry,) = coco_labels([found(tmp_path / "1.jpg", 0.6, joint_scores=scores)], tmp_path, COCO_17)["annotations"]
    assert entry["iscrowd"] == 1


def test_trust_that_contradicts_itself():
    with pytest.raises(ValueError, match=r"faint=0.5, sure=0.2"):
        Trust(sure=0.2, faint=0.5)


def test_from_the_command_line(reference, tmp_path):
    """People who are labelled lie where COCO has them."""
    folder = tmp_path / "photos"
    (folder / "inside").mkdir(parents=True)
    shutil.copy(reference / "data/coco_samples/images/000000000785.jpg", folder / "inside")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    command = [sys.executable, "-m", "keras_ehrnet", "label", str(folder), "-o", str(tmp_path / "labels.json")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1 and "broken.jpg" in result.stderr and "Traceback" not in result.stderr
    labels = json.loads((tmp_path / "labels.json").read_text())
    assert [image["file_name"] for image in labels["images"]] == ["inside/000000000785.jpg"]
    (person,) = [entry for entry in labels["annotations"] if not entry["iscrowd"]]
    # COCO's annotation of the skier.
    left, top, width, height = person["bbox"]
    assert np.abs(np.array([left, top, left + width, top + height]) - (280, 44, 499, 388)).max() < 60
