"""Architecture search: a network of the family of EfficientPose-A/B/C for one's own device and joints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_ehrnet.support.lazy import public_names

if TYPE_CHECKING:
    from keras_ehrnet.search.cost import Cost as Cost
    from keras_ehrnet.search.cost import multiply_adds as multiply_adds
    from keras_ehrnet.search.space import Space as Space

_PUBLIC: dict[str, tuple[str, str | None]] = {
    "Cost": ("keras_ehrnet.search.cost", "Cost"),
    "Space": ("keras_ehrnet.search.space", "Space"),
    "multiply_adds": ("keras_ehrnet.search.cost", "multiply_adds"),
}

__all__ = [*_PUBLIC]

__getattr__, __dir__ = public_names(__name__, _PUBLIC)
