"""Published weights: where they are, what they may be used for, how good they are. Data, not code."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar

from keras_ehrnet.support.messages import suggestion

_EFFICIENTPOSE_URL = "https://github.com/daniegr/EfficientPose/raw/master/models/keras/"


@dataclass(frozen=True)
class Entry:
    """One published weight file.

    Args:
        name: str. Name in this registry.
        model: str. The model it is for: key of `keras_ehrnet.models.variants.VARIANTS`.
        url: str. Where to download it.
        sha256: str or None. Checksum of the file; None where none has been recorded, which a download then warns of.
        size: int or None. Bytes.
        license: str. SPDX identifier.
        skeleton: str. Key of `keras_ehrnet.skeletons.SKELETONS`.
        paper: str. Where it was published.
        score: str. What the paper reports for it.
        recipe: str. How it was trained.
    """

    name: str
    model: str
    url: str
    sha256: str | None
    size: int | None
    license: str
    skeleton: str
    paper: str
    score: str
    recipe: str

    @property
    def file_name(self) -> str:
        """Name of the file, as published."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class PackagedEntry(Entry):
    """Weights trained by this project, which come with the package: `url` is the name of their file.

    Args:
        data: str. What they were trained on, and under which terms it stands.
        exported: str. Name of the `.tflite` file of the same weights, which finds people without Keras.
        min_score: float. Score of a person below which there is nobody, see the model card.
        input_size: tuple (height, width) in pixels that it was measured at, or None for the paper's.

    Example:
        >>> from keras_ehrnet.weights import registry
        >>> all(entry.path.is_file() for entry in registry.packaged().values())
        True
    """

    data: str = ""
    exported: str = ""
    min_score: float = 0.0
    input_size: tuple[int, int] | None = None

    @property
    def exported_path(self) -> Path:
        """Where the `.tflite` file lies in the installed package."""
        return packaged_folder() / self.exported

    @property
    def path(self) -> Path:
        """Where the file lies in the installed package."""
        return packaged_folder() / self.url

    @property
    def file_name(self) -> str:
        """The absolute path: whatever folder downloads go to, this is found where it is."""
        return str(self.path)


def packaged_folder() -> Path:
    """The folder of the installed package that holds its own weights."""
    return Path(str(resources.files("keras_ehrnet"))) / "weights" / "packaged"


# Variant, sha256, bytes, PCKh@50 / PCKh@10 on the MPII validation images.
_EFFICIENTPOSE = (
    ("RT", "508943cfdeb1d102d69aff4280b805c023585b0d9ae530344fb4c4fad3a175f1", 2452288, "82.88 / 23.56"),
    ("I", "003aea100c30c68103fb4c383fb8782f78adbea7a45451af85334327b79fc5bd", 3726904, "85.18 / 26.49"),
    ("II", None, None, "88.18 / 30.17"),
    ("III", None, None, "89.51 / 30.90"),
    ("IV", None, None, "89.75 / 35.63"),
    ("RT_LITE", "ce0c91259b075180177d070d0be1e71ff8695d7c123745efb950743aa90699ae", 2196288, "80.6 / 23.1"),
    ("I_LITE", None, None, "83.7 / 27.7"),
    ("II_LITE", None, None, "87.1 / 30.8"),
)


def _efficientpose(variant: str, sha256: str | None, size: int | None, score: str) -> Entry:
    name = f"efficientpose-{variant.lower().replace('_', '-')}"
    return Entry(
        name=name,
        model=name,
        url=f"{_EFFICIENTPOSE_URL}EfficientPose{variant}.h5",
        sha256=sha256,
        size=size,
        license="Apache-2.0",
        skeleton="mpii_16",
        paper="arXiv 2004.12186",
        score=f"PCKh@50 / @10 {score} (MPII validation)",
        recipe="MPII, 200 epochs, SGD with a cyclical rate (section 4 of the paper)",
    )


def _own(
    name: str, model: str, sha256: str, size: int, score: str, data: str, min_score: float, input_size: tuple[int, int]
) -> PackagedEntry:
    """Weights trained by a recipe of this project's: files and recipe bear their name."""
    return PackagedEntry(
        name=name,
        model=model,
        url=f"{name}.weights.h5",
        sha256=sha256,
        size=size,
        license="Apache-2.0",
        skeleton="coco_17",
        paper="arXiv 2004.12186",
        score=score,
        recipe=f"training/own_weights/{name}.yaml",
        data=data,
        exported=f"{name}.tflite",
        min_score=min_score,
        input_size=input_size,
    )


_COCO = "COCO val2017 (images: Flickr, CC; labels: CC BY 4.0)"

# An entry for every set of weights in `packaged/`, with its checksum, and its score on which images.
PACKAGED: tuple[PackagedEntry, ...] = (
    _own(
        name="efficientpose-rt-coco",
        model="efficientpose-rt",
        sha256="9a8194f1fc538d948917779d3f894df79703056e9582c6143395f7d231a0a68e",
        size=1568752,
        score="AP 0.408 on 470 crops of COCO val2017 by the annotated boxes",
        data=f"{_COCO}, LSP-extended and Stanford-40 (for research)",
        min_score=0.25,
        input_size=(224, 224),
    ),
    _own(
        name="efficientpose-i-coco",
        model="efficientpose-i",
        sha256="1483810e58002dc7032a7f343209647dc8025c0837d572219ec83cea82f9e1f6",
        size=2326752,
        score="AP 0.458 on 470 crops of COCO val2017 by the annotated boxes",
        data=f"{_COCO}, LSP-extended and Stanford-40 (for research)",
        min_score=0.3,
        input_size=(320, 192),
    ),
    _own(
        name="efficientpose-rt-people",
        model="efficientpose-rt",
        sha256="0f613f96af0884df0a503b3f04a75f77aa5206ec378884c0424c61b1146a1a56",
        size=1568752,
        score="AP 0.219 on 180 images of COCO val2017; AP 0.405 refined by efficientpose-i-coco",
        data=f"{_COCO} and Stanford-40 (for research)",
        min_score=0.2,
        input_size=(384, 384),
    ),
)


DEFAULT = "efficientpose-rt-people"
"""The weights that find people where none are named, and"""

DEFAULT_REFINE = "efficientpose-i-coco"
"""those that then place everyone anew."""

Source = TypeVar("Source")


def or_own(source: Source | None, refine: Source | None) -> tuple[Source | str, Source | str | None]:
    """A network and the one that refines what it finds: our own where none is named.

    Example:
        >>> from keras_ehrnet.weights import registry
        >>> registry.or_own(None, None) == (registry.DEFAULT, registry.DEFAULT_REFINE)
        True
        >>> registry.or_own("h-2", None)
        ('h-2', None)
    """
    return (source, refine) if source is not None else (DEFAULT, refine or DEFAULT_REFINE)


def packaged() -> dict[str, PackagedEntry]:
    """Entries of our own weights by name, those whose file this installation has."""
    return {entry.name: entry for entry in PACKAGED if entry.path.is_file()}


REGISTRY: dict[str, Entry] = {
    **{entry.name: entry for entry in (_efficientpose(*row) for row in _EFFICIENTPOSE)},
    **packaged(),
}


def entry(name: str) -> Entry:
    """The registry's entry of that name.

    Raises:
        ValueError: for an unknown name; the message names the nearest known one.

    Example:
        >>> from keras_ehrnet.weights import registry
        >>> registry.entry("efficientpose-rt").license
        'Apache-2.0'
    """
    if name not in REGISTRY:
        raise ValueError(f"No weights of that name are published. {suggestion(name, REGISTRY)} Received: {name!r}")
    return REGISTRY[name]
