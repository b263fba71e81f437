"""The network half of a TensorFlow Lite file: the same maps from fewer operations, at every precision."""

from __future__ import annotations

import cv2
import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import keras_ehrnet as ke
from keras_ehrnet.export import common
from keras_ehrnet.export.litert import bias, equalize, quantize, ranges, rules
from keras_ehrnet.export.litert.graph import OUTPUT_AXIS, Graph, gates, last_convolutions

BUILDERS = {
    "EfficientHRNet, any size": lambda: ke.EfficientHRNet(-4),
    "EfficientHRNet Lite": lambda: ke.EfficientHRNet(-4, lite=True, input_shape=(64, 96, 3)),
    "EfficientPose RT": lambda: ke.EfficientPose("RT", input_shape=(64, 96, 3)),
    "EfficientPose I, any size": lambda: ke.EfficientPose("I", input_shape=(None, None, 3)),
    "EfficientPose RT Lite": lambda: ke.EfficientPose("RT_LITE", input_shape=(64, 96, 3)),
    "EfficientPoseNAS": lambda: ke.EfficientPoseNAS("A", input_shape=(64, 96, 3)),
}
ACCEPTED = {
    "ADD", "AVERAGE_POOL_2D", "CAST", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "DEQUANTIZE",
    "LOGISTIC", "MEAN", "MUL", "PAD", "QUANTIZE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "STRIDED_SLICE",
}  # fmt: skip
FLOAT32, INT8 = 0, 9  # as the file format numbers types


def trained(build):
    """A model whose statistics, offsets and gains are not those that fold to nothing."""
    keras.utils.set_random_seed(0)
    model, rng = build(), np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith("moving_variance"):
            weight.assign(rng.uniform(0.5, 2, weight.shape))
        elif weight.path.endswith("gamma"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.path.endswith(("moving_mean", "beta", "bias")):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def noise(size=(64, 96), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (1, *size, 3), np.uint8)


def difference(actual, expected):
    """Largest over the maps, relative to a map's range."""
    assert set(actual) == set(expected)
    return max(np.abs(actual[name] - maps).max() / np.ptp(maps) for name, maps in expected.items())


def maps_of(model, image):
    return {name: np.asarray(maps) for name, maps in model(image.astype("float32"), training=False).items()}


def run(content, image):
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return interpreter.get_signature_runner()(image=image)


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_static_model_draws_the_same_maps(build):
    model = trained(build)
    static = rules.static_model(model, (64, 96))
    assert static.inputs[0].shape == (1, 64, 96, 3)
    assert all(maps.shape[0] == 1 and None not in maps.shape for maps in static.outputs)
    assert difference(maps_of(static, noise()), maps_of(model, noise())) <= 1e-5
    kinds = {type(layer) for layer in static.layers}
    assert not kinds & {keras.layers.BatchNormalization, keras.layers.Dropout, keras.layers.UpSampling2D}
    assert not any("rescaling" in layer.name for layer in static.layers)


def test_static_model_computes_in_float32_whatever_the_model_does():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = ke.EfficientPose("RT_LITE", input_shape=(64, 96, 3))
        static = rules.static_model(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.output.dtype for layer in static.layers} == {"float32"}


def test_static_model_leaves_the_model_as_it_was():
    model = trained(BUILDERS["EfficientPoseNAS"])
    before = model.get_weights()
    rules.static_model(model)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))


def test_static_model_refuses_what_it_cannot_make():
    with pytest.raises(ValueError, match=r"multiples of 32. Received: \(100, 96\)"):
        rules.static_model(ke.EfficientHRNet(-4), (100, 96))
    image = keras.Input((64, 64, 3))
    with pytest.raises(ValueError, match="output named 'heatmaps'"):
        rules.static_model(keras.Model(image, keras.layers.Conv2D(2, 1)(image)))


def kernel_types(content):
    """Types of the ordinary convolutions' kernels, in order."""
    graph = Graph(content)
    return [graph.tensors[inputs[1]].type for kind, _, inputs, _ in graph.operations() if kind == "CONV_2D"]


@pytest.fixture(scope="module")
def efficienthrnet():
    model = trained(BUILDERS["EfficientHRNet, any size"])
    return model, quantize.convert(rules.static_model(model, (64, 96)))


@pytest.fixture(scope="module")
def static_lite():
    return rules.static_model(trained(BUILDERS["EfficientPose RT Lite"]))


def test_float32_is_keras(efficienthrnet):
    model, content = efficienthrnet
    assert difference(run(content, noise()), maps_of(model, noise())) <= 1e-5


def test_operations_are_such_as_delegates_take(efficienthrnet):
    counts = quantize.operations(efficienthrnet[1])
    assert set(counts) <= ACCEPTED
    # One per branch that is enlarged: stage 2 one, stage 3 two and one, stage 4 three, two, one, and three at last.
    assert counts["RESIZE_NEAREST_NEIGHBOR"] == 1 + 3 + 6 + 3
    assert counts["CONCATENATION"] == counts["DEPTH_TO_SPACE"] == counts["STRIDED_SLICE"] == 1


def test_untrained_upscaling_is_three_resizes():
    model = trained(BUILDERS["EfficientPose RT"])
    upscaling = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2DTranspose)]
    for layer in upscaling:
        layer.bias.assign(np.zeros(layer.bias.shape))
    content = quantize.convert(rules.static_model(model))
    assert difference(run(content, noise()), maps_of(model, noise())) <= 1e-5
    counts = quantize.operations(content)
    assert (counts["RESIZE_BILINEAR"], counts["DEPTH_TO_SPACE"]) == (3, 0)
    upscaling[1].kernel.assign(upscaling[1].kernel * 1.01)
    content = quantize.convert(rules.static_model(model))
    assert difference(run(content, noise()), maps_of(model, noise())) <= 1e-5
    counts = quantize.operations(content)
    assert (counts["RESIZE_BILINEAR"], counts["DEPTH_TO_SPACE"]) == (2, 1)


@pytest.mark.parametrize(
    ("precision", "bytes_per_weight", "tolerance", "dtype"),
    [("float32", 4, 1e-5, "uint8"), ("float16", 2, 5e-3, "float32"), ("dynamic", 1, 0.1, "uint8")],
)
def test_maps_and_size_at_every_precision(static_lite, precision, bytes_per_weight, tolerance, dtype):
    content = quantize.convert(static_lite, precision, input_dtype=dtype)
    actual = run(content, noise().astype(dtype))
    assert {maps.dtype.name for maps in actual.values()} == {"float32"}
    assert difference(actual, maps_of(static_lite, noise())) <= tolerance
    assert ("CAST" in quantize.operations(content)) == (dtype == "uint8")
    assert len(content) < bytes_per_weight * static_lite.count_params() + 200_000


def what_the_last_convolutions_read(content):
    """The number of their maps, of themselves, and of the weights in their kernels."""
    read, names = Graph(content), last_convolutions(content)
    found = [
        inputs for kind, _, inputs, result in read.operations() if kind in OUTPUT_AXIS and read.name(result) in names
    ]
    return len({inputs[0] for inputs in found}), len(found), sum(read.constant(inputs[1]).size for inputs in found)


def test_int8_is_integers_inside_and_float32_outside(static_lite, capfd):
    done = []
    images = [noise(seed=seed) for seed in range(3)]
    content = quantize.convert(static_lite, "int8", calibration=iter(images), progress=done.append)
    assert done == [1, 2, 3]
    assert "".join(capfd.readouterr()) == ""
    counts = quantize.operations(content)
    assert set(counts) <= ACCEPTED
    maps, _, _ = what_the_last_convolutions_read(quantize.convert(static_lite))
    assert (counts["DEQUANTIZE"], counts["CAST"]) == (maps, 0)
    actual, expected = (maps["heatmaps"] for maps in (run(content, images[0]), maps_of(static_lite, images[0])))
    assert actual.dtype == np.float32
    assert np.corrcoef(actual.ravel(), expected.ravel())[0, 1] > 0.95


def test_equal_channels_compute_the_same(efficienthrnet):
    content, images = efficienthrnet[1], [noise(seed=seed) for seed in range(2)]
    even, measured = equalize.equalized(content, ranges.measure(content, images))
    assert even != content
    assert difference(run(even, images[0]), run(content, images[0])) <= 1e-4
    assert quantize.operations(even) == quantize.operations(content)
    again = ranges.measure(even, images)
    assert again.keys() == measured.keys()
    for index, values in again.items():
        scale = max(values.magnitude.max(), 1e-3)
        assert np.abs(values.high - measured[index].high).max() <= 1e-3 * scale


def test_an_uneven_beginning_stays_in_float(efficienthrnet, monkeypatch):
    model, content = efficienthrnet
    static = rules.static_model(model, (64, 96))
    images = [noise(seed=seed) for seed in range(2)]
    measured = ranges.measure(content, images)
    monkeypatch.setattr(equalize, "UNEVENNESS", 1e9)
    assert equalize.uneven_beginning(content, measured) == set()
    monkeypatch.setattr(equalize, "UNEVENNESS", 0.0)
    beginning = equalize.uneven_beginning(content, measured)
    operations = list(Graph(content).operations())
    first, last = (Graph(content).name(operations[place][3]) for place in (0, -1))
    assert first in beginning
    assert last not in beginning
    kernels = kernel_types(quantize.convert(static, "int8", calibration=images))
    assert (kernels[0], kernels[-1]) == (FLOAT32, FLOAT32)
    assert INT8 in kernels


def test_last_convolutions_stay_in_float():
    """And what enlarges their maps: no top of a heatmap is flat, or cut off."""
    static = rules.static_model(ke.EfficientPose("RT", input_shape=(64, 64, 3)))
    content = quantize.convert(static, "int8", calibration=[noise((64, 64), seed=seed) for seed in range(3)])
    read = Graph(content)
    results = {result: kind for kind, _, _, result in read.operations()}
    enlarged = [result for result, kind in results.items() if kind == "RESIZE_BILINEAR"]
    assert len(enlarged) == 3 and {results[int(index)] for index in read.main.outputs} == {"CONV_2D", "STRIDED_SLICE"}
    assert {read.tensors[index].type for index in enlarged} == {FLOAT32}
    # Steps of a tensor of 8 bits are all alike.
    assert len(np.unique(run(content, noise((64, 64)))["heatmaps"])) > 256


def test_last_convolutions_are_those_of_the_outputs(efficienthrnet):
    content = efficienthrnet[1]
    read = Graph(content)
    names = last_convolutions(content)
    assert {read.name(int(index)) for index in read.main.outputs} <= names
    convolutions = [read.name(result) for kind, _, _, result in read.operations() if kind in OUTPUT_AXIS]
    assert 1 <= len(names.intersection(convolutions)) <= len(read.main.outputs)


def test_gates_stay_in_float():
    """And the products that they read and multiply, but no convolution of maps."""
    static = rules.static_model(ke.EfficientPose("RT", input_shape=(64, 64, 3)))
    read = Graph(quantize.convert(static))
    names = gates(read.content())
    operations = list(read.operations())
    gated = [(inputs, result) for kind, _, inputs, result in operations if kind == "MUL" and read.is_gated(inputs)]
    squeezed = [(inputs[0], result) for kind, _, inputs, result in operations if kind == "MEAN"]
    assert len(gated) == len(squeezed) > 10
    for (products, gate), result in gated:
        assert {read.name(products), read.name(gate), read.name(result)} <= names
    assert {name for pair in squeezed for name in map(read.name, pair)} <= names
    wide = [result for _, _, _, result in operations if not read.is_narrow(result)]
    assert {read.name(result) for result in wide if read.name(result) in names} == {
        read.name(index) for (products, _), result in gated for index in (products, result)
    }


def test_gates_in_float_bring_the_maps_nearer(reference, monkeypatch):
    network = common.load("efficientpose-rt-coco", None, None, None)
    static = rules.static_model(network.model, network.input_size)
    paths = sorted((reference / "data/coco_samples/images").glob("*.jpg"))[:9]
    images = [cv2.resize(ke.data.read_image(path), network.input_size)[None] for path in paths]
    expected = [maps_of(static, image)["heatmaps"] for image in images[6:]]

    def distance() -> float:
        content = quantize.convert(static, "int8", calibration=images[:6])
        found = [run(content, image)["heatmaps"] for image in images[6:]]
        return float(np.mean(np.abs(expected) * np.square(np.subtract(found, expected))))

    with_gates = distance()
    monkeypatch.setattr(quantize, "gates", lambda content: set())
    assert with_gates < 0.7 * distance()


def test_samples_are_of_what_the_outputs_show(monkeypatch):
    image = keras.Input((64, 64, 3), batch_size=1, name="image")
    layer = keras.layers.Conv2D(3, 1, name="conv")
    model = keras.Model(image, {"maps": layer(image)})
    layer.kernel.assign(np.eye(3)[None, None])
    shown = np.full((1, 64, 64, 3), 1, np.uint8)
    shown[:, 8:16, 32:40] = 200
    monkeypatch.setattr(ranges, "SAMPLE_SIZE", 3000)
    bright = [np.mean(values.sample == 200) for values in ranges.measure(quantize.convert(model), [shown]).values()]
    # A 64th of the image, but 200 / 263 of what it shows.
    np.testing.assert_allclose(bright, 200 / 263, atol=0.08)


def test_of_cuts_that_were_tried_the_one_nearest_to_float_is_taken(monkeypatch):
    static = rules.static_model(trained(lambda: ke.EfficientPose("RT", input_shape=(64, 64, 3))))
    images = [noise((64, 64), seed=seed) for seed in range(3)]
    expected = maps_of(static, images[0])["heatmaps"]
    tried = {}
    for cuts in [(0.8,), (0.05,), (0.8, 0.05), (0.05, 0.8)]:
        monkeypatch.setattr(ranges, "LEAST_KEPT", cuts)
        content = quantize.convert(static, "int8", calibration=images[:1])
        # Peaks count most.
        apart = np.abs(expected) * np.square(run(content, images[0])["heatmaps"] - expected)
        tried[cuts] = float(apart.mean())
    assert tried[(0.8,)] != tried[(0.05,)]
    assert tried[(0.8, 0.05)] == tried[(0.05, 0.8)] == min(tried.values())


def test_published_weights_at_int8_keep_a_short_beginning_in_float(reference):
    model = ke.EfficientPose("RT", weights=str(reference / "weights/EfficientPoseRT.h5"))
    static = rules.static_model(model)
    paths = sorted((reference / "data/coco_samples/images").glob("*.jpg"))[:6]
    images = [cv2.resize(ke.data.read_image(path), (224, 224))[None] for path in paths]
    content = quantize.convert(static, "int8", calibration=images)
    kernels = kernel_types(content)
    assert kernels[0] == FLOAT32
    read = Graph(quantize.convert(static))
    _, last, weights = what_the_last_convolutions_read(read.content())
    gates_kernels = [
        read.constant(inputs[1]).size
        for kind, _, inputs, result in read.operations()
        if kind == "CONV_2D" and read.is_narrow(result)
    ]
    assert kernels.count(FLOAT32) - last - len(gates_kernels) < (len(kernels) - len(gates_kernels)) / 3
    assert len(content) < 4 * static.count_params() / 2 + 3 * (weights + sum(gates_kernels))
    actual, expected = (maps["heatmaps"] for maps in (run(content, images[0]), maps_of(static, images[0])))
    assert np.corrcoef(actual.ravel(), expected.ravel())[0, 1] > 0.97


def test_int16x8_is_close(static_lite):
    images = [noise(seed=seed) for seed in range(2)]
    content = quantize.convert(static_lite, "int16x8", calibration=images)
    assert set(kernel_types(content)) == {INT8}
    actual, expected = (maps["heatmaps"] for maps in (run(content, images[0]), maps_of(static_lite, images[0])))
    assert np.corrcoef(actual.ravel(), expected.ravel())[0, 1] > 0.999


def test_biases_make_up_for_rounding(tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), batch_size=1, name="image")
    layer = keras.layers.Conv2D(8, 1, kernel_initializer="random_normal", name="conv")
    model = keras.Model(image, {"maps": layer(image)})
    quantize._saved_model(model, str(tmp_path), input_dtype="float32")
    content = quantize._converted(str(tmp_path), "float32")
    shown = noise((16, 16))
    measured = ranges.measure(content, [shown])
    # Cut off far below what comes, so that there is something to make up for.
    kept = dict.fromkeys(measured, (0.0, 150.0))
    graph = Graph(bias.corrected(content, measured, kept))
    (found,) = (graph.constant(inputs[2]) for kind, _, inputs, _ in graph.operations() if kind == "CONV_2D")
    kernel = layer.kernel.numpy()[0, 0].T.astype(np.float64)
    pixels = shown.reshape(-1, 3).astype(np.float64)
    expected = (pixels @ kernel.T).mean(axis=0)
    rounded = ranges.rounded(pixels, (0.0, 150.0)) @ bias.quantized(kernel, axis=0).T
    assert np.abs(rounded.mean(axis=0) - expected).max() > 1
    np.testing.assert_allclose(rounded.mean(axis=0) + found, expected, atol=1e-3)


def test_convert_says_what_it_needs(static_lite):
    with pytest.raises(ValueError, match="Did you mean 'int8'"):
        quantize.convert(static_lite, "int-8")
    with pytest.raises(ValueError, match="calibration=.... Received: calibration=None"):
        quantize.convert(static_lite, "int8")
    with pytest.raises(ValueError, match=r"uint8 RGB of shape \(1, 64, 96, 3\). Received: uint8 of shape \(1, 64, 64"):
        quantize.convert(static_lite, "int8", calibration=[noise((64, 64))])
    with pytest.raises(ValueError, match="at least one image"):
        quantize.convert(static_lite, "int8", calibration=[])
