"""Architecture search: a network of the family of EfficientPose-A/B/C for one's own device and joints."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras_ehrnet.support.lazy import public_names
from keras_ehrnet.support.messages import needing

if TYPE_CHECKING:
    from keras_ehrnet.search.cost import Cost as Cost
    from keras_ehrnet.search.cost import multiply_adds as multiply_adds
    from keras_ehrnet.search.latency import LatencyTable as LatencyTable
    from keras_ehrnet.search.latency import read_latency as read_latency
    from keras_ehrnet.search.measure import measure as measure
    from keras_ehrnet.search.recipe import SearchRecipe as SearchRecipe
    from keras_ehrnet.search.run import Found as Found
    from keras_ehrnet.search.run import search as search
    from keras_ehrnet.search.space import Space as Space

_PUBLIC: dict[str, tuple[str, str | None]] = {
    "Cost": ("keras_ehrnet.search.cost", "Cost"),
    "Found": ("keras_ehrnet.search.run", "Found"),
    "LatencyTable": ("keras_ehrnet.search.latency", "LatencyTable"),
    "SearchRecipe": ("keras_ehrnet.search.recipe", "SearchRecipe"),
    "read_latency": ("keras_ehrnet.search.latency", "read_latency"),
    "search": ("keras_ehrnet.search.run", "search"),
    "Space": ("keras_ehrnet.search.space", "Space"),
    "measure": ("keras_ehrnet.search.measure", "measure"),
    "multiply_adds": ("keras_ehrnet.search.cost", "multiply_adds"),
}

__all__ = [*_PUBLIC]

__getattr__, __dir__ = public_names(__name__, _PUBLIC)


class _Search(ModuleType):
    """This module: it is called, as `keras_ehrnet.search("synthetic")`, like the function that it is named for."""

    def __call__(self, *args: Any, **kwargs: Any) -> Found:
        with needing("keras_ehrnet.search"):
            from keras_ehrnet.search.run import search

        return search(*args, **kwargs)


sys.modules[__name__].__class__ = _Search
