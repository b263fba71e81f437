"""What an encoded image says of itself before anyone decodes it: whether it is whole, upright, and how large."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

from keras_ehrnet.images import heif

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\x00", b"MM\x00*")
ORIENTATION = 0x0112
"""Number of the EXIF entry that says how a camera was held."""

_SIGNATURES = (JPEG, PNG, b"GIF87a", b"GIF89a", b"BM", *TIFF, b"P4", b"P5", b"P6")
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # Not an escaped 0xFF, nor one of the restart markers.
_JPEG_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_JPEG_SCAN, _JPEG_END, _JPEG_PROGRESSIVE, _JPEG_RESTARTS = 0xDA, 0xD9, 0xC2, 0xDD
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_PNM = re.compile(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s")


def is_webp(data: bytes) -> bool:
    """Whether this is a WebP image: sounds and films are RIFF files, too."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def looks_like_image(start: bytes) -> bool:
    """Whether a file that begins so is an image of a known format, as far as its first bytes tell."""
    return start.startswith(_SIGNATURES) or is_webp(start) or heif.is_heif(start)


# Decoders fill what is missing of a truncated file with gray, or write to the terminal: so look for the end first.


def jpeg_is_whole(data: bytes) -> bool:
    """Follows the segments to the end marker. A thumbnail's own end marker lies inside a segment, and is not seen."""
    codes = [code for code, _ in _jpeg_segments(data)]
    return bool(codes) and codes[-1] == _JPEG_END and _JPEG_SCAN in codes


def jpegs_without_end(data: bytes) -> tuple[bytes, ...]:
    """Ways to go on with a JPEG that ends before its end marker: the end itself, and others that mean more picture.

    Decoders read past the last byte for what is missing of the picture, and only then: where nothing is, all of these
    decode to the same.

    Returns:
        Tuple of encoded images; empty where more is missing than the end of the last scan, and of other formats.
    """
    segments = list(_jpeg_segments(data)) if data.startswith(JPEG) else []
    if not segments or segments[-1][0] != _JPEG_SCAN or not _has_all_scans(data, segments):
        return ()
    begun, marks = data.removesuffix(b"\xff"), [b""]
    if any(code == _JPEG_RESTARTS for code, _ in segments):
        passed = len(_JPEG_RESTART.findall(data, segments[-1][1]))
        marks = [bytes((0xFF, 0xD0 + (passed + number) % 8)) for number in range(8)]
    others = [b"".join(bytes((more,)) * 512 + mark for mark in marks) for more in (0x00, 0x33, 0x55, 0xAA, 0xE7)]
    return tuple(begun + more + bytes((0xFF, _JPEG_END)) for more in (b"", *others))


def _has_all_scans(data: bytes, segments: list[tuple[int, int]]) -> bool:
    """Whether a progressive JPEG has begun the last of its scans: those that give coefficients their last bit."""
    frames = [at for code, at in segments if code in _JPEG_FRAMES]
    if not any(code == _JPEG_PROGRESSIVE for code, _ in segments):
        return bool(frames)
    known = set()
    with suppress(IndexError, ValueError):  # cut within the head of a scan
        for code, at in segments:
            if code == _JPEG_SCAN:
                count = data[at + 2]
                first, last, bits = data[at + 3 + 2 * count : at + 6 + 2 * count]
                components = data[at + 3 : at + 3 + 2 * count : 2]
                if bits & 0x0F == 0:
                    known |= {(component, place) for component in components for place in range(first, last + 1)}
        return len(known) == 64 * data[frames[0] + 7]
    return False


def png_is_whole(data: bytes) -> bool:
    """Follows the chunks to the last one, checksums included."""
    position = 8
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[position + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return False
        if name == b"IEND":
            return True
        position = end + 4
    return False


def orientation(data: bytes) -> int:
    """How a TIFF or WebP image was held, as EXIF counts; 1, upright, where it does not say or cannot be read."""
    if data.startswith(TIFF):
        return _tiff_entries(data).get(ORIENTATION, 1)
    position = 12
    while position + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        if name == b"EXIF":
            exif = data[position + 8 : position + 8 + length]
            return _tiff_entries(exif.removeprefix(b"Exif\x00\x00")).get(ORIENTATION, 1)
        position += 8 + length + length % 2
    return 1


def size(data: bytes) -> tuple[int, int] | None:
    """(height, width) that an image announces; None where its format is not known here, or its beginning damaged.

    Example:
        >>> from keras_ehrnet.images.encoded import size
        >>> size(b"P6 640 480 255 ...")
        (480, 640)
    """
    with suppress(struct.error, IndexError, ValueError):
        if data.startswith(PNG):
            width, height = struct.unpack_from(">II", data, 16)
        elif data.startswith(JPEG):
            frames = (at for code, at in _jpeg_segments(data) if code in _JPEG_FRAMES)
            height, width = struct.unpack_from(">HH", data, next(frames, len(data)) + 3)
        elif data.startswith((b"GIF87a", b"GIF89a")):
            width, height = struct.unpack_from("<HH", data, 6)
        elif data.startswith(b"BM"):
            width, height = map(abs, struct.unpack_from("<HH" if data[14] == 12 else "<ii", data, 18))
        elif data.startswith(TIFF):
            entries = _tiff_entries(data)
            width, height = entries.get(_TIFF_WIDTH, 0), entries.get(_TIFF_HEIGHT, 0)
        elif is_webp(data):
            width, height = _webp_size(data)
        elif data[4:12] == b"jP  \r\n\x87\n":
            height, width = struct.unpack_from(">II", data, data.index(b"ihdr") + 4)
        elif numbers := _PNM.match(data):
            width, height = map(int, numbers.groups())
        else:
            return None
        return height, width
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Markers, and where what they announce begins, to the end marker or as far as the file goes."""
    position, code = 2, 0
    while code != _JPEG_END and (marker := _JPEG_MARKER.search(data, position)):
        code, position = data[marker.end() - 1], marker.end()
        if code != _JPEG_END and position + 2 > len(data):
            return
        yield code, position
        position += int.from_bytes(data[position : position + 2], "big")


def _tiff_entries(data: bytes) -> dict[int, int]:
    """Numbers of the first directory, by tag, as far as they are no longer than a word."""
    entries: dict[int, int] = {}
    order = {TIFF[0]: "<", TIFF[1]: ">"}.get(data[:4])
    if order is None:
        return entries
    with suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for index in range(count):
            at = start + 2 + 12 * index
            tag, kind = struct.unpack_from(f"{order}HH", data, at)
            (entries[tag],) = struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", data, at + 8)
    return entries


def _webp_size(data: bytes) -> tuple[int, int]:
    """(width, height), which each of the three kinds packs into bits of its own."""
    if data[12:16] == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF
