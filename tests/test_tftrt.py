"""TF-TRT: what becomes of every family is foretold; where there is no TF-TRT, the message says what to install."""

from __future__ import annotations

import io
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

import keras_ehrnet as ke
from keras_ehrnet.export.saved_model_folder import saved_model
from keras_ehrnet.export.tensorrt import check as tftrt_check
from keras_ehrnet.export.tensorrt.check import Report, find_segments
from keras_ehrnet.export.tensorrt.convert import check, tftrt

FAMILIES = {
    "EfficientHRNet": lambda: ke.EfficientHRNet(-4),
    "EfficientPose": lambda: ke.EfficientPose("I", input_shape=(64, 64, 3)),
    "EfficientPose Lite": lambda: ke.EfficientPose("RT_LITE", input_shape=(64, 64, 3)),
    "EfficientPoseNAS": lambda: ke.EfficientPoseNAS("A", input_shape=(64, 64, 3)),
}


def with_biases(model: keras.Model) -> keras.Model:
    """Grappler would leave out the addition of zeros."""
    for weight in model.weights:
        if weight.path.endswith(("beta", "bias")):
            weight.assign(np.random.default_rng(0).normal(0, 1, weight.shape))
    return model


@pytest.mark.parametrize("build", FAMILIES.values(), ids=FAMILIES)
def test_every_family_becomes_one_engine(build):
    model = with_biases(build())
    report = check(model, input_size=(64, 64))
    assert report.one_engine
    (segment,) = report.segments
    convolutions = [layer for layer in model.layers if "Conv2D" in type(layer).__name__]
    kinds = ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput")
    assert sum(segment[kind] for kind in kinds) == len(convolutions)
    assert segment["BiasAdd"] >= len(convolutions) - 2
    assert [(entry.operation, entry.reason) for entry in report.outside] == [("Cast", "uint8 is no type of TF-TRT")]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    model = ke.EfficientPose("RT_LITE", input_shape=(32, 32, 3))
    return saved_model(model, tmp_path_factory.mktemp("tftrt") / "rt-lite")


def test_saved_models_are_checked_too(path):
    report = check(path)
    assert (report.name, report.one_engine) == ("rt-lite", True)


def test_batches_of_any_size_break_the_engine():
    report = check(ke.EfficientPose("RT_LITE", input_shape=(32, 32, 3)), batch=None)
    assert not report.one_engine
    reasons = Counter((entry.operation, entry.reason) for entry in report.outside)
    assert reasons["Shape", "shapes are not fixed"] == 3
    assert reasons["Conv2DBackpropInput", "input 0 is not constant"] == 3


def test_operations_that_tensorrt_has_not_are_named(monkeypatch, path):
    monkeypatch.setattr(tftrt_check, "CONVERTIBLE", tftrt_check.CONVERTIBLE - {"ConcatV2"})
    report = check(path)
    assert len(report.segments) > 1
    assert not report.one_engine
    assert ("ConcatV2", "no operation of TF-TRT") in {(entry.operation, entry.reason) for entry in report.outside}


def test_small_segments_are_left_out(path):
    assert check(path, minimum_segment_size=10_000).segments == ()


def test_report_reads_well(path):
    report = check(path)
    assert str(report).startswith("rt-lite: 1 engine (")
    assert str(report).endswith("operations); outside: Cast (uint8 is no type of TF-TRT)")
    output = io.StringIO()
    Console(file=output, width=120).print(report)
    assert "TF-TRT: rt-lite" in output.getvalue()
    assert "uint8 is no type of TF-TRT" in output.getvalue()
    assert str(Report("empty", (), ())) == "empty: 0 engines; outside: nothing"


def is_acyclic_with(segments: list[set[str]], successors: dict[str, list[str]]) -> bool:
    """Whether a graph has no cycle once every segment is one node."""
    owner = {name: f"segment {number}" for number, segment in enumerate(segments) for name in segment}
    after: dict[str, set[str]] = {owner.get(name, name): set() for name in successors}
    for name, others in successors.items():
        after[owner.get(name, name)] |= {owner.get(other, other) for other in others} - {owner.get(name, name)}
    while after:
        ends = {name for name, others in after.items() if not others}
        if not ends:
            return False
        after = {name: others - ends for name, others in after.items() if name not in ends}
    return True


@pytest.mark.parametrize("seed", range(20))
def test_segments_close_no_cycle_and_cannot_grow(seed):
    random = np.random.default_rng(seed)
    names = [f"n{index}" for index in range(30)]
    successors = {
        name: [other for other in names[index + 1 : index + 6] if random.random() < 0.4]
        for index, name in enumerate(names)
    }
    taken = {name for name in names if random.random() < 0.75}
    segments = find_segments(successors, taken)
    assert sorted(name for segment in segments for name in segment) == sorted(taken)
    assert is_acyclic_with(segments, successors)
    for segment in segments:
        for other in segments:
            touching = any(after in other for name in segment for after in successors[name])
            if segment is not other and touching:
                joined = [entry for entry in segments if entry not in (segment, other)] + [segment | other]
                assert not is_acyclic_with(joined, successors)


def test_a_graph_without_gaps_is_one_segment():
    successors = {f"n{index}": [f"n{index + 1}", f"n{index + 3}"] for index in range(40)}
    successors = {name: [other for other in others if other in successors] for name, others in successors.items()}
    assert len(find_segments(successors, set(successors))) == 1


MISTAKES = {
    "precision": ({"precision": "int4"}, "Did you mean 'int8'"),
    "calibration missing": ({"precision": "INT8"}, "Calibration images are for INT8, .*Received: .* without"),
    "calibration not needed": ({"precision": "FP16", "calibration": "photos"}, "Received: .* with calibration"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(path, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        tftrt(path, tmp_path / "engine", **options)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU")
def test_where_there_is_no_tensorrt_the_message_says_what_to_install(path, tmp_path):
    message = r"up to 2.17 and needs TensorRT.*nvcr.io/nvidia/tensorflow.*trtexec --onnx.*Received: TensorFlow 2\."
    with pytest.raises(ValueError, match=message):
        tftrt(path, tmp_path / "engine", "FP16")
    assert not list(tmp_path.iterdir())
