"""Poses go into other libraries' objects, and come back the same."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keras_ehrnet import Poses
from keras_ehrnet.skeletons import COCO_17, LSP_14, Skeleton
from keras_ehrnet.support.messages import MissingPackageError

SIZE = (640, 480)


@pytest.fixture(params=["people", "tracked", "nobody"])
def poses(request) -> Poses:
    """People, one of whose joints was not found; with identities; nobody."""
    rng = np.random.default_rng(0)
    keypoints = np.concatenate([rng.uniform(1, 400, (2, 17, 2)), rng.uniform(0.1, 1, (2, 17, 1))], axis=-1)
    keypoints[1, 3] = 0
    people = Poses(keypoints, np.array([0.9, 0.4]), COCO_17, SIZE)
    if request.param == "nobody":
        return Poses.empty(COCO_17, SIZE)
    return replace(people, ids=[7, 3]) if request.param == "tracked" else people


def test_supervision_and_back(poses):
    supervision = pytest.importorskip("supervision")
    key_points, detections = poses.to_supervision(), poses.to_detections()
    assert isinstance(key_points, supervision.KeyPoints) and isinstance(detections, supervision.Detections)
    assert len(key_points) == len(detections) == len(poses)
    for source in (key_points, detections):
        assert Poses.from_supervision(source, COCO_17, SIZE) == poses
    np.testing.assert_array_equal(detections.xyxy, poses.boxes())
    np.testing.assert_array_equal(detections.confidence, poses.scores)


def test_supervision_draws_and_filters(poses):
    supervision = pytest.importorskip("supervision")
    if len(poses):
        image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        drawn = supervision.VertexAnnotator(color=supervision.Color.WHITE, radius=2).annotate(
            image, poses.to_supervision()
        )
        x, y, _ = poses[1].joint("left_wrist")
        assert drawn[int(y), int(x)].any() and not drawn[0, 0].any()
        detections = poses.to_detections()
        best = detections[detections.confidence > 0.5]
        assert Poses.from_supervision(best, COCO_17, SIZE) == poses[:1]


def test_what_other_versions_of_supervision_call_their_scores():
    older = SimpleNamespace(xy=np.full((1, 14, 2), 5.0), confidence=np.full((1, 14), 0.5), data={})
    poses = Poses.from_supervision(older, LSP_14)
    assert poses.scores[0] == 0.5 and (poses.confidence == 0.5).all()
    without = SimpleNamespace(xy=np.full((1, 14, 2), 5.0), keypoint_confidence=None, data={})
    without.xy[0, 3] = 0
    poses = Poses.from_supervision(without, LSP_14)
    assert poses.confidence[0, 2] == 1 and poses.confidence[0, 3] == 0


def test_boxes_alone_are_no_poses():
    supervision = pytest.importorskip("supervision")
    boxes = supervision.Detections(xyxy=np.array([[1.0, 2, 3, 4]]))
    with pytest.raises(ValueError, match="boxes=detections.xyxy.*Received: Detections"):
        Poses.from_supervision(boxes, COCO_17)


@dataclass
class Keypoint:
    """FiftyOne's label of one object: points in [0, 1], and any attributes that one gives."""

    label: str | None = None
    points: list = field(default_factory=list)
    confidence: list | None = None
    index: int | None = None
    score: float | None = None


def test_fiftyone_and_back(poses, monkeypatch):
    """By FiftyOne's documented structure: `Keypoints` holds `Keypoint`s; what is not there is NaN."""
    stand_in: Any = SimpleNamespace(Keypoint=Keypoint, Keypoints=lambda keypoints: SimpleNamespace(keypoints=keypoints))
    monkeypatch.setitem(sys.modules, "fiftyone", stand_in)
    labels = poses.to_fiftyone()
    for person, label in zip(poses, labels.keypoints, strict=True):
        assert label.label == "coco_17" and len(label.points) == len(label.confidence) == 17
        found = np.array(label.points)[person.confidence[0] > 0]
        np.testing.assert_allclose(found * SIZE, person.xy[0][person.confidence[0] > 0], rtol=1e-5)
        assert np.isnan(np.array(label.points)[person.confidence[0] == 0]).all()
    back = Poses.from_fiftyone(labels, COCO_17, SIZE)
    np.testing.assert_allclose(back.keypoints, poses.keypoints, rtol=1e-5)
    np.testing.assert_array_equal(back.scores, poses.scores)
    assert (back.ids is None) == (poses.ids is None) and (back.ids is None or (back.ids == poses.ids).all())
    with pytest.raises(ValueError, match="need image_size"):
        replace(poses, image_size=None).to_fiftyone()


def test_pandas_and_back(poses):
    pandas = pytest.importorskip("pandas")
    table = poses.to_pandas()
    assert isinstance(table, pandas.DataFrame) and len(table) == 17 * len(poses)
    shuffled = table.sample(frac=1, random_state=0)
    assert Poses.from_pandas(shuffled, COCO_17, SIZE) == poses
    with pytest.raises(ValueError, match="without score"):
        Poses.from_pandas(table.drop(columns="score"), COCO_17)


def test_other_joints_are_refused():
    table = {"person": [0], "joint": ["tail"], "x": [1], "y": [1], "score": [1]}
    with pytest.raises(ValueError, match="no joint of that name.*Received: 'tail'"):
        Poses.from_pandas(table, COCO_17)
    with pytest.raises(ValueError, match="Received: keypoints .1, 14, 3."):
        Poses.from_supervision(SimpleNamespace(xy=np.ones((1, 14, 2)), confidence=np.ones((1, 14))), COCO_17)
    with pytest.raises(ValueError, match="a point for each of the 17 joints.*Received: 1 points"):
        Poses.from_fiftyone(SimpleNamespace(keypoints=[Keypoint(points=[(0.5, 0.5)])]), COCO_17, SIZE)
    poses = Poses.from_pandas(table, Skeleton("cat", ("nose", "tail"), ()))
    assert poses.joint("tail") == (1, 1, 1) and poses.joint("nose")[2] == 0


@pytest.mark.parametrize(
    ("package", "method"),
    [
        ("supervision", "to_supervision"),
        ("supervision", "to_detections"),
        ("fiftyone", "to_fiftyone"),
        ("pandas", "to_pandas"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, package, method):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=f"Poses.{method} needs {package}.*run  pip install {package}$"):
        getattr(Poses.empty(COCO_17, SIZE), method)()
