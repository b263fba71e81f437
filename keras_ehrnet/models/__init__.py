"""Builders of networks from scaling coefficients, and what there is to build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_ehrnet.support.lazy import public_names

if TYPE_CHECKING:
    from keras_ehrnet.models.saving import save as save
    from keras_ehrnet.models.variants import VARIANTS as VARIANTS
    from keras_ehrnet.models.variants import Variant as Variant
    from keras_ehrnet.models.variants import names as list  # noqa: F401
    from keras_ehrnet.models.variants import variant as variant

_PUBLIC: dict[str, tuple[str, str | None]] = {
    "VARIANTS": ("keras_ehrnet.models.variants", "VARIANTS"),
    "Variant": ("keras_ehrnet.models.variants", "Variant"),
    "list": ("keras_ehrnet.models.variants", "names"),
    "save": ("keras_ehrnet.models.saving", "save"),
    "variant": ("keras_ehrnet.models.variants", "variant"),
}

__all__ = [*_PUBLIC]

__getattr__, __dir__ = public_names(__name__, _PUBLIC)
