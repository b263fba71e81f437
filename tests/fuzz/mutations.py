"""Ways to damage a file: bytes anywhere, values of a JSON or YAML text, members of an archive."""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import yaml

Mutation = Callable[[bytes, np.random.Generator], bytes]
"""Takes what is whole, and gives something else; the same for the same state of the generator."""

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2, 17, 2**31, 2**63, 2**70, 10**400, 0.5, -0.0, 1e8, 1e308, float("nan"), float("inf"),
    "", "0", "1", "a", "../a.png", "/etc/passwd", "\0", "ä" * 300, "x" * 70_000, [], {}, [[]], [None], {"": {}},
    [0] * 51, [[0, 0, 0]] * 17, [[1, 2], [3]], list(range(5000)), [[[[[[[[[[1]]]]]]]]]],
)  # fmt: skip


def bytes_anywhere(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bits, numbers or stretches of bytes changed, doubled, moved or left out."""
    content = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 2, 4, 16]))):
        if not content:
            break
        at = int(rng.integers(len(content)))
        # Heads and directories are a small part of large files: they get half of what happens.
        at = at % 256 if rng.random() < 0.25 else len(content) - 1 - at % 256 if rng.random() < 0.33 else at
        at = min(max(at, 0), len(content) - 1)
        length = int(rng.integers(1, 1 + min(64, len(content))))
        other = int(rng.integers(len(content)))
        match int(rng.integers(9)):
            case 0 | 1:
                content[at] ^= 1 << int(rng.integers(8))
            case 2:
                content[at] = int(rng.integers(256))
            case 3 | 4:
                number = int(rng.choice(_NUMBERS))
                packed = struct.pack(str(rng.choice(["<", ">"])) + "I", number)[: int(rng.choice([1, 2, 4]))]
                content[at : at + len(packed)] = packed
            case 5:
                del content[at : at + length]
            case 6:
                content[at:at] = content[other : other + length]
            case 7:
                content[at : at + length] = content[other : other + length]
            case 8:
                del content[at:]
    return bytes(content)


def tree(data: bytes, rng: np.random.Generator) -> bytes:
    """A JSON text, some of whose values are others, doubled, or missing."""
    return json.dumps(_changed_tree(json.loads(data), rng), default=str).encode()


def lines(data: bytes, rng: np.random.Generator) -> bytes:
    """The same of one line of a file that has a JSON text in each."""
    rows = data.splitlines(keepends=True)
    at = int(rng.integers(len(rows)))
    rows[at] = tree(rows[at], rng) + b"\n"
    return b"".join(rows)


def yaml_tree(data: bytes, rng: np.random.Generator) -> bytes:
    """The same of a YAML text."""
    return yaml.safe_dump(_changed_tree(yaml.safe_load(data), rng), allow_unicode=True).encode("utf-8", "replace")


def member(inner: dict[str, Mutation]) -> Mutation:
    """An archive that is whole, but for what is in one of its members; names of members tell how it is changed."""

    def mutate(data: bytes, rng: np.random.Generator) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as whole:
            file.write(data[: min(entry.header_offset for entry in whole.infolist())])
        with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(file, "a") as archive:
            names = whole.namelist()
            chosen = int(rng.integers(len(names)))
            for number, name in enumerate(names):
                content = whole.read(name)
                if number == chosen:
                    if rng.random() < 0.05:
                        continue
                    content = next((use for end, use in inner.items() if name.endswith(end)), bytes_anywhere)(
                        content, rng
                    )
                archive.writestr(zipfile.ZipInfo(name), content)
        return file.getvalue()

    return mutate


def png_chunks(data: bytes, rng: np.random.Generator) -> bytes:
    """A PNG with something wrong in a chunk whose checksum is right."""
    chunks, position = [], 8
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    at = int(rng.integers(len(chunks)))
    chunks[at] = (chunks[at][0], bytes_anywhere(chunks[at][1], rng))
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def either(*mutations: Mutation) -> Mutation:
    """One of several ways, as chance has it."""

    def mutate(data: bytes, rng: np.random.Generator) -> bytes:
        return mutations[int(rng.integers(len(mutations)))](data, rng)

    return mutate


def _places(content: Any) -> dict[tuple[str, ...], list[tuple[Any, Any]]]:
    """All places of a tree, with what holds them, by their names; those of one list have one name."""
    places: dict[tuple[str, ...], list[tuple[Any, Any]]] = {}

    def walk(holder: Any, names: tuple[str, ...]) -> None:
        if isinstance(holder, (dict, list)):
            for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
                name = (*names, key if isinstance(holder, dict) else "*")
                places.setdefault(name, []).append((holder, key))
                walk(value, name)

    walk(content, ())
    return places


def _changed_tree(content: Any, rng: np.random.Generator) -> Any:
    content = copy.deepcopy(content)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        # A kind of place first: lists of thousands of numbers must not hide the fields that a reader looks at.
        places = _places(content)
        if not places or rng.random() < 0.02:
            return copy.deepcopy(_VALUES[int(rng.integers(len(_VALUES)))])
        kinds = list(places)
        chosen = places[kinds[int(rng.integers(len(kinds)))]]
        holder, key = chosen[int(rng.integers(len(chosen)))]
        value = holder[key]
        match int(rng.integers(6)):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.append(copy.deepcopy(value))
            case 2 if isinstance(holder, dict):
                holder[str(_VALUES[int(rng.integers(len(_VALUES)))])[:40]] = holder.pop(key)
            case 3 if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15:
                holder[key] = [value + 1, -value, str(value), value * 1_000_000, value + 0.5][int(rng.integers(5))]
            case _:
                holder[key] = copy.deepcopy(_VALUES[int(rng.integers(len(_VALUES)))])
    return content
