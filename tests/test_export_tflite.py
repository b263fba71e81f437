"""TensorFlow Lite files: people as the Keras model finds them, wherever they are decoded, and all about it inside."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import painted
import pytest
from ai_edge_litert.interpreter import Interpreter as LiteRtInterpreter

import keras_ehrnet as ke
from keras_ehrnet import metadata as metadata_module
from keras_ehrnet.data.annotations import Dataset, Person, Sample
from keras_ehrnet.export.litert import calibration, convert, flatbuffer
from keras_ehrnet.export.litert.calibration import Calibration
from keras_ehrnet.metadata import Drift, Input, Metadata, MetadataError, Output, append
from keras_ehrnet.prediction import pipeline as estimation
from keras_ehrnet.runtime import Interpreter, TFLiteNetwork
from keras_ehrnet.runtime.keras import KerasNetwork

FAMILIES = ("efficienthrnet", "efficientpose", "efficientpose_nas")


@pytest.fixture(scope="module")
def networks() -> dict[str, KerasNetwork]:
    return {family: KerasNetwork(painted.network(family), painted.SKELETON) for family in FAMILIES}


@pytest.fixture(scope="module")
def exported(networks, tmp_path_factory):
    """A function from family, precision and decoder to a file, written once."""
    folder, files = tmp_path_factory.mktemp("exported"), {}

    def export(family: str, precision: str = "float32", decode: str = "none"):
        key = f"{family}-{precision}-{decode}"
        if key not in files:
            options = {"calibration": painted.pictures(8)} if precision == "int8" else {}
            files[key] = ke.export.tflite(
                networks[family].model,
                folder / f"{key}.tflite",
                precision,
                decode,
                skeleton=painted.SKELETON,
                max_people=5,
                max_peaks=6,
                license="CC0-1.0",
                **options,
            )
        return files[key]

    return export


CASES = [
    ("efficienthrnet", "float32", "none"),
    ("efficienthrnet", "float32", "peaks"),
    ("efficienthrnet", "float32", "poses"),
    ("efficienthrnet", "int8", "poses"),
    ("efficientpose", "float32", "none"),
    ("efficientpose", "int8", "poses"),
    ("efficientpose_nas", "float32", "peaks"),
    ("efficientpose_nas", "float32", "poses"),
]


@pytest.mark.parametrize(("family", "precision", "decode"), CASES)
def test_people_are_those_of_the_keras_model(networks, exported, family, precision, decode):
    keras_predictor = ke.PosePredictor(networks[family], protocol="fast")
    predictor = ke.PosePredictor.load(exported(family, precision, decode), protocol="fast")
    # An image of another shape, so that the way into the network and back counts too.
    image = cv2.resize(painted.picture(), (180, 180))
    for expected, actual in zip(keras_predictor([image] * 2), predictor([image] * 2), strict=True):
        assert len(actual) == len(expected) == (2 if family == "efficienthrnet" else 1)
        assert np.abs(actual.xy - expected.xy).max() < (0.01 if precision == "float32" else 0.5)
        assert np.abs(actual.confidence - expected.confidence).max() < (1e-4 if precision == "float32" else 0.03)
        assert np.abs(actual.scores - expected.scores).max() < (1e-4 if precision == "float32" else 0.03)
        assert actual.skeleton == painted.SKELETON


def test_painted_people_are_found_where_they_are_painted(exported):
    people = ke.PosePredictor.load(exported("efficienthrnet", "float32", "poses"))(painted.picture())
    assert np.abs(people.xy - painted.PEOPLE).max() < 0.6
    assert people.scores == pytest.approx(np.array(painted.BRIGHTNESS) / 255, abs=0.15)


def test_people_told_apart_by_their_limbs(networks, tmp_path):
    """Heads lie above hands, and fields point down: two people in one file, as from the Keras model's maps."""
    skeleton = replace(painted.SKELETON, limbs=((2, 0), (2, 1)))
    upright = np.array([[(12, 52), (28, 52), (20, 12)], [(68, 52), (84, 52), (76, 12)]])
    image = painted.picture(upright)
    model = networks["efficientpose"].model
    path = ke.export.tflite(
        model, tmp_path / "several.tflite", decode="poses", skeleton=skeleton, multi_person=True, max_people=4
    )
    about = metadata_module.read(path)
    assert about.multi_person and about.outputs[0].shape == (1, 4, 3 * 3 + 5)
    assert about.outputs[0].layout == convert.PEOPLE
    predictor = ke.PosePredictor.load(path)
    found = predictor(image)
    expected = ke.PosePredictor.load(model, skeleton=skeleton, multi_person=True)(image)
    assert len(found) == len(expected) == 2
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-2)
    assert np.abs(found.xy - upright).max() < 3
    whole = {"decode": "poses", "skeleton": skeleton, "multi_person": True, "max_people": 4}
    quantized = ke.export.tflite(model, tmp_path / "int8.tflite", precision="int8", calibration=[image], **whole)
    in_int8 = ke.PosePredictor.load(quantized)(image)
    assert len(in_int8) == 2 and np.abs(in_int8.xy - upright).max() < 4
    with pytest.raises(ValueError, match="finds people by itself. Received: boxes"):
        predictor(image, boxes=np.array([[0, 0, 50, 60]]))
    with pytest.raises(ValueError, match="refine takes a network for one person"):
        ke.PosePredictor.load(path, refine=path)
    with pytest.raises(ValueError, match="multi_person is for decode='poses'"):
        ke.export.tflite(model, tmp_path / "maps.tflite", skeleton=skeleton, multi_person=True)


def test_nobody(exported):
    black = np.zeros((50, 70, 3), np.uint8)
    for decode in ("none", "peaks", "poses"):
        assert len(ke.PosePredictor.load(exported("efficienthrnet", "float32", decode))(black)) == 0


def test_outputs_can_be_read_without_this_package(exported):
    """The layout that the metadata promise, read by hand from the raw output."""
    interpreter = Interpreter(exported("efficienthrnet", "float32", "poses"))
    (people,) = interpreter(image=painted.picture()[None])["poses"]
    assert people.shape == (5, 3 * 3 + 5)
    assert not people[2:].any()
    height, width = painted.SIZE
    y, x = people[:2, 0:9:3] * height, people[:2, 1:9:3] * width
    assert np.abs(np.stack([x, y], axis=-1) - painted.PEOPLE).max() < 0.6
    ymin, xmin, ymax, xmax, score = people[0, -5:]
    assert (ymin * height, ymax * height) == pytest.approx((y[0].min(), y[0].max()), abs=1e-3)
    assert (xmin * width, xmax * width) == pytest.approx((x[0].min(), x[0].max()), abs=1e-3)
    assert score == pytest.approx(people[0, 2:9:3].mean())


def resized(path, shape):
    interpreter = LiteRtInterpreter(str(path))
    (image,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(image["index"], shape)
    interpreter.allocate_tensors()
    return interpreter, image["index"]


def answers(path, images):
    """Outputs of an interpreter whose input was resized to the images, by shape without the number of images."""
    interpreter, image = resized(path, images.shape)
    interpreter.set_tensor(image, images)
    interpreter.invoke()
    outputs = interpreter.get_output_details()
    return {tuple(output["shape"][1:]): interpreter.get_tensor(output["index"]) for output in outputs}


@pytest.mark.parametrize("family", ["efficientpose", "efficientpose_nas"])
def test_several_images_at_once(exported, family):
    """Where `resize_tensor_input` works as the docstring of the export says, and where not."""
    images = np.stack([painted.picture(), painted.picture()[:, ::-1], painted.picture()[::-1]])
    maps = answers(exported(family), images)
    for index, image in enumerate(images):
        for shape, values in answers(exported(family), image[None]).items():
            np.testing.assert_allclose(maps[shape][index], values[0], atol=1e-5)
    (decoded,) = answers(exported(family, "float32", "poses"), images).values()
    assert len(decoded) == 1
    with pytest.raises(RuntimeError):
        resized(exported(family), (1, 128, 128, 3))


def test_several_images_are_refused_by_efficienthrnet(tmp_path):
    path = ke.export.tflite(ke.EfficientHRNet(-4), tmp_path / "h-4.tflite", input_size=(64, 64))
    with pytest.raises(RuntimeError):
        resized(path, (2, 64, 64, 3))


def test_what_decodes_stays_in_float32(exported):
    """int8 convolutions, then float32: no coordinate shares a scale with a score."""
    model = flatbuffer.read(exported("efficienthrnet", "int8", "poses").read_bytes())
    types = Counter()
    for tensor in model.subgraphs[0].tensors:
        part = "decoder" if tensor.name.startswith(b"decoder/") else "network"
        types[part, tensor.type] += 1
    int8 = flatbuffer.schema().TensorType.INT8
    assert types["network", int8] > 0
    assert types["decoder", int8] == 0


def test_bytes_stand_for_themselves(exported):
    """However dark the images for calibration are, the input's scale is 1."""
    model = flatbuffer.read(exported("efficienthrnet", "int8", "poses").read_bytes())
    source = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
    assert source.type == flatbuffer.schema().TensorType.UINT8
    assert (source.quantization.scale.tolist(), source.quantization.zeroPoint.tolist()) == ([1], [0])


def test_network_part_stays_accelerated(exported):
    """XNNPACK takes the convolutions of a network with a decoder behind it, as it takes them alone."""
    for decode in ("none", "poses"):
        path = exported("efficienthrnet", "float32", decode)
        operators = flatbuffer.read(path.read_bytes()).subgraphs[0].operators
        kernels = {int(operator.inputs[1]) for operator in operators if _is_convolution(operator)}
        plan = Interpreter(path)._engine.interpreter._get_ops_details()
        accelerated = {int(index) for step in plan if step["op_name"] == "DELEGATE" for index in step["inputs"]}
        assert kernels and kernels <= accelerated


def _is_convolution(operator) -> bool:
    return type(operator.builtinOptions).__name__ == "Conv2DOptionsT"


def test_metadata(exported):
    path = exported("efficienthrnet", "int8", "poses")
    about = metadata_module.read(path)
    assert about.skeleton == painted.SKELETON
    assert (about.name, about.family, about.precision) == ("painted-efficienthrnet", "efficienthrnet", "int8")
    assert about.input == Input(*painted.SIZE, dtype="uint8", name="image", colors="RGB", range=(0, 255))
    assert [(output.name, output.shape) for output in about.outputs] == [("poses", (1, 5, 14))]
    assert "ymin, xmin, ymax, xmax" in about.outputs[0].layout
    assert about.decoder == {"max_people": 5, "threshold": 0.1}
    assert (about.license, about.calibration_images) == ("CC0-1.0", 8)
    assert (about.drift.images, about.drift.joints, about.drift.lost) == (8, 48, 0)
    assert 0 < about.drift.median < 0.01
    # What anyone can read without this package.
    with zipfile.ZipFile(path) as archive:
        text = json.loads(archive.read("metadata.json"))
    assert text["skeleton"]["flip_permutation"] == [1, 0, 2]


def test_maps_are_described_in_their_order(exported):
    path = exported("efficientpose")
    about = metadata_module.read(path)
    model = flatbuffer.read(path.read_bytes())
    shapes = [tuple(model.subgraphs[0].tensors[index].shape) for index in model.subgraphs[0].outputs]
    assert sorted(output.shape for output in about.outputs) == sorted(shapes)
    assert {output.name for output in about.outputs} == {"heatmaps", "heatmaps_coarse", "heatmaps_fine", "pafs"}
    assert all(output.layout for output in about.outputs)


def test_metadata_round_trip():
    skeleton = replace(painted.SKELETON, sigmas=(0.1, 0.2, 0.3), grouping_order=(2, 0, 1))
    drift = Drift(3, 12, 0.001, 0.002, 0.0)
    outputs = (Output("poses", (1, 1, 3, 3), "y, x, score"),)
    about = Metadata(
        "name", "efficientpose", skeleton, Input(64, 96), outputs, "int8", "poses", {"a": 1}, "MIT", 3, drift
    )
    content = append(b"model", about)
    assert content == append(b"model", about)  # nothing of the day or the machine
    assert content.startswith(b"model")
    read = metadata_module.read(content)
    assert read is not None and read.checksum and replace(read, checksum=None) == about
    assert metadata_module.read(b"model") is None


def test_metadata_of_other_versions():
    about = Metadata("name", "efficientpose", painted.SKELETON, Input(64, 96))
    text = json.loads(about.to_json())
    assert Metadata.from_json(json.dumps({**text, "invented_later": 1})) == about
    first = {**text, "format": 1, "licence": "MIT"}
    first["input"] = {**text["input"], "colours": "BGR"}
    del first["license"], first["input"]["colors"]
    earlier = Metadata.from_json(json.dumps(first))
    assert (earlier.license, earlier.input.colors) == ("MIT", "BGR")
    with pytest.raises(MetadataError, match="later version"):
        Metadata.from_json(json.dumps({**text, "format": 3}))
    for damaged in ("{", "[]", json.dumps({**text, "skeleton": None}), json.dumps({"format": 1})):
        with pytest.raises(MetadataError, match="damaged|metadata are an object"):
            Metadata.from_json(damaged)


@pytest.fixture(scope="module")
def looping(tmp_path_factory) -> tuple[bytes, bytes]:
    """Two models with loops: doubling 3 times, and adding a constant 5 times."""
    import tensorflow as tf

    table = tf.constant(np.arange(6, dtype=np.float32).reshape(2, 3))

    def convert(name, output, step, times):
        def run(x):
            condition, body = lambda n, _: n < times, lambda n, y: (n + 1, step(y))
            return {output: tf.while_loop(condition, body, [tf.constant(0), x])[1]}

        module, folder = tf.Module(), str(tmp_path_factory.mktemp("looping"))
        module.run = tf.function(run)
        signature = module.run.get_concrete_function(tf.TensorSpec((2, 3), tf.float32, name))
        tf.saved_model.save(module, folder, signature)
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()

    return convert("x", "y", lambda y: 2 * y, 3), convert("y", "z", lambda y: y + table, 5)


def test_joined_models_compute_one_after_the_other(looping):
    """Loops of both keep their conditions and bodies, constants their places."""
    joined = flatbuffer.join(*looping)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    (result,) = Interpreter(joined)(x=x).values()
    assert result == pytest.approx(8 * x + 5 * np.arange(6).reshape(2, 3), rel=1e-6)
    model = flatbuffer.read(joined)
    assert len(model.subgraphs) == 5
    assert [output.name for output in model.signatureDefs[0].outputs] == [b"z"]
    keys = [(code.builtinCode, code.version) for code in model.operatorCodes]
    assert len(keys) == len(set(keys))


def test_constants_are_aligned(looping):
    content = flatbuffer.join(*looping)
    model = flatbuffer.schema().Model.GetRootAsModel(content, 0)
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    buffers = [model.Buffers(index).DataAsNumpy() for index in range(model.BuffersLength())]
    offsets = [data.__array_interface__["data"][0] - start for data in buffers if isinstance(data, np.ndarray)]
    assert offsets
    assert not any(offset % 16 for offset in offsets)


def test_models_that_do_not_fit_are_not_joined(looping):
    doubling, adding = looping
    with pytest.raises(ValueError, match=r"an output 'x', FLOAT32\[2, 3\].*Received: z FLOAT32"):
        flatbuffer.join(adding, doubling)


def test_calibration_sees_what_prediction_sees(networks):
    """The same pixels that the network gets when it predicts."""
    image = cv2.resize(painted.picture(), (150, 200))
    person = Person(np.array([[40, 50, 2]] * 3), np.array([30, 40, 90, 120]), area=100)
    dataset = Dataset("one", painted.SKELETON, (Sample(1, image, (150, 200), (person,)),))
    for family, boxes in (("efficienthrnet", None), ("efficientpose", np.array([person.box]))):
        network, seen = networks[family], []

        class Spy:
            name, skeleton, input_size, any_size = "spy", painted.SKELETON, painted.SIZE, False
            decode, multi_person, min_score = "none", network.multi_person, 0.0

            def __call__(self, images, network=network, seen=seen):
                seen.append(images)
                return network(images)

        Spy.family = family
        estimation.estimate(Spy(), [image], estimation.Settings(), None if boxes is None else [boxes])
        (given,) = Calibration.of(dataset, network, 10)
        assert np.array_equal(given, seen[0])


def test_calibration_images_are_limited_and_spread(networks, tmp_path):
    for index in range(20):
        cv2.imwrite(str(tmp_path / f"{index:02}.png"), np.full((32, 48, 3), index * 10, np.uint8))
    network = networks["efficientpose"]
    values = [int(image.max()) for image in Calibration.of(tmp_path, network, 3)]
    assert values == [0, 100, 190]
    endless = (np.full((8, 8, 3), index % 200, np.uint8) for index in iter(int, 1))
    assert len(list(Calibration.of(endless, network, 4))) == 4


def test_broken_calibration_images_are_left_out_with_a_warning(networks, tmp_path):
    (tmp_path / "cut.png").write_bytes(b"not an image")
    network = networks["efficientpose"]
    with pytest.raises(ValueError, match="No image for calibration can be read"):
        list(Calibration.of(tmp_path, network, 5))
    cv2.imwrite(str(tmp_path / "whole.png"), painted.picture())
    with pytest.warns(UserWarning, match="1 of 2 images for calibration left out"):
        assert len(list(Calibration.of(tmp_path, network, 5))) == 1


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_several_images_at_a_time(networks, tmp_path, precision):
    network = networks["efficientpose_nas"]
    seen = {"calibration": painted.pictures(3)} if precision == "int8" else {}
    one, three = (
        TFLiteNetwork(ke.export.tflite(network.model, tmp_path / f"{batch}.tflite", precision, batch=batch, **seen))
        for batch in (1, 3)
    )
    assert three.raw.inputs["image"].shape == (3, *painted.SIZE, 3)
    images = np.stack([np.roll(painted.picture(), 7 * index, axis=1) for index in range(4)])
    expected, found = one(images), three(images)
    assert found["heatmaps"].shape == expected["heatmaps"].shape == (4, 16, 24, 3)
    assert np.abs(found["heatmaps"] - expected["heatmaps"]).max() < 1e-5 * np.abs(expected["heatmaps"]).max() + 1e-6
    with pytest.raises(ValueError, match="of one image: leave out batch, or decode. Received: batch=2"):
        ke.export.tflite(network.model, tmp_path / "none.tflite", decode="poses", batch=2)


class Moved:
    """A network that sees everything some pixels further right, or nothing at all."""

    any_size, decode, min_score = False, "none", 0.0

    def __init__(self, network: KerasNetwork, pixels: int | None) -> None:
        self.name, self.family, self.skeleton, self.input_size = "moved", network.family, network.skeleton, painted.SIZE
        self.network, self.pixels, self.multi_person = network, pixels, network.multi_person

    def __call__(self, images):
        moved = np.zeros_like(images) if self.pixels is None else np.roll(images, self.pixels, axis=2)
        return self.network(moved)


@pytest.mark.parametrize("family", ["efficientpose", "efficienthrnet"])
def test_drift_is_measured(networks, family):
    network = networks[family]
    images = Calibration.of(painted.pictures(4), network, 10)
    right = Moved(network, 0)
    drift = calibration.measure_drift(right, Moved(network, 4), images)
    assert (drift.images, drift.joints) == (4, 24 if family == "efficienthrnet" else 12)
    assert drift.median == pytest.approx(4 / 96, abs=1e-3)
    assert drift.lost == 0
    with pytest.warns(UserWarning, match=r"costs 'mine' much: of \d+ joints in 4 images .* 4.2%"):
        calibration.warn_of_drift(drift, "mine", "int8")
    fainter = Moved(network, 4)
    fainter.min_score = 0.99
    assert calibration.measure_drift(right, fainter, images) == drift
    blind = calibration.measure_drift(right, Moved(network, None), images)
    assert blind.lost == 1
    if family == "efficienthrnet":
        assert calibration.measure_drift(Moved(network, None), right, images) is None
        with pytest.warns(UserWarning, match="finds nobody"):
            calibration.warn_of_drift(None, "mine", "int8")


def test_an_interrupted_export_leaves_nothing(networks, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    path = tmp_path / "model.tflite"
    path.write_text("the old one")
    for moment in ("keras_ehrnet.support.files.os.replace", "keras_ehrnet.support.files.os.fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(moment, interrupt)
            with pytest.raises(KeyboardInterrupt):
                ke.export.tflite(networks["efficientpose_nas"].model, path, skeleton=painted.SKELETON)
    assert [file.name for file in tmp_path.iterdir()] == ["model.tflite"]
    assert path.read_text() == "the old one"


MISTAKES = {
    "suffix": (("m.lite",), {}, r"ends in \.tflite"),
    "precision": (("m.tflite", "int7"), {}, "Did you mean 'int8'"),
    "decode": (("m.tflite", "float32", "pose"), {}, "Did you mean 'poses'"),
    "no images": (("m.tflite", "int8"), {}, "calibrated on images"),
    "empty folder": (("m.tflite", "int8"), {"calibration": "EMPTY"}, "no images in this folder"),
    "no list": (("m.tflite", "int8"), {"calibration": 5}, "folder, a pattern, a data set"),
    "empty list": (("m.tflite", "int8"), {"calibration": []}, "at least one image"),
    "count": (("m.tflite", "int8"), {"calibration": [1], "calibration_images": 0}, "at least 1"),
    "people": (("m.tflite",), {"max_people": 0}, "max_people is a whole number"),
    "size": (("m.tflite",), {"input_size": (100, 100)}, "multiples of"),
    "skeleton": (("m.tflite",), {"skeleton": ke.skeletons.COCO_17}, "has 3 keypoints"),
}


@pytest.mark.parametrize(("arguments", "options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(networks, tmp_path, arguments, options, message):
    name, *rest = arguments
    folder = tmp_path / "empty"
    folder.mkdir()
    options = {key: folder if value == "EMPTY" else value for key, value in options.items()}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ke.export.tflite(networks["efficientpose"].model, tmp_path / name, *rest, **options)
    assert list(tmp_path.iterdir()) == [folder]


def test_published_model_on_a_photograph(reference, monkeypatch, tmp_path):
    """EfficientPose RT, decoded inside: the skier's joints, to a hundredth of a pixel."""
    monkeypatch.setenv("KERAS_EHRNET_HOME", str(reference / "weights"))
    photo = reference / "data/coco_samples/images/000000000785.jpg"
    predictor = ke.PosePredictor.load("efficientpose-rt")
    path = ke.export.tflite(predictor.network.model, tmp_path / "rt.tflite", decode="poses")
    expected, actual = predictor(photo), ke.PosePredictor.load(path)(photo)
    assert np.abs(actual.xy - expected.xy).max() < 0.01
    assert np.abs(actual.confidence - expected.confidence).max() < 1e-4
