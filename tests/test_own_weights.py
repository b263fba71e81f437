"""Training in pieces on a machine without network: packs, mixtures, runs, results, and weights in the package."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet import recipe as recipes
from keras_ehrnet import weights
from keras_ehrnet.data import Dataset, Examples, Person, Sample, crowd_mask, read_coco, read_lspet, synthetic
from keras_ehrnet.data.images import write_image
from keras_ehrnet.data.mixture import mix, one_of_many
from keras_ehrnet.skeletons import COCO_17, LSP_14
from keras_ehrnet.weights import registry

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "training/own_weights"


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts import each other, as Python lets them when one of them is run."""
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))


def script(name):
    return importlib.import_module(name)


# Parts


@pytest.fixture
def folder(tmp_path):
    """A folder with something in it and below it."""
    place = tmp_path / "run"
    (place / "checkpoints").mkdir(parents=True)
    (place / "log.csv").write_text("epoch,loss\n0,1.5\n")
    (place / "checkpoints" / "epoch.npz").write_bytes(np.random.default_rng(0).bytes(50_000))
    return place


def content(place):
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_a_folder_comes_back_from_its_parts(folder, tmp_path):
    parts = script("parts")
    manifest = parts.split(folder, tmp_path / "out", limit=20_000)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "out").glob("run.part*"))]
    assert len(sizes) > 2 and max(sizes) <= 20_000
    back = tmp_path / "back" / "run"
    back.mkdir(parents=True)
    (back / "of before").write_text("")
    parts.join(manifest, back)
    assert content(back) == content(folder)
    # Fewer parts than before leave none of those behind.
    parts.split(folder, tmp_path / "out", skip=("checkpoints",))
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert content(parts.join(manifest, back)).keys() == {"log.csv"}


def test_damaged_and_missing_parts_are_named_and_leave_what_was_there(folder, tmp_path):
    parts = script("parts")
    manifest = parts.split(folder, tmp_path / "out", limit=20_000)
    back = parts.join(manifest, tmp_path / "back")
    part = tmp_path / "out" / "run.part02"
    whole = part.read_bytes()
    part.write_bytes(whole[:100] + b"x" + whole[101:])
    with pytest.raises(ValueError, match=r"damaged.*run\.part02"):
        parts.join(manifest, back)
    part.unlink()
    with pytest.raises(ValueError, match=r"missing.*run\.part02"):
        parts.join(manifest, back)
    assert content(back) == content(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "out", "run"]


# Packs


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """COCO annotations of six synthetic images, 96 x 64."""
    scenes = synthetic.Scenes(image_size=(96, 64), people=(1, 2), seed=4)
    return synthetic.write_coco(tmp_path_factory.mktemp("coco"), scenes, 6)


def test_a_pack_comes_in_several_archives_one_after_the_other(coco, tmp_path):
    pack = script("pack")
    size = 1000 + 2 * max(path.stat().st_size for path in coco[1].iterdir())
    manifest = pack.make(
        "coco", *coco, tmp_path / "packs" / "people", shard_size=max(size, coco[0].stat().st_size + 999)
    )
    archives = sorted((tmp_path / "packs").glob("people-*.zip"))
    assert len(archives) >= 2
    later = archives[-1].rename(tmp_path / "later.zip")
    assert pack.unpack(manifest, tmp_path / "data") == [archives[-1].name]
    for archive in archives[:-1]:
        archive.unlink()
    later.rename(archives[-1])
    assert pack.unpack(manifest, tmp_path / "data") == []
    place = tmp_path / "data" / "people"
    assert content(place / "images") == content(coco[1])
    here, there = read_coco(place / "annotations.json", place / "images"), read_coco(*coco)
    np.testing.assert_array_equal(here.joints, there.joints)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    assert pack.unpack(manifest, tmp_path / "data") == []
    assert before == {path: path.stat().st_mtime_ns for path in place.rglob("*")}


def test_smaller_images_take_their_annotations_with_them(coco, tmp_path):
    pack = script("pack")
    manifest = pack.make("coco", *coco, tmp_path / "small", longest=48, limit=3)
    small, whole = pack.check(manifest, tmp_path), read_coco(*coco)
    assert [sample.image_size for sample in small] == [(48, 32)] * 3
    twins = {sample.image_id: sample for sample in whole}
    for sample in small:
        for person, twin in zip(sample.persons, twins[sample.image_id].persons, strict=True):
            np.testing.assert_allclose(person.joints * (2, 2, 1), twin.joints, atol=0.02)
            np.testing.assert_allclose(person.box * 2, twin.box, atol=0.03)
            assert person.area * 4 == pytest.approx(twin.area, rel=1e-3)
        smooth = sample.read().astype(float) - twins[sample.image_id].read()[::2, ::2]
        assert np.abs(smooth).mean() < 25


def test_lsp_is_packed_too(tmp_path):
    pack = script("pack")
    names = list(LSP_14.joint_names)
    entry = {"width": 40, "height": 60, "joints": [[2.0 * row, 4.0 * row] for row in range(14)], "labelled": [1] * 14}
    entries = [{**entry, "file_name": f"{row}.jpg"} for row in range(2)]
    (tmp_path / "train.json").write_text(json.dumps({"joint_names": names, "images": entries}))
    write_image(tmp_path / "image.jpg", np.full((60, 40, 3), 90, np.uint8))
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        for row in range(2):
            archive.write(tmp_path / "image.jpg", f"{row}.jpg")
    source = tmp_path / "train.json", tmp_path / "train.zip"
    dataset = pack.check(pack.make("lspet", *source, tmp_path / "packs/lspet", longest=30), tmp_path / "data")
    np.testing.assert_allclose(dataset.joints[..., :2] * 2, read_lspet(*source).joints[..., :2])


def test_a_damaged_archive_is_named(coco, tmp_path):
    pack = script("pack")
    manifest = pack.make("coco", *coco, tmp_path / "people")
    archive = tmp_path / "people-1.zip"
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"damaged.*people-1\.zip"):
        pack.unpack(manifest, tmp_path / "data")
    assert not (tmp_path / "data" / "people" / "pack.json").exists()
    with pytest.raises(ValueError, match="Did you mean 'coco'"):
        pack.make("cocoa", *coco, tmp_path / "people")


# Mixtures


def test_a_mixture_keeps_its_shares_and_shows_everything():
    first, second = (
        dataclasses.replace(synthetic.dataset(length, seed=seed), name=name)
        for length, seed, name in ((6, 1, "first"), (4, 2, "second"))
    )
    mixture = mix([(first, 3), (second, 1)], seed=5)
    assert len(mixture) == 16 and mixture.skeleton is COCO_17
    sources = [id(sample.source) for sample in mixture]
    counts = [sources.count(id(sample.source)) for sample in (*first, *second)]
    assert counts == [2] * 6 + [1] * 4
    assert [sample.image_id for sample in mixture] == [sample.image_id for sample in mix([(first, 3), (second, 1)])]
    short = [[sample.image_id for sample in mix([(first, 1), (second, 1)], length=5, seed=seed)] for seed in (1, 1, 2)]
    assert short[0] == short[1] != short[2]
    assert len(set(short[0])) == 5
    with pytest.raises(ValueError, match="positive shares"):
        mix([(first, 1), (second, 0)])
    with pytest.raises(ValueError, match="Every part must give a sample"):
        mix([(first, 1), (second, 0.01)], length=10)


@pytest.fixture
def sportsman():
    """One labelled person of LSP in the left of an image, 100 x 60, its source the image."""
    joints = np.zeros((14, 3), np.float32)
    places = {"head_top": (25, 12), "neck": (25, 22), "left_hip": (28, 35), "right_ankle": (20, 50)}
    for name, place in places.items():
        joints[LSP_14.index(name)] = (*place, 2)
    return Sample("a", np.zeros((60, 100, 3), np.uint8), (100, 60), (Person(joints, [20, 12, 28, 50], 300.0),))


def test_people_whom_nobody_labelled_do_not_count(sportsman):
    dataset = one_of_many(Dataset("sports", LSP_14, (sportsman,)))
    mask = crowd_mask(dataset[0])
    person = dataset[0].persons[0]
    assert person.num_labelled == 2  # Hip and ankle: COCO has neither neck nor top of the head.
    assert mask[45, 20] and mask[35, 28]
    assert not mask[30, 60:].any() and not mask[:, 60:].any()
    # The face is in the picture, but its five joints are unlabelled.
    assert not mask[17, 25] and not mask[12, 22]
    # What the pipeline makes of it: mirrored and turned, what counts stays around the joints.
    examples = Examples(mix([(dataset, 1)]), (64, 64), "efficienthrnet", seed=3)
    for epoch in range(5):
        _, joints, masks = examples.batch([(epoch, 0)])
        for x, y, _ in joints[0][joints[0, :, :, 2] > 0]:
            assert masks[0, int(y) // 4, int(x) // 4] == 1


def test_a_head_that_cannot_be_told_leaves_its_image_out(sportsman):
    headless = sportsman.persons[0].joints.copy()
    headless[LSP_14.index("head_top")] = 0
    other = dataclasses.replace(
        sportsman, image_id="b", persons=(dataclasses.replace(sportsman.persons[0], joints=headless),)
    )
    dataset = one_of_many(Dataset("sports", LSP_14, (sportsman, other)))
    assert [sample.image_id for sample in dataset] == ["a"]
    assert "head is not labelled, left out: 1 (b)" in dataset.report()


# Recipes and results


def test_every_experiment_has_a_recipe_that_can_be_followed():
    experiments = script("experiments")
    for entry in experiments.EXPERIMENTS:
        chosen = recipes.read(SCRIPTS / "recipes" / entry.recipe, [f"name={entry.name}", *entry.changes])
        assert chosen.folder.name == entry.name
        assert chosen.variant.family == "efficienthrnet"
    assert len({entry.name for entry in experiments.EXPERIMENTS}) == len(experiments.EXPERIMENTS)
    with pytest.raises(ValueError, match="Did you mean 'mosaic'"):
        experiments.experiment("mosiac")


BLOCKED = "raise ImportError('TensorFlow is not to be used here')\n"


@pytest.fixture(scope="module")
def tiny_model():
    """The network of these tests, with weights of its own."""
    return ke.EfficientPoseNAS("A", input_shape=(32, 32, 3))


@pytest.fixture(scope="module")
def run_in_pieces(coco, tmp_path_factory):
    """A training on JAX without TensorFlow: stopped after an epoch, and taken up on another machine from its parts."""
    place = tmp_path_factory.mktemp("pieces")
    script("pack").make("coco", *coco, place / "packs" / "coco_train")
    (place / "tensorflow").mkdir()
    (place / "tensorflow" / "__init__.py").write_text(BLOCKED)
    recipe = {
        "model": {"name": "efficientpose-a", "skeleton": "coco_17", "input_size": [32, 32]},
        "data": {"annotations": "coco_train/annotations.json", "images": "coco_train/images"},
        "optimizer": {"ema": 0.9},
        "training": {"epochs": 2, "batch_size": 2, "steps_per_epoch": 2, "workers": 1},
        "evaluation": {"every": 0, "pictures": 0},
    }
    (place / "tiny.yaml").write_text(json.dumps(recipe))
    environment = {
        **os.environ,
        "PYTHONPATH": f"{place}{os.pathsep}{ROOT}",
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    }

    def run(number, *options):
        # Every machine has its own folder of runs; that data and compiled code are shared saves time.
        arguments = [f"output.folder={place}/{number}/scratch", "--packs", place / "packs", "--data", place / "data"]
        arguments += ["--output", place / f"out{number}", "--part-mib", 4, *options]
        command = [sys.executable, SCRIPTS / "run.py", place / "tiny.yaml", *arguments]
        return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=600)

    # With an epoch less to do, the second has nothing to compile: that losses go on exactly is tested elsewhere.
    return place, run(1, "--minutes", 0), run(2, "epochs=1", "--resume", place / "out1")


def test_it_stops_in_time_and_goes_on_elsewhere(run_in_pieces):
    place, first, second = run_in_pieces
    assert first.returncode == 3, first.stderr
    assert "run the same command again" in first.stdout
    assert "TensorFlow" not in first.stderr
    assert second.returncode == 0, second.stderr
    assert "going on after epoch 1 of 1" in second.stdout
    assert max(path.stat().st_size for path in (place / "out1").iterdir()) <= 4 << 20
    starts = json.loads((place / "2/scratch/run.json").read_text())["starts"]
    assert [start["after_epoch"] for start in starts] == [0, 1]
    state = json.loads((place / "2/scratch/state.json").read_text())
    assert (state["epochs"], state["of"], state["finished"], state["steps_per_epoch"]) == (1, 1, True, 2)
    back = script("parts").join(place / "out2" / "scratch.json", place / "back")
    assert (back / "curve.png").read_bytes().startswith(b"\x89PNG")
    # What is finished has nothing to go on with.
    assert not (back / "checkpoints").exists()


def test_its_small_weights_are_those_of_its_model(run_in_pieces, tiny_model):
    place, *_ = run_in_pieces
    model = keras.models.load_model(place / "2/scratch/model.keras", compile=False)
    path = place / "2/scratch/scratch.weights.h5"
    weights.load(tiny_model, path)
    assert path.stat().st_size < 0.6 * (place / "2/scratch/model.keras").stat().st_size
    for here, there in zip(tiny_model.weights, model.weights, strict=True):
        np.testing.assert_allclose(here, there, rtol=5e-4, atol=1e-6)


def test_the_table_tells_what_was_run_and_what_was_not(run_in_pieces, tmp_path):
    place, *_ = run_in_pieces
    experiments = script("experiments")
    table = experiments.markdown(place / "2").splitlines()
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")] for line in table if line[:1] == "|"}
    assert rows["scratch"][3:5] == ["efficientpose-a, 32", "1"]
    assert rows["mosaic"][3] == "not run"
    assert json.loads((place / "2/scratch/run.json").read_text())["starts"][-1]["command"] in table
    assert "mosaic.yaml" not in "\n".join(table) and "curves/mosaic.png" not in "\n".join(table)
    card = experiments.model_card("scratch", place / "2", SCRIPTS / "model_card.md.in")
    assert "efficientpose-a" in card and "Apache-2.0" in card and "$" not in card


# Weights to start from, and to ship


def test_rt_and_h0_see_the_same_in_their_first_stages(reference):
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)).astype("float32")
    source = reference / "weights/EfficientPoseRT.h5"
    published = ke.EfficientPose("RT", weights=str(source), input_shape=(64, 96, 3))
    theirs = keras.Model(published.input, published.get_layer("block3b_high_add").output)
    ours = script("backbone").backbone(source)
    assert ours.output_shape[-1] == theirs.output_shape[-1] == 40
    expected = np.asarray(theirs(image))
    np.testing.assert_allclose(np.asarray(ours(image)), expected, atol=1e-4 * expected.std())


@pytest.fixture
def own_entry(tiny_model, tmp_path, monkeypatch):
    """An entry of our own weights, in a folder that stands for the package's."""
    monkeypatch.setattr(registry, "packaged_folder", lambda: tmp_path / "packaged")
    (tmp_path / "packaged").mkdir()
    path = tmp_path / "packaged" / "own-a.weights.h5"
    tiny_model.save_weights(path)
    entry = registry.PackagedEntry(
        name="own-a",
        model="efficientpose-a",
        url=path.name,
        sha256=script("parts").checksum_of(path),
        size=path.stat().st_size,
        licence="Apache-2.0",
        skeleton="coco_17",
        paper="doi 10.1007/s41095-021-0214-z",
        score="AP 0.0 (nothing)",
        recipe="none",
        data="none, random weights",
    )
    monkeypatch.setattr(registry, "PACKAGED", (entry,))
    return entry


def test_packaged_weights_load_by_name_without_a_download(own_entry, tiny_model, tmp_path, monkeypatch):
    entry = own_entry
    assert registry.packaged() == {"own-a": entry}
    monkeypatch.setitem(registry.REGISTRY, "own-a", entry)
    monkeypatch.setenv("KERAS_EHRNET_HOME", str(tmp_path / "nothing-here"))
    other = ke.EfficientPoseNAS("A", input_shape=(32, 32, 3), weights="own-a")
    for here, there in zip(other.weights, tiny_model.weights, strict=True):
        np.testing.assert_array_equal(here, there)
    assert not (tmp_path / "nothing-here").exists()
    entry.path.write_bytes(entry.path.read_bytes()[:-1])
    with pytest.raises(weights.WeightsError, match="is not the published"):
        weights.load(other, "own-a")


def test_an_installation_without_the_file_does_not_know_its_name(own_entry):
    own_entry.path.unlink()
    assert registry.packaged() == {}


def test_packaged_entries_and_files_belong_together():
    folder = registry.packaged_folder()
    assert folder.is_dir()
    assert {path.name for path in folder.glob("*.h5")} == {entry.url for entry in registry.PACKAGED}
