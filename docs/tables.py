"""Tables of the documentation, made from what they describe when the site is built: `{{ models }}` and its like."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from keras_ehrnet.export.formats import FORMATS
from keras_ehrnet.families import FAMILIES, MAPS
from keras_ehrnet.models.variants import VARIANTS
from keras_ehrnet.search.recipe import SearchRecipe, SearchSection
from keras_ehrnet.search.space import Space
from keras_ehrnet.training import recipe
from keras_ehrnet.training.values import allowed
from keras_ehrnet.weights.registry import REGISTRY

ROOT = Path(__file__).parents[1]
KOTLIN = ROOT / "deploy/android/app/src/main/java/kerasehrnet/Letterbox.kt"


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown; None is an empty cell."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    cells = ([("" if cell is None else str(cell)).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def models() -> str:
    """Every model, with its paper's figures."""
    rows = (
        (
            f"`{name}`",
            FAMILIES[variant.family].title,
            "x".join(map(str, variant.input_size)),
            variant.parameters,
            variant.flops,
            variant.score,
        )
        for name, variant in VARIANTS.items()
    )
    return table(("name", "family", "input", "parameters, M", "FLOPs, G", "the paper's score"), rows)


def weights() -> str:
    """Every set of weights that is on record, with its score."""
    rows = (
        (f"`{entry.name}`", f"`{entry.model}`", f"`{entry.skeleton}`", entry.license, entry.score, entry.recipe)
        for entry in REGISTRY.values()
    )
    return table(("name", "model", "skeleton", "license", "score", "training"), rows)


def formats() -> str:
    """Every format that networks are exported in."""
    rows = (
        (f"`{name}`", format.description, ", ".join(format.precisions), ", ".join(format.decodes))
        for name, format in FORMATS.items()
    )
    return table(("format", "runs on", "precisions", "decoding inside"), rows)


def maps() -> str:
    """What the maps of networks are called."""
    return table(("map", "how to read it"), ((f"`{name}`", meaning) for name, meaning in MAPS.items()))


def recipe_names() -> str:
    """Every recipe that comes with the package."""
    return ", ".join(f"`{name}`" for name in recipe.names())


def recipe_keys() -> str:
    """Every key of a recipe, section by section."""
    return "\n\n".join(_sections("", recipe.Recipe))


def search_names() -> str:
    """Every recipe of a search that comes with the package."""
    return ", ".join(f"`{name}`" for name in recipe.names(SearchRecipe))


def search_keys() -> str:
    """The keys that a recipe of a search has besides those of a training."""
    return "\n\n".join([*_sections("space.", Space), *_sections("search.", SearchSection)])


def _sections(prefix: str, record: Any) -> Iterator[str]:
    """The keys of a dataclass as its docstring describes them, then those of the dataclasses in it."""
    title, described = _described(record)
    hints = get_type_hints(record, include_extras=True)
    defaults = {
        field.name: field.default_factory() if field.default_factory is not MISSING else field.default
        for field in fields(record)
    }
    parts = {name: type(value) for name, value in defaults.items() if is_dataclass(value)}
    rows = (
        (f"`{prefix}{name}`", f"`{value!r}`", allowed(hints[name]), described.get(name))
        for name, value in defaults.items()
        if name not in parts
    )
    yield f"## {title}\n\n" + table(("key", "default", "must be", "meaning"), rows)
    for name, part in parts.items():
        yield from _sections(f"{prefix}{name}.", part)


def _described(record: Any) -> tuple[str, dict[str, str]]:
    """The first line of a docstring, and what its arguments mean."""
    text = inspect.cleandoc(record.__doc__)
    arguments = text.partition("Args:\n")[2].partition("\n\n")[0]
    joined = re.sub(r"\n {8}", " ", arguments)
    return text.split("\n")[0], dict(re.findall(r"^    (\w+): (.*)$", joined, re.MULTILINE))


def kotlin_letterbox() -> str:
    """The tested classes of the Android app."""
    found = re.search(r"^/\*\* A part of a picture.*^\}\n", KOTLIN.read_text(), re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"There is no letterbox where documentation looks for it. Received: {KOTLIN}")
    return f"```kotlin\n{found.group()}```"


MADE: dict[str, Callable[[], str]] = {
    function.__name__: function
    for function in (
        models,
        weights,
        formats,
        maps,
        recipe_names,
        recipe_keys,
        search_names,
        search_keys,
        kotlin_letterbox,
    )
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What mkdocs calls for every page."""
    return re.sub(r"^\{\{ (\w+) \}\}$", lambda found: MADE[found.group(1)](), markdown, flags=re.MULTILINE)
