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

FILE_NAME = "metadata.json"
KERAS_FILE_NAME = "keras_ehrnet.json"

_KERAS_MEMBER = "config.json"
"""What the archive of a `.keras` file holds, and no other."""

_UNSEALED = '"checksum": null'
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the zip format's own beginning of time: equal models make equal files


@reads(MetadataError)
def read(model: str | os.PathLike | bytes) -> Metadata | None:
    """The metadata of a `.tflite` or `.keras` file.

    Args:
        model: path of the file, or its content.

    Returns:
        `Metadata`, or None where there are none: another program made the file (`keras.Model.save` is one), or its end
        is missing.

    Raises:
        FileNotFoundError: if there is no such file.
        MetadataError: if they are damaged, or of a later version.
    """
    try:
        with _archive(model) as archive:
            entry = archive.getinfo(_member(archive))
            check_size(entry.file_size, named(model), MetadataError, "The text of a model's metadata")
            text = archive.read(entry)
    except (zipfile.BadZipFile, KeyError):
        return None
    return Metadata.from_json(text, named(model))


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
    about = read(model)
    if about is not None and about.checksum is not None:
        with _archive(model) as archive:
            end = min(entry.header_offset for entry in archive.infolist())
            text = archive.read(_member(archive))
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
