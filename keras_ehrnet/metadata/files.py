"""Metadata in the files of models: read, appended, and sealed with a checksum."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

from keras_ehrnet.metadata.records import Metadata
from keras_ehrnet.support.errors import MetadataError, ModelError, reads
from keras_ehrnet.support.files import sha256
from keras_ehrnet.support.limits import check_size
from keras_ehrnet.support.messages import named
from keras_ehrnet.support.protobuf import fields

FILE_NAME = "metadata.json"
KERAS_FILE_NAME = "keras_ehrnet.json"

SAVED_MODEL_FILE = Path("assets.extra", "metadata.json")
"""Where a SavedModel keeps its metadata; TensorFlow leaves this folder to others."""

ONNX_KEY = "keras_ehrnet"
"""Key of the metadata among the properties of an ONNX model."""

_ONNX_PROPERTIES = 14
"""Number of the field of an ONNX model that holds them."""

_KERAS_MEMBER = "config.json"
"""What the archive of a `.keras` file holds, and no other."""

_WHAT = "The text of a model's metadata"
_UNSEALED = '"checksum": null'
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the zip format's own beginning of time: equal models make equal files


@reads(MetadataError)
def read(model: str | os.PathLike | bytes) -> Metadata | None:
    """The metadata of a file that this package wrote: `.tflite`, `.keras`, `.onnx`, or the folder of a SavedModel.

    Args:
        model: path of the file or folder, or the content of a file.

    Returns:
        `Metadata`, or None where there are none: another program made the file (`keras.Model.save` is one), or its end
        is missing.

    Raises:
        FileNotFoundError: if there is no such file.
        MetadataError: if they are damaged, or of a later version.
    """
    text = _text(model)
    return None if text is None else Metadata.from_json(text, named(model))


def _text(model: str | os.PathLike | bytes) -> bytes | None:
    """The text of a model's metadata, wherever its format has it."""
    if not isinstance(model, bytes) and Path(model).is_dir():
        file = Path(model) / SAVED_MODEL_FILE
        if not file.is_file():
            return None
        check_size(file.stat().st_size, named(model), MetadataError, _WHAT)
        return file.read_bytes()
    try:
        return _archived_text(model)
    except zipfile.BadZipFile:
        pass
    # What is no archive may be an ONNX file, which nothing but its fields tells from others.
    try:
        return onnx_parts(model if isinstance(model, bytes) else Path(model).read_bytes())[1]
    except ValueError:
        return None


def _archived_text(model: str | os.PathLike | bytes) -> bytes | None:
    """The text in the archive that a file is, or ends with; BadZipFile where there is no archive."""
    with _archive(model) as archive:
        if _member(archive) not in archive.namelist():
            return None
        entry = archive.getinfo(_member(archive))
        check_size(entry.file_size, named(model), MetadataError, _WHAT)
        return archive.read(entry)


def onnx_parts(model: bytes) -> tuple[bytes, bytes | None]:
    """What an ONNX file holds but for the metadata of this package; and those, or None where there are none.

    Raises:
        ValueError: if it is no ONNX file, or is cut short.
    """
    rest, text = bytearray(), None
    for field in fields(model):
        content = model[field.content : field.end]
        entry = {}
        if field.number == _ONNX_PROPERTIES:
            entry = {part.number: content[part.content : part.end] for part in fields(content)}
        if entry.get(1) == ONNX_KEY.encode():
            text = entry.get(2)
        else:
            rest += model[field.start : field.end]
    return bytes(rest), text


@reads(ModelError)
def verified(model: str | os.PathLike | bytes) -> Metadata | None:
    """The metadata of a `.tflite` file, once it is seen that the model is the one that they were written for.

    Args:
        model: path of the file, or its content.

    Returns:
        `Metadata`, or None where there are none, as of `read`. Their `checksum` is None where nothing was to be seen.

    Raises:
        FileNotFoundError: if there is no such file.
        ModelError: if a byte of the model is not what it was.
        MetadataError: as of `read`.

    Example:
        >>> from keras_ehrnet import metadata
        >>> from keras_ehrnet.skeletons import MPII_16
        >>> about = metadata.Metadata("tiny", "efficientpose", MPII_16, metadata.Input(224, 224))
        >>> file = metadata.append(b"model", about)
        >>> metadata.verified(file).name
        'tiny'
        >>> metadata.verified(b"m0" + file[2:])
        Traceback (most recent call last):
        keras_ehrnet.support.errors.ModelError: The model is damaged: ...
    """
    try:
        text = _archived_text(model)
    except zipfile.BadZipFile:
        return None
    if text is None:
        return None
    about = Metadata.from_json(text, named(model))
    if about.checksum is not None:
        with _archive(model) as archive:
            end = min(entry.header_offset for entry in archive.infolist())
        with io.BytesIO(model) if isinstance(model, bytes) else Path(model).open("rb") as file:
            # Where the archive begins is only what it says: no more is read than there is.
            pieces = iter(lambda: file.read(max(0, min(1 << 20, end - file.tell()))), b"")
            need_seal(pieces, text, about, named(model))
    return about


def sealed(model: bytes, metadata: Metadata) -> str:
    """The text of a model's metadata, with the checksum of both in it.

    Args:
        model: bytes. All of the file but the metadata.
        metadata: `Metadata`.

    Returns:
        str, as `Metadata.to_json`.
    """
    text = replace(metadata, checksum=None).to_json()
    return text.replace(_UNSEALED, f'"checksum": "{sha256([model, text.encode()])}"')


def need_seal(model: Iterable[bytes], text: bytes, about: Metadata, source: object) -> None:
    """ModelError where a model, or the text of its metadata, is not what `sealed` saw; nothing where it saw none."""
    unsealed = text.replace(f'"checksum": "{about.checksum}"'.encode(), _UNSEALED.encode())
    if about.checksum is not None and sha256(chain(model, [unsealed])) != about.checksum:
        raise ModelError(
            "The model is damaged: its bytes are not those that were exported. Export or copy it again. "
            f"Received: {source}"
        )


def append(model: bytes, metadata: Metadata) -> bytes:
    """The content of a `.tflite` or `.keras` file with its metadata in it; equal arguments give equal bytes.

    A `.tflite` file, which has no checksums of its own, gets that of the model.
    """
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a") as archive:
        entry = zipfile.ZipInfo(_member(archive), _EARLIEST)
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, sealed(model, metadata) if entry.filename == FILE_NAME else metadata.to_json())
    return file.getvalue()


def _archive(model: str | os.PathLike | bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(model) if isinstance(model, bytes) else Path(model))


def _member(archive: zipfile.ZipFile) -> str:
    return KERAS_FILE_NAME if _KERAS_MEMBER in archive.namelist() else FILE_NAME
