"""Models saved with what their keypoints are, and everything that reads it again."""

from __future__ import annotations

import warnings
import zipfile

import keras
import numpy as np
import painted
import pytest

import keras_ehrnet as ke
from keras_ehrnet import metadata
from keras_ehrnet.skeletons import COCO_17, MPII_16, Skeleton
from keras_ehrnet.support.errors import MetadataError

DOG = Skeleton(
    "dog",
    tuple(f"part_{index}" for index in range(17)),
    ((0, 1), (1, 2)),
    (0.05,) * 17,
    tuple(range(17))[::-1],
    ((3, 4),),
)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return ke.EfficientPoseNAS("A", input_shape=(64, 64, 3))


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def test_what_was_saved_is_known_again(model, tmp_path):
    path = ke.models.save(model, tmp_path / "dog.keras", DOG, license="MIT", min_score=0.25)
    network = ke.PosePredictor.load(path).network
    assert network.skeleton == DOG
    assert (network.license, network.min_score) == ("MIT", 0.25)
    assert metadata.read(path).outputs[0].shape == (-1, 16, 16, 17)


def test_keras_reads_the_file_as_its_own(model, tmp_path):
    path = ke.models.save(model, tmp_path / "dog.keras", DOG)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["config.json", "keras_ehrnet.json", "metadata.json", "model.weights.h5"]
    image = np.full((1, 64, 64, 3), 128.0)
    expected = model.predict_on_batch(image)["heatmaps"]
    np.testing.assert_array_equal(keras.saving.load_model(path).predict_on_batch(image)["heatmaps"], expected)


def test_a_guess_is_told(model, tmp_path):
    path = ke.models.save(model, tmp_path / "plain.keras")
    assert metadata.read(path) is None
    for load in (ke.PosePredictor.load, lambda path: ke.PosePredictor(keras.saving.load_model(path))):
        with pytest.warns(UserWarning, match="taken for 'coco_17'. Pass skeleton=") as caught:
            assert load(path).network.skeleton == COCO_17
        assert caught[0].filename == __file__
    assert ke.PosePredictor.load(path, skeleton=DOG).network.skeleton == DOG


def test_nothing_is_mirrored_on_a_guess(model, tmp_path):
    path = ke.models.save(model, tmp_path / "plain.keras")
    problem = "know left from right: pass skeleton=.*nothing says what its keypoints are"
    with pytest.warns(UserWarning, match="taken for 'coco_17'"), pytest.raises(ValueError, match=problem):
        ke.PosePredictor.load(path, flip=True)
    assert ke.PosePredictor.load(path, flip=True, skeleton=COCO_17).settings.flip


def test_names_of_files_may_end_in_capitals(model, tmp_path):
    path = ke.models.save(model, tmp_path / "dog.keras", DOG).rename(tmp_path / "DOG.KERAS")
    network = ke.PosePredictor.load(path).network
    assert network.skeleton == DOG
    image = np.full((1, 64, 64, 3), 128, np.uint8)
    expected = model.predict_on_batch(image)["heatmaps"]
    np.testing.assert_array_equal(network(image)["heatmaps"], expected)
    assert ke.PosePredictor.load("efficientpose-a", weights=path, input_size=(64, 64)).network.skeleton == DOG


def test_numbered_joints_are_no_guess():
    names = ke.PosePredictor(ke.EfficientPoseNAS("A", num_keypoints=5)).network.skeleton.joint_names
    assert names[0] == "keypoint_0"


def test_exported_files_say_what_the_model_file_does(tmp_path):
    path = ke.models.save(painted.network("efficientpose_nas"), tmp_path / "p.keras", painted.SKELETON, license="MIT")
    about = metadata.read(ke.export.tflite(path, tmp_path / "p.tflite"))
    assert (about.skeleton, about.license) == (painted.SKELETON, "MIT")


def test_weights_of_a_model_file_bring_its_skeleton(tmp_path):
    model = ke.EfficientPoseNAS("A", num_keypoints=3)
    path = ke.models.save(model, tmp_path / "three.keras", painted.SKELETON)
    assert ke.PosePredictor.load("efficientpose-a", weights=path).network.skeleton == painted.SKELETON


def test_a_model_of_any_size_keeps_the_one_it_was_trained_for(tmp_path):
    model = ke.EfficientPoseNAS("A", input_shape=(None, None, 3))
    path = ke.models.save(model, tmp_path / "any.keras", COCO_17, input_size=(128, 96))
    assert ke.PosePredictor.load(path).network.input_size == (128, 96)
    assert ke.PosePredictor.load(path, input_size=(64, 48)).network.input_size == (64, 48)


def test_own_weights_can_be_built_on_by_their_name(tmp_path):
    path = ke.export.onnx("efficientpose-rt-coco", tmp_path / "rt.onnx")
    network = ke.runtime.load(path)
    assert network.skeleton == COCO_17
    assert network.min_score == ke.weights.entry("efficientpose-rt-coco").min_score > 0
    assert network.metadata.license == "Apache-2.0"


def test_mistakes_leave_no_file(model, tmp_path):
    with pytest.raises(ValueError, match="has 17 keypoints. Received: skeleton 'mpii_16' with 16"):
        ke.models.save(model, tmp_path / "a.keras", MPII_16)
    with pytest.raises(ValueError, match="ends in .keras. Received: 'a.h5'"):
        ke.models.save(model, "a.h5", DOG)
    with pytest.raises(ValueError, match="has no keypoints"):
        ke.models.save(ke.EfficientNet(-4, input_shape=(32, 32, 3), classes=2), tmp_path / "a.keras", DOG)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="could not be written"):
        ke.models.save(model, tmp_path / "file" / "a.keras", DOG)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_damaged_metadata_are_told(model, tmp_path):
    path = ke.models.save(model, tmp_path / "plain.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("keras_ehrnet.json", "{")
    with pytest.raises(MetadataError, match="plain.keras"):
        ke.PosePredictor.load(path)


def test_a_skeleton_that_is_given_is_not_guessed(model, tmp_path):
    about = metadata.read(ke.export.tflite(model, tmp_path / "dog.tflite", skeleton=DOG))
    assert about.skeleton == DOG
