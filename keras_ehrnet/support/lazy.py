"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from keras_ehrnet.support.messages import needing


def public_names(
    package: str, places: Mapping[str, tuple[str, str | None]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose names are imported when they are first used.

    Args:
        package: str. Its `__name__`.
        places: mapping of public name to module and attribute there; None stands for the module itself.

    Returns:
        Two functions. The first says what to install where a name needs a package that is missing.

    Example:
        >>> from keras_ehrnet.support.lazy import public_names
        >>> get, _ = public_names("keras_ehrnet.support", {"root": ("math", "sqrt")})
        >>> get("root")(9)
        3.0
    """
    namespace = vars(sys.modules[package])

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module_name, attribute = places[name]
        with needing(f"{package}.{name}"):
            module = import_module(module_name)
        namespace[name] = module if attribute is None else getattr(module, attribute)
        return namespace[name]

    def names() -> list[str]:
        return sorted({*(name for name in namespace if name.startswith("__")), *places})

    return get, names
