"""Messages for users: what was received, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real


def suggestion(received: object, valid: Iterable[object]) -> str:
    """A sentence that names the valid value nearest to what was received, and all of them.

    Args:
        received: anything. The value that is not valid.
        valid: iterable of numbers or of strings. The values that are.

    Returns:
        str, such as `"Did you mean -2? Valid: -2, -1, 0."`

    Example:
        >>> from keras_ehrnet.errors import suggestion
        >>> suggestion("RT_LIT", ["RT", "RT_LITE"])
        "Did you mean 'RT_LITE'? Valid: 'RT', 'RT_LITE'."
    """
    valid = list(valid)
    listed = f"Valid: {', '.join(repr(value) for value in valid)}."
    near = _nearest(received, valid)
    return listed if near is None else f"Did you mean {near!r}? {listed}"


def _nearest(received: object, valid: list[object]) -> object | None:
    numbers = [value for value in valid if isinstance(value, Real)]
    if isinstance(received, Real) and not isinstance(received, bool) and numbers:
        return min(numbers, key=lambda value: abs(value - received))
    by_text = {str(value).lower().replace("-", "_"): value for value in valid}
    text = str(received).lower().replace("-", "_")
    near = get_close_matches(text, by_text, n=1, cutoff=0.5)
    if not near and len(text) == 1 and all(len(name) == 1 for name in by_text):
        near = [min(by_text, key=lambda name: abs(ord(name) - ord(text)))]
    return by_text[near[0]] if near else None
