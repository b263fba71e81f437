"""Networks as ONNX files: for onnxruntime, browsers, and TensorRT without TensorFlow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_ehrnet.families import FAMILIES
from keras_ehrnet.metadata import ONNX_KEY, Metadata, Output, sealed
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.files import write_file
from keras_ehrnet.support.messages import suggests_keywords
from keras_ehrnet.support.pinned import pinned
from keras_ehrnet.weights.formats import WeightsSource

if TYPE_CHECKING:
    import keras

    from keras_ehrnet.export.onnx_decoders import Decoder, PeopleDecoder
    from keras_ehrnet.runtime.keras import KerasNetwork

OPSET = 17
OPSETS = range(13, 22)
"""What the operators of the export are the same in."""

# Runtimes refuse files newer than they are, so the file claims no more than its operators need.
_IR_VERSION = 8


@suggests_keywords
@pinned
def onnx(
    source: str | Path | keras.Model,
    path: str | Path,
    decode: str = "none",
    *,
    weights: WeightsSource | None = None,
    skeleton: Skeleton | None = None,
    input_size: tuple[int, int] | None = None,
    multi_person: bool = False,
    max_people: int = 20,
    max_peaks: int = 20,
    batch: int | None = 1,
    any_size: bool = False,
    input_dtype: str = "uint8",
    opset: int = OPSET,
    license: str | None = None,
) -> Path:
    """Writes an ONNX file that takes RGB images and gives named maps, or what they are decoded to.

    The input is `"image"` of shape `(batch, height, width, 3)`, RGB in [0, 255]; the outputs are the Keras model's,
    channels last like it. Inside, everything is channels first; normalization is part of the graph, batch
    normalization is folded into the convolutions, padding is explicit. Decoders are standard operators; those that tell
    several people apart have loops (`Loop`), and are the TensorFlow Lite file's. Names, skeleton and license are JSON
    under the key `"keras_ehrnet"` of the model's properties.

    Args:
        source: `keras.Model`, the path of a `.keras` file, or a name such as `"h-2"` or `"efficientpose-rt"`.
        path: str or Path of the `.onnx` file to write.
        decode: str. `"none"`: maps. `"peaks"`: `(batch, K, P, 4)`, y, x, score and tag (without tags 0) of the P best
            places of every joint, best first. `"poses"`: people. Of EfficientHRNet `(batch, N, 3K + 5)`: y, x, score of
            each joint, then ymin, xmin, ymax, xmax, score of the person; of the others `(batch, 1, K, 3)`: y, x,
            score. Coordinates are in [0, 1] of the input, the best come first, and what is not found is 0.
        weights: what `keras_ehrnet.weights.load` takes; None: for a name, the published weights if there are any.
        skeleton: `Skeleton`, or None for the one that the file or the weights name.
        input_size: tuple (height, width) in pixels, or None for the model's own, or its paper's.
        multi_person: bool. Whether EfficientPose with `decode="poses"` finds several people, told apart by their limbs;
            its output is then as EfficientHRNet's, which always finds several.
        max_people: int. N, for several people with `decode="poses"`.
        max_peaks: int. P, for `decode="peaks"`.
        batch: int, or None for any number of images.
        any_size: bool. Whether images may have any height and width, of which `keras_ehrnet.families.side_multiple`
            tells what divides them: EfficientHRNet 32, EfficientPose 8 (16 with `multi_person`), EfficientPose-A/B/C
            16. `input_size` is then what predictors go by: of EfficientHRNet for the short side of an image, of the
            others for all of it.
        input_dtype: str. `"uint8"`, or `"float32"` for runtimes that take no bytes (TensorRT before 8.5).
        opset: int. Version of ONNX's operators, 13 to 21.
        license: str, or None. SPDX identifier of the weights' license; None: the registered one of published weights.

    Returns:
        Path of the file.

    Raises:
        ValueError: for a model or an option that cannot be exported, or where `onnx` is not installed.
        OSError: if the file cannot be written; what was there before is then intact.

    Example:
        >>> import keras_ehrnet as ke
        >>> from keras_ehrnet.export.onnx_file import onnx
        >>> onnx("efficientpose-rt", "efficientpose-rt.onnx")  # doctest: +SKIP
        PosixPath('efficientpose-rt.onnx')
    """
    target = Path(path)
    if target.suffix.lower() != ".onnx":
        raise ValueError(f"The name of an ONNX file ends in .onnx. Received: {str(path)!r}")
    _check_options(input_dtype, opset)
    helper, checker = _toolkit()
    from keras_ehrnet.export import common, onnx_layers
    from keras_ehrnet.export.litert import convert
    from keras_ehrnet.export.rewrite import plain_model

    common.check_batch(batch)
    convert.check_decoder(decode, max_people=max_people, max_peaks=max_peaks)
    network = common.load(source, weights, skeleton, input_size)
    limbs = convert.tells_by_limbs(network, decode, multi_person)
    settings = convert.decoder_settings(decode, network.multi_person, limbs, max_people, max_peaks)
    plain = plain_model(network.model, network.input_size)
    if any_size:
        onnx_layers.check_any_size(plain, FAMILIES[network.family].multiple)
    metadata = common.describe_maps(network, plain, batch=batch, any_size=any_size, dtype=input_dtype, license=license)
    decoder = None
    if decode != "none":
        plain = convert.with_heads(plain, network.family, decode, limbs)
        decoder = _decoder(network, decode, settings, batch, opset)
    graph = onnx_layers.graph_of(plain, input_dtype=input_dtype, batch=batch, any_size=any_size, decoder=decoder)
    if decoder is not None:
        metadata = _of_decoded(metadata, graph.output[0], decode, settings)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=_IR_VERSION,
        producer_name="keras_ehrnet",
        producer_version=metadata.package,
    )
    helper.set_model_props(model, {ONNX_KEY: sealed(model.SerializeToString(), metadata)})
    checker.check_model(model, full_check=True)
    write_file(target, model.SerializeToString())
    return target


def _decoder(
    network: KerasNetwork, decode: str, settings: dict[str, Any], batch: int | None, opset: int
) -> Decoder | PeopleDecoder:
    from keras_ehrnet.export.onnx_decoders import Decoder, PeopleDecoder

    if decode == "peaks" or not settings:
        return Decoder(network.family, decode, **settings)
    return PeopleDecoder(network.family, network.skeleton, batch, opset, settings)


def _of_decoded(metadata: Metadata, output: Any, decode: str, settings: dict[str, Any]) -> Metadata:
    """The metadata of a network's maps as those of what its file decodes them to."""
    from keras_ehrnet.export.litert.convert import layout_of

    shape = tuple(side.dim_value or -1 for side in output.type.tensor_type.shape.dim)
    given = Output(decode, shape, layout_of(metadata.family, decode, settings))
    return replace(metadata, outputs=(given,), decode=decode, decoder=settings)


def _check_options(input_dtype: str, opset: int) -> None:
    from keras_ehrnet.export.common import check_input_dtype

    check_input_dtype(input_dtype)
    if opset not in OPSETS:
        raise ValueError(f"The opset is from {OPSETS[0]} to {OPSETS[-1]}. Received: opset={opset!r}")


def _toolkit():
    try:
        from onnx import checker, helper
    except ImportError as error:
        raise ValueError(
            "The ONNX export needs the package onnx: pip install 'keras-ehrnet[onnx]'. Received: no module 'onnx'"
        ) from error
    return helper, checker
