"""TensorFlow 2.17.1, the last with TF-TRT: its converter takes what this package passes to it (`make test-tf217`)."""

from __future__ import annotations

import inspect
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

if not tf.__version__.startswith("2.17."):
    pytest.skip(f"for TensorFlow 2.17, not {tf.__version__}: make test-tf217", allow_module_level=True)

from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils
from tensorflow.python.compiler.tensorrt import trt_convert

import keras_ehrnet as ke
from keras_ehrnet.export.saved_model_folder import saved_model
from keras_ehrnet.export.tensorrt import check as tftrt_check
from keras_ehrnet.export.tensorrt.convert import PRECISIONS, check, converter_arguments, tftrt
from keras_ehrnet.export.tensorrt.ops import CONVERTIBLE
from keras_ehrnet.metadata import read

Converter = trt_convert.TrtGraphConverterV2
# FakeOp is TensorFlow's own, for its tests.
REGISTERED = set(_pywrap_py_utils.get_registered_op_converters()) - {"FakeOp"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_converter_has_our_arguments(tmp_path, precision):
    arguments = converter_arguments(tmp_path, precision)
    inspect.signature(Converter).bind(**arguments)
    trt_convert._check_conversion_params(
        trt_convert.TrtConversionParams(
            **{name: value for name, value in arguments.items() if not name.startswith("input_")}
        ),
        is_v2=True,
    )


def test_names_and_defaults_are_those_of_tftrt():
    assert {entry.tftrt for entry in PRECISIONS.values()} == {
        getattr(trt_convert.TrtPrecisionMode, entry.tftrt) for entry in PRECISIONS.values()
    }
    assert trt_convert.TrtConversionParams().minimum_segment_size == tftrt_check.MINIMUM_SEGMENT_SIZE


def test_graphs_are_simplified_as_tftrt_does_it():
    expected = trt_convert._get_tensorrt_rewriter_config(trt_convert.TrtConversionParams(), is_dynamic_op=True)
    actual = tftrt_check.simplification()
    assert list(actual.optimizers) == list(expected.optimizers)
    assert actual.meta_optimizer_iterations == expected.meta_optimizer_iterations


@pytest.mark.skipif(not REGISTERED, reason="a TensorFlow without CUDA registers no converters")
def test_operations_are_those_that_tensorflow_registers():
    assert REGISTERED == CONVERTIBLE


@pytest.fixture(scope="module")
def model():
    return ke.EfficientPose("RT_LITE", input_shape=(32, 48, 3))


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return saved_model(model, tmp_path_factory.mktemp("tf217") / "model")


@pytest.fixture
def gpu(monkeypatch):
    """A machine that seems to have one."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"])


@pytest.fixture
def converter(monkeypatch, gpu, path):
    """The converter with the real one's signatures, which runs the SavedModel on what it is fed, and copies it."""
    fed: list[tuple[str, int]] = []
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]

    def run(step: str, feed) -> None:
        inputs = list(feed())
        fed.append((step, len(inputs)))
        for arguments in inputs:
            signature(**{name: tf.constant(array) for name, array in arguments.items()})

    fake = mock.create_autospec(Converter)
    instance = fake.return_value
    instance.convert.side_effect = lambda calibration_input_fn=None: (
        calibration_input_fn and run("calibration", calibration_input_fn)
    )
    instance.build.side_effect = lambda input_fn: run("build", input_fn)
    instance.save.side_effect = lambda output_saved_model_dir, save_gpu_specific_engines=True: shutil.copytree(
        path, output_saved_model_dir
    )
    fake.fed = fed
    monkeypatch.setattr(trt_convert, "TrtGraphConverterV2", fake)
    return fake


@pytest.mark.parametrize(("precision", "name"), [("FP32", "float32"), ("float16", "float16")])
def test_engines_are_built_and_saved(converter, path, tmp_path, precision, name):
    target = tftrt(path, tmp_path / "engine", precision, max_workspace_bytes=1 << 20, minimum_segment_size=5)
    arguments = converter.call_args.kwargs
    assert arguments["input_saved_model_dir"] == str(path)
    assert (arguments["max_workspace_size_bytes"], arguments["minimum_segment_size"]) == (1 << 20, 5)
    assert arguments["precision_mode"] == PRECISIONS[name].tftrt
    assert converter.fed == [("build", 1)]
    assert read(target).precision == name
    assert [entry.name for entry in tmp_path.iterdir()] == ["engine"]


def test_integers_are_calibrated_with_fitted_images(converter, path, tmp_path):
    photos = [np.full((20, 40, 3), level, np.uint8) for level in (0, 100, 200)]
    target = tftrt(path, tmp_path / "engine", "INT8", calibration=photos, calibration_images=2)
    assert converter.call_args.kwargs["use_calibration"]
    assert converter.fed == [("calibration", 2), ("build", 1)]
    metadata = read(target)
    assert (metadata.precision, metadata.calibration_images) == ("int8", 2)


def test_models_are_converted_without_a_detour(converter, model, tmp_path):
    target = tftrt(model, tmp_path / "engine", "FP16", license="Apache-2.0")
    assert read(target).license == "Apache-2.0"
    assert [entry.name for entry in tmp_path.iterdir()] == ["engine"]


def test_engines_need_a_fixed_batch(converter, model, tmp_path):
    with pytest.raises(ValueError, match="An engine is built for one shape"):
        tftrt(saved_model(model, tmp_path / "model", batch=None), tmp_path / "engine")


def test_tensorflow_without_tensorrt_says_what_to_install(gpu, path, tmp_path):
    with pytest.raises(ValueError, match=r"nvcr.io/nvidia/tensorflow.*Received: TensorFlow 2.17.*, which says: "):
        tftrt(path, tmp_path / "engine")
    assert not list(tmp_path.iterdir())


FAMILIES = {
    "EfficientHRNet": lambda: ke.EfficientHRNet(-4, input_shape=(64, 96, 3)),
    "EfficientPose": lambda: ke.EfficientPose("I", input_shape=(64, 96, 3)),
    "EfficientPoseNAS": lambda: ke.EfficientPoseNAS("A", input_shape=(64, 96, 3)),
}


@pytest.mark.parametrize("build", FAMILIES.values(), ids=FAMILIES)
def test_every_family_is_exported_and_becomes_one_engine(build, tmp_path):
    model = build()
    path = saved_model(model, tmp_path / "model")
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3)).astype("uint8")
    actual = tf.saved_model.load(str(path)).signatures["serving_default"](image=tf.constant(images))
    for name, maps in model.predict_on_batch(images).items():
        assert np.abs(actual[name].numpy() - maps).max() <= 2e-5 * maps.std(), name
    assert check(path).one_engine


def test_published_weights_load(reference):
    model = ke.EfficientPose("RT", weights=reference / "weights/EfficientPoseRT.h5")
    golden = np.load(reference / "reference/efficientpose_RT.npz")
    maps = model.predict(golden["image"], verbose=0)["heatmaps"]
    assert np.abs(maps - golden["upscaled_confs"]).max() <= 2e-5 * golden["upscaled_confs"].std()
