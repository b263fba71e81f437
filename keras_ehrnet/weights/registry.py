"""Published weights: where they are, what they may be used for, how good they are. Data, not code."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from keras_ehrnet.errors import suggestion

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
        licence: str. SPDX identifier.
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
    licence: str
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

    Example:
        >>> from keras_ehrnet.weights import registry
        >>> all(entry.path.is_file() for entry in registry.packaged().values())
        True
    """

    data: str = ""

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
        licence="Apache-2.0",
        skeleton="mpii_16",
        paper="arXiv 2004.12186",
        score=f"PCKh@50 / @10 {score} (MPII validation)",
        recipe="MPII, 200 epochs, SGD with a cyclical rate (section 4 of the paper)",
    )


# An entry for every file in `packaged/`, with its checksum, and its score on which images.
PACKAGED: tuple[PackagedEntry, ...] = ()


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
        >>> registry.entry("efficientpose-rt").licence
        'Apache-2.0'
    """
    if name not in REGISTRY:
        raise ValueError(f"No weights of that name are published. {suggestion(name, REGISTRY)} Received: {name!r}")
    return REGISTRY[name]
