"""Writing pictures without ever leaving half of one."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from keras_ehrnet.support.files import replacing

_WRITERS = {
    ".jpg": (cv2.IMWRITE_JPEG_QUALITY, 95),
    ".jpeg": (cv2.IMWRITE_JPEG_QUALITY, 95),
    ".png": (cv2.IMWRITE_PNG_COMPRESSION, 4),
}


def write_image(path: str | os.PathLike, rgb: np.ndarray) -> None:
    """Writes a PNG or JPEG file; whoever reads it sees the old file or the whole new one, never a part.

    Args:
        path: where to; the suffix decides the format.
        rgb: uint8 array of shape `(H, W, 3)`.

    Raises:
        ValueError: if the suffix is not one of `.png`, `.jpg`, `.jpeg`, or the array not an RGB image.
        OSError: if the folder cannot be written to (PermissionError, FileNotFoundError ... as the case may be).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise ValueError(f"Pictures are written as one of {', '.join(_WRITERS)}. Received: {path}")
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        shape = getattr(rgb, "shape", None)
        raise ValueError(
            "A picture must be a uint8 array of shape (H, W, 3). "
            f"Received: {type(rgb).__name__} of shape {shape} and type {getattr(rgb, 'dtype', None)}"
        )
    written, encoded = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), _WRITERS[suffix])
    if not written:
        raise ValueError(f"The picture cannot be encoded as {suffix}. Received: shape {rgb.shape}")
    try:
        with replacing(path) as partial:
            partial.write_bytes(encoded.data)
    except OSError as error:
        # OSError with a number becomes the matching subclass, so that callers can tell a full disk from a locked one.
        raise OSError(error.errno, f"The picture cannot be written ({error.strerror}). Received: {path}") from error
