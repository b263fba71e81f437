"""Values of recipes: read from YAML files that stand on each other, and checked against dataclasses."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from keras_ehrnet.support.errors import RecipeError, reason
from keras_ehrnet.support.messages import suggestion

_BASE = "base"
_MOST_VALUES = 100_000
_WHOLE = ("sigma_factors", "augmentation_changes", "mixed_with")


def read_layers(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """Content of a file on top of that of its base."""
    if path.resolve() in seen:
        raise RecipeError(f"{path}: recipes are based on each other in a circle. Received: {_BASE}={seen[-1].name!r}")
    content = read_yaml(path)
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise RecipeError(f"{path} must hold named values. Received: {type(content).__name__}")
    base = content.pop(_BASE, None)
    if base is None:
        return content
    return merged(read_layers(path.parent / str(base), (*seen, path.resolve())), content)


def read_yaml(path: Path) -> Any:
    """What a file of YAML holds.

    Raises:
        FileNotFoundError: if there is no such file.
        RecipeError: if it is no valid YAML.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        _expanded_size(content, {})
        return content
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no such recipe. Received: {path}") from None
    except PermissionError:
        raise
    # Besides its own errors, the library lets through what dates and numbers that cannot be make of Python's.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise RecipeError(f"{path} is not valid YAML ({reason(error)}). Received: {path}") from error


def _expanded_size(content: Any, known: dict[int, int]) -> int:
    """How many values a file holds once every alias is written out: a page of them can stand for billions."""
    if not isinstance(content, (dict, list)):
        return 1
    if id(content) not in known:
        known[id(content)] = _MOST_VALUES + 1  # Until it is counted: what contains itself has no end.
        items = content.values() if isinstance(content, dict) else content
        known[id(content)] = 1 + sum(_expanded_size(item, known) for item in items)
    if known[id(content)] > _MOST_VALUES:
        raise ValueError(f"its aliases stand for more than {_MOST_VALUES} values")
    return known[id(content)]


def merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `upper` over those of `lower`, section by section; maps of data are replaced as a whole."""
    result = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, Mapping) and isinstance(lower.get(key), Mapping) and key not in _WHOLE
        result[key] = merged(lower[key], value) if both else value
    return result


def override(text: str, kind: type) -> dict[str, Any]:
    """The nested values of a text such as `"training.epochs=10"`, for a dataclass of dataclasses."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"Changes of a recipe have the form key=value. Received: {text!r}")
    try:
        parsed: Any = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, TypeError):  # ValueError: a date that cannot be.
        parsed = value
    return nested(key, parsed, kind, text)


def nested(key: str, value: Any, kind: type, received: str | None = None) -> dict[str, Any]:
    """A value under the whole key that `key` is, or is the end of, for a dataclass of dataclasses."""
    received = received or f"{key}={value!r}"
    keys = list(keys_of(kind))
    matches = [full for full in keys if full == key] or [full for full in keys if full.endswith(f".{key}")]
    if not matches:
        raise RecipeError(f"A recipe has no such key. {_nearest_key(key, keys)}Received: {received!r}")
    if len(matches) > 1:
        raise RecipeError(f"Several keys end so: {', '.join(matches)}. Received: {received!r}")
    for part in reversed(matches[0].split(".")):
        value = {part: value}
    return value


def _nearest_key(key: str, keys: list[str]) -> str:
    """Keys by their last part are what is mostly meant; all of them would be too many to list."""
    valid = keys if "." in key else [full.rpartition(".")[2] for full in keys]
    return suggestion(key, valid).partition("Valid:")[0]


def keys_of(kind: Any, prefix: str = "") -> Iterable[str]:
    """Full names of all keys of a dataclass, those of its parts included."""
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from keys_of(hint, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def changed(target: Any, content: Any, where: str, prefix: str) -> Any:
    """A dataclass, given as type or as value to start from, with the values of `content`, all of them checked."""
    kind = target if isinstance(target, type) else type(target)
    if not isinstance(content, Mapping):
        raise RecipeError(f"{where}: {prefix or 'a recipe'} must hold named values. Received: {content!r}")
    hints = typing.get_type_hints(kind)
    names = [entry.name for entry in dataclasses.fields(kind)]
    values = {}
    for key, value in content.items():
        full = f"{prefix}.{key}" if prefix else str(key)
        if key not in names:
            raise RecipeError(f"{where}: there is no key {full!r}. {suggestion(key, names)} Received: {value!r}")
        values[key] = _value(value, hints[key], where, full)
    try:
        return kind(**values) if isinstance(target, type) else dataclasses.replace(target, **values)
    except ValueError as error:
        if str(error).startswith(f"{where}: "):
            raise
        raise RecipeError(f"{where}: {error}") from error


def _value(value: Any, hint: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return changed(hint, value, where, key)
    try:
        return _converted(value, hint)
    except (TypeError, ValueError, OverflowError):
        raise RecipeError(f"{where}: {key} must be {_described(hint)}. Received: {value!r}") from None


def _converted(value: Any, hint: Any) -> Any:
    """The value as the hinted type, TypeError or ValueError if it is not one; YAML's numbers, lists and maps are."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _converted(value, arguments[0])
    if origin is Literal:
        if value not in arguments:
            raise ValueError
        return value
    if origin is tuple:
        return _converted_tuple(value, arguments)
    if origin is dict:
        return {_converted(key, arguments[0]): _converted(item, arguments[1]) for key, item in _map(value).items()}
    if hint is float and not isinstance(value, bool):
        return float(value)  # YAML takes 1e-3, without a point, for a text.
    if hint is int and isinstance(value, str):
        return int(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise TypeError
    return value


def _converted_tuple(value: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    if arguments[-1] is Ellipsis:
        return tuple(_converted(item, arguments[0]) for item in value)
    return tuple(_converted(item, kind) for item, kind in zip(value, arguments, strict=True))


def _map(value: Any) -> Mapping:
    if not isinstance(value, Mapping):
        raise TypeError
    return value


_DESCRIPTIONS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _described(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return f"{_described(arguments[0])} or null"
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        many = "any number" if arguments[-1] is Ellipsis else str(len(arguments))
        return f"a list of {many}, each {_described(arguments[0])}"
    if origin is dict:
        return "a map"
    return _DESCRIPTIONS.get(hint, "a value")


def plain(value: Any) -> Any:
    """A value as YAML has it: maps and lists."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def flattened(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Pairs of the full name of a key, such as `"training.epochs"`, and its value."""
    for key, value in content.items():
        # An empty map is a value too, or a change of it would not be seen.
        if isinstance(value, Mapping) and value and key not in _WHOLE:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
