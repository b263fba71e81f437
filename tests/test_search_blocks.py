"""Blocks of searched networks as data: what the paper found, and files of one's own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import keras_ehrnet as ke
from keras_ehrnet.models.searched import SEARCHED_BACKBONES, SearchedBackbone, read_backbone
from keras_ehrnet.training import recipe as recipes

FOUND = SearchedBackbone("mine", 8, ((3, 3, 16, 2), None, (5, 6, 16, 2), (7, 3, 24, 2)), (64, 48), {"score": "AP 1"})


@pytest.fixture
def path(tmp_path):
    return FOUND.write(tmp_path / "mine.json")


@pytest.mark.parametrize("name", SEARCHED_BACKBONES)
def test_blocks_are_the_papers(reference, name):
    golden = json.loads((reference / "reference/efficientpose_nas_blocks.json").read_text())
    backbone = read_backbone(name)
    assert backbone.stem == golden["stem"][name]
    expected = [None if kernel is None else (kernel, *rest) for kernel, *rest in golden[name]]
    assert list(backbone.blocks) == expected


def test_written_and_read_again(path):
    assert read_backbone(path) == read_backbone(str(path)) == read_backbone(FOUND.to_dict()) == FOUND
    assert read_backbone(path).about == FOUND.about


def test_builds_what_the_file_says(path):
    model = ke.EfficientPoseNAS(blocks=path, num_keypoints=5)
    assert (model.name, model.input_shape) == ("mine", (None, 64, 48, 3))
    assert model.output["heatmaps"].shape == (None, 16, 12, 5)
    kernels = {layer.name: layer.kernel_size[0] for layer in model.layers if layer.name.endswith("_dwconv")}
    found = {"block0_dwconv": 3, "block2_dwconv": 5, "block3_dwconv": 7}
    assert {name: kernel for name, kernel in kernels.items() if name.startswith("block")} == found
    assert model.get_layer("block2_expand_conv").filters == 6 * 16
    assert ke.profile(model).macs == ke.profile(ke.EfficientPoseNAS(FOUND.to_dict(), num_keypoints=5)).macs


def test_recipes_take_the_file_like_a_name(path):
    recipe = recipes.from_dict({"model": {"name": str(path)}, "data": {"kind": "synthetic"}})
    assert (recipe.input_size, recipe.top_down, recipe.variant.family) == ((64, 48), True, "efficientpose_nas")


def test_summary_takes_the_file_like_a_name(path):
    command = [sys.executable, "-m", "keras_ehrnet", "summary", str(path), "efficientpose-a", "--json"]
    counts = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert counts[str(path)]["macs"] == ke.profile(ke.EfficientPoseNAS(path)).macs
    assert counts["efficientpose-a"]["parameters"] == 1_299_393


def test_exports_the_file_like_a_name(path, tmp_path):
    model = ke.EfficientPoseNAS(path)
    model.save_weights(tmp_path / "mine.weights.h5")
    network = ke.export.tflite(str(path), tmp_path / "mine.tflite", weights=tmp_path / "mine.weights.h5")
    assert ke.runtime.load(network).input_size == (64, 48)


def changed(**values: object) -> dict:
    return {**FOUND.to_dict(), **values}


MISTAKES = {
    "version": (changed(version=2), "of version 1.*Received: version 2"),
    "format": (changed(format="other"), "of format 'keras-ehrnet blocks'.*Received: 'other'"),
    "stride": (changed(blocks=[[3, 3, 16, 2]]), "8 times smaller.*Received: strides that make them 2 times"),
    "kernel": (changed(blocks=[[4, 3, 16, 2]]), r"odd kernel.*Received: \(4, 3, 16, 2\)"),
    "text": (changed(blocks=7), "lists of whole numbers"),
    "nothing": ({"format": "keras-ehrnet blocks", "version": 1}, "a value for 'blocks'"),
    "size": (changed(input_size=[60, 48]), "multiples of 16"),
    "name": ("D", r"Did you mean 'C'\? Valid: 'A', 'B', 'C'.*Received: 'D'"),
}


@pytest.mark.parametrize(("blocks", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(blocks, message):
    with pytest.raises(ValueError, match=message):
        ke.EfficientPoseNAS(blocks)


def test_files_that_are_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file of blocks"):
        ke.EfficientPoseNAS(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"format": ')
    with pytest.raises(ValueError, match="file of blocks is damaged"):
        ke.EfficientPoseNAS(tmp_path / "cut.json")
