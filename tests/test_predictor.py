"""One predictor for arrays, files, batches and folders, and for everything that is wrong with them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from inspect import signature
from pathlib import Path

import cv2
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.data import ImageError, write_image
from keras_ehrnet.prediction import is_camera
from keras_ehrnet.prediction.pipeline import Settings
from keras_ehrnet.prediction.video import process


@pytest.fixture(scope="module")
def predictor(reference):
    return ke.PosePredictor.load("efficientpose-rt", weights=reference / "weights/EfficientPoseRT.h5")


@pytest.fixture(scope="module")
def photo(reference):
    return reference / "data/coco_samples/images/000000000785.jpg"


@pytest.fixture(scope="module")
def bottom_up():
    return ke.PosePredictor(ke.EfficientHRNet(-4), protocol="fast")


def test_path_array_list_batch_folder_and_pattern_agree(predictor, photo, tmp_path):
    image = ke.data.read_image(photo)
    one = predictor(photo)
    assert (len(one), one.skeleton.name, one.image_size) == (1, "mpii_16", (640, 425))
    write_image(tmp_path / "a.png", image)
    write_image(tmp_path / "b.png", image)
    several = [
        predictor(image),
        predictor(image.astype(np.float32)),
        *predictor([image, str(photo)]),
        *predictor(np.stack([image, image])),
        *predictor(tmp_path),
        *predictor(str(tmp_path / "*.png")),
    ]
    assert len(several) == 10
    for poses in several:
        np.testing.assert_allclose(poses.keypoints, one.keypoints, atol=1e-3)


def test_pil_images_and_encoded_bytes_are_images(predictor, photo):
    image_module = pytest.importorskip("PIL.Image")
    expected = predictor(photo).keypoints
    data = photo.read_bytes()
    for source in (data, bytearray(data)):
        np.testing.assert_array_equal(predictor(source).keypoints, expected)
    several = predictor([image_module.open(photo), data])
    assert len(several) == 2
    # A network's sums depend on how many images it is given.
    np.testing.assert_allclose(several[1].keypoints, expected, atol=1e-3)
    # Decoders of JPEG differ by a level here and there.
    np.testing.assert_allclose(several[0].xy, several[1].xy, atol=6)
    np.testing.assert_allclose(predictor(image_module.open(photo)).keypoints, several[0].keypoints, atol=1e-3)


@pytest.mark.parametrize("name", ["2024", "clips.mp4"])
def test_a_folder_is_a_folder_whatever_its_name(predictor, photo, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    (Path(name) / "IMG.JPG").write_bytes(photo.read_bytes())
    for folder in (name, Path(name)):
        (poses,) = predictor(folder)
        np.testing.assert_array_equal(poses.keypoints, predictor(photo).keypoints)
    assert is_camera("0") and is_camera(0) and not is_camera(name)
    with pytest.raises(ValueError, match="no such video file"):
        predictor.video(name)


def test_result_prints_plots_and_saves(predictor, photo, tmp_path):
    poses = predictor(photo)
    assert repr(poses).startswith("Poses(1 person, mpii_16, image 640x425, scores 0.4")
    assert poses._repr_png_().startswith(b"\x89PNG")
    poses.save(tmp_path / "picture.jpg")
    assert cv2.imread(str(tmp_path / "picture.jpg")).shape == (425, 640, 3)
    assert json.loads(poses.to_json())["image_size"] == {"width": 640, "height": 425}
    assert len(poses.to_csv().splitlines()) == 17
    assert len(poses.to_coco(7)[0]["keypoints"]) == 48
    assert poses.boxes().shape == (1, 4)


def test_mirrored_image_gives_mirrored_people(predictor, photo):
    image = ke.data.read_image(photo)
    flipping = ke.PosePredictor(predictor.network, flip=True)
    poses, mirrored = flipping(image), flipping(np.ascontiguousarray(image[:, ::-1]))
    exchanged = mirrored.keypoints[0, list(poses.skeleton.flip_permutation)]
    confident = poses.confidence[0] > 0.4
    assert confident.sum() >= 8
    assert np.abs(640 - exchanged[confident, 0] - poses.xy[0, confident, 0]).max() < 6
    assert np.abs(exchanged[confident, 1] - poses.xy[0, confident, 1]).max() < 6


def test_several_people_through_part_affinity_fields(reference, predictor):
    several = ke.PosePredictor(predictor.network, multi_person=True)
    skiers = several(reference / "data/coco_samples/images/000000000785.jpg")
    assert len(skiers) >= 1
    best = predictor(reference / "data/coco_samples/images/000000000785.jpg")
    found = (skiers.confidence[0] > 0.3) & (best.confidence[0] > 0.3)
    assert found.sum() >= 8
    # The fields live at stride 8, which is 23 pixels of this image.
    assert np.median(np.linalg.norm(skiers.xy[0, found] - best.xy[0, found], axis=-1)) < 12


def test_boxes_for_networks_of_one_person(photo):
    predictor = ke.PosePredictor(ke.EfficientPoseNAS("A"))
    boxes = np.array([[0, 0, 200, 400], [300, 100, 600, 420]])
    poses = predictor(photo, boxes=boxes)
    assert poses.keypoints.shape == (2, 17, 3)
    assert len(predictor(photo, boxes=np.zeros((0, 4)))) == 0
    with pytest.raises(ValueError, match="right > left"):
        predictor(photo, boxes=[[5, 5, 5, 9]])


@pytest.mark.parametrize(
    "settings", [{"protocol": "paper"}, {"protocol": "fast"}, {"flip": True, "scales": (0.5, 1.0)}]
)
def test_bottom_up_settings(bottom_up, settings):
    image = np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)
    poses = ke.PosePredictor(bottom_up.network, max_people=5, **settings)(image)
    assert len(poses) <= 5
    assert poses.image_size == (160, 96)
    assert (np.diff(poses.scores) <= 0).all()
    assert (poses.xy >= 0).all()
    assert (poses.xy <= (160, 96)).all()


def test_fixed_size_bottom_up_network():
    predictor = ke.PosePredictor(ke.EfficientHRNet(-4, input_shape=(128, 160, 3)), protocol="fast")
    assert predictor(np.zeros((300, 200, 3), np.uint8)).image_size == (200, 300)


IMAGES = {
    "gray": np.full((60, 40), 128, np.uint8),
    "RGBA": np.full((60, 40, 4), 128, np.uint8),
    "16 bit": np.full((60, 40, 3), 40_000, np.uint16),
    "one pixel": np.full((1, 1, 3), 128, np.uint8),
    "very wide": np.full((2, 900, 3), 128, np.uint8),
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_images_of_every_kind(predictor, bottom_up, image):
    height, width = image.shape[:2]
    assert predictor(image).image_size == (width, height)
    if max(image.shape) < 100 and min(image.shape[:2]) > 1:
        assert bottom_up(image).image_size == (width, height)


def test_fifty_megapixels(predictor):
    poses = predictor(np.zeros((5000, 10_000, 3), np.uint8))
    assert poses.image_size == (10_000, 5000)


def test_rotated_photograph_is_turned_upright(predictor, photo, tmp_path):
    """The same picture, stored on its side with the EXIF mark that says so."""
    image = cv2.imread(str(photo))
    encoded = cv2.imencode(".jpg", cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
    exif = (
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    )
    marked = encoded[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + encoded[2:]
    (tmp_path / "rotated.jpg").write_bytes(marked)
    poses, expected = predictor(tmp_path / "rotated.jpg"), predictor(photo)
    assert poses.image_size == (640, 425)
    confident = expected.confidence[0] > 0.4
    assert np.abs(poses.xy[0, confident] - expected.xy[0, confident]).max() < 6


def test_files_go_on_after_bad_ones(predictor, photo, tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "cut.jpg").write_bytes(photo.read_bytes()[:5000])
    paths = [tmp_path / "empty.jpg", photo, tmp_path / "text.jpg", tmp_path / "cut.jpg", tmp_path / "absent.jpg"]
    results = list(predictor.files(paths))
    assert [result.poses is None for result in results] == [True, False, True, True, True]
    assert all(result.path.name in result.error for result in results if result.error)


def test_folder_leaves_bad_files_out_and_says_so(predictor, photo, tmp_path):
    (tmp_path / "good.jpg").write_bytes(photo.read_bytes())
    (tmp_path / "cut.jpg").write_bytes(photo.read_bytes()[:5000])
    with pytest.warns(UserWarning, match="1 of 2 files left out"):
        assert len(predictor(tmp_path)) == 1


def test_results_never_overwrite_images(reference, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_EHRNET_HOME", str(reference / "weights"))
    image = cv2.imencode(".png", cv2.imread(str(photo)))[1].tobytes()
    (tmp_path / "a.png").write_bytes(image)
    command = [sys.executable, "-m", "keras_ehrnet", "predict", str(tmp_path), "-o", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, (tmp_path / "a.png").read_bytes()) == (2, image)
    assert "choose another folder" in result.stderr


def test_names_of_results_are_unique(tmp_path):
    from keras_ehrnet.cli.predict import _output_names

    paths = [tmp_path / name for name in ("a-2.jpg", "a.jpg", "a.png", "a.bmp")]
    assert _output_names(paths) == ["a-2", "a", "a-3", "a-4"]


@pytest.mark.parametrize("damage", [b"", b"text", b"PK\x03\x04 cut"])
def test_damaged_model_files_tell_their_checksum(tmp_path, damage):
    (tmp_path / "m.keras").write_bytes(damage)
    with pytest.raises(ValueError, match=r"not a readable model file.*sha256"):
        ke.PosePredictor.load(tmp_path / "m.keras")


def test_folder_with_bad_files_from_the_command_line(reference, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_EHRNET_HOME", str(reference / "weights"))
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(photo.read_bytes())
    (folder / "good.png").write_bytes(cv2.imencode(".png", cv2.imread(str(photo)))[1].tobytes())
    (folder / "cut.jpg").write_bytes(photo.read_bytes()[:5000])
    command = [sys.executable, "-m", "keras_ehrnet", "predict", str(folder), "-o", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "2 of 3 images" in result.stdout
    assert f"Skipped {folder / 'cut.jpg'}" in result.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"good.jpg", "good.json", "good-2.png", "good-2.json"}


MISTAKES = {
    "nan": (lambda p: p(np.full((4, 4, 3), np.nan)), ImageError, "must be finite"),
    "shape": (lambda p: p(np.zeros((4, 4, 7), np.uint8)), ImageError, "must have shape"),
    "absent": (lambda p: p("absent.jpg"), FileNotFoundError, "absent.jpg"),
    "several and flip": (
        lambda p: ke.PosePredictor(p.network, multi_person=True, flip=True),
        ValueError,
        "Mirroring is not defined",
    ),
    "boxes for each image": (
        lambda p: p([np.zeros((9, 9, 3), np.uint8)] * 2, boxes=[np.zeros((0, 4))]),
        ValueError,
        "Boxes are given per image",
    ),
    "boxes for a folder": (
        lambda p: p(Path(__file__).parent, boxes=[[[0, 0, 9, 9]]]),
        ValueError,
        "pass a list of the images' paths.*Received: boxes for '.*tests'",
    ),
    "boxes for a pattern": (lambda p: p("*.jpg", boxes=[]), ValueError, r"Received: boxes for '\*\.jpg'"),
    "float image in [0, 1]": (lambda p: p(np.full((4, 4, 3), 0.5)), ImageError, r"multiply one in \[0, 1\] by 255"),
    "score that is no number": (lambda p: Settings(min_score=float("nan")), ValueError, "Received: min_score=nan"),
    "score in words": (lambda p: Settings(min_score="0.2"), ValueError, "Received: min_score='0.2'"),
    "scale that is no number": (lambda p: Settings(scales=(1, float("nan"))), ValueError, "positive numbers"),
    "scale in words": (lambda p: Settings(scales="1"), ValueError, "positive numbers"),
    "half a person": (lambda p: Settings(max_people=2.5), ValueError, "whole number, 1 or more. Received: .*2.5"),
    "people that are no number": (lambda p: Settings(max_people=float("nan")), ValueError, "Received: .*nan"),
    "nobody": (lambda p: Settings(max_people=0), ValueError, "Received: max_people=0"),
    "protocol": (lambda p: Settings(protocol="quick"), ValueError, "'paper' or 'fast'"),
    "scales": (lambda p: Settings(scales=(0.5, 2)), ValueError, "one of them is 1"),
    "infinite scale": (lambda p: Settings(scales=(1, np.inf)), ValueError, "positive numbers"),
    "scales of one person": (lambda p: ke.PosePredictor(p.network, scales=(0.5, 1)), ValueError, "for EfficientHRNet"),
    "several of EfficientHRNet": (
        lambda p: ke.PosePredictor(ke.EfficientHRNet(-4), multi_person=True),
        ValueError,
        "'multi_person' is for EfficientPose",
    ),
    "flip without names": (
        lambda p: ke.PosePredictor(ke.EfficientHRNet(-4, num_keypoints=5), flip=True),
        ValueError,
        "know left from right",
    ),
    "normalized input": (
        lambda p: ke.PosePredictor(ke.EfficientPose("RT", include_preprocessing=False)),
        ValueError,
        "include_preprocessing=True",
    ),
    "size of a fixed model": (
        lambda p: ke.PosePredictor.load(p.network.model, input_size=(256, 256)),
        ValueError,
        r"takes images of size \(224, 224\)",
    ),
    "size that does not divide": (
        lambda p: ke.PosePredictor.load(ke.EfficientHRNet(-4), input_size=(100, 100)),
        ValueError,
        "multiples of 32",
    ),
    "video": (lambda p: p("clip.mp4"), ValueError, r"predictor\.video"),
    "camera": (lambda p: p(0), ValueError, r"predictor\.video"),
    "scales of fast": (lambda p: Settings(protocol="fast", scales=(0.5, 1)), ValueError, "need protocol='paper'"),
    "classifier": (lambda p: ke.PosePredictor(ke.EfficientNet(-4)), ValueError, "has an output named"),
    "skeleton": (
        lambda p: ke.PosePredictor.load(ke.EfficientPose("RT"), skeleton=ke.skeletons.COCO_17),
        ValueError,
        "has 16 keypoints",
    ),
    "size": (lambda p: ke.PosePredictor(ke.EfficientHRNet(-4, name="mine")), ValueError, "say which with input_size"),
    "boxes": (
        lambda p: ke.PosePredictor(ke.EfficientHRNet(-4))(np.zeros((9, 9, 3), np.uint8), boxes=[[0, 0, 5, 5]]),
        ValueError,
        "finds people by itself",
    ),
}


@pytest.mark.parametrize(("act", "error", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(predictor, act, error, message):
    with pytest.raises(error, match=message):
        act(predictor)


TYPOS = {
    "settings": (lambda p: ke.PosePredictor(p.network, max_poeple=3), "Did you mean 'max_people'.*max_poeple=3"),
    "settings of load": (lambda p: ke.PosePredictor.load(p.network, flipp=True), "Did you mean 'flip'"),
    "video": (lambda p: p.video(0, treshold=0.2), "Did you mean 'threshold'"),
    "export": (lambda p: ke.export.tflite(p.network, "a.tflite", decoder="poses"), "Did you mean 'decode'"),
    "builder": (
        lambda p: ke.EfficientPose("RT", num_keypoint=3),
        r"EfficientPose\(\).* 'num_keypoints'\?",
    ),
    "evaluation": (lambda p: ke.evaluation.coco(p, ".", ".", limits=3), "Did you mean 'limit'"),
}


@pytest.mark.parametrize(("act", "message"), TYPOS.values(), ids=TYPOS)
def test_mistyped_options_are_told(predictor, act, message):
    with pytest.raises(TypeError, match=message):
        act(predictor)


def test_options_are_visible_and_have_one_default():
    settings = asdict(Settings())
    for function in (ke.PosePredictor.__init__, ke.PosePredictor.load):
        parameters = signature(function).parameters
        assert {name: parameters[name].default for name in settings} == settings
    shown, own = (signature(function).parameters for function in (process, ke.PosePredictor.video))
    options = [name for name, parameter in own.items() if parameter.kind is parameter.KEYWORD_ONLY]
    assert {name: own[name].default for name in options} == {name: shown[name].default for name in options}
    assert [*options, "refine"] == [name for name, one in shown.items() if one.kind is one.KEYWORD_ONLY]


def test_maps_that_are_not_finite(bottom_up):
    class Broken:
        name, family, skeleton, input_size, any_size = "broken", "efficienthrnet", ke.skeletons.COCO_17, (64, 64), True
        decode, multi_person = "none", True
        min_score = 0.0

        def __call__(self, images):
            maps = bottom_up.network(images)
            return {**maps, "heatmaps_4": np.full_like(maps["heatmaps_4"], np.nan)}

    with pytest.raises(ValueError, match="must be finite"):
        ke.PosePredictor(Broken(), protocol="fast")(np.zeros((64, 64, 3), np.uint8))
