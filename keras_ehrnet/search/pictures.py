"""Pictures of a search: how choices settle, and the network that was found."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from keras_ehrnet.models.searched import SearchedBackbone
from keras_ehrnet.search.space import Space

_ROW = 0.13  # Inches per option.


def choices_picture(log: Path, space: Space) -> bytes | None:
    """How likely every option was over the epochs, as PNG: a row per option, a block of rows per decision.

    Args:
        log: Path of `choices.csv`.
        space: `Space` that was searched.

    Returns:
        bytes; None before the first epoch.
    """
    from matplotlib.figure import Figure

    rows = list(csv.DictReader(log.open(newline="", encoding="utf-8"))) if log.exists() else []
    if not rows:
        return None
    counts = [len(decision.options) for decision in space.decisions]
    names = [f"{decision.name}={option}" for decision in space.decisions for option in decision.options]
    values = np.array([[float(row[name]) for row in rows] for name in names])
    chart = Figure(figsize=(7, 1 + _ROW * len(names)), layout="constrained")
    axes = chart.add_subplot()
    image = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.set(xlabel="epoch", title="how likely each option is")
    for edge in np.cumsum(counts)[:-1]:
        axes.axhline(edge - 0.5, color="white", linewidth=0.8)
    chart.colorbar(image, shrink=0.6)
    return _png(chart)


def network_picture(backbone: SearchedBackbone) -> bytes:
    """The blocks of a network, as PNG: wide where it has many channels, tall where kernels are large."""
    from matplotlib.figure import Figure

    chart = Figure(figsize=(max(5, 0.45 * len(backbone.blocks)), 3), layout="constrained")
    axes = chart.add_subplot()
    colors = {expansion: f"C{number}" for number, expansion in enumerate(_expansions(backbone))}
    most = max(block[2] for block in backbone.blocks if block)
    for place, block in enumerate(backbone.blocks):
        if block is None:
            axes.plot(place, 0, "x", color="gray")
            continue
        kernel, expansion, channels, stride = block
        axes.bar(place, kernel, 0.25 + 0.65 * channels / most, color=colors[expansion])
        axes.text(place, kernel, f"{channels}" + ("\n/2" if stride == 2 else ""), ha="center", va="bottom", fontsize=7)
    for expansion, color in colors.items():
        axes.bar(0, 0, color=color, label=f"expansion {expansion}")
    axes.legend(fontsize=7, loc="upper left", ncols=len(colors))
    axes.set(title=f"{backbone.name}: channels over each block, x left out", xlabel="block", ylabel="kernel")
    axes.set_ylim(-0.5, 10)
    return _png(chart)


def _expansions(backbone: SearchedBackbone) -> list[int]:
    return sorted({block[1] for block in backbone.blocks if block})


def _png(chart: object) -> bytes:
    picture = io.BytesIO()
    chart.savefig(picture, format="png", dpi=110)  # type: ignore[attr-defined]
    return picture.getvalue()
