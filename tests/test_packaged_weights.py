"""The weights that come with the package: whole, small, the same network in both files, and found without Keras."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet import metadata, runtime
from keras_ehrnet.models.variants import VARIANTS
from keras_ehrnet.skeletons import SKELETONS
from keras_ehrnet.support.files import sha256
from keras_ehrnet.weights import registry

MEGABYTES = 12
ENTRIES = registry.packaged()


def build(entry: registry.PackagedEntry):
    """The Keras model of an entry, as large as its file."""
    skeleton, size = SKELETONS[entry.skeleton], metadata.read(entry.exported_path).input_size
    limbs = {"num_limbs": len(skeleton.limbs)} if VARIANTS[entry.model].family == "efficientpose" else {}
    return VARIANTS[entry.model].build(
        num_keypoints=skeleton.num_joints, weights=entry.name, input_shape=(*size, 3), **limbs
    )


def test_entries_and_files_belong_together() -> None:
    files = {path.name for path in registry.packaged_folder().iterdir() if path.suffix in (".h5", ".tflite", ".md")}
    expected = {name for entry in registry.PACKAGED for name in (entry.url, entry.exported, f"{entry.name}.md")}
    assert files - {"README.md"} == expected and registry.DEFAULT in ENTRIES
    assert sum(path.stat().st_size for path in registry.packaged_folder().iterdir()) <= MEGABYTES * 1e6


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_every_entry_says_what_it_is(entry) -> None:
    assert sha256(entry.path) == entry.sha256 and entry.path.stat().st_size == entry.size
    assert all(value for value in asdict(entry).values())
    card = (registry.packaged_folder() / f"{entry.name}.md").read_text(encoding="utf-8")
    assert entry.score in card and entry.license in card
    found = metadata.read(entry.exported_path)
    assert (found.name, found.license, found.min_score) == (entry.name, entry.license, entry.min_score)
    assert (found.skeleton, found.input_size) == (SKELETONS[entry.skeleton], entry.input_size)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_the_keras_model_is_built_for_the_size_that_is_asked_for(entry) -> None:
    assert runtime.load(entry.name, weights=entry.name).input_size == entry.input_size
    network = runtime.load(entry.name, input_size=(128, 96))
    assert network.input_size == (128, 96)
    assert network(np.zeros((1, 128, 96, 3), np.uint8))["heatmaps"].shape[0] == 1
    with pytest.raises(ValueError, match=r"input_size is \(height, width\) in pixels. Received: 128"):
        runtime.load(entry.name, input_size=128)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_both_files_are_one_network(entry, reference) -> None:
    photo = reference / "data/coco_samples/images/000000000785.jpg"
    predictor = ke.PosePredictor.load(entry.name)
    settings = {"protocol": "fast", "multi_person": predictor.network.multi_person, "min_score": entry.min_score}
    keras_poses = ke.PosePredictor.load(build(entry), skeleton=SKELETONS[entry.skeleton], **settings)(photo)
    poses = predictor(photo)
    assert len(poses) == len(keras_poses) == 1
    seen = poses.keypoints[0, :, 2] > 0.3
    assert seen.sum() >= 8
    assert np.abs(poses.keypoints - keras_poses.keypoints)[0, seen, :2].max() < 1


def test_the_default_finds_the_skier_and_no_furniture(reference) -> None:
    predictor = ke.PosePredictor.load()
    (skier,) = predictor(reference / "data/coco_samples/images/000000000785.jpg")
    # COCO's annotation, of a person 347 pixels tall.
    expected = {"left_shoulder": (399, 108), "right_shoulder": (358, 129), "left_ankle": (466, 362)}
    for name, point in expected.items():
        assert np.hypot(*(np.array(skier.joint(name)[:2]) - point)) < 0.12 * 347, name
    empty = predictor(reference / "data/without_people")
    assert len(empty) == 24 and sum(map(len, empty)) <= 1
