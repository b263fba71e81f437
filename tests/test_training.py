"""Training: what is written, resumed, refused; on small images, a few steps each."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import time
from dataclasses import replace

import keras
import numpy as np
import pytest
import tiny
from tiny import EPOCHS, STEPS

from keras_ehrnet import PosePredictor, metadata, training
from keras_ehrnet.data import synthetic
from keras_ehrnet.models.variants import VARIANTS
from keras_ehrnet.skeletons import COCO_17
from keras_ehrnet.training import recipe as recipes
from keras_ehrnet.training import scoring
from keras_ehrnet.training.callbacks import Table
from keras_ehrnet.training.checkpoints import Checkpoints
from keras_ehrnet.training.examples import make_examples, synthetic_scenes
from keras_ehrnet.training.folder import prepare_folder
from keras_ehrnet.training.model import build_losses, compiled_model
from keras_ehrnet.training.pictures import curve_picture
from keras_ehrnet.training.scoring import evaluator


@pytest.fixture(scope="module", autouse=True)
def tiny_networks():
    with pytest.MonkeyPatch.context() as patch:
        for name, variant in tiny.NETWORKS.items():
            patch.setitem(VARIANTS, name, variant)
        yield


def short_recipe(folder, **sections):
    """An epoch, no evaluation: where it matters how a run starts or fails."""
    return tiny.recipe(folder, **{"evaluation": {"every": 0}, "training": {"epochs": 1}} | sections)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory):
    """A process that is to be killed, and its recipe; it starts while others run."""
    folder = tmp_path_factory.mktemp("killed")
    recipe = tiny.recipe(folder / "run", training={"steps_per_epoch": STEPS})
    path = folder / "tiny.yaml"
    path.write_text(recipe.to_yaml())
    process = tiny.start(path, backend=keras.backend.backend())
    yield process, recipe
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def stopped_run(tmp_path_factory):
    """A process that has no time for all of its epochs."""
    folder = tmp_path_factory.mktemp("stopped")
    path = folder / "tiny.yaml"
    path.write_text(short_recipe(folder / "run", training={"epochs": 2, "minutes": 1e-9}).to_yaml())
    process = tiny.start(path, backend=keras.backend.backend())
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run without interruption."""
    return training.train(tiny.recipe(tmp_path_factory.mktemp("whole")))


def assert_same_run(folder, whole_run):
    """Every loss and every weight, to the last bit."""
    resumed, whole = rows(folder / "steps.csv"), rows(whole_run.folder / "steps.csv")
    assert [row["step"] for row in resumed] == [str(step) for step in range(EPOCHS * STEPS)]
    assert [row["loss"] for row in resumed] == [row["loss"] for row in whole]
    assert [row["epoch"] for row in rows(folder / "log.csv")] == [str(epoch) for epoch in range(EPOCHS)]
    model = keras.models.load_model(folder / "model.keras", compile=False)
    for here, there in zip(model.weights, whole_run.model.weights, strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.usefixtures("killed_run", "stopped_run")  # They start here, to run meanwhile.
def test_what_a_run_leaves_behind(whole_run):
    folder = whole_run.folder
    log = rows(folder / "log.csv")
    assert [float(row["loss"]) for row in log] == [row["loss"] for row in whole_run.history]
    assert [row["epoch"] for row in log] == ["0", "1", "2"]
    assert log[-1]["ap"] != "" and log[0]["ap"] == ""
    assert metadata.read(folder / "model.keras").skeleton == tiny.recipe(folder).skeleton
    assert [float(row["learning_rate"]) for row in log] == pytest.approx([1e-4, 1e-3, 1e-4])
    run = json.loads((folder / "run.json").read_text())
    assert run["seed"] == 5 and run["starts"][0]["versions"]["keras"] == keras.__version__
    assert recipes.read(folder / "recipe.yaml").training.epochs == EPOCHS
    assert all((folder / f"{name}.png").stat().st_size for name in ("targets", "predictions", "curve"))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["epoch-00003.npz"]
    predictor = PosePredictor.load(folder / "model.keras")
    assert predictor.network.input_size == (64, 64)


def test_a_killed_run_goes_on_with_the_same_losses(whole_run, killed_run):
    process, recipe = killed_run
    steps, checkpoints = recipe.folder / "steps.csv", Checkpoints(recipe.folder / "checkpoints")
    # Behind the first epoch: most often in the middle of the second.
    deadline = time.monotonic() + 300
    while not checkpoints.paths() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resumed_after = checkpoints.epochs()
    assert 1 <= resumed_after < EPOCHS, process.stdout.read()

    training.train(recipe)

    starts = json.loads((recipe.folder / "run.json").read_text())["starts"]
    assert [start["after_epoch"] for start in starts] == [0, resumed_after]
    assert steps.exists()
    assert_same_run(recipe.folder, whole_run)


@pytest.mark.backend
def test_a_run_that_is_out_of_time_goes_on_with_the_same_losses(whole_run, tmp_path):
    first = training.train(tiny.recipe(tmp_path, training={"minutes": 1e-9}))
    assert not first.finished and len(first.history) == 1
    assert Checkpoints(tmp_path / "checkpoints").epochs() == 1
    assert not (tmp_path / "model.keras").exists()
    assert training.train(tiny.recipe(tmp_path, training={"minutes": 60})).finished
    assert_same_run(tmp_path, whole_run)


def test_the_status_of_a_run_that_is_out_of_time(stopped_run):
    told, _ = stopped_run.communicate(timeout=300)
    assert stopped_run.returncode == 3, told
    assert "Stopped after epoch 1 of 2" in told and "The same command goes on" in told


def test_a_checkpoint_of_another_recipe_is_refused(whole_run):
    folder = whole_run.folder
    with pytest.raises(ValueError, match=r"holds a training with another recipe, of which schedule\.rate is 0\.001"):
        training.train(tiny.recipe(folder, schedule={"rate": 1e-2, "boundaries": [1]}))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"Received: training\.seed=6"):
        training.train(tiny.recipe(folder, training={"seed": 6}))
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_folder_that_cannot_be_written_to_is_told_before_anything_else(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="The output folder cannot be written to"):
        training.train(short_recipe(tmp_path / "file/run"))


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


def test_a_full_disk_in_the_end_leaves_everything_to_go_on(tmp_path, monkeypatch):
    """The model itself cannot be written: the checkpoint is there, and the next start has nothing left but to save."""

    def fail(model, path, **options):
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    recipe = short_recipe(tmp_path / "run", training={"epochs": 1, "steps_per_epoch": 1})
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save", fail)
        with pytest.raises(OSError, match=r"model.keras could not be written \(No space left on device\)"):
            training.train(recipe)
    assert not list(recipe.folder.glob("**/*.keras")) and not list(recipe.folder.glob("**/.*"))
    assert training.train(recipe).history == ()
    assert (recipe.folder / "model.keras").stat().st_size


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
    recipe = short_recipe(tmp_path / "run", model={"name": "efficientpose-a", "input_size": [64, 64]})
    source = recipe.variant.build(num_keypoints=15, input_shape=(64, 64, 3))
    source.save(tmp_path / "other.keras")
    model = replace(recipe.model, weights=str(tmp_path / "other.keras"), transfer="fitting")
    network, _ = training.compiled_model(replace(recipe, model=model), 1)
    assert "2 left as they were" in capsys.readouterr().out
    taken = [np.array_equal(here, there) for here, there in zip(network.weights, source.weights, strict=True)]
    assert taken.count(False) <= 2
    with pytest.raises(ValueError, match="does not fit"):
        training.compiled_model(replace(recipe, model=replace(model, transfer="whole")), 1)


@pytest.mark.parametrize(("kind", "ignored"), [("coco", False), ("lspet", True), ("synthetic", False)])
def test_joints_that_a_data_set_does_not_know_are_ignored(tmp_path, kind, ignored):
    annotations = tmp_path / "people.json"
    annotations.write_text(json.dumps({"categories": [{"id": 1, "keypoints": COCO_17.joint_names}]}))
    data = {"kind": kind, "annotations": str(annotations), "images": "images"}
    chosen = tiny.recipe(tmp_path, model={"name": "h-4", "skeleton": "coco_17"}, data=data)
    _, model = compiled_model(chosen, 1)
    assert model.loss["heatmaps_2"].ignore_unlabelled is ignored


def test_the_first_step_makes_no_variables(tmp_path):
    """TensorFlow would trace it twice."""
    chosen = tiny.recipe(tmp_path, model={"name": "efficientpose-rt", "skeleton": "mpii_16", "input_size": [64, 64]})
    _, model = compiled_model(chosen, 1)
    assert [metric.name for metric in model.metrics] == ["loss"]
    build_losses(model, make_examples(chosen))
    assert {metric.name for metric in model.metrics} == {"loss", *(f"{name}_loss" for name in model.output)}
    assert all(float(metric.result()) == 0 for metric in model.metrics)


def test_a_damaged_image_ends_it_with_its_name(tmp_path):
    scenes = synthetic.Scenes(image_size=(64, 64), people=(1, 1), seed=3)
    annotations, images = synthetic.write_coco(tmp_path / "data", scenes, 4)
    damaged = sorted(images.iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:200])
    data = {"kind": "coco", "annotations": str(annotations), "images": str(images)}
    with pytest.raises(ValueError, match=damaged.name) as caught:
        training.train(short_recipe(tmp_path / "run", data=data))
    assert len(str(caught.value)) < 400


def test_too_few_devices_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"Received: training\.devices=64"):
        training.train(short_recipe(tmp_path, training={"devices": 64, "batch_size": 64}))


def test_a_callers_callback_may_end_it(tmp_path):
    recipe = tiny.recipe(tmp_path, training={"minutes": 60}, evaluation={"every": 0})
    ended = training.train(recipe, callbacks=[keras.callbacks.EarlyStopping("loss", mode="max")])
    assert ended.finished and len(ended.history) == 2 < EPOCHS  # The loss does not rise.
    assert ended.model_path.exists()


def test_a_start_anew_makes_synthetic_people_anew(tmp_path):
    recipe = tiny.recipe(tmp_path, evaluation={"pictures": 0})
    folder = tmp_path / "evaluation"
    prepare_folder(recipe, is_begun=False)
    synthetic.write_coco(folder, synthetic_scenes(recipe, seed=0), 1)
    prepare_folder(recipe, is_begun=True)
    assert (folder / "person_keypoints.json").exists()
    prepare_folder(recipe, is_begun=False)
    assert not (folder / "person_keypoints.json").exists()


@pytest.mark.parametrize(("changes", "by_limbs"), [({"max_people": 4}, True), ({"max_people": 1}, False)])
def test_efficientpose_for_several_is_scored_with_its_limbs(tmp_path, monkeypatch, changes, by_limbs):
    recipe = tiny.recipe(
        tmp_path, model={"name": "efficientpose-rt", "input_size": [64, 64]}, data={"top_down": False, **changes}
    )
    seen = []
    monkeypatch.setitem(scoring._SCORES, "ap", lambda predictor, *rest: seen.append(predictor.settings.multi_person))
    evaluator(recipe, compiled_model(recipe, STEPS)[0])()
    assert seen == [by_limbs]


def test_the_curve_of_trainings_of_which_one_was_scored(tmp_path):
    logs = [tmp_path / "scored.csv", tmp_path / "other.csv"]
    logs[0].write_text("epoch,loss,ap\n0,0.5,\n1,0.4,0.2\n")
    logs[1].write_text("epoch,loss\n0,0.3\n")
    assert curve_picture(logs, "both") != curve_picture(logs[:1], "both")
    assert curve_picture(logs[::-1], "both").startswith(b"\x89PNG")


def test_bottom_up_networks_that_learn_from_crops_are_scored_on_whole_images(tmp_path):
    recipe = tiny.recipe(tmp_path, model={"name": "h-4", "input_size": [64, 64]}, data={"top_down": True})
    evaluate = evaluator(recipe, compiled_model(recipe, STEPS)[0])
    assert set(evaluate()) == {"ap", "ap50", "ap75", "ar"}
    assert (tmp_path / "predictions.png").exists()
