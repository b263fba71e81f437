"""What a model says about itself: its skeleton, what goes in and comes out, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from keras_ehrnet.families import FAMILIES, MAPS, family_of
from keras_ehrnet.skeletons import Skeleton
from keras_ehrnet.support.errors import MetadataError, reading
from keras_ehrnet.support.messages import is_whole
from keras_ehrnet.support.typed import mistake
from keras_ehrnet.support.version import __version__

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

FORMAT = 2
"""Version of the text. It grows when readers of the previous one would misunderstand it."""

_FIRST_NAMES = {"licence": "license", "colours": "colors", "normalised_inside": "normalized_inside"}
"""What format 1 spelled otherwise."""

_LARGEST_SIDE = 1 << 15
_DTYPES = ("uint8", "float32")
_DECODES = ("none", "peaks", "poses")


@dataclass(frozen=True)
class Input:
    """What the network takes.

    Args:
        height: int. In pixels.
        width: int. In pixels.
        dtype: str. `"uint8"` or `"float32"`.
        name: str. Name of the input in the model's signature.
        colors: str. Order of the channels, which come last.
        range: tuple of two floats. Values of black and white.
        normalized_inside: bool. Whether the network normalizes pixels itself.
    """

    height: int
    width: int
    dtype: str = "uint8"
    name: str = "image"
    colors: str = "RGB"
    range: tuple[float, float] = (0, 255)
    normalized_inside: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.height <= _LARGEST_SIDE and 0 < self.width <= _LARGEST_SIDE):
            raise ValueError(
                f"An input's sides are from 1 to {_LARGEST_SIDE} pixels. Received: {self.height} x {self.width}"
            )
        if self.dtype not in _DTYPES:
            raise ValueError(f"An input's dtype is one of {', '.join(_DTYPES)}. Received: {self.dtype!r}")


@dataclass(frozen=True)
class Output:
    """What the network gives.

    Args:
        name: str. Name of the output in the model's signature.
        shape: tuple of int, batch included.
        layout: str. How to read it, in words.
    """

    name: str
    shape: tuple[int, ...]
    layout: str = ""


@dataclass(frozen=True)
class Drift:
    """How far an exported model's joints lie from those of the Keras model, on calibration images.

    The maps of both are decoded by `keras_ehrnet.decode`, so that this is the price of the precision alone.

    Args:
        images: int. Images looked at.
        joints: int. Joints that the Keras model found in them.
        median: float. Median distance, as a share of the longer side of the network's input.
        p95: float. 95th percentile of the distances, likewise.
        lost: float. Share of the joints that the exported model did not find, or found elsewhere.
    """

    images: int
    joints: int
    median: float
    p95: float
    lost: float


@dataclass(frozen=True)
class Metadata:
    """A model's file in words and numbers.

    Args:
        name: str. Name of the model.
        family: str. Key of `keras_ehrnet.families.FAMILIES`.
        skeleton: `Skeleton` of its keypoints.
        input: `Input`.
        outputs: tuple of `Output`, in the order of the file.
        precision: str. Such as `"float32"` or `"int8"`.
        decode: str. `"none"`: the outputs are maps. `"peaks"`, `"poses"`: they are decoded inside.
        decoder: dict. Settings of the decoder inside, such as `max_people`, `multi_person`.
        license: str, or None. What the weights may be used for.
        calibration_images: int. How many images the precision was calibrated with.
        drift: `Drift`, or None where it was not measured.
        min_score: float. Score of a person below which there is nobody, as measured for these weights.
        trained: str, or None. Which state of a training it is: its epoch, and the score that it was chosen by.
        package: str. Version of this package that wrote the file.
        checksum: str, or None. SHA-256 of the model and of this text after it, with null in this place, see `sealed`;
            None in formats that have checksums of their own, and in files of earlier versions.

    Example:
        >>> from keras_ehrnet.metadata import Input, Metadata
        >>> from keras_ehrnet.skeletons import MPII_16
        >>> metadata = Metadata("efficientpose-rt", "efficientpose", MPII_16, Input(224, 224))
        >>> Metadata.from_json(metadata.to_json()) == metadata
        True
    """

    name: str
    family: str
    skeleton: Skeleton
    input: Input
    outputs: tuple[Output, ...] = ()
    precision: str = "float32"
    decode: str = "none"
    decoder: dict[str, Any] = field(default_factory=dict)
    license: str | None = None
    calibration_images: int = 0
    drift: Drift | None = None
    min_score: float = 0.0
    trained: str | None = None
    package: str = __version__
    checksum: str | None = None

    def __post_init__(self) -> None:
        if self.decode not in _DECODES:
            raise ValueError(f"decode is one of {', '.join(_DECODES)}. Received: {self.decode!r}")
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score is from 0 to 1. Received: {self.min_score}")

    @property
    def multi_person(self) -> bool:
        """Whether it gives several people, rather than one."""
        return bool(self.decoder.get("multi_person", self.family in FAMILIES and not FAMILIES[self.family].top_down))

    @classmethod
    def of_maps(
        cls, name: str, skeleton: Skeleton, input: Input, maps: Mapping[str, tuple[int | None, ...]], **about: Any
    ) -> Metadata:
        """Metadata of a network whose outputs are its maps.

        Args:
            name: str. Name of the model.
            skeleton: `Skeleton` of its keypoints.
            input: `Input`.
            maps: mapping of an output's name to its shape, in the order of the file; None is told as -1.
            about: further fields of `Metadata`.

        Returns:
            `Metadata`.

        Example:
            >>> from keras_ehrnet.metadata import Input, Metadata
            >>> from keras_ehrnet.skeletons import COCO_17
            >>> maps = {"heatmaps": (None, 64, 48, 17)}
            >>> Metadata.of_maps("efficientpose-a", COCO_17, Input(256, 192), maps).outputs[0].shape
            (-1, 64, 48, 17)
        """
        outputs = tuple(
            Output(output, tuple(-1 if side is None else side for side in shape), MAPS.get(output, ""))
            for output, shape in maps.items()
        )
        return cls(name, family_of(maps), skeleton, input, outputs, **about)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.input.height, self.input.width

    def to_json(self) -> str:
        """The metadata as text. `flip_permutation`, for readers who mirror images, follows from the joints' names."""
        content = {**asdict(self), "skeleton": self.skeleton.to_dict()}
        with suppress(ValueError):  # there may be a left joint without a right one
            content["skeleton"]["flip_permutation"] = self.skeleton.flip_permutation
        return json.dumps({"format": FORMAT, **content}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, source: object = "the model") -> Metadata:
        """The metadata of a text; what a later version may have added is left out.

        Args:
            text: str or bytes, as `to_json` gives it.
            source: what it was read from, for messages.

        Returns:
            `Metadata`.

        Raises:
            MetadataError: if it is of a later format, or something is missing.
        """
        with reading(MetadataError, source, "The text of a model's metadata"):
            content = json.loads(text)
            if not isinstance(content, dict) or not is_whole(content.get("format")):
                raise MetadataError(f"A model's metadata are an object with a 'format'. Received: {source}")
            version = content["format"]
            if version > FORMAT:
                raise MetadataError(
                    f"The model was exported by a later version of keras_ehrnet ({content.get('package')}): update "
                    f"this one. Received: metadata of format {version}, known up to {FORMAT}"
                )
            if version == 1:
                content = _renamed(content)
                content["input"] = _renamed(content["input"])
            return _from_content(content, source)


def check_skeleton(model: Any, skeleton: Skeleton) -> dict[str, tuple[int | None, ...]]:
    """Shapes of the maps that a Keras model gives, by name, for a skeleton that must be its own.

    Args:
        model: `keras.Model`.
        skeleton: `Skeleton`.

    Raises:
        ValueError: if the skeleton has another number of joints, or the model gives no maps.
    """
    outputs = model.output if isinstance(model.output, dict) else {}
    maps = {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    keypoints = {maps[name][-1] for name in ("heatmaps", "heatmaps_4") if name in maps}
    if keypoints != {skeleton.num_joints}:
        raise ValueError(
            f"Model {model.name!r} has {', '.join(map(str, keypoints)) or 'no'} keypoints. "
            f"Received: skeleton {skeleton.name!r} with {skeleton.num_joints}"
        )
    return maps


def _renamed(content: dict[str, Any]) -> dict[str, Any]:
    return {_FIRST_NAMES.get(name, name): value for name, value in content.items()}


def _from_content(content: dict[str, Any], source: object) -> Metadata:
    drift = content["drift"]
    parts = {
        "skeleton": Skeleton.from_dict(content["skeleton"]),
        "input": _checked(Input, content["input"], "input", source),
        "outputs": tuple(_checked(Output, output, "an output", source) for output in content["outputs"]),
        "drift": None if drift is None else _checked(Drift, drift, "drift", source),
    }
    return _checked(Metadata, {**content, **parts}, "the model", source)


def _checked(kind: type[T], content: dict[str, Any], what: str, source: object) -> T:
    """A dataclass from those of its fields that there are, with lists as the tuples they were."""
    known = {entry.name: _as_tuple(content[entry.name]) for entry in fields(kind) if entry.name in content}
    if problem := mistake(kind, known):
        raise MetadataError(f"The metadata of {what} are wrong: {problem}. Received: {source}")
    return kind(**known)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
