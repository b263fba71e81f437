"""Values of recipes: what they may be, and YAML files that stand on each other."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from keras_ehrnet.support.errors import RecipeError, reason
from keras_ehrnet.support.messages import suggestion

T = TypeVar("T")

CHECKED = ConfigDict(extra="forbid")
"""Of every section: what it does not know is a mistake."""


def _no_bool(value: Any) -> Any:
    """YAML's yes and no are no numbers, though Python takes them for some."""
    if isinstance(value, bool):
        raise ValueError
    return value


_NUMBER = BeforeValidator(_no_bool)
# Of what is not in bounds the text tells what they are.
Flag = Annotated[bool, Strict()]
Number = Annotated[float, Field(allow_inf_nan=False), _NUMBER]
Count = Annotated[int, Field(ge=1), _NUMBER, "at least 1"]
Whole = Annotated[int, Field(ge=0), _NUMBER, "at least 0"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), _NUMBER, "positive and finite"]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), _NUMBER, "at least 0"]
Part = Annotated[float, Field(ge=0, lt=1), _NUMBER, "from 0 to below 1"]
Factor = Annotated[float, Field(gt=0, le=1), _NUMBER, "above 0 and at most 1"]

_BASE = "base"
_MOST_VALUES = 100_000
_WHOLE = ("sigma_factors", "augmentation_changes", "mixed_with", "rates")


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
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from keys_of(hint, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def checked(kind: type[T], content: Any, where: str, prefix: str = "") -> T:
    """A dataclass with the values of `content`, all of them checked.

    Args:
        kind: dataclass whose annotations say what values may be.
        content: mapping of its keys to values.
        where: str. What it was read from, for messages; empty where whoever calls says it.
        prefix: str. Full name of the section that it is, likewise; empty for a whole recipe.

    Raises:
        RecipeError: naming the key that is unknown, or has a wrong value.
    """
    if not isinstance(content, Mapping):
        raise RecipeError(f"{_at(where)}{prefix or 'a recipe'} must hold named values. Received: {content!r}")
    _refuse_unknown(kind, content, where, prefix)
    try:
        return TypeAdapter(kind).validate_python(dict(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        told = str(first.get("ctx", {}).get("error", "")) or _mistake(kind, content, prefix, first["loc"])
        raise RecipeError(_at(where) + told) from error


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _refuse_unknown(kind: type, content: Mapping[str, Any], where: str, prefix: str) -> None:
    hints = get_type_hints(kind)
    for key, value in content.items():
        full = f"{prefix}.{key}" if prefix else str(key)
        if key not in hints:
            raise RecipeError(
                f"{_at(where)}there is no key {full!r}. {suggestion(str(key), hints)} Received: {value!r}"
            )
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            _refuse_unknown(hints[key], value, where, full)


def _mistake(kind: Any, content: Any, prefix: str, place: tuple[int | str, ...]) -> str:
    """A sentence on the value at a place; of a list or a map on the whole of it."""
    hint, keys = kind, [prefix] if prefix else []
    for part in place:
        if not dataclasses.is_dataclass(hint):
            break
        hint, content = get_type_hints(hint, include_extras=True)[str(part)], content[str(part)]
        keys.append(str(part))
    wanted = "hold named values" if dataclasses.is_dataclass(hint) else f"be {_described(hint, content)}"
    return f"{'.'.join(keys)} must {wanted}. Received: {content!r}"


_DESCRIPTIONS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _described(hint: Any, value: Any = None) -> str:
    """What a value of a type may be: its bounds where the value is a number, else the type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        kinds = (_described(kind) for kind in arguments if kind is not types.NoneType)
        return _bounds(arguments[0], value) or f"{', '.join(kinds)} or null"
    if origin is Annotated:
        return _bounds(hint, value) or _described(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        many = "any number" if arguments[-1] is Ellipsis else str(len(arguments))
        return f"a list of {many}, each {allowed(arguments[0])}"
    if origin is dict:
        return f"a map of {allowed(arguments[0])} to {allowed(arguments[1])}"
    return _DESCRIPTIONS.get(hint, "a value")


def _bounds(hint: Any, value: Any) -> str | None:
    """What the bounds of a number are, where the value is one of its kind."""
    if get_origin(hint) is not Annotated or isinstance(value, bool):
        return None
    fits = isinstance(value, int) or (isinstance(value, float) and hint.__origin__ is float)
    return next((text for text in hint.__metadata__ if isinstance(text, str)), None) if fits else None


def allowed(hint: Any) -> str:
    """What values of a type may be, bounds included, in words.

    Example:
        >>> from keras_ehrnet.training.values import Count, allowed
        >>> allowed(Count | None)
        'a whole number (at least 1) or null'
    """
    if get_origin(hint) in (types.UnionType, typing.Union):
        kinds = [allowed(kind) for kind in get_args(hint) if kind is not types.NoneType]
        return f"{', '.join(kinds)} or null"
    bounds = _bounds(hint, 0)
    return f"{_described(hint)} ({bounds})" if bounds else _described(hint)


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
