"""The outermost fields of a protocol buffer's message, found without its schema and without reading what is inside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}


@dataclass(frozen=True)
class Field:
    """Where a field lies in its message.

    Args:
        number: int. What the schema calls it.
        start: int. Its first byte.
        content: int. First byte of what it holds.
        end: int. The byte after its last one.
    """

    number: int
    start: int
    content: int
    end: int


def fields(message: bytes) -> Iterator[Field]:
    """Fields of a message in the order in which they lie there.

    Raises:
        ValueError: if it is no message, or is cut short.

    Example:
        >>> from keras_ehrnet.support.protobuf import fields
        >>> [message] = [bytes([0x0A, 2, 104, 105])]
        >>> [(field.number, message[field.content : field.end]) for field in fields(message)]
        [(1, b'hi')]
    """
    position = 0
    while position < len(message):
        tag, content = _varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            _, end = _varint(message, content)
        elif kind == _BYTES:
            length, content = _varint(message, content)
            end = content + length
        elif kind in _FIXED:
            end = content + _FIXED[kind]
        else:
            raise ValueError(f"byte {position} begins no field")
        if end > len(message):
            raise ValueError(f"the field at byte {position} is cut short")
        yield Field(tag >> 3, position, content, end)
        position = end


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits in each byte, the lowest first, and the position after it."""
    value = 0
    for place in range(10):
        if position + place >= len(message):
            break
        value |= (message[position + place] & 0x7F) << (7 * place)
        if message[position + place] < 0x80:
            return value, position + place + 1
    raise ValueError(f"byte {position} begins no number")
