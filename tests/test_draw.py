"""What is drawn of people, and where a network's heat lies in the picture."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from keras_ehrnet import PosePredictor, Poses, draw
from keras_ehrnet.cli import app
from keras_ehrnet.families import FAMILIES
from keras_ehrnet.images import read_image, write_image
from keras_ehrnet.prediction.pipeline import heatmap
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.messages import MissingPackageError

PAIR = Skeleton("pair", ("left_end", "right_end"), ((0, 1),))
PHOTO = "docs/pictures/astronaut.jpg"


@pytest.fixture
def person() -> Poses:
    return Poses(np.array([[[60, 80, 1], [140, 120, 1]]]), np.array([0.75]), PAIR)


def drawn(person: Poses, **style: object) -> np.ndarray:
    """Which pixels differ from a picture without people."""
    return draw.poses(np.zeros((200, 300, 3), np.uint8), person, style=draw.Style(**style)).any(axis=-1)


def test_boxes_names_and_line_width_are_drawn_where_they_belong(person):
    plain, boxed, named, thick = (
        drawn(person, **style) for style in ({}, {"boxes": True}, {"names": True}, {"line_width": 9})
    )
    left, top, right, bottom = (60, 80, 140, 120)
    assert boxed[top, left:right].all() and boxed[top:bottom, right].all() and not plain[top:110, right].any()
    assert boxed[60:78, 60:].any() and not plain[60:72].any()  # The score, above the box.
    assert named[110:130, 150:].any() and not plain[:, 150:].any()
    assert thick.sum() > 2 * plain.sum()


def test_identity_and_score_stand_together(person):
    numbered = Poses(person.keypoints, person.scores, PAIR, ids=[4])
    assert drawn(numbered, boxes=True)[60:78].sum() > drawn(person, boxes=True)[60:78].sum()


def test_line_width_follows_the_picture(person):
    large = Poses(person.keypoints * [10, 10, 1], person.scores, PAIR)
    canvas = np.zeros((2000, 3000, 3), np.uint8)
    usual = draw.poses(canvas, large).any(axis=-1).sum()
    # The width that the same person has in a picture of a tenth of the size.
    assert usual > 2 * draw.poses(canvas, large, style=draw.Style(line_width=1)).any(axis=-1).sum()


@pytest.mark.parametrize("width", [0, -1, 1.5])
def test_line_widths_that_cannot_be_are_refused(width):
    with pytest.raises(ValueError, match=f"line_width is a whole number, 1 or more. Received: line_width={width}"):
        draw.Style(line_width=width)


@pytest.mark.parametrize(("family", "name"), [("efficientpose_nas", "heatmaps"), ("efficienthrnet", "heatmaps_2")])
@pytest.mark.parametrize("size", [(100, 60), (45, 90)])
def test_heat_lies_where_the_network_sees_it(family, name, size):
    """A network that sees what is bright."""
    width, height = size
    stride = FAMILIES[family].strides[name]

    class Network(SimpleNamespace):
        def __call__(self, images):
            batch, rows, columns, _ = images.shape
            cells = images[..., :1].reshape(batch, rows // stride, stride, columns // stride, stride, 1)
            return {name: cells.mean(axis=(2, 4)) / 255}

    network = Network(family=family, input_size=(128, 128), any_size=False, decode="none", name="bright")
    image = np.zeros((height, width, 3), np.uint8)
    image[20:30, 25:35] = 255
    heat = heatmap(network, image)
    assert heat.shape == (height, width)
    rows, columns = np.nonzero(heat > 0.5)
    center = columns.mean() + 0.5, rows.mean() + 0.5
    np.testing.assert_allclose(center, (30, 25), atol=0.5)
    assert draw.heat(image, heat).dtype == np.uint8


def test_command_line(tmp_path, monkeypatch):
    write_image(tmp_path / "photo.jpg", read_image(PHOTO))
    found = {}
    for name, options in (("plain", []), ("rich", ["--boxes", "--names", "--line-width", "5"])):
        result = CliRunner().invoke(app, ["predict", str(tmp_path / "photo.jpg"), "-o", str(tmp_path / name), *options])
        assert result.exit_code == 0, result.output
        found[name] = read_image(tmp_path / name / "photo.jpg").astype(int)
    changed = np.abs(found["rich"] - found["plain"]).max(axis=-1) > 60
    assert changed.mean() > 0.01


def test_heat_of_the_packages_own_weights(tmp_path):
    """Their files give joints alone: the maps are those of the same weights in Keras."""
    arguments = ["predict", str(PHOTO), "--show-heatmaps", "-o", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    picture, heat = (read_image(tmp_path / f"astronaut{mark}.jpg").astype(int) for mark in ("", "-heatmaps"))
    assert picture.shape == heat.shape
    predictor = PosePredictor.load()
    seen, poses = predictor.heatmap(PHOTO), predictor(PHOTO)
    for name in ("left_eye", "right_eye", "left_ear", "right_ear"):
        x, y, _ = poses.joint(name)
        assert seen[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9].max() > 3 * np.median(seen), name


def test_heat_of_files_that_give_joints_alone_is_refused():
    network = SimpleNamespace(family="efficientpose", input_size=(64, 64), decode="poses", name="own")
    with pytest.raises(ValueError, match="files exported with decode='none'. Received: 'own' with decode='poses'"):
        heatmap(network, np.zeros((8, 8, 3), np.uint8))


def test_heat_of_the_packages_own_weights_needs_keras(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingPackageError, match="The heatmap of efficientpose-rt-people needs keras"):
        PosePredictor.load().heatmap(PHOTO)
