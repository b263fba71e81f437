"""Metadata into the files that are exported; `keras_ehrnet.runtime.metadata` says what they are, and reads them."""

from __future__ import annotations

import io
import zipfile

from keras_ehrnet.runtime.metadata import FILE_NAME, Drift, Input, Metadata, MetadataError, Output

__all__ = ["Drift", "Input", "Metadata", "MetadataError", "Output", "append"]

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the zip format's own beginning of time: equal models make equal files


def append(model: bytes, metadata: Metadata) -> bytes:
    """A TFLite model with its metadata behind it; equal arguments give equal bytes."""
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a") as archive:
        entry = zipfile.ZipInfo(FILE_NAME, _EARLIEST)
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, metadata.to_json())
    return file.getvalue()
