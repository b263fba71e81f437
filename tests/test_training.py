"""Training: what is written, resumed, refused; on small images, a few steps each."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ehrnet import PosePredictor, training
from keras_ehrnet import recipe as recipes
from keras_ehrnet.callbacks import Checkpoints, Table
from keras_ehrnet.data import synthetic

ROOT = Path(__file__).parents[1]
EPOCHS, STEPS = 3, 5


def small_recipe(folder, **sections):
    """H-4 on a dozen small pictures, with all that has a state: dropout, Adam, moving averages, a schedule."""
    content = {
        "model": {"name": "h-4", "input_size": [64, 64], "head_scale": 0.03},
        "data": {
            "kind": "synthetic",
            "max_people": 2,
            "synthetic": {"length": 12, "evaluation_length": 2, "image_size": [64, 64], "people": [1, 2]},
        },
        "optimizer": {"name": "adam", "weight_decay": 1e-4, "ema": 0.9, "clip_norm": 1.0},
        "schedule": {"rate": 1e-3, "boundaries": [2], "warmup_epochs": 1},
        "training": {"epochs": EPOCHS, "batch_size": 2, "steps_per_epoch": STEPS, "seed": 5},
        "evaluation": {"every": EPOCHS, "pictures": 2},
        "output": {"folder": str(folder), "steps": True},
    }
    for name, values in sections.items():
        content[name] = {**content[name], **values}
    return recipes.from_dict(content)


def tiny_recipe(folder, **sections):
    """A network that is built in moments, where it does not matter which."""
    sections = {"model": {"name": "efficientpose-a"}, "evaluation": {"every": 0}, "training": {"epochs": 1}} | sections
    return small_recipe(folder, **sections)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    return training.train(small_recipe(folder))


def test_what_a_run_leaves_behind(whole_run):
    folder = whole_run.folder
    log = rows(folder / "log.csv")
    assert [float(row["loss"]) for row in log] == [row["loss"] for row in whole_run.history]
    assert [row["epoch"] for row in log] == ["0", "1", "2"]
    assert log[-1]["ap"] != "" and log[0]["ap"] == ""
    assert [float(row["learning_rate"]) for row in log] == pytest.approx([1e-4, 1e-3, 1e-4])
    run = json.loads((folder / "run.json").read_text())
    assert run["seed"] == 5 and run["starts"][0]["versions"]["keras"] == keras.__version__
    assert recipes.read(folder / "recipe.yaml").training.epochs == EPOCHS
    assert (folder / "targets.png").stat().st_size and (folder / "predictions.png").stat().st_size
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["epoch-00003.npz"]
    predictor = PosePredictor.load(folder / "model.keras")
    assert predictor.network.input_size == (64, 64)


def test_a_killed_run_goes_on_with_the_same_losses(whole_run, tmp_path):
    recipe = small_recipe(tmp_path / "run")
    path = tmp_path / "small.yaml"
    path.write_text(recipe.to_yaml())
    steps, checkpoints = recipe.folder / "steps.csv", Checkpoints(recipe.folder / "checkpoints")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "training/train.py"), str(path)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    # Behind the first epoch, in the middle of the second.
    deadline = time.monotonic() + 300
    while not (steps.exists() and len(rows(steps)) > STEPS) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resumed_after = checkpoints.epochs()
    assert 1 <= resumed_after < EPOCHS

    training.train(recipe)

    starts = json.loads((recipe.folder / "run.json").read_text())["starts"]
    assert [start["after_epoch"] for start in starts] == [0, resumed_after]
    resumed, whole = rows(steps), rows(whole_run.folder / "steps.csv")
    assert [row["step"] for row in resumed] == [str(step) for step in range(EPOCHS * STEPS)]
    assert [row["loss"] for row in resumed] == [row["loss"] for row in whole]
    assert [row["epoch"] for row in rows(recipe.folder / "log.csv")] == ["0", "1", "2"]
    model = keras.models.load_model(recipe.folder / "model.keras", compile=False)
    for here, there in zip(model.weights, whole_run.model.weights, strict=True):
        np.testing.assert_array_equal(here, there)


def test_a_checkpoint_of_another_recipe_is_refused(whole_run):
    folder = whole_run.folder
    with pytest.raises(ValueError, match=r"holds a training with another recipe, of which schedule\.rate is 0\.001"):
        training.train(small_recipe(folder, schedule={"rate": 1e-2, "boundaries": [1]}))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"Received: training\.seed=6"):
        training.train(small_recipe(folder, training={"seed": 6}))
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_else(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="The output folder cannot be written to"):
        training.train(tiny_recipe(tmp_path / "file/run"))


@pytest.fixture
def tiny_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.5)])
    model.compile(keras.optimizers.Adam(use_ema=True), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_a_full_disk_leaves_the_last_checkpoint_intact(tiny_model, tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(tiny_model, 1)

    def fail(file, **arrays):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match=r"No space left on device\). The last one, .*epoch-00001.npz, is intact"):
        checkpoints.save(tiny_model, 2)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["epoch-00001.npz"]
    assert checkpoints.restore(tiny_model) == 1


def test_checkpoints_keep_the_newest_and_hold_every_variable(tiny_model, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    data = np.ones((4, 3)), np.ones((4, 2))
    for epoch in (1, 2, 3):
        tiny_model.fit(*data, verbose=0)
        checkpoints.save(tiny_model, epoch)
    assert [path.name for path in checkpoints.paths()] == ["epoch-00002.npz", "epoch-00003.npz"]
    state = [
        keras.ops.convert_to_numpy(variable) for variable in (*tiny_model.variables, *tiny_model.optimizer.variables)
    ]
    assert any("seed" in variable.path for variable in tiny_model.variables)
    tiny_model.fit(*data, verbose=0)
    assert checkpoints.restore(tiny_model) == 3
    for variable, value in zip((*tiny_model.variables, *tiny_model.optimizer.variables), state, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_damaged_or_foreign_checkpoints_are_named(tiny_model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(tiny_model, 1)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.Dropout(0.5)])
    other.compile(keras.optimizers.Adam(use_ema=True), "mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(ValueError, match="does not fit"):
        checkpoints.restore(other)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"damaged.*epoch-00001\.npz"):
        checkpoints.restore(tiny_model)


def test_a_table_drops_rows_of_an_interrupted_run(tmp_path):
    path = tmp_path / "log.csv"
    table = Table(path, "epoch", 0)
    table.add({"epoch": 0, "loss": 3.0})
    table.add({"epoch": 1, "loss": 2.0, "ap": 0.5})
    path.write_text(path.read_text() + "2,1.")
    table = Table(path, "epoch", 1)
    table.add({"epoch": 1, "loss": 2.5})
    assert rows(path) == [{"epoch": "0", "loss": "3.0", "ap": ""}, {"epoch": "1", "loss": "2.5", "ap": ""}]


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_l2_decay_is_that_of_pytorch(name):
    torch = pytest.importorskip("torch")
    recipe = recipes.from_dict(
        {"data": {"kind": "synthetic"}, "optimizer": {"name": name, "weight_decay": 0.1}, "schedule": {"rate": 0.01}}
    )
    ours, start = training.make_optimizer(recipe, 10), np.array([1.0, -2.0, 0.5], np.float32)
    variable, theirs = keras.Variable(start), torch.nn.Parameter(torch.tensor(start))
    options = {"lr": 0.01, "weight_decay": 0.1}
    published = (
        torch.optim.Adam([theirs], **options) if name == "adam" else torch.optim.SGD([theirs], momentum=0.9, **options)
    )
    for step in range(5):
        gradient = np.array([0.1, -0.3, 0.02], np.float32) * (step + 1)
        ours.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        theirs.grad = torch.tensor(gradient)
        published.step()
    np.testing.assert_allclose(variable, theirs.detach().numpy(), rtol=1e-5)


def test_what_fits_is_taken_from_a_model_of_another_skeleton(tmp_path, capsys):
    recipe = tiny_recipe(tmp_path / "run")
    source = recipe.variant.build(num_keypoints=16, input_shape=(64, 64, 3))
    source.save(tmp_path / "mpii.keras")
    model = replace(recipe.model, weights=str(tmp_path / "mpii.keras"), transfer="fitting")
    network, _ = training.compiled_model(replace(recipe, model=model), 1, recipe.skeleton)
    assert "2 left as they were" in capsys.readouterr().out
    taken = [np.array_equal(here, there) for here, there in zip(network.weights, source.weights, strict=True)]
    assert taken.count(False) <= 2
    with pytest.raises(ValueError, match="does not fit"):
        training.compiled_model(replace(recipe, model=replace(model, transfer="whole")), 1, recipe.skeleton)


def test_a_damaged_image_ends_it_with_its_name(tmp_path):
    scenes = synthetic.Scenes(image_size=(64, 64), people=(1, 1), seed=3)
    annotations, images = synthetic.write_coco(tmp_path / "data", scenes, 4)
    damaged = sorted(images.iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:200])
    data = {"kind": "coco", "annotations": str(annotations), "images": str(images)}
    with pytest.raises(ValueError, match=damaged.name) as caught:
        training.train(tiny_recipe(tmp_path / "run", data=data))
    assert len(str(caught.value)) < 400


def test_too_few_devices_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"Received: training\.devices=64"):
        training.train(tiny_recipe(tmp_path, training={"devices": 64, "batch_size": 64}))


MIRRORED = """
import sys
import tensorflow as tf
from keras_ehrnet import recipe, training
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
for path in sys.argv[1:]:
    training.train(recipe.read(path))
"""


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="MirroredStrategy is TensorFlow's")
def test_two_devices_give_the_losses_of_one(tmp_path):
    """Batch norms are frozen: every device has statistics of its own part of the batch, which would differ.

    SGD, because Adam would hide gradients of the wrong size.
    """
    paths = []
    for devices in (1, 2):
        recipe = tiny_recipe(
            tmp_path / str(devices),
            model={"name": "efficientpose-a", "input_size": [64, 64], "freeze_batch_norm": True},
            optimizer={"name": "sgd", "weight_decay": 1e-4},
            schedule={"rate": 0.01},
            training={"epochs": 1, "batch_size": 4, "devices": devices},
            evaluation={"every": 1, "pictures": 0},
        )
        paths.append(tmp_path / f"{devices}.yaml")
        paths[-1].write_text(recipe.to_yaml())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", MIRRORED, *map(str, paths)], check=True, env=environment, timeout=300)
    one, two = ([float(row["loss"]) for row in rows(tmp_path / name / "steps.csv")] for name in "12")
    assert len(one) == STEPS and one[0] != one[-1]
    np.testing.assert_allclose(two, one, rtol=1e-5)
