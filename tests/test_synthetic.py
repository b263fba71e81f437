"""Synthetic people: deterministic, exact, quick."""

from __future__ import annotations

import json
import time

import cv2
import numpy as np
import pytest

from keras_ehrnet.data import read_coco, synthetic
from keras_ehrnet.data.synthetic import Scenes
from keras_ehrnet.skeletons import COCO_17, LSP_14, MPII_16, Skeleton


def test_an_image_depends_on_seed_and_number_only() -> None:
    first, again, other = Scenes(seed=5), Scenes(seed=5), Scenes(seed=6)
    for index in (9, 3):
        image, persons = first.render(index)
        assert image.shape == (256, 256, 3) and image.dtype == np.uint8
        repeated, same = again.render(index)
        np.testing.assert_array_equal(image, repeated)
        for person, twin in zip(persons, same, strict=True):
            np.testing.assert_array_equal(person.joints, twin.joints)
        assert (other.render(index)[0] != image).any()
    assert (first.render(3)[0] != first.render(9)[0]).any()


def test_joints_are_where_the_figure_is() -> None:
    """Visible joints of a lone figure lie on pixels that differ from the picture without it."""
    alone = Scenes(people=(1, 1), occluders=0, height=(0.6, 0.8))
    for index in range(20):
        (person,) = alone.sample(index).persons
        labelled = person.joints[person.joints[:, 2] > 0, :2]
        left, top, right, bottom = person.box
        margin = 4  # Ears stick out of the skull.
        assert (labelled >= (left - margin, top - margin)).all() and (
            labelled <= (right + margin, bottom + margin)
        ).all()
        assert 0 < person.area <= (right - left) * (bottom - top)
        assert person.head_size > 0


@pytest.mark.parametrize(("turning", "facing"), [(0.2, (1, 1)), (0.5, (0.8, 0.95)), (1.0, (0.65, 0.8))])
def test_people_turn_as_much_as_they_may(turning: float, facing: tuple[float, float]) -> None:
    scenes = Scenes(people=(1, 1), occluders=0, turning=turning)
    left, right = COCO_17.index("left_shoulder"), COCO_17.index("right_shoulder")
    joints = np.stack([scenes.sample(index).persons[0].joints for index in range(60)])
    share = (joints[:, left, 0] > joints[:, right, 0]).mean()
    assert facing[0] <= share <= facing[1]


def test_left_side_is_lighter() -> None:
    """The convention that tells the sides apart: colors of the thighs, above the knees."""
    lighter = []
    for index in range(60):
        sample = Scenes(people=(1, 1), occluders=0, height=(0.8, 0.9), seed=2).sample(index)
        joints = sample.persons[0].joints
        values = []
        for side in ("left", "right"):
            hip, knee = (joints[COCO_17.index(f"{side}_{name}")] for name in ("hip", "knee"))
            if min(hip[2], knee[2]) == 2:
                x, y = (0.4 * hip[:2] + 0.6 * knee[:2]).astype(int)
                values.append(sample.source[y, x].astype(float).sum())
        if len(values) == 2:
            lighter.append(values[0] > values[1])
    assert len(lighter) > 20 and np.mean(lighter) > 0.85


def test_people_are_hidden_by_others_and_by_things() -> None:
    flags = np.concatenate([p.joints[:, 2] for i in range(40) for p in Scenes(people=(3, 6)).sample(i).persons])
    assert {0.0, 1.0, 2.0} == set(flags) and 0.05 < np.mean(flags == 1) < 0.6
    counts = {len(Scenes(people=(0, 3)).sample(index).persons) for index in range(30)}
    assert counts == {0, 1, 2, 3}


@pytest.mark.parametrize("skeleton", [MPII_16, LSP_14])
def test_other_skeletons_have_the_same_people(skeleton: Skeleton) -> None:
    coco, other = Scenes(seed=1).sample(4), Scenes(seed=1, skeleton=skeleton).sample(4)
    np.testing.assert_array_equal(coco.source, other.source)
    for person, twin in zip(coco.persons, other.persons, strict=True):
        knee, same = person.joints[COCO_17.index("left_knee")], twin.joints[skeleton.index("left_knee")]
        np.testing.assert_array_equal(knee, same)
    assert all(
        person.num_labelled == skeleton.num_joints for person in other.persons if (person.joints[:, 2] > 0).all()
    )


def test_written_as_coco_and_read_again(tmp_path) -> None:
    scenes = Scenes(image_size=(96, 80), seed=3)
    annotations, images = synthetic.write_coco(tmp_path, scenes, 3, first=10, suffix=".png")
    dataset = read_coco(annotations, images)
    assert dataset.skeleton is COCO_17 and len(dataset) == 3 and not list(tmp_path.glob(".*"))
    for sample in dataset:
        image, persons = scenes.render(sample.image_id)
        np.testing.assert_array_equal(sample.read(), image)
        assert len(sample.persons) == len(persons)
        for person, expected in zip(sample.persons, persons, strict=True):
            np.testing.assert_allclose(person.joints, expected.joints, atol=1e-3)
            np.testing.assert_allclose(person.box, expected.box)
            assert person.area == expected.area
    content = json.loads(annotations.read_text())
    assert [image["id"] for image in content["images"]] == [10, 11, 12]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scenes(image_size=(8, 64)), "image_size="),
        (lambda: Scenes(people=(3, 1)), "people="),
        (lambda: Scenes(height=(0, 1)), "height="),
        (lambda: Scenes(occluders=-1), "occluders="),
        (lambda: Scenes(turning=2), "turning="),
        (lambda: Scenes(skeleton=Skeleton("hand", ("thumb", "left_kne"), ())), "thumb"),
        (lambda: synthetic.dataset(0), "length=0"),
    ],
)
def test_bad_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_folder_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "images").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="images"):
        synthetic.write_coco(tmp_path, Scenes(), 1)


def test_quick_enough_to_train_from() -> None:
    cv2.setNumThreads(1)
    scenes = Scenes()
    times = []
    for start in range(0, 60, 10):
        begin = time.process_time()
        for index in range(start, start + 10):
            scenes.render(index)
        times.append(time.process_time() - begin)
    assert 10 / min(times) > 60, "images per second of processor time; 280 on a 2024 server core"
