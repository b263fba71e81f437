"""SavedModels: what TensorFlow loads again gives the Keras model's maps; folders are written whole or not at all."""

from __future__ import annotations

import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import relative_difference
from keras import layers

import keras_ehrnet as ke
from keras_ehrnet.export.rewrite import plain_model
from keras_ehrnet.export.saved_model_folder import is_saved_model, replace_saved_model, saved_model
from keras_ehrnet.metadata import read

ROOT = Path(__file__).parents[1]
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return ke.EfficientPose("RT_LITE", input_shape=(32, 48, 3), intermediate_outputs=True)


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return saved_model(model, tmp_path_factory.mktemp("saved_model") / "model", license="Apache-2.0")


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype("uint8")


def maps_of(path, images: np.ndarray) -> dict[str, np.ndarray]:
    loaded = tf.saved_model.load(str(path))
    outputs = loaded.signatures["serving_default"](image=tf.constant(images))
    return {name: maps.numpy() for name, maps in outputs.items()}


def test_maps_are_those_of_the_model(path, model):
    images = pixels(1, 32, 48)
    expected, actual = model.predict_on_batch(images), maps_of(path, images)
    assert set(actual) == set(expected)
    for name, maps in expected.items():
        assert relative_difference(actual[name], maps) <= TOLERANCE, name


@pytest.mark.parametrize("batch", [2, None])
def test_any_number_of_images_of_a_model_of_any_size(tmp_path, batch):
    model = ke.EfficientPose("RT_LITE", input_shape=(None, None, 3))
    path = saved_model(model, tmp_path / "model", input_size=(32, 64), batch=batch)
    images = pixels(2, 32, 64)
    actual = maps_of(path, images)
    for name, maps in model.predict_on_batch(images).items():
        assert relative_difference(actual[name], maps) <= TOLERANCE, name
    metadata = read(path)
    assert metadata.outputs[0].shape == (batch or -1, *actual[metadata.outputs[0].name].shape[1:])


def test_shapes_are_fixed(path, model):
    function = tf.saved_model.load(str(path)).signatures["serving_default"]
    assert function.structured_input_signature[1] == {"image": tf.TensorSpec((1, 32, 48, 3), tf.uint8, name="image")}
    shapes = {name: tuple(maps.shape) for name, maps in function.structured_outputs.items()}
    assert shapes == {name: (1, *maps.shape[1:]) for name, maps in model.output.items()}


def test_folder_says_what_it_is(path):
    metadata = read(path)
    assert (metadata.name, metadata.family, metadata.input_size) == ("efficientpose-rt-lite", "efficientpose", (32, 48))
    assert (metadata.skeleton, metadata.license) == (ke.skeletons.MPII_16, "Apache-2.0")


def test_published_weights_keep_their_license(reference, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_EHRNET_HOME", str(reference / "weights"))
    path = saved_model("efficientpose-rt-lite", tmp_path / "model", input_size=(224, 224))
    assert read(path).license == "Apache-2.0"


def branched() -> keras.Model:
    """Batch normalization after everything that it may follow."""
    image = keras.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, name="read_twice")(image)
    x = layers.BatchNormalization(name="after_read_twice")(first)
    x = layers.Add()([x, first])
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization(scale=False, name="after_depthwise")(x)
    x = layers.Conv2DTranspose(5, 4, 2, "same", name="transposed")(x)
    x = layers.BatchNormalization(center=False, name="after_transposed")(x)
    x = layers.Conv2D(6, 1, activation="relu", name="activated")(layers.Dropout(0.5)(x))
    x = layers.BatchNormalization(name="after_activated")(x)
    return keras.Model(image, layers.UpSampling2D(2)(x))


def test_batch_normalization_is_folded_where_that_is_exact():
    model, random = branched(), np.random.default_rng(0)
    for weight in model.weights:
        if not weight.path.endswith("kernel"):
            weight.assign(random.uniform(0.5, 2, weight.shape))
    plain = plain_model(model, (8, 8))
    image = random.normal(0, 1, (2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(plain.predict_on_batch(image), model.predict_on_batch(image), rtol=1e-4, atol=1e-4)
    kinds = {layer.name for layer in plain.layers if isinstance(layer, layers.BatchNormalization)}
    assert kinds == {"after_read_twice", "after_activated"}
    assert not any(isinstance(layer, layers.Dropout | layers.UpSampling2D) for layer in plain.layers)


def test_the_model_itself_stays_as_it_is():
    model = branched()
    before = model.get_weights()
    plain_model(model, (8, 8))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def write_one(folder) -> None:
    folder.mkdir()
    (folder / "saved_model.pb").write_text("new")


def test_saved_models_are_replaced(tmp_path):
    target = tmp_path / "deep" / "model"
    for old in ("nothing", "empty folder", "saved model"):
        if old == "empty folder":
            (target / "saved_model.pb").unlink()
        elif old == "saved model":
            (target / "saved_model.pb").write_text("old")
            (target / "left_over").touch()
        replace_saved_model(target, write_one)
        assert (target / "saved_model.pb").read_text() == "new"
        assert [entry.name for entry in target.iterdir()] == ["saved_model.pb"]
        assert [entry.name for entry in target.parent.iterdir()] == ["model"]


def test_anything_else_is_not_replaced(tmp_path, model):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "photo.jpg").touch()
    (tmp_path / "file").touch()
    for name in ("photos", "file"):
        with pytest.raises(ValueError, match=r"Only a SavedModel is replaced by another.*Received"):
            saved_model(model, tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["file", "photo.jpg", "photos"]


def test_what_was_there_survives_a_failure(tmp_path):
    target = tmp_path / "model"
    replace_saved_model(target, write_one)
    (target / "mark").touch()

    def fail(folder) -> None:
        write_one(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"model could not be written \(No space left on device\).*intact"):
        replace_saved_model(target, fail)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["mark", "model", "saved_model.pb"]
    assert is_saved_model(target)


def test_needs_keras_on_tensorflow(monkeypatch, model, tmp_path):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"set KERAS_BACKEND=tensorflow. Received: the backend 'jax'"):
        saved_model(model, tmp_path / "model")


@pytest.mark.parametrize("batch", [0, -1, True, 1.5])
def test_batch_is_checked(model, tmp_path, batch):
    with pytest.raises(ValueError, match="positive whole number, or None"):
        saved_model(model, tmp_path / "model", batch=batch)


def test_the_request_that_is_documented_finds_people(tmp_path, monkeypatch):
    """As TensorFlow Serving answers it: by rows, each a dict by output or, of a single output, its values."""
    page = (ROOT / "deploy/server/README.md").read_text().split("## TensorFlow Serving")[1]
    script = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    model = ke.PosePredictor.load("efficientpose-rt", weights="efficientpose-rt-coco").network.model
    signature = tf.saved_model.load(
        str(saved_model(model, tmp_path / "rt/1", skeleton=ke.skeletons.COCO_17))
    ).signatures["serving_default"]

    class Serving(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/models/rt:predict"
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert set(request) == {"instances"}
            maps = signature(image=tf.constant(np.array(request["instances"], np.uint8)))
            rows = [{name: values[0].numpy().tolist() for name, values in maps.items()}]
            rows = rows if len(maps) > 1 else [next(iter(rows[0].values()))]
            body = json.dumps({"predictions": rows}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Serving) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shutil.copy(ROOT / "docs/pictures/astronaut.jpg", tmp_path / "photo.jpg")
        monkeypatch.chdir(tmp_path)
        here = {}
        exec(script.replace("127.0.0.1:8501", f"127.0.0.1:{server.server_port}"), here)
        server.shutdown()
    expected = ke.PosePredictor.load(model, skeleton=ke.skeletons.COCO_17, min_score=0).one("photo.jpg")
    found = here["geometry"].to_image(here["poses"].xy)
    sure = expected.confidence > 0.2
    assert sure.sum() > 5
    np.testing.assert_allclose(found[sure], expected.xy[sure], atol=0.5)
