"""A short search: the cost falls, what is found is a network like any other, and an interruption changes nothing."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.models.searched import read_backbone
from keras_ehrnet.search import recipe as recipes
from keras_ehrnet.search.baselines import Candidate, next_candidate
from keras_ehrnet.search.cost import multiply_adds
from keras_ehrnet.search.space import Space
from keras_ehrnet.search.steps import chosen
from keras_ehrnet.search.supernet import one_hot, supernet, transfer
from keras_ehrnet.training.recipe import from_dict

SIZE = (32, 32)
SPACE = {"stem": 4, "widths": [[4, 8], [8, 16], [16, 24]], "depths": [2, 1, 1], "strides": [2, 2, 2]}
TINY = {
    "name": "tiny",
    "model": {"name": "efficientpose-a", "input_size": [32, 32]},
    "data": {
        "kind": "synthetic",
        "max_people": 1,
        "augmentation": "none",
        "synthetic": {"length": 64, "image_size": [32, 32], "people": [1, 1]},
    },
    "space": SPACE,
    "training": {"epochs": 4, "batch_size": 4, "steps_per_epoch": 6},
    "search": {"warmup": 1, "cost_weight": 2.0, "rate": 0.3},
    "evaluation": {"every": 0},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return ke.search(TINY, folder=str(tmp_path_factory.mktemp("search")))


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_cost_falls(found):
    cost = multiply_adds(Space(**SPACE), SIZE, 17)
    above = [float(row["cost"]) - cost.of(cost.cheapest) for row in rows(found.folder / "log.csv")]
    assert len(above) == 4
    assert above[-1] < 0.2 * above[0]  # 0.03 when it was written


def test_what_is_found_is_a_network_like_any_other(found, tmp_path):
    network = ke.EfficientPoseNAS(found.path)
    assert ke.profile(network).macs == found.cost
    assert (network.name, read_backbone(found.path)) == ("tiny", found.backbone)
    path = ke.export.tflite(network, tmp_path / "tiny.tflite", "int8", calibration=[np.zeros((32, 32, 3), np.uint8)])
    assert ke.runtime.load(path).input_size == SIZE
    training = {key: value for key, value in TINY.items() if key not in ("space", "search")}
    training["model"] = {"name": str(found.path)}
    result = ke.train(training, folder=str(tmp_path / "run"), epochs=1, steps_per_epoch=1)
    assert result.model_path.exists()


def test_files_of_a_search(found):
    names = {path.name for path in found.folder.iterdir()}
    assert {"recipe.yaml", "log.csv", "choices.csv", "choices.png", "found.json", "found.png"} <= names
    last = rows(found.folder / "choices.csv")[-1]
    widths = [float(last[f"stage0.width={channels}"]) for channels in (4, 8)]
    assert sum(widths) == pytest.approx(1)


def test_goes_on_where_it_stopped(found, tmp_path):
    folder = str(tmp_path)
    first = ke.search(TINY, folder=folder, minutes=1e-6)
    assert not first.finished
    with pytest.raises(ValueError, match="another recipe, of which search.paths is 2.*Received: search.paths=1"):
        ke.search(TINY, folder=folder, paths=1)
    again = ke.search(TINY, folder=folder)
    assert again.finished
    assert again.architecture == found.architecture
    losses = [[float(row["loss"]) for row in rows(one.folder / "log.csv")] for one in (again, found)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_random_search_goes_on_too(tmp_path):
    changes = {"method": "random", "candidates": 2, "epochs": 2, "steps_per_epoch": 2, "folder": str(tmp_path)}
    first = ke.search(TINY, **changes, minutes=1e-6)
    again = ke.search(TINY, **changes)
    assert (first.finished, again.finished) == (False, True)
    tried = json.loads((tmp_path / "candidates.json").read_text())
    assert list(again.architecture) == min(tried, key=lambda one: one["score"])["architecture"]


def test_evolution_finds_what_costs_least():
    recipe = from_dict({**TINY, "search": {"warmup": 1, "method": "evolution"}}, kind=recipes.SearchRecipe)
    cost, tried = multiply_adds(recipe.space, SIZE, 17), []
    for _ in range(60):
        architecture = next_candidate(recipe, cost, tried)
        price = cost.of(architecture)
        tried.append(Candidate(architecture, 1.0, price, price))
    changes = [
        min(sum(a != b for a, b in zip(one.architecture, other.architecture, strict=True)) for other in tried[:number])
        for number, one in enumerate(tried)
        if number >= 6
    ]
    assert max(changes) == 1
    least = cost.of(cost.cheapest)
    assert np.mean([one.cost - least for one in tried[-6:]]) < 0.5 * np.mean([one.cost - least for one in tried[:6]])


def test_supernet_holds_every_network():
    space = Space(stem=8, widths=((8, 16), (16, 24), (24, 40), (32, 48)), depths=(2, 1, 2, 1), strides=(2, 2, 2, 1))
    net, image = supernet(space, SIZE, 5), np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    for variable in net.variables:
        generator = np.random.default_rng(variable.shape[-1])
        if variable.path.rpartition("/")[2] in ("gamma", "beta", "moving_mean", "moving_variance"):
            variable.assign(generator.uniform(0.2, 1.5, variable.shape))
    for seed in range(3):
        architecture = space.sample(np.random.default_rng(seed))
        network = ke.EfficientPoseNAS(space.derive(architecture, input_size=SIZE), num_keypoints=5)
        transfer(net, space, network)
        inside = np.asarray(net({"image": image, "gates": one_hot(space, architecture)})["heatmaps"])
        np.testing.assert_allclose(np.asarray(network(image)["heatmaps"]), inside, atol=1e-5 * inside.std())


def test_the_chosen_network_keeps_a_limit():
    space = Space(**SPACE)
    cost = multiply_adds(space, SIZE, 17)
    dear = one_hot(space, tuple(len(decision.options) - 1 for decision in space.decisions)) * 0.6 + 0.2
    free, least = cost.of(chosen(cost, dear)), cost.of(cost.cheapest)
    for limit in np.linspace(least, free, 5):
        assert cost.of(chosen(cost, dear, limit)) <= limit
    with pytest.raises(ValueError, match="the cheapest costs"):
        chosen(cost, dear, least - 1)


MISTAKES = {
    "family": ({"model": {"name": "h-4"}}, "family of efficientpose-a.*Received: model.name='h-4'"),
    "warm-up": ({"search": {"warmup": 4}}, "search.warmup=4 of training.epochs=4"),
    "method": ({"search": {"method": "luck"}}, "search.method must be one of 'gradient', 'random', 'evolution'"),
    "limit": (
        {"search": {"warmup": 1, "limit": 1000}},
        "within the limit: the cheapest costs .*M MACs.*search.limit=1000",
    ),
    "candidates": ({"search": {"method": "random", "candidates": 99}}, "a step for each of them, of 24. Received: 99"),
}


@pytest.mark.parametrize(("section", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(section, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ke.search({**TINY, **section}, folder=str(tmp_path))


@pytest.mark.parametrize("name", ["synthetic", "coco"])
def test_recipes_of_the_package(name):
    recipe = recipes.read(name)
    assert from_dict(recipe.to_dict(), kind=recipes.SearchRecipe) == recipe


def test_command_line_takes_a_recipe_first():
    command = [sys.executable, "-m", "keras_ehrnet", "search", "synthetc"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Did you mean 'synthetic'?" in done.stderr
