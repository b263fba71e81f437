"""The formats that models are exported in: one table for checks, help texts and documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_ehrnet.export.litert.convert import DECODES
from keras_ehrnet.export.litert.quantize import PRECISIONS
from keras_ehrnet.export.tensorrt import convert as tftrt
from keras_ehrnet.support.messages import suggestion

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Format:
    """A format, and what can be chosen in it.

    Args:
        description: str. What runs it.
        suffix: str. How names of its files end; empty for folders.
        function: str. Module and name of the function that writes it.
        precisions: tuple of str. The first is the default.
        decodes: tuple of str. How much of the way to people may be inside.
        calibrated: tuple of str. Precisions that are calibrated on images.
        made_from: str. The format that it is made from, if any; it has that one's options too.
    """

    description: str
    suffix: str
    function: str
    precisions: tuple[str, ...] = ("float32",)
    decodes: tuple[str, ...] = ("none",)
    calibrated: tuple[str, ...] = ()
    made_from: str = ""


_CALIBRATED = tuple(name for name, precision in PRECISIONS.items() if precision.needs_calibration)

FORMATS: dict[str, Format] = {
    "tflite": Format(
        "LiteRT: phones, single-board computers, browsers",
        ".tflite",
        "keras_ehrnet.export.litert.convert:tflite",
        tuple(PRECISIONS),
        tuple(DECODES),
        _CALIBRATED,
    ),
    "onnx": Format(
        "ONNX Runtime, TensorRT, OpenVINO",
        ".onnx",
        "keras_ehrnet.export.onnx_file:onnx",
        decodes=tuple(DECODES),
    ),
    "saved-model": Format("TensorFlow Serving", "", "keras_ehrnet.export.saved_model_folder:saved_model"),
    "tftrt": Format(
        "TensorFlow with TensorRT: Jetson and NVIDIA servers",
        "",
        "keras_ehrnet.export.tensorrt.convert:tftrt",
        tuple(tftrt.PRECISIONS),
        calibrated=tuple(name for name, precision in tftrt.PRECISIONS.items() if precision.needs_calibration),
        made_from="saved-model",
    ),
}


ANY = "any"
"""As a batch: any number of images."""


def format_of(path: str | Path, name: str | None = None) -> str:
    """The format of a file to write: by name, else by the end of the file's name.

    Args:
        path: str or Path of the file or folder.
        name: str, or None. Key of `FORMATS`.

    Returns:
        Key of `FORMATS`.

    Raises:
        ValueError: if there is no such format, or the file's name does not end as it has to.

    Example:
        >>> from keras_ehrnet.export.formats import format_of
        >>> format_of("model.onnx"), format_of("folder", "saved-model")
        ('onnx', 'saved-model')
    """
    suffix = Path(path).suffix.lower()
    if name is None:
        name = next((name for name, entry in FORMATS.items() if entry.suffix and entry.suffix == suffix), None)
        if name is None:
            ends = " or ".join(entry.suffix for entry in FORMATS.values() if entry.suffix)
            raise ValueError(f"Name the format, or a file that ends in {ends}. Received: {str(path)!r}")
    if name not in FORMATS:
        raise ValueError(f"There is no such format. {suggestion(name, FORMATS)} Received: {name!r}")
    if FORMATS[name].suffix and suffix != FORMATS[name].suffix:
        raise ValueError(f"A file of format {name!r} ends in {FORMATS[name].suffix}. Received: {str(path)!r}")
    return name


def write(source: str | Path | keras.Model, path: str | Path, format: str | None = None, **options: Any) -> Path:
    """Exports a model in any format.

    Args:
        source: `keras.Model`, the path of a `.keras` file, or a name such as `"h-2"` or `"efficientpose-rt"`.
        path: str or Path of the file or folder to write.
        format: str, or None for the one that the file's name ends in. Key of `FORMATS`.
        options: of the format's function; None stands for its default, and `batch="any"` for any number of images.

    Returns:
        Path of the file or folder.

    Raises:
        ValueError: if there is no such format, or it does not offer what is asked for.

    Example:
        >>> from keras_ehrnet import export
        >>> export.write("efficientpose-rt", "rt.onnx")  # doctest: +SKIP
    """
    name, accepted = check(path, format, **options)
    return _function(name)(source, path, **accepted)


def check(path: str | Path, format: str | None = None, **options: Any) -> tuple[str, dict[str, Any]]:
    """What `write` would do, before anything is loaded or computed.

    Args:
        path: as of `write`.
        format: as of `write`.
        options: as of `write`.

    Returns:
        Name of the format, and the options that its function takes.

    Raises:
        ValueError: as of `write`.

    Example:
        >>> from keras_ehrnet.export import formats
        >>> formats.check("model.onnx", precision="float32", weights=None)
        ('onnx', {})
        >>> formats.check("model.onnx", precision="int8")
        Traceback (most recent call last):
        ValueError: Format 'onnx' has no such precision. Valid: 'float32'. Received: precision='int8'
    """
    name = format_of(path, format)
    given = {option: value for option, value in options.items() if value is not None}
    for option, valid in (("precision", FORMATS[name].precisions), ("decode", FORMATS[name].decodes)):
        if option in given and given[option] not in valid:
            raise ValueError(
                f"Format {name!r} has no such {option}. {suggestion(given[option], valid)} "
                f"Received: {option}={given[option]!r}"
            )
        if len(valid) == 1:
            given.pop(option, None)
    unknown = sorted(given.keys() - options_of(name))
    if unknown:
        hint = suggestion(unknown[0], sorted(options_of(name) - {"source", "path"}))
        raise ValueError(f"Format {name!r} has no such option. {hint} Received: {unknown[0]}={given[unknown[0]]!r}")
    if given.get("precision") in FORMATS[name].calibrated and "calibration" not in given:
        raise ValueError(
            f"Precision {given['precision']!r} is calibrated on images such as the network will see: name a folder of "
            "them as the calibration. Received: none"
        )
    if given.get("batch") == ANY:
        given["batch"] = None
    return name, given


def options_of(name: str) -> set[str]:
    """Names of the options of a format, those included that its function passes on."""
    functions = [_function(part) for part in (name, FORMATS[name].made_from) if part]
    return {option for function in functions for option in signature(function).parameters}


def _function(name: str) -> Callable[..., Path]:
    module, function = FORMATS[name].function.split(":")
    return getattr(import_module(module), function)
