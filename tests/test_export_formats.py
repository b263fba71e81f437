"""One table of formats: what it offers, its functions take; what it does not is refused before anything is loaded."""

from __future__ import annotations

import onnx
import painted
import pytest
import typer
from typer.testing import CliRunner

from keras_ehrnet.cli.export import export
from keras_ehrnet.export import formats
from keras_ehrnet.runtime import TFLiteNetwork


def test_formats_offer_what_their_functions_take():
    for name, entry in formats.FORMATS.items():
        path = f"model{entry.suffix}"
        for precision in entry.precisions:
            for decode in entry.decodes:
                images = {"calibration": "photos"} if precision in entry.calibrated else {}
                options = {"precision": precision, "decode": decode, "weights": "w", "input_size": (64, 64), **images}
                assert formats.check(path, name, **options)[0] == name


FORMAT_MISTAKES = {
    "no format": (("model",), {}, r"ends in \.tflite or \.onnx"),
    "format": (("model", "tf-lite"), {}, "Did you mean 'tflite'"),
    "suffix": (("model.onnx", "tflite"), {}, r"ends in \.tflite"),
    "precision": (("model.onnx",), {"precision": "int8"}, "'onnx' has no such precision"),
    "decode": (("model", "saved-model"), {"decode": "poses"}, "'saved-model' has no such decode"),
    "option": (("model", "tftrt"), {"max_people": 3}, "'tftrt' has no such option. .*'batch'.* Received: max_people=3"),
    "calibration": (("model.tflite",), {"precision": "int8"}, "name a folder"),
}


@pytest.mark.parametrize(("arguments", "options", "message"), FORMAT_MISTAKES.values(), ids=FORMAT_MISTAKES)
def test_what_a_format_does_not_offer(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        formats.check(*arguments, **options)


@pytest.fixture(scope="module")
def command():
    app = typer.Typer()
    app.command()(export)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def test_onnx_from_the_command_line(command, tmp_path):
    painted.network("efficientpose_nas").save(tmp_path / "mine.keras")
    path = tmp_path / "mine.onnx"
    options = ("--batch", "any", "--opset", 15, "--input-dtype", "float32", "--decode", "peaks")
    result = command(tmp_path / "mine.keras", "-o", path, *options)
    assert result.exit_code == 0, result.output
    model = onnx.load(path)
    (image,) = model.graph.input
    assert image.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert (image.type.tensor_type.elem_type, model.opset_import[0].version) == (onnx.TensorProto.FLOAT, 15)
    for batch in ("0", "some"):
        result = command(tmp_path / "mine.keras", "-o", path, "--batch", batch)
        assert isinstance(result.exception, ValueError) and "whole number" in str(result.exception)


def test_export_from_the_command_line(command, tmp_path):
    painted.network("efficientpose_nas").save(tmp_path / "mine.keras")
    path = tmp_path / "new" / "mine.tflite"
    result = command(tmp_path / "mine.keras", "-o", path, "--precision", "float16", "--license", "MIT")
    assert result.exit_code == 0, result.output
    assert f"{path} (0.0 MB)" in result.output
    assert "Input:  uint8 RGB 64x96" in result.output
    assert "Output: heatmaps 1x16x24x3" in result.output
    about = TFLiteNetwork(path).metadata
    assert (about.precision, about.license, about.skeleton.num_joints) == ("float16", "MIT", 3)


def test_mistakes_on_the_command_line(command, tmp_path):
    result = command("efficientpose-rt", "-o", tmp_path / "m.onnx", "--precision", "int8")
    assert isinstance(result.exception, ValueError)
    assert "has no such precision" in str(result.exception)
    assert isinstance(command("efficientpose-rt").exception, ValueError)
    assert not list(tmp_path.iterdir())
    help_text = command("--help").output
    assert all(name in help_text for name in formats.FORMATS)
