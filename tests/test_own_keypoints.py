"""Five points on a dog, from the command line alone: trained, scored, exported as bytes, and named everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny

import keras_ehrnet as ke
from keras_ehrnet import metadata
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.messages import MissingPackageError

JOINTS = ("nose", "L_ear", "R_ear", "L_paw", "R_paw")
LIMBS = ((0, 1), (0, 2), (1, 3), (2, 4))
SIDE = 96
COLORS = ((250, 60, 60), (60, 250, 60), (60, 60, 250), (240, 240, 60), (60, 240, 240))


RECIPE = """
model: {name: short.json}
data: {annotations: dogs.json, images: images, top_down: false, augmentation: none, augmentation_changes: {flip: 0.5}}
loss: {sigma: 1.5}
schedule: {rate: 0.003, boundaries: [7]}
training: {batch_size: 8, steps_per_epoch: 10, seed: 1}
evaluation: {every: 4, pictures: 4}
"""


def dog(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture of a dog that stands on its hind legs and faces us, a dot for every point; and the points."""
    shape = np.array([(0, 0), (9, -10), (-9, -10), (13, 20), (-13, 20)], float)
    angle, size = rng.uniform(-0.4, 0.4), rng.uniform(0.9, 1.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = shape @ turn.T * size + rng.uniform(38, 58, 2)
    image = rng.integers(60, 120, (SIDE, SIDE, 3)).astype(np.uint8)
    body = points.mean(axis=0) + 0.5
    cv2.ellipse(
        image, tuple(map(int, body)), (int(14 * size), int(20 * size)), np.degrees(angle), 0, 360, (150,) * 3, -1
    )
    for color, (x, y) in zip(COLORS, points, strict=True):
        cv2.circle(image, (int(x), int(y)), 4, color, -1)
    return image, points


def write_dogs(folder: Path, count: int, **category: object) -> Path:
    """Pictures of dogs, and their points as a labelling program writes them: ids from 0, no areas, no crowds."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        image, points = dog(rng)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), image[..., ::-1])
        images.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        low, high = points.min(axis=0) - 8, points.max(axis=0) + 8
        keypoints = np.column_stack([points.round(2), np.full(5, 2)]).ravel().tolist()
        box = [*low.round(1).tolist(), *(high - low).round(1).tolist()]
        annotations.append({"id": number, "image_id": number, "category_id": 0, "bbox": box, "keypoints": keypoints})
    described = {"id": 0, "name": "dog", "keypoints": JOINTS, "skeleton": np.array(LIMBS).tolist(), **category}
    content = {"images": images, "annotations": annotations, "categories": [described]}
    path = folder / "dogs.json"
    path.write_text(json.dumps(content))
    return path


def run(*arguments: object, cwd: Path) -> str:
    command = [sys.executable, "-m", "keras_ehrnet", *map(str, arguments)]
    return told_by(subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600))


def told_by(result: subprocess.CompletedProcess, code: int = 0) -> str:
    """What a command said, which must have ended so."""
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a training, and what it said."""
    folder = tmp_path_factory.mktemp("dogs")
    write_dogs(folder, 60)
    (folder / "dog.yaml").write_text(RECIPE)
    tiny.SEARCHED.write(folder / "short.json")
    told = run("train", "dog.yaml", "epochs=8", cwd=folder)
    return folder, told


def test_points_are_learned_and_the_score_rises(trained):
    folder, told = trained
    assert "6 of 60 images are set aside for validation" in told
    assert "5 keypoints of 'dog': nose, L_ear, R_ear, L_paw, R_paw; " in told
    assert "; left and right by their names: L_ear - R_ear, L_paw - R_paw; " in told
    assert "4 limbs; constants of OKS: 0.08 for all, as none are given" in told
    rows = (folder / "runs/dog/log.csv").read_text().splitlines()
    columns = rows[0].split(",")
    first, last = (dict(zip(columns, rows[number].split(","), strict=True)) for number in (4, 8))
    assert float(last["ap"]) > float(first["ap"]) and float(last["ap"]) > 0.3
    chosen = metadata.read(folder / "runs/dog/model.keras").trained
    assert f"The best of 8 epochs by its score: {chosen}\n" in told
    assert chosen in {f"epoch {number}, ap {float(row['ap']):.4g}" for number, row in ((4, first), (8, last))}


def test_names_pairs_and_limbs_are_the_users_everywhere(trained, run_here):
    folder, _ = trained
    model = folder / "runs/dog/model.keras"
    expected = Skeleton("dog", JOINTS, LIMBS)
    assert metadata.read(model).skeleton == expected and expected.flip_permutation == (0, 2, 1, 4, 3)

    scored = told_by(run_here("evaluate", "coco", "images", "dogs.json", "--no-boxes", "-m", model, cwd=folder))
    assert "OKS with a constant of 0.08 for every joint" in scored

    told_by(run_here("export", model, "-o", "dog.tflite", "-p", "int8", "-d", "poses", "-c", "images", cwd=folder))
    about = metadata.read(folder / "dog.tflite")
    assert about.skeleton == expected and about.precision == "int8"
    assert json.loads(about.to_json())["skeleton"]["flip_permutation"] == [0, 2, 1, 4, 3]

    run("predict", "images/3.png", "-m", "dog.tflite", "--min-score", "0", cwd=folder)
    (person,) = json.loads((folder / "results/3.json").read_text())["persons"]
    assert set(person["keypoints"]) == set(JOINTS)
    predictor = ke.PosePredictor.load(model)
    truth = json.loads((folder / "dogs.json").read_text())["annotations"]
    off = [
        np.hypot(*(predictor(folder / f"images/{number}.png").xy[0] - np.reshape(keypoints, (5, 3))[:, :2]).T)
        for number, keypoints in enumerate(entry["keypoints"] for entry in truth[:20])
    ]
    assert np.median(off) < 8


def test_a_side_without_the_other_is_refused_before_the_first_step(tmp_path, run_here):
    write_dogs(tmp_path, 4, keypoints=["nose", "left_ear", "ear", "left_paw", "right_paw"])
    arguments = ("data.annotations=dogs.json", "data.images=images", "name=dog")
    told = told_by(run_here("train", "h-4", *arguments, cwd=tmp_path), code=2)
    assert "'left_ear'" in told and "no counterpart on the right" in told
    assert not (tmp_path / "runs/dog/log.csv").exists()


FROM_ONE = [[1, 2], [1, 3]]


@pytest.mark.parametrize(
    "described",
    [
        {"flip_pairs": [["b", "c"], [3, 4]]},
        {"flip_pairs": [[1, 2], [3, 4]]},
        {"flip_pairs": [[2, 3], [4, 5]]},  # 5 tells that they count from 1, also beside limbs that do not.
        {"flip_pairs": [[2, 3], [4, 5]], "skeleton": FROM_ONE},
        {"flip_pairs": [[2, 3], ["d", "e"]], "skeleton": FROM_ONE},
        {"flip_pairs": [["c", "b"], ["d", "e"]], "skeleton": FROM_ONE},
        # As in MMPose: the names tell that pairs count from 0 where limbs count from 1.
        {"flip_pairs": [[1, 2], [3, 4]], "skeleton": FROM_ONE, "keypoints": JOINTS},
    ],
)
def test_mirror_pairs_and_constants_in_the_file_count(tmp_path, described):
    sigmas = [0.05] * 5
    path = write_dogs(tmp_path, 2, **{"keypoints": list("abcde"), "sigmas": sigmas, **described})
    from keras_ehrnet.data import read_coco

    skeleton = read_coco(path).skeleton
    assert skeleton.flip_permutation == (0, 2, 1, 4, 3) and skeleton.sigmas == tuple(sigmas)
    assert skeleton.limbs[:2] == ((0, 1), (0, 2))


def test_pairs_that_names_do_not_tell_are_counted_as_limbs_are(tmp_path):
    from keras_ehrnet.data import read_coco

    described = {"keypoints": list("abcdef"), "skeleton": FROM_ONE, "flip_pairs": [[2, 3], [4, 5]]}
    path = write_dogs(tmp_path, 2, **described)
    for entries in (content := json.loads(path.read_text()))["annotations"]:
        entries["keypoints"] += [1, 1, 2]
    path.write_text(json.dumps(content))
    assert read_coco(path).skeleton.flip_permutation == (0, 2, 1, 4, 3, 5)


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ({"flip_pairs": [[1, 1]]}, "each of two different ones"),
        ({"flip_pairs": [[0, 5]]}, "must have joints 1 to 5 .* in 'flip_pairs'"),
        ({"flip_pairs": "left"}, "must have pairs of joint numbers or names in 'flip_pairs'"),
        ({"flip_pairs": [["nose", "tail"]]}, "no joint of that name"),
        ({"skeleton": [[2, 2]]}, "each of two different ones"),
        ({"sigmas": 0.1}, "must have a number for each joint in 'sigmas'"),
        ({"sigmas": ["a"] * 5}, "must have a number for each joint in 'sigmas'"),
    ],
)
def test_what_a_category_cannot_say(tmp_path, described, told):
    from keras_ehrnet.data import read_coco

    path = write_dogs(tmp_path, 1, **described)
    with pytest.raises(ValueError, match=rf"category 0(: | ).*{told}.*Received: "):
        read_coco(path)


@pytest.mark.parametrize(
    ("described", "changes", "told"),
    [
        ({"keypoints": list("abcde")}, {}, "a, b, c, d, e; none changes places in a mirror, by their names; 4 limbs;"),
        ({"flip_pairs": [["nose", "L_paw"]]}, {}, "left and right as told: nose - L_paw; 4 limbs;"),
        ({"keypoints": ["a", "b", "c", "left", "e"]}, {"augmentation_changes": {"flip": 0.0}}, "left, e; 4 limbs;"),
        ({"sigmas": [0.1] * 5}, {}, "constants of OKS: given"),
    ],
)
def test_what_is_understood_of_keypoints_is_told(tmp_path, described, changes, told):
    from keras_ehrnet.training import recipe as recipes
    from keras_ehrnet.training.checks import check_keypoints

    said = []
    data = {"annotations": str(write_dogs(tmp_path, 1, **described)), "images": str(tmp_path / "images")}
    check_keypoints(recipes.with_changes("h-4", {**data, **changes}), said.append)
    assert len(said) == 1 and told in said[0]


@pytest.mark.parametrize("names", [["nose", "R_ear", "L_ear", "whisker"], ["L_paw", "R_paw"]])
def test_some_joints_of_the_data_are_learned_and_scored(tmp_path, names):
    """A model of other keypoints than the data: what both have counts, in what is set aside as in what is learned."""
    from keras_ehrnet.training import recipe as recipes
    from keras_ehrnet.training.checks import check_evaluation
    from keras_ehrnet.training.validation import with_validation

    (tmp_path / "own.json").write_text(json.dumps({"joint_names": names, "limbs": []}))
    data = {"annotations": str(write_dogs(tmp_path, 4)), "images": str(tmp_path / "images")}
    places = {"skeleton": str(tmp_path / "own.json"), "folder": str(tmp_path / "run")}
    chosen = recipes.with_changes("h-4", {**data, **places})
    check_evaluation(with_validation(chosen, lambda told: None))
    other = write_dogs(tmp_path / "other", 4, keypoints=["nose", "a", "b", "c", "d"])
    evaluation = {"evaluation_annotations": str(other), "evaluation_images": str(tmp_path / "other/images")}
    with pytest.raises(ValueError, match=r"must have the joints that are learned, .*R_.*Received: .*'nose', 'a', 'b'"):
        check_evaluation(recipes.with_changes(chosen, evaluation))


def test_known_keypoints_are_not_told():
    from keras_ehrnet.training import recipe as recipes
    from keras_ehrnet.training.checks import check_keypoints

    said = []
    check_keypoints(recipes.read("synthetic-smoke"), said.append)
    assert not said


def test_a_log_for_tensorboard_needs_it(tmp_path, monkeypatch):
    path = write_dogs(tmp_path, 2)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    data = {"annotations": str(path), "images": str(tmp_path / "images"), "folder": str(tmp_path / "run")}
    with pytest.raises(MissingPackageError, match=r"output.tensorboard needs tensorboard.*keras-ehrnet\[tensorboard\]"):
        ke.train("h-4", tensorboard=True, **data)
    assert not (tmp_path / "run").exists()


def test_of_equal_scores_the_later_is_kept_and_waiting_goes_on(tmp_path):
    from keras_ehrnet.training.best import Best

    def make(done: int) -> Best:
        return Best(tmp_path / "best.keras", tmp_path / "log.csv", done, 3, lambda path: path.write_bytes(b"model"))

    rows, best = ["epoch,loss,ap"], make(0)
    for epoch, score in enumerate((0.0, 0.0, 0.5, 0.5, 0.4)):
        best.consider(epoch, {"ap": score})
        rows.append(f"{epoch},1.0,{score}")
    (tmp_path / "log.csv").write_text("\n".join(rows))
    for one in (best, make(5)):
        assert (one.epoch, one.score, one.is_over) == (4, 0.5, False)
        one.consider(5, {"ap": 0.1})
        assert one.is_over


def test_one_category_of_several(tmp_path):
    path = write_dogs(tmp_path, 2)
    content = json.loads(path.read_text())
    content["categories"].append({"id": 7, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": []})
    path.write_text(json.dumps(content))
    from keras_ehrnet.data import read_coco

    with pytest.raises(ValueError, match="choose one by category="):
        read_coco(path)
    assert read_coco(path, category="dog").num_persons == 2
    assert read_coco(path, category=7).skeleton.joint_names == ("nose", "tail")
    with pytest.raises(ValueError, match="must have that name or id"):
        read_coco(path, category="horse")


def test_six_pictures_are_enough_to_set_one_aside(tmp_path):
    from keras_ehrnet.data import read_coco
    from keras_ehrnet.training import recipe as recipes
    from keras_ehrnet.training.folder import prepare_folder
    from keras_ehrnet.training.validation import with_validation

    path = write_dogs(tmp_path, 6)
    chosen = recipes.with_changes(
        "h-4", {"annotations": str(path), "images": str(tmp_path / "images"), "folder": str(tmp_path / "run")}
    )
    told = []
    prepare_folder(chosen, is_begun=False)
    used = with_validation(chosen, told.append)
    training, validation = (
        {sample.image_id for sample in read_coco(annotations)}
        for annotations in (used.data.annotations, used.data.evaluation_annotations)
    )
    assert len(validation) == 1 and training | validation == set(range(6)) and not training & validation
    assert with_validation(chosen, told.append) == used
    assert "1 of 6 images" in told[0] and len(told) == 1

    path.write_bytes(write_dogs(tmp_path / "fewer", 4).read_bytes())
    prepare_folder(chosen, is_begun=True)
    assert with_validation(chosen, told.append) == used and len(told) == 1
    prepare_folder(chosen, is_begun=False)  # Nothing was trained yet: the data may have been mended.
    assert with_validation(chosen, told.append) == used and "1 of 4 images" in told[1]


def test_images_are_set_aside_however_their_ids_are_written(tmp_path):
    from keras_ehrnet.data import read_coco
    from keras_ehrnet.training import recipe as recipes
    from keras_ehrnet.training.validation import with_validation

    path = write_dogs(tmp_path, 6)
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["id"] = float(image["id"])
    for entry in content["annotations"]:
        entry["image_id"] = str(entry["image_id"])
    path.write_text(json.dumps(content), encoding="utf-8-sig")  # as some programs begin their texts
    values = {"annotations": str(path), "images": str(tmp_path / "images"), "folder": str(tmp_path / "run")}
    data = with_validation(recipes.with_changes("h-4", values), print).data
    parts = [read_coco(str(place)) for place in (data.annotations, data.evaluation_annotations)]
    assert sorted(len(part) for part in parts) == [1, 5]
    assert sum(part.num_persons for part in parts) == read_coco(path).num_persons > 0
