"""Networks as TensorFlow Lite files: for phones, single-board computers and browsers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_ehrnet.decode import graph
from keras_ehrnet.decode.paf import PEAK_THRESHOLD
from keras_ehrnet.export import common
from keras_ehrnet.export.litert import flatbuffer, quantize
from keras_ehrnet.families import DETECTION_THRESHOLD, MAPS
from keras_ehrnet.metadata import Input, Metadata, Output, append
from keras_ehrnet.runtime.litert import Interpreter, TFLiteNetwork
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.files import write_file
from keras_ehrnet.support.messages import is_whole, suggestion, suggests_keywords
from keras_ehrnet.support.pinned import pinned
from keras_ehrnet.support.terminal import progress_bar
from keras_ehrnet.weights.formats import WeightsSource

if TYPE_CHECKING:
    import keras

    from keras_ehrnet.runtime.keras import KerasNetwork

DECODES: dict[str, str] = {
    "none": "maps, as the Keras model gives them",
    "peaks": "the best places of every joint",
    "poses": "people",
}
"""What a file may give, in words."""

_PEAKS = "(image, joint, peak, 4): y, x, score, tag; y and x in [0, 1] of the input; best first; unused rows are 0"
_PERSON = "(image, 1, joint, 3): y, x, score; y and x in [0, 1] of the input"
PEOPLE = (
    "(image, person, 3 joints + 5): y, x, score of every joint, then ymin, xmin, ymax, xmax and score of the person; "
    "coordinates in [0, 1] of the input; best first; a joint not found, and rows of nobody, are 0"
)
LAYOUTS: dict[tuple[str, str], str] = {
    ("efficienthrnet", "peaks"): _PEAKS,
    ("efficienthrnet", "poses"): PEOPLE,
    ("efficientpose", "peaks"): _PEAKS,
    ("efficientpose", "poses"): _PERSON,
    ("efficientpose_nas", "peaks"): _PEAKS,
    ("efficientpose_nas", "poses"): _PERSON,
}
"""How to read the output of models that decode by themselves, by family and `decode`; with `multi_person`, `PEOPLE`."""


@suggests_keywords
@pinned
def tflite(
    source: str | Path | keras.Model,
    path: str | Path,
    precision: str = "float32",
    decode: str = "none",
    *,
    weights: WeightsSource | None = None,
    skeleton: Skeleton | None = None,
    input_size: tuple[int, int] | None = None,
    calibration: Any = None,
    calibration_images: int = 200,
    multi_person: bool = False,
    max_people: int = 20,
    max_peaks: int = 20,
    batch: int = 1,
    input_dtype: str = "uint8",
    license: str | None = None,
    min_score: float | None = None,
    progress: bool = False,
) -> Path:
    """Writes a `.tflite` file: an image in; maps, peaks or people out. Built-in operations only.

    What is decoded inside is decoded in float32, whatever the network's precision. The file says what it is
    (`keras_ehrnet.metadata`): `keras_ehrnet.PosePredictor.load(path)` needs nothing else.

    Files take images of one size: one at a time, or `batch` where maps come out. An interpreter's
    `resize_tensor_input` gives more images at once with maps of EfficientPose and EfficientPose-A/B/C;
    EfficientHRNet's refuse it. Of decoded files it must not be used: they take several images and answer for the first
    alone. Another height or width is refused by all of them.

    Args:
        source: `keras.Model`, the path of a `.keras` file, or a name such as `"h-2"` or `"efficientpose-rt"`.
        path: str or Path of the file to write; it ends in `.tflite`.
        precision: str. `"float32"`, `"float16"`, `"dynamic"`, `"int8"` or `"int16x8"`
            (`keras_ehrnet.export.litert.quantize.PRECISIONS`). The latter two need `calibration`.
        decode: str. `"none"`: maps by the names of the Keras model's outputs. `"peaks"`: `(1, K, P, 4)`, y, x, score
            and tag of the P best places of every joint. `"poses"`: people. Of EfficientHRNet `(1, N, 3K + 5)`: y, x,
            score of each joint, then ymin, xmin, ymax, xmax, score of the person; of the others `(1, 1, K, 3)`: y, x,
            score. Coordinates are in [0, 1] of the input, the best come first, and what is not found is 0.
        weights: what `keras_ehrnet.weights.load` takes; None: for a name, the published weights if there are any.
        skeleton: `Skeleton`, or None for the one that the file or the weights name.
        input_size: tuple (height, width) in pixels, or None for the model's own, or its paper's.
        calibration: folder or pattern of images, a `keras_ehrnet.data.Dataset`, or an iterable of paths or RGB arrays,
            such as the model will see. They are fitted into the input as prediction does it. Where they are given, the
            file is compared with the Keras model on some of them: a warning tells if joints move or vanish.
        calibration_images: int. At most so many of them, spread evenly.
        multi_person: bool. Whether EfficientPose with `decode="poses"` finds several people, told apart by their limbs;
            its output is then as EfficientHRNet's, which always finds several.
        max_people: int. N, for several people with `decode="poses"`.
        max_peaks: int. P, for `decode="peaks"`.
        batch: int. Images at a time, for `decode="none"`: decoders inside the file are of one image.
        input_dtype: str. What the file takes, pixels in [0, 255]: `"uint8"` or `"float32"`.
        license: str, or None. SPDX identifier of the weights' license; None: the registered one of published weights.
        min_score: float, or None for what the model's file says. Score of a person below which there is nobody, as
            measured for these weights: what predictors of the file go by.
        progress: bool. Whether to show a progress bar for calibration.

    Returns:
        Path of the file.

    Raises:
        ValueError: for a model, precision or decoder that there is not, or images that are missing.
        OSError: if the file cannot be written; what was there before is intact.

    Example:
        >>> import keras_ehrnet as ke
        >>> path = ke.export.tflite("efficientpose-rt", "rt.tflite", "int8", calibration="photos")  # doctest: +SKIP
        >>> ke.PosePredictor.load(path)("photo.jpg")  # doctest: +SKIP
        Poses(1 person, mpii_16, image 640x425, scores 0.45)
    """
    from keras_ehrnet.export.litert import calibration as calibrations
    from keras_ehrnet.export.litert.rules import static_model

    path = _checked_path(path)
    common.check_input_dtype(input_dtype)
    check_decoder(decode, max_people=max_people, max_peaks=max_peaks, batch=batch)
    if batch > 1 and decode != "none":
        raise ValueError(
            "Decoders inside a TensorFlow Lite file are of one image: leave out batch, or decode. "
            f"Received: batch={batch} with decode={decode!r}"
        )
    quantize.check_precision(precision, calibration)
    network = common.load(source, weights, skeleton, input_size)
    limbs = tells_by_limbs(network, decode, multi_person)
    settings = decoder_settings(decode, network.multi_person, limbs, max_people, max_peaks)
    images = None
    if calibration is not None:
        images = calibrations.Calibration.of(calibration, network, calibration_images, limbs)
    static = with_heads(static_model(network.model, network.input_size, batch=batch), network.family, decode, limbs)
    needs_images = quantize.PRECISIONS[precision].needs_calibration
    with progress_bar("images", shown=progress and needs_images) as bar:
        task = bar.add_task("calibration", total=len(images or ()))

        def advance(done: int) -> None:
            bar.update(task, completed=done)

        seen = None if images is None else _with_full_range(images, batch)
        maps = quantize.convert(static, precision, calibration=seen, input_dtype=input_dtype, progress=advance)
    about = {
        "precision": precision,
        "license": license or network.license,
        "calibration_images": len(images) if images is not None and needs_images else 0,
        "min_score": network.min_score if min_score is None else min_score,
    }
    if images is not None:
        exported = TFLiteNetwork(append(maps, _describe(maps, network, **about)))
        about["drift"] = calibrations.measure_drift(
            calibrations.StaticNetwork(network, static), exported, images, limbs
        )
        calibrations.warn_of_drift(about["drift"], network.name, precision)
    model = maps if decode == "none" else flatbuffer.join(maps, _decoder(static, network, decode, settings))
    content = append(model, _describe(model, network, decode=decode, decoder=settings, **about))
    _try_out(content)
    write_file(path, content)
    return path


def _checked_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".tflite":
        raise ValueError(f"The name of a TensorFlow Lite file ends in .tflite. Received: {str(path)!r}")
    return path


def check_decoder(decode: str, **counts: int) -> None:
    """ValueError for a decoder that there is not, or for numbers of what it gives that are none."""
    if decode not in DECODES:
        raise ValueError(f"There is no such decoder. {suggestion(decode, DECODES)} Received: decode={decode!r}")
    for name, value in counts.items():
        if not is_whole(value):
            raise ValueError(f"{name} is a whole number, at least 1. Received: {name}={value!r}")


def tells_by_limbs(network: KerasNetwork, decode: str, multi_person: bool) -> bool:
    """Whether the decoder inside tells people apart by their limbs; ValueError where it cannot."""
    if not multi_person or network.multi_person:
        return False
    if decode != "poses":
        raise ValueError(
            "multi_person is for decode='poses'; maps give several people with "
            f"PosePredictor.load(path, multi_person=True). Received: multi_person=True with decode={decode!r}"
        )
    missing = [name for name in graph.maps_needed(network.family, multi_person) if name not in network.model.output]
    if missing:
        raise ValueError(
            f"Several people are told apart by their limbs, for which {network.name!r} lacks {', '.join(missing)}: "
            "build it with intermediate_outputs=True. Received: multi_person=True"
        )
    return True


def peaks_settings(finds_several: bool, max_peaks: int) -> dict[str, Any]:
    """Settings of `decode="peaks"`: the one person's joints are the highest places, however low they are."""
    return {"max_peaks": int(max_peaks), "threshold": DETECTION_THRESHOLD if finds_several else 0.0}


def decoder_settings(
    decode: str, finds_several: bool, by_limbs: bool, max_people: int, max_peaks: int
) -> dict[str, Any]:
    """Arguments of `graph.decoder_function`."""
    if decode == "peaks":
        return peaks_settings(finds_several, max_peaks)
    if decode != "poses" or not (finds_several or by_limbs):
        return {}
    if by_limbs:
        about = {"multi_person": True, "search_missing": True}
        return {**about, "max_people": int(max_people), "threshold": PEAK_THRESHOLD}
    return {"max_people": int(max_people), "threshold": DETECTION_THRESHOLD}


def layout_of(family: str, decode: str, settings: Mapping[str, Any]) -> str:
    """How to read what a decoder inside a file gives, in words; empty for maps."""
    return PEOPLE if settings.get("multi_person", False) else LAYOUTS.get((family, decode), "")


def _with_full_range(images: Iterable[np.ndarray], batch: int) -> Iterator[np.ndarray]:
    """Batches of each image, with a black and a white pixel in the first: bytes then stand for themselves inside."""
    for number, image in enumerate(images):
        if number == 0:
            image = image.copy()
            image[0, 0, 0], image[0, 0, 1] = 0, 255
        yield np.repeat(image, batch, axis=0)


def with_heads(static: keras.Model, family: str, decode: str, multi_person: bool = False) -> keras.Model:
    """The network without the outputs that the decoder inside has no use for."""
    import keras

    if decode == "none":
        return static
    heads = {name: static.output[name] for name in graph.maps_needed(family, multi_person)}
    return keras.Model(static.inputs, heads, name=static.name)


def _decoder(static: keras.Model, network: KerasNetwork, decode: str, settings: dict[str, Any]) -> bytes:
    shapes = {name: tuple(maps.shape) for name, maps in static.output.items()}
    return graph.decoder_tflite(network.family, decode, shapes, skeleton=network.skeleton, **settings)


def _describe(model: bytes, network: KerasNetwork, decode: str = "none", **about: Any) -> Metadata:
    """The metadata of a model, with inputs and outputs as the interpreter sees them."""
    interpreter = Interpreter(model, verify=False)
    (image,) = interpreter.inputs.values()
    layouts = MAPS | {decode: layout_of(network.family, decode, about.get("decoder", {}))}
    given = tuple(Output(info.name, info.shape, layouts.get(info.name, "")) for info in interpreter.outputs.values())
    source = Input(*network.input_size, dtype=image.dtype.name, name=image.name)
    return Metadata(network.name, network.family, network.skeleton, source, given, decode=decode, **about)


def _try_out(content: bytes) -> None:
    """ValueError for a file that does not do what it says."""
    network = TFLiteNetwork(content)
    results = network(np.zeros((1, *network.input_size, 3), np.uint8))
    broken = [name for name, values in results.items() if not np.isfinite(values).all()]
    if broken:
        raise ValueError(f"The exported model gives values that are not finite for a black image. Received: {broken}")
