"""`keras-ehrnet export`: models as files for devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_ehrnet import metadata
from keras_ehrnet.cli.common import WeightsOption, load_keras, make_console, size_of
from keras_ehrnet.export import formats
from keras_ehrnet.export.formats import FORMATS
from keras_ehrnet.export.litert.convert import DECODES
from keras_ehrnet.export.litert.quantize import PRECISIONS

if TYPE_CHECKING:
    from rich.console import Console

_FORMATS = "; ".join(f"{name}: {entry.description}" for name, entry in FORMATS.items())
_PRECISIONS = "; ".join(f"{name}: {entry.description}" for name, entry in PRECISIONS.items())
_DECODES = "; ".join(f"{name}: {description}" for name, description in DECODES.items())


def export(
    model: Annotated[str, typer.Argument(help="Model by name, or a .keras file.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File or folder to write.")] = None,
    format: Annotated[
        str | None, typer.Option("--format", "-f", help=f"{_FORMATS}. Default: by the file's name.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", "-p", help=f"{_PRECISIONS}. Default: float32.")
    ] = None,
    decode: Annotated[str | None, typer.Option("--decode", "-d", help=f"What comes out. {_DECODES}.")] = None,
    weights: WeightsOption = None,
    input_size: Annotated[str | None, typer.Option("--input-size", help="height,width; default: the model's.")] = None,
    calibration: Annotated[
        str | None, typer.Option("--calibration", "-c", help="Folder or pattern of images to calibrate integers with.")
    ] = None,
    calibration_images: Annotated[
        int | None, typer.Option("--calibration-images", min=1, help="At most so many of them. Default: 200.")
    ] = None,
    multi_person: Annotated[
        bool, typer.Option("--multi-person", help="Of --decode poses: EfficientPose finds several people.")
    ] = False,
    max_people: Annotated[
        int | None, typer.Option("--max-people", min=1, help="Of --decode poses, for several people. Default: 20.")
    ] = None,
    max_peaks: Annotated[
        int | None, typer.Option("--max-peaks", min=1, help="Of --decode peaks, per joint. Default: 20.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", help="Images at a time: a number or, not of tflite, any. Default: 1.")
    ] = None,
    any_size: Annotated[
        bool,
        typer.Option("--any-size", help="Of onnx: images of any size that the strides divide."),
    ] = False,
    input_dtype: Annotated[
        str | None, typer.Option("--input-dtype", help="What goes in: uint8 or float32, in [0, 255]. Default: uint8.")
    ] = None,
    opset: Annotated[
        int | None, typer.Option("--opset", help="Of onnx: version of its operators. Default: 17.")
    ] = None,
    license: Annotated[str | None, typer.Option("--license", help="Of the weights, for the file to tell.")] = None,
    check_tftrt: Annotated[
        bool, typer.Option("--check-tftrt", help="Say which operations TF-TRT would take; needs no TensorRT.")
    ] = False,
) -> None:
    """Write a model as one file for a device: phone, Raspberry Pi, browser, Jetson."""
    if output is None and not check_tftrt:
        raise ValueError("Name the file to write, such as --output model.tflite. Received: no --output")
    network = {
        "weights": weights,
        "input_size": size_of(input_size),
    }
    options = {
        **network,
        "precision": precision,
        "decode": decode,
        "calibration": calibration,
        "calibration_images": calibration_images,
        "multi_person": multi_person or None,
        "max_people": max_people,
        "max_peaks": max_peaks,
        "batch": _batch(batch),
        "any_size": any_size or None,
        "input_dtype": input_dtype,
        "opset": opset,
        "license": license,
    }
    if output is not None:
        name, _ = formats.check(output, format, **options)
        options["progress"] = True if "progress" in formats.options_of(name) else None
    load_keras()
    console = make_console()
    if check_tftrt:
        from keras_ehrnet.export.tensorrt import check as tftrt_check

        console.print(tftrt_check.check(model, **network))
    if output is not None:
        path = formats.write(model, output, format, **options)
        _describe(console, path)


def _batch(text: str | None) -> int | str | None:
    if text is None or text == formats.ANY:
        return text
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"The batch is a whole number of images, or {formats.ANY!r}. Received: --batch {text}")
    return int(text)


def _describe(console: Console, path: Path) -> None:
    """What was written: its size, and for a TensorFlow Lite file what goes in and comes out."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    console.print(f"{path} ({sum(file.stat().st_size for file in files) / 1e6:.1f} MB)", soft_wrap=True)
    about = metadata.read(path) if path.suffix.lower() == FORMATS["tflite"].suffix else None
    if about is None:
        return
    console.print(f"Input:  {about.input.dtype} {about.input.colors} {about.input.height}x{about.input.width}")
    for output in about.outputs:
        shape = "x".join(map(str, output.shape))
        console.print(f"Output: {output.name} {shape} {output.layout}", soft_wrap=True, highlight=False, markup=False)
    if about.drift is not None:
        console.print(
            f"Compared with the Keras model on {about.drift.images} images: joints move by {about.drift.median:.2%} of "
            f"the input's side in the median, {about.drift.lost:.1%} of {about.drift.joints} are lost",
            soft_wrap=True,
        )
