"""Classifiers: labelled images read, augmented, trained on and scored; their weights in a pose network."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile

import keras
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet import training
from keras_ehrnet.data import classification, write_image
from keras_ehrnet.data.augment import AUGMENTATIONS, Augmentation, color_matrix, random_warp
from keras_ehrnet.data.classification import LabelledExamples, LabelledImages, read_cifar100, read_image_folders
from keras_ehrnet.geometry import Region
from keras_ehrnet.training import recipe as recipes
from keras_ehrnet.training.scoring import top_accuracy

CLASSES = ("blue", "green", "red")
COLORS = np.array([[30, 40, 220], [30, 210, 50], [220, 40, 30]])


def colored(rng, color, size=(40, 48)):
    return np.clip(COLORS[color] + rng.normal(0, 20, (*size, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pictures in ImageNet's layout, of a color for each class."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 3)):
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                write_image(root / split / name / f"{number}.png", colored(rng, label))
    return root


def classifier_recipe(folders, output, **sections):
    content = {
        "model": {"name": "efficientnet-b-4", "classes": 3, "input_size": [32, 32], "drop_rate": 0.0},
        "data": {
            "kind": "folders",
            "images": str(folders / "train"),
            "evaluation_images": str(folders / "val"),
            "augmentation": "efficientnet",
        },
        "optimizer": {"name": "sgd", "weight_decay": 1e-4},
        "schedule": {"rate": 0.01, "boundaries": [3, 4], "warmup_epochs": 1},
        "training": {"epochs": 5, "batch_size": 12, "steps_per_epoch": 16, "workers": 0},
        "evaluation": {"every": 5},
        "output": {"folder": str(output)},
    }
    for name, values in sections.items():
        content[name] = {**content[name], **values}
    return recipes.from_dict(content)


@pytest.fixture(scope="module")
def trained(folders, tmp_path_factory):
    return training.train(classifier_recipe(folders, tmp_path_factory.mktemp("run") / "b-4"))


def test_a_classifier_learns_colors_and_is_scored(trained):
    last = trained.history[-1]
    assert last["loss"] < 0.6 * trained.history[0]["loss"]
    assert last["top1"] >= 0.8
    assert "top5" not in last  # Of three classes that would say nothing.
    model = keras.models.load_model(trained.folder / "model.keras", compile=False)
    assert model.output_shape == (None, 3)
    assert (trained.folder / "targets.png").stat().st_size


def test_its_weights_start_the_backbone_of_a_pose_network(trained, capsys):
    recipe = recipes.from_dict(
        {
            "model": {
                "name": "h-4",
                "input_size": [64, 64],
                "weights": str(trained.folder / "model.keras"),
                "transfer": "fitting",
            },
            "data": {"kind": "synthetic"},
        }
    )
    network, _ = training.compiled_model(recipe, 1)
    assert "left as they were" in capsys.readouterr().out
    backbone = [layer for layer in network.layers if layer.name.startswith(("stem", "block"))]
    taken = [layer for layer in backbone if layer.weights]
    assert len(taken) > 50
    for layer in taken:
        for here, there in zip(layer.weights, trained.model.get_layer(layer.name).weights, strict=True):
            np.testing.assert_array_equal(here, there)


def test_top_accuracy_counts_ranks():
    pictures = LabelledImages("toy", tuple("abcdefg"), np.zeros((4, 8, 8, 3), np.uint8), np.array([0, 1, 6, 3]))
    scores = np.array([[7, 6, 5, 4, 3, 2, 1]] * 3 + [[1, 1, 1, 1, 1, 1, 1]], np.float32)

    class Network:
        def predict_on_batch(self, images):
            nonlocal scores
            first, scores = scores[: len(images)], scores[len(images) :]
            return first

    # Ranks 0, 1 and 6, and one that is as likely as all others.
    assert top_accuracy(Network(), LabelledExamples(pictures, (8, 8)), 3) == {"top1": 0.25, "top5": 0.5}


def test_image_folders(folders, tmp_path):
    dataset = read_image_folders(folders / "train")
    assert dataset.classes == CLASSES and len(dataset) == 24
    assert [source.parent.name for source in dataset.sources[::8]] == list(CLASSES)
    assert dataset.limited(6).labels.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_image_folders(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no folders"):
        read_image_folders(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="classes without images: \\['empty'\\]"):
        read_image_folders(tmp_path)


def test_classes_must_be_those_of_the_model(folders, tmp_path):
    recipe = classifier_recipe(folders, tmp_path / "run", model={"classes": 4})
    with pytest.raises(ValueError, match="model.classes=4 does not fit"):
        training.train(recipe)


@pytest.fixture
def cifar(tmp_path):
    """A few images in the form of CIFAR-100's Python version, as an archive; and their pixels."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    contents = {
        "meta": {b"fine_label_names": [f"class {number}".encode() for number in range(100)]},
        "train": {b"data": pixels.transpose(0, 3, 1, 2).reshape(4, -1), b"fine_labels": [7, 99, 0, 7]},
    }
    path = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            data = pickle.dumps(content)
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path, pixels


def test_cifar100(cifar, tmp_path):
    path, pixels = cifar
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    dataset = read_cifar100(path, "train", sha256=checksum)
    np.testing.assert_array_equal(dataset.sources, pixels)
    assert dataset.labels.tolist() == [7, 99, 0, 7] and dataset.classes[99] == "class 99"
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    np.testing.assert_array_equal(read_cifar100(tmp_path / "cifar-100-python", "train").sources, pixels)


def test_what_is_wrong_with_cifar100_is_told(cifar, tmp_path):
    path, _ = cifar
    with pytest.raises(ValueError, match="not the published file: sha256 must be 85cd44d0"):
        read_cifar100(path, "train")
    with pytest.raises(ValueError, match="intact 'test'"):
        read_cifar100(path, "test", sha256=None)
    with pytest.raises(ValueError, match="'train' and 'test'"):
        read_cifar100(path, "val")
    with pytest.raises(FileNotFoundError, match=r"cifar-100-python\.tar\.gz"):
        read_cifar100(tmp_path / "none", "train")


def test_names_of_old_and_new_numpy_are_allowed():
    unpickler = classification._ArraysOnly(io.BytesIO())
    # The published files have the old name, whatever version reads them.
    for module in ("numpy.core.multiarray", np.ndarray.__reduce__(np.zeros(1))[0].__module__):
        assert callable(unpickler.find_class(module, "_reconstruct"))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": []}))
    (tmp_path / "train").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="print"):
        read_cifar100(tmp_path, "train")


def test_examples_depend_on_seed_epoch_and_index_alone():
    rng = np.random.default_rng(2)
    images = np.stack([colored(rng, label) for label in (0, 1, 2)])
    pictures = LabelledImages("toy", CLASSES, images, np.array([0, 1, 2]))
    examples = LabelledExamples(pictures, (24, 24), "efficientnet", seed=3)
    first = examples.batch([(0, 1), (0, 2), (1, 1)])
    again = examples.batch([(1, 1)])
    np.testing.assert_array_equal(first.images[2], again.images[0])
    assert (first.images[0] != first.images[2]).any()
    assert first.joints[:, 0].tolist() == [1, 2, 1]
    # Without augmentation it is the middle square, enlarged.
    plain = LabelledExamples(pictures, (40, 40)).batch([(0, 0)])
    np.testing.assert_array_equal(plain.images[0], images[0][:, 4:44])


def test_aspect_ratios_and_principal_colors():
    region, size = Region((50, 50), (100, 100)), (100, 100)
    stretched = Augmentation(aspect=(0.5, 2.0))
    warps = [random_warp(stretched, region, size, np.random.default_rng(seed)).matrix for seed in range(200)]
    ratios = np.array([matrix[0, 0] / matrix[1, 1] for matrix in warps])
    assert 0.5 <= ratios.min() < 0.6 and 1.7 < ratios.max() <= 2
    assert abs(np.log(ratios).mean()) < 0.1
    np.testing.assert_allclose([np.linalg.det(matrix[:, :2]) for matrix in warps], 1)
    offsets = np.array([color_matrix(Augmentation(pca=0.1), np.random.default_rng(seed))[:, 3] for seed in range(400)])
    # The first axis, of brightness, has most of the deviation: 0.1 * 0.2175 * 255 along it.
    deviations = np.sqrt(np.linalg.eigvalsh(np.cov(offsets.T)))
    np.testing.assert_allclose(deviations, np.array([0.0045, 0.0188, 0.2175]) * 25.5, rtol=0.15)
    assert AUGMENTATIONS["efficientnet"].changes_colors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"kind": "coco"}}, "Data for 'efficientnet-b-4' are of the kinds 'folders', 'cifar100'"),
        ({"loss": {"sigma": 2.0}}, "Classifiers have no keys of 'loss'"),
        ({"data": {"images": None}}, "data.images is needed"),
    ],
)
def test_recipes_that_do_not_fit_classifiers(folders, tmp_path, change, message):
    content = classifier_recipe(folders, tmp_path).to_dict()
    for section, values in change.items():
        content[section] = {**content[section], **values}
    with pytest.raises(ValueError, match=message):
        recipes.from_dict(content)


def test_the_papers_recipe():
    """5 epochs from 1e-4 up to 0.05, then 195 epochs, a tenth every 30."""
    path = training.__file__.replace("keras_ehrnet/training/__init__.py", "keras_ehrnet/recipes/efficientnet-b0.yaml")
    recipe = recipes.read(path)
    schedule = training.make_schedule(recipe.schedule, recipe.training.epochs, 100)
    rates = [float(schedule(100 * epoch)) for epoch in (0, 5, 34, 35, 64, 65, 185, 199)]
    np.testing.assert_allclose(rates, [1e-4, 0.05, 0.05, 0.005, 0.005, 5e-4, 5e-8, 5e-8], rtol=1e-5)
    assert json.dumps([recipe.input_size, recipe.training.epochs]) == "[[224, 224], 200]"
    assert ke.EfficientNet(-1, classes=10, input_shape=(195, 195, 3)).output_shape == (None, 10)
