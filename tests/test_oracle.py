"""Perfect maps through decoding and evaluation: what is lost on the way is lost by us, and it must be little."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import OraclePredictor

from keras_ehrnet import evaluation, skeletons
from keras_ehrnet.data import read_coco, read_lspet, read_mpii


@pytest.fixture(scope="module", params=["coco_samples", "coco_pose/val"])
def coco(request, reference):
    folder = reference / "data" / request.param.split("/")[0]
    if request.param == "coco_samples":
        return folder / "images", folder / "person_keypoints.json"
    return folder / "val", folder / "person_keypoints_val.json"


def scores_of(coco, limit=None, boxes=None, **options):
    images, annotations = coco
    predictor = OraclePredictor(read_coco(annotations, images), **options)
    return evaluation.coco(predictor, images, annotations, limit=limit, boxes=boxes, progress=False)


def test_associative_embedding(coco, record_property):
    options = {"family": "efficienthrnet", "input_size": (512, 512), "any_size": True}
    paper = scores_of(coco, protocol="paper", **options)
    fast = scores_of(coco, protocol="fast", **options)
    record_property("ap", (paper.ap, fast.ap))
    print(f"AP {paper.ap:.4f} {fast.ap:.4f}")
    # Lost are people whose joints hide behind the same joint of another: one heatmap has one peak for both.
    assert paper.ap >= 0.95
    assert abs(paper.ap - fast.ap) <= 0.01


def test_part_affinity_fields(coco, record_property):
    options = {"family": "efficientpose", "input_size": (1024, 1024), "any_size": False, "multi_person": True}
    scores = scores_of(coco, limit=60, **options)
    one_by_one = scores_of(coco, limit=60, boxes=True, **options)
    record_property("ap", (scores.ap, one_by_one.ap))
    print(f"AP {scores.ap:.4f} {one_by_one.ap:.4f}")
    # Lost are people of fewer than three labelled joints, and crowds whose joints share a cell of eight pixels.
    assert scores.ap >= 0.84
    assert one_by_one.ap >= 0.95


def test_mpii_points(reference):
    folder = reference / "data/mpii"
    dataset = read_mpii(folder / "mpii_valid.json", folder / "images", skip_missing=True)
    predictor = OraclePredictor(dataset, "efficientpose", (224, 224), any_size=False)
    scores = evaluation.mpii(
        predictor, folder / "images", folder / "mpii_valid.json", skip_missing=True, progress=False
    )
    assert scores.persons == dataset.num_persons > 0
    print(scores.rows())
    assert scores.mean[1] >= 0.99


def test_lsp_points(reference):
    annotations = reference / "data/lspet/val.json"
    dataset = read_lspet(annotations)
    predictor = OraclePredictor(dataset, "efficientpose", (224, 224), any_size=False)
    scores = evaluation.lspet(predictor, None, annotations, progress=False)
    assert scores.joint_names == skeletons.LSP_14.joint_names
    print(scores.rows())
    assert scores.mean[0] >= 0.99
    assert np.nanmin(scores.per_joint) >= 0.98
