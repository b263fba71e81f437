"""Builders of networks from scaling coefficients, and what there is to build."""

from __future__ import annotations

from keras_ehrnet.support.lazy import public_names

_PUBLIC: dict[str, tuple[str, str | None]] = {
    "VARIANTS": ("keras_ehrnet.models.variants", "VARIANTS"),
    "Variant": ("keras_ehrnet.models.variants", "Variant"),
    "list": ("keras_ehrnet.models.variants", "names"),
    "save": ("keras_ehrnet.models.saving", "save"),
    "variant": ("keras_ehrnet.models.variants", "variant"),
}

__all__ = [*_PUBLIC]

__getattr__, __dir__ = public_names(__name__, _PUBLIC)
