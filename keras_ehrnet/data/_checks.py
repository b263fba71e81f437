"""Checks of annotation files: whatever is missing or wrong ends in one sentence that names the file and the field."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ehrnet.support.errors import AnnotationError, reason
from keras_ehrnet.support.messages import cut


def load_json(path: str | os.PathLike, kind: type) -> Any:
    """Content of a JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is not JSON, or does not hold a `kind` (dict or list).
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no such annotation file. Received: {path}") from None
    except IsADirectoryError:
        raise AnnotationError(f"Annotations are a file, images a folder. Received: the folder {path}") from None
    except PermissionError:
        raise
    except (ValueError, OSError, RecursionError, MemoryError) as error:  # ValueError: numbers of thousands of digits.
        raise AnnotationError(f"The annotation file is not valid JSON ({reason(error)}). Received: {path}") from error
    as_expected = isinstance(content, kind)
    if not as_expected:
        raise AnnotationError(
            f"The annotation file must hold a {kind.__name__}. Received: {type(content).__name__} in {path}"
        )
    return content


def need(entry: Any, key: str, where: str, kind: type | tuple[type, ...] = object) -> Any:
    """The value of a key that must be there, and be of a kind; AnnotationError naming `where` and `key` otherwise."""
    is_object = isinstance(entry, dict)
    if not is_object:
        raise AnnotationError(f"{where} must be an object with named fields. Received: {cut(entry)}")
    if key not in entry:
        raise AnnotationError(f"{where} has no field {key!r}. Received: {cut(sorted(map(str, entry)))}")
    as_expected = isinstance(entry[key], kind)
    if not as_expected:
        raise AnnotationError(f"{where} has a wrong value in {key!r}. Received: {cut(entry[key])}")
    return entry[key]


def identity(entry: Any, key: str, where: str) -> int | str:
    """An id: a number or a text; AnnotationError naming `where` and `key` otherwise."""
    value = need(entry, key, where, (int, float, str))
    if isinstance(value, float):  # Tables with gaps hold whole numbers as 1.0.
        if not value.is_integer():
            raise AnnotationError(f"{where} must have a whole number or a text in {key!r}. Received: {value}")
        return int(value)
    return value


class Ids:
    """Ids of a list, found again whether written as number or as text: programs that write both mean the same.

    Args:
        values: sequence of int or str. The ids.
        where: str. The list, for error messages.

    Raises:
        AnnotationError: if an id occurs twice.
    """

    def __init__(self, values: Sequence[int | str], where: str) -> None:
        need_unique(values, "id", where)
        need_unique([str(value) for value in values], "id", where)
        self._by_text = {str(value): value for value in values}

    def find(self, value: int | str) -> int | str | None:
        """The id as the list has it, or None if it has not."""
        return self._by_text.get(str(value))


def flag(entry: dict, key: str, where: str) -> bool:
    """A yes or no that must be there, however it is written; AnnotationError naming `where` and `key` otherwise."""
    value = need(entry, key, where)
    # `bool("0")` is True: what is not one of these must not be guessed.
    known = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
    found = known.get(str(value).strip().lower())
    if found is None:
        raise AnnotationError(f"{where} must have 0 or 1 in {key!r}. Received: {cut(value)}")
    return found


def numbers(entries: Sequence[dict], key: str, shape: tuple[int, ...], where: Callable[[int], str]) -> np.ndarray:
    """A field of numbers of all entries at once.

    Args:
        entries: N objects of a JSON file.
        key: str. The field.
        shape: tuple of int. What the field must hold, `()` for one number.
        where: function that names an entry by its position, for error messages.

    Returns:
        Float64 array of shape `(N, *shape)`.

    Raises:
        AnnotationError: naming the first entry that has no such field, or one that does not fit or is not finite.
    """
    try:
        return _as_numbers([entry[key] for entry in entries], (len(entries), *shape))
    except (KeyError, TypeError, ValueError, OverflowError):
        # Each may be right and only their forms differ: flat here, in triples there.
        rows = []
        for position, entry in enumerate(entries):
            try:
                rows.append(_as_numbers(need(entry, key, where(position)), shape))
            except TypeError:
                expected = f"{np.prod(shape)} finite numbers" if shape else "a finite number"
                message = f"{where(position)} must have {expected} in {key!r}. Received: {cut(entry[key])}"
                raise AnnotationError(message) from None
        return np.stack(rows)


def optional_numbers(
    entries: Sequence[dict], key: str, shape: tuple[int, ...], where: Callable[[int], str], default: float
) -> tuple[np.ndarray, list[int]]:
    """A field of numbers that not every entry has, as `numbers` gives it, and the positions of those that lack it."""
    values = np.full((len(entries), *shape), default)
    missing = [row for row, entry in enumerate(entries) if _is_missing(entry.get(key))]
    rows = sorted(set(range(len(entries))) - set(missing))
    values[rows] = numbers([entries[row] for row in rows], key, shape, lambda position: where(rows[position]))
    return values, missing


def _is_missing(value: Any) -> bool:
    return value is None or (not isinstance(value, str) and hasattr(value, "__len__") and len(value) == 0)


def _as_numbers(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.array(values)
        if array.size != np.prod(shape, dtype=int) or (array.size and array.dtype.kind not in "biuf"):
            raise TypeError
        if array.ndim > 1 and len(shape) > 1 and array.shape[-1] not in (shape[-1], np.prod(shape[-2:], dtype=int)):
            raise TypeError  # As many numbers, but lying otherwise: all x, then all y.
        array = array.astype(np.float64).reshape(shape)
    except ValueError:  # Lists of unequal length.
        raise TypeError from None
    if not np.isfinite(array).all():
        raise TypeError
    return array


ANYWHERE = "KERAS_EHRNET_FILES_ANYWHERE"
"""Name of the environment variable that, set to 1, lets annotations name files outside their folder."""


def need_inside(name: str, where: str) -> None:
    """AnnotationError for the name of a file that does not lie in the folder beside which it is named."""
    parts = name.replace("\\", "/").split("/")
    leads_out = ".." in parts or parts[0] == "" or parts[0].endswith(":") or "\0" in name
    if leads_out and os.environ.get(ANYWHERE) != "1":
        raise AnnotationError(
            f"{where} names a file outside its folder: rename it, or set the environment variable {ANYWHERE}=1. "
            f"Received: {cut(name)}"
        )


def need_unique(values: Sequence[Any], key: str, where: str) -> None:
    """AnnotationError if a value occurs twice."""
    twice = [value for value, times in Counter(values).items() if times > 1]
    if twice:
        raise AnnotationError(f"{where} has the same {key!r} more than once. Received: {cut(twice)}")
