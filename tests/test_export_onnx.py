"""ONNX: the files give the Keras model's maps, say what they are, and hold only what every runtime has."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import pytest
import tiny
from conftest import relative_difference
from keras import layers

import keras_ehrnet as ke
from keras_ehrnet import metadata
from keras_ehrnet.export.onnx_file import onnx as export
from keras_ehrnet.export.rewrite import rewrite
from keras_ehrnet.models import blocks
from keras_ehrnet.runtime.onnx import OnnxNetwork
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.errors import ImageError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TOLERANCE = 2e-5


def varied(model: keras.Model) -> keras.Model:
    """With weights as after training: an untrained batch normalization does nothing, and nothing is easy to export."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(random.uniform(0.5, 2, weight.shape))
        elif weight.path.endswith(("beta", "bias", "moving_mean")):
            weight.assign(random.normal(0, 0.3, weight.shape))
    return model


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype("uint8")


SIZE = (32, 64)
MODELS = {
    "EfficientHRNet": lambda: ke.EfficientHRNet(-4),
    "EfficientPose": lambda: ke.EfficientPose("I", input_shape=(*SIZE, 3)),
    "EfficientPose Lite": lambda: ke.EfficientPose("RT_LITE", input_shape=(*SIZE, 3)),
    "EfficientPoseNAS": lambda: ke.EfficientPoseNAS("A", input_shape=(*SIZE, 3)),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_maps_are_those_of_the_model(build, tmp_path):
    model = varied(build())
    network = OnnxNetwork(export(model, tmp_path / "model.onnx", input_size=SIZE, batch=None))
    images = pixels(2, *SIZE)
    expected, actual = model.predict_on_batch(images), network(images)
    assert set(actual) == set(expected)
    for name, maps in expected.items():
        assert actual[name].shape == maps.shape
        assert relative_difference(actual[name], maps) <= TOLERANCE, name


def test_images_of_any_size(tmp_path):
    model = varied(ke.EfficientHRNet(-4))
    network = OnnxNetwork(export(model, tmp_path / "model.onnx", input_size=SIZE, batch=None, any_size=True))
    assert network.any_size and network.input_size == SIZE
    assert [output.shape for output in network.metadata.outputs] == [(-1, -1, -1, 17)] * 3
    for size in (SIZE, (96, 32), (64, 160)):
        images = pixels(2, *size)
        actual = network(images)
        for name, maps in model.predict_on_batch(images).items():
            assert actual[name].shape == maps.shape
            assert relative_difference(actual[name], maps) <= TOLERANCE, (name, size)
    predictor = ke.PosePredictor.load(tmp_path / "model.onnx", scales=(0.5, 1.0), max_people=1)
    assert len(predictor(pixels(50, 90))) <= 1  # several scales are for networks of any size
    with pytest.raises(ImageError, match=r"multiples of 32. Received: images of shape \(1, 48, 64, 3\)"):
        network(pixels(1, 48, 64))


@pytest.mark.parametrize(
    "build", [lambda: ke.EfficientPoseNAS(tiny.SEARCHED), MODELS["EfficientPose Lite"]], ids=["NAS", "Lite"]
)
def test_models_of_one_size_become_files_of_any(build, tmp_path):
    model = varied(build())
    network = OnnxNetwork(export(model, tmp_path / "model.onnx", any_size=True))
    images = pixels(1, 48, 16)
    actual = network(images)
    for name, maps in rewrite(model, (48, 16), {}).predict_on_batch(images).items():
        assert actual[name].shape == maps.shape
        assert relative_difference(actual[name], maps) <= TOLERANCE, name


def test_networks_of_longer_strides_than_their_family_take_one_size(tmp_path):
    """An image of 48 pixels would be padded otherwise than one of 64."""
    inputs = keras.Input((64, 64, 3), name="image")
    x = blocks.preprocess(inputs, lite=True)
    for _ in range(5):
        x = layers.Conv2D(3, 3, 2, "same")(x)
    x = layers.Conv2D(17, 1, name="heatmaps")(layers.UpSampling2D(8)(x))
    model = keras.Model(inputs, {"heatmaps": x}, name="deep")
    with pytest.raises(ValueError, match=r"multiples of 16, .*'deep', in which .* makes \(2, 2\) of \(64, 64\)"):
        export(model, tmp_path / "deep.onnx", any_size=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.backend
def test_other_backends_write_the_same_files(tmp_path):
    model = varied(ke.EfficientPoseNAS("A", input_shape=(32, 32, 3)))
    network = OnnxNetwork(export(model, tmp_path / "model.onnx"))
    images = pixels(1, 32, 32)
    assert relative_difference(network(images)["heatmaps"], model.predict_on_batch(images)["heatmaps"]) <= TOLERANCE


@pytest.fixture(scope="module")
def untrained() -> keras.Model:
    return ke.EfficientPose("RT_LITE", input_shape=(32, 48, 3), intermediate_outputs=True)


@pytest.fixture(scope="module")
def model(untrained) -> keras.Model:
    return varied(keras.models.clone_model(untrained))


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return export(model, tmp_path_factory.mktemp("onnx") / "model.onnx", license="Apache-2.0")


def test_graph_is_plain(path, model):
    """Nothing computes shapes; images and maps are turned once; batch normalization has vanished."""
    graph = onnx.load(path).graph
    operators = Counter(node.op_type for node in graph.node)
    assert operators["Transpose"] == 1 + len(graph.output)
    assert set(operators) == {"Cast", "Transpose", "Mul", "Add", "Conv", "Clip", "Concat", "ConvTranspose"}
    assert operators["Mul"] == 1  # of the normalization
    assert [node.op_type for node in graph.node[:2]] == ["Cast", "Transpose"]
    assert operators["Conv"] == sum(isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D) for layer in model.layers)


def test_file_says_what_it_is(path, model):
    network = OnnxNetwork(path)
    assert (network.name, network.family, network.input_size) == ("efficientpose-rt-lite", "efficientpose", (32, 48))
    assert (network.skeleton, network.any_size, network.decode) == (ke.skeletons.MPII_16, False, "none")
    assert network.metadata.license == "Apache-2.0"
    assert {output.name: output.shape for output in network.metadata.outputs} == {
        name: (1, *maps.shape[1:]) for name, maps in model.output.items()
    }
    assert all(output.layout for output in network.metadata.outputs)
    assert repr(network) == "OnnxNetwork(efficientpose-rt-lite, mpii_16, input 48x32, batch 1)"
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert '"colors": "RGB"' in properties[metadata.ONNX_KEY]
    assert metadata.read(path) == metadata.read(path.read_bytes()) == network.metadata


def test_own_skeletons_travel_along(tmp_path):
    skeleton = Skeleton("hand", ("wrist", "left_tip", "right_tip"), ((0, 1), (0, 2)))
    model = ke.EfficientPose("RT_LITE", num_keypoints=3, input_shape=(32, 32, 3))
    network = OnnxNetwork(export(model, tmp_path / "hand.onnx", skeleton=skeleton))
    assert network.skeleton == skeleton
    assert network.skeleton.flip_permutation == (0, 2, 1)


@pytest.mark.parametrize(("batch", "input_dtype"), [(2, "uint8"), (None, "float32")])
def test_any_number_of_images(model, tmp_path, batch, input_dtype):
    network = OnnxNetwork(export(model, tmp_path / "model.onnx", batch=batch, input_dtype=input_dtype))
    images = pixels(3, 32, 48)
    expected, actual = model.predict_on_batch(images)["heatmaps"], network(images)["heatmaps"]
    assert actual.shape == expected.shape
    assert relative_difference(actual, expected) <= TOLERANCE
    (source,) = network.session.get_inputs()
    assert (source.shape[0], source.type) == (batch or "batch", f"tensor({input_dtype.replace('32', '')})")


def test_equal_models_make_equal_files(path, model, untrained, tmp_path):
    again = OnnxNetwork(export(model, tmp_path / "again.onnx", license="Apache-2.0"))
    other = OnnxNetwork(export(untrained, tmp_path / "other.onnx", license="Apache-2.0"))
    assert OnnxNetwork(path).digest() == again.digest() != other.digest()


def test_predictor_finds_the_same_person(reference, tmp_path):
    photo = reference / "data/coco_samples/images/000000000785.jpg"
    keras_predictor = ke.PosePredictor.load("efficientpose-rt", weights=reference / "weights/EfficientPoseRT.h5")
    path = export(keras_predictor.network.model, tmp_path / "rt.onnx")
    expected, actual = keras_predictor(photo), ke.PosePredictor.load(path)(photo)
    np.testing.assert_allclose(actual.keypoints, expected.keypoints, atol=1e-3)


def test_maps_of_trained_weights_agree_on_a_photo(reference, tmp_path):
    model = ke.EfficientPose("RT", weights=reference / "weights/EfficientPoseRT.h5")
    images = np.load(reference / "reference/efficientpose_RT.npz")["image"]
    network = OnnxNetwork(export(model, tmp_path / "rt.onnx"))
    expected = model.predict_on_batch(images)
    for name, maps in network(images).items():
        assert relative_difference(maps, expected[name]) <= 2e-4, name


LAYERS = {
    "convolution": [layers.Conv2D(4, 3, activation="relu")],
    "convolution that pads at the end": [layers.Conv2D(4, 3, 2, "same")],
    "convolution with uneven sides": [layers.Conv2D(4, (5, 2), (3, 1), "same")],
    "convolution with holes": [layers.Conv2D(4, 3, padding="same", dilation_rate=2)],
    "convolution in groups": [layers.Conv2D(6, 3, groups=3)],
    "padding before a convolution": [layers.ZeroPadding2D(((1, 2), (0, 3))), layers.Conv2D(4, 3, 2)],
    "padding before padding": [layers.ZeroPadding2D(1), layers.ZeroPadding2D(2), layers.Conv2D(4, 3, 2, "same")],
    "padding before another layer": [layers.ZeroPadding2D(1), layers.Activation("sigmoid")],
    "padding before the end": [layers.ZeroPadding2D(1)],
    "depthwise convolution": [layers.DepthwiseConv2D(3, 2, "same", activation="silu")],
    "depthwise convolution with a multiplier": [layers.DepthwiseConv2D(3, depth_multiplier=2)],
    "transposed convolution": [layers.Conv2DTranspose(4, 4, 2, "same")],
    "transposed convolution with an odd kernel": [layers.Conv2DTranspose(4, 3, 2, "same")],
    "transposed convolution without padding": [layers.Conv2DTranspose(4, 3, 2)],
    "transposed convolution with gaps": [layers.Conv2DTranspose(4, 2, 3, "same")],
    "batch normalization": [layers.BatchNormalization(), layers.Activation("relu")],
    "batch normalization without factors": [layers.BatchNormalization(scale=False, center=False)],
    "rescaling": [layers.Rescaling([0.1, 0.2, 0.3], [1.0, 2.0, 3.0]), layers.Rescaling(2.0)],
    "average pooling": [layers.AveragePooling2D(3, 2, "same")],
    "global average": [layers.GlobalAveragePooling2D(keepdims=True)],
    "enlargement": [layers.UpSampling2D((2, 3)), layers.Resizing(28, 33, "nearest")],
    "clipping": [layers.ReLU(3.0), layers.Activation("relu6"), layers.Dropout(0.5)],
    "classifier": [layers.GlobalAveragePooling2D(), layers.Dense(5, activation="softmax")],
}


def run(model: keras.Model, image: np.ndarray) -> np.ndarray:
    from keras_ehrnet.export.onnx_layers import graph_of

    graph = graph_of(model, input_dtype="float32")
    content = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(content, full_check=True)
    session = onnxruntime.InferenceSession(content.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


@pytest.mark.parametrize("stack", LAYERS.values(), ids=LAYERS)
def test_layers_compute_the_same(stack):
    model = varied(keras.Sequential([keras.Input((7, 11, 3), batch_size=1), *stack]))
    functional = keras.Model(model.inputs[0], model.outputs[0])
    image = np.random.default_rng(0).normal(0, 2, (1, 7, 11, 3)).astype("float32")
    expected = np.asarray(functional(image))
    actual = run(functional, image)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=2e-6)


def toy(*stack: layers.Layer) -> keras.Model:
    return keras.Model(
        *(lambda model: (model.inputs, model.outputs))(keras.Sequential([keras.Input((8, 8, 3)), *stack]))
    )


def shared() -> keras.Model:
    image, conv = keras.Input((8, 8, 3)), layers.Conv2D(3, 1)
    return keras.Model(image, conv(conv(image)))


UNKNOWN = {
    "layer": (lambda: toy(layers.MaxPooling2D()), r"knows these layers: Activation, Add, .*class MaxPooling2D"),
    "activation": (lambda: toy(layers.Conv2D(3, 1, activation="gelu")), r"knows these activations: .*Received: 'gelu'"),
    "interpolation": (lambda: toy(layers.UpSampling2D(2, interpolation="bilinear")), "interpolation='nearest'"),
    "broken factor": (lambda: toy(layers.Resizing(12, 12, "nearest")), "by whole factors"),
    "slope": (lambda: toy(layers.ReLU(negative_slope=0.1)), "no slope below zero"),
    "axis": (lambda: toy(layers.Conv2DTranspose(3, 3, dilation_rate=2)), "no dilation"),
    "layer used twice": (shared, "layers that are used once each"),
}


@pytest.mark.parametrize(("build", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_cannot_be_exported_is_named(build, message):
    from keras_ehrnet.export.onnx_layers import graph_of

    with pytest.raises(ValueError, match=message):
        graph_of(build())


MISTAKES = {
    "file name": ({"path": "model.tflite"}, "ends in .onnx"),
    "batch": ({"batch": 0}, "positive whole number"),
    "opset": ({"opset": 9}, "from 13 to 21"),
    "input type": ({"input_dtype": "int8"}, "Did you mean 'uint8'"),
    "size": ({"input_size": (64, 64)}, "takes images of size"),
    "model": ({"source": toy(layers.Conv2D(3, 1))}, "A pose network has an output named"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(untrained, options, message, tmp_path):
    arguments = {"source": untrained, "path": "model.onnx", **options}
    with pytest.raises(ValueError, match=message):
        export(arguments.pop("source"), tmp_path / arguments.pop("path"), **arguments)
    assert not list(tmp_path.iterdir())


def test_files_that_are_none_of_ours(tmp_path, path):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="ONNX file is damaged"):
        OnnxNetwork(damaged)
    with pytest.raises(FileNotFoundError, match="There is no such file"):
        OnnxNetwork(tmp_path / "nowhere.onnx")
    foreign = onnx.load(path)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="says nothing about its keypoints"):
        OnnxNetwork(tmp_path / "foreign.onnx")
    for place in (damaged, tmp_path / "foreign.onnx", tmp_path):
        assert metadata.read(place) is None


def test_missing_packages_are_named(monkeypatch, untrained, path, tmp_path):
    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(ValueError, match=r"needs onnxruntime: pip install 'keras-ehrnet\[onnx\]'"):
        OnnxNetwork(path)
    with pytest.raises(ValueError, match=r"needs the package onnx: pip install"):
        export(untrained, tmp_path / "model.onnx")
