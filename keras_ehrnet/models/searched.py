"""Backbones found by architecture search, as data: a small JSON file says which blocks there are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_ehrnet.families import FAMILIES
from keras_ehrnet.support.errors import ModelError, reading
from keras_ehrnet.support.files import write_file
from keras_ehrnet.support.messages import suggestion

FORMAT = "keras-ehrnet blocks"
VERSION = 1
STRIDE = FAMILIES["efficientpose_nas"].multiple
"""Input pixels per cell of what leaves a backbone; the stem's convolution halves the image once."""

Block = tuple[int, int, int, int]
_COLUMNS = ("kernel", "expansion", "channels", "stride")
_FOLDER = Path(__file__).with_name("backbones")


@dataclass(frozen=True)
class SearchedBackbone:
    """What a search found.

    Args:
        name: str. Name of the model that is built from it.
        stem: int. Channels after the stem's linear 1x1 convolution.
        blocks: tuple of (kernel, expansion, channels, stride), or None where the search dropped the block.
        input_size: tuple (height, width) in pixels that it was searched for.
        about: mapping of plain values. Where it is from; nothing is computed from it.

    Raises:
        ValueError: for blocks that cannot be.

    Example:
        >>> from keras_ehrnet.models.searched import read_backbone
        >>> backbone = read_backbone("A")
        >>> backbone.stem, len(backbone.blocks), backbone.blocks[1]
        (16, 26, (7, 3, 24, 1))
    """

    name: str
    stem: int
    blocks: tuple[Block | None, ...]
    input_size: tuple[int, int] = (256, 192)
    about: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"A searched backbone has a name. Received: name={self.name!r}")
        if not _is_count(self.stem):
            raise ValueError(f"A stem has one channel or more. Received: stem={self.stem!r}")
        if len(self.input_size) != 2 or any(not _is_count(side) or side % STRIDE for side in self.input_size):
            raise ValueError(
                f"input_size is (height, width), multiples of {STRIDE}. Received: input_size={self.input_size!r}"
            )
        stride = 2
        for index, block in enumerate(self.blocks):
            if block is None:
                continue
            if len(block) != 4 or not all(map(_is_count, block)) or block[0] % 2 == 0 or block[3] > 2:
                raise ValueError(
                    f"Block {index} must be ({', '.join(_COLUMNS)}) with an odd kernel and a stride of 1 or 2. "
                    f"Received: {block!r}"
                )
            stride *= block[3]
        if stride != STRIDE:
            raise ValueError(
                f"The blocks must make images {STRIDE // 2} times smaller, the stem having halved them. Received: "
                f"strides that make them {stride // 2} times smaller"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the JSON file has them."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "stem": self.stem,
            "input_size": list(self.input_size),
            "columns": list(_COLUMNS),
            "blocks": [None if block is None else list(block) for block in self.blocks],
            "about": dict(self.about),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], where: str = "The blocks") -> SearchedBackbone:
        """A backbone from plain values.

        Args:
            content: mapping, as `to_dict` gives it.
            where: str. What to call it in errors.

        Raises:
            ValueError: for content that is no backbone, or of another version.
        """
        if not isinstance(content, Mapping) or content.get("format") != FORMAT:
            received = content.get("format") if isinstance(content, Mapping) else type(content).__name__
            raise ValueError(f"{where} must be of format {FORMAT!r}. Received: {received!r}")
        if content.get("version") != VERSION:
            raise ValueError(
                f"{where} must be of version {VERSION}: another release of keras-ehrnet wrote this one. "
                f"Received: version {content.get('version')!r}"
            )
        try:
            blocks = tuple(None if block is None else tuple(block) for block in content["blocks"])
            size = tuple(content["input_size"])
            return cls(content["name"], content["stem"], blocks, size, dict(content.get("about", {})))
        except KeyError as error:
            raise ValueError(f"{where} must have a value for {error.args[0]!r}. Received: none") from error
        except TypeError as error:
            raise ValueError(f"{where} must hold lists of whole numbers. Received: {error}") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def write(self, path: str | os.PathLike) -> Path:
        """Writes the JSON file, a block per line, whole or not at all.

        Raises:
            OSError: if it cannot be written.
        """
        path, content = Path(path), self.to_dict()
        rows = ",\n    ".join(json.dumps(row) for row in content["blocks"])
        lines = [
            f"{json.dumps(key)}: " + (f"[\n    {rows}\n  ]" if key == "blocks" else json.dumps(value))
            for key, value in content.items()
        ]
        write_file(path, "{\n  " + ",\n  ".join(lines) + "\n}\n")
        return path


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


SEARCHED_BACKBONES: tuple[str, ...] = ("A", "B", "C")
"""What the paper found."""


def is_blocks_file(source: object) -> bool:
    """Whether a source is named like a file of blocks."""
    return isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() == ".json"


def read_backbone(source: str | os.PathLike | Mapping[str, Any] | SearchedBackbone) -> SearchedBackbone:
    """A backbone from whatever says what it is.

    Args:
        source: `"A"`, `"B"` or `"C"`; the path of a JSON file, or its content; or a backbone.

    Returns:
        `SearchedBackbone`.

    Raises:
        FileNotFoundError: if there is no such file.
        ModelError: if the file is damaged, or of another version.
        ValueError: if the variant is unknown.

    Example:
        >>> from keras_ehrnet.models.searched import read_backbone
        >>> read_backbone(read_backbone("C").to_dict()) == read_backbone("C")
        True
    """
    if isinstance(source, SearchedBackbone):
        return source
    if isinstance(source, Mapping):
        return SearchedBackbone.from_dict(source)
    if source in SEARCHED_BACKBONES:
        path = _FOLDER / f"{source}.json"
    elif is_blocks_file(source):
        path = Path(source)
    else:
        raise ValueError(
            f"Unknown variant of EfficientPoseNAS, and no .json file of blocks. "
            f"{suggestion(source, SEARCHED_BACKBONES)} Received: {source!r}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no such file of blocks. Received: {path}")
    with reading(ModelError, path, "The file of blocks"):
        return SearchedBackbone.from_dict(json.loads(path.read_text(encoding="utf-8-sig")), str(path))
