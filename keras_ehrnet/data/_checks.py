"""Checks of annotation files: whatever is missing or wrong ends in one sentence that names the file and the field."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def load_json(path: str | os.PathLike, kind: type) -> Any:
    """Content of a JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON, or does not hold a `kind` (dict or list).
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no such annotation file. Received: {path}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"The annotation file is not valid JSON ({error}). Received: {path}") from error
    as_expected = isinstance(content, kind)
    if not as_expected:
        raise ValueError(
            f"The annotation file must hold a {kind.__name__}. Received: {type(content).__name__} in {path}"
        )
    return content


def need(entry: Any, key: str, where: str, kind: type | tuple[type, ...] = object) -> Any:
    """The value of a key that must be there, and be of a kind; ValueError naming `where` and `key` otherwise."""
    is_object = isinstance(entry, dict)
    if not is_object:
        raise ValueError(f"{where} must be an object with named fields. Received: {plain(entry)}")
    if key not in entry:
        raise ValueError(f"{where} has no field {key!r}. Received: {plain(sorted(map(str, entry)))}")
    as_expected = isinstance(entry[key], kind)
    if not as_expected:
        raise ValueError(f"{where} has a wrong value in {key!r}. Received: {plain(entry[key])}")
    return entry[key]


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
        ValueError: naming the first entry that has no such field, or one that does not fit or is not finite.
    """
    try:
        return _as_numbers([entry[key] for entry in entries], (len(entries), *shape))
    except (KeyError, TypeError, ValueError):
        for position, entry in enumerate(entries):
            try:
                _as_numbers(need(entry, key, where(position)), shape)
            except TypeError:
                expected = f"{np.prod(shape)} finite numbers" if shape else "a finite number"
                message = f"{where(position)} must have {expected} in {key!r}. Received: {plain(entry[key])}"
                raise ValueError(message) from None
        raise


def _as_numbers(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.array(values)
        if array.size != np.prod(shape, dtype=int) or (array.size and array.dtype.kind not in "biuf"):
            raise TypeError
        array = array.astype(np.float64).reshape(shape)
    except ValueError:  # Lists of unequal length.
        raise TypeError from None
    if not np.isfinite(array).all():
        raise TypeError
    return array


def need_unique(values: Sequence[Any], key: str, where: str) -> None:
    """ValueError if a value occurs twice."""
    twice = [value for value, times in Counter(values).items() if times > 1]
    if twice:
        raise ValueError(f"{where} has the same {key!r} more than once. Received: {plain(twice)}")


def plain(value: Any, limit: int = 80) -> str:
    """A value as text for an error message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
