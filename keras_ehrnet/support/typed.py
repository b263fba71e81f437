"""Values that were read from a text, against the types that a dataclass names."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Union, get_args, get_origin, get_type_hints

from keras_ehrnet.support.messages import cut


def mistake(kind: type, values: Mapping[str, Any]) -> str | None:
    """The first value that a dataclass does not take, in words; None where it takes all of them.

    Args:
        kind: a dataclass whose fields are plain values, tuples, dicts and other dataclasses.
        values: mapping of its fields to values, lists being tuples by now. Fields that are missing are not looked at.

    Returns:
        str, or None.

    Example:
        >>> from keras_ehrnet.metadata import Input
        >>> from keras_ehrnet.support.typed import mistake
        >>> mistake(Input, {"height": "224", "width": 224})
        "'height' must be int, not '224'"
        >>> mistake(Input, {"height": 224, "width": 224})
    """
    hints = get_type_hints(kind)
    for field in fields(kind):
        if field.name in values and not _fits(values[field.name], hints[field.name]):
            return f"{field.name!r} must be {str(field.type).replace(' | ', ' or ')}, not {cut(values[field.name])}"
    return None


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (types.UnionType, Union):
        return any(_fits(value, one) for one in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if origin is dict:
        return isinstance(value, dict) and all(map(_fits, value, arguments[:1] * len(value)))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31
    return isinstance(value, hint)
