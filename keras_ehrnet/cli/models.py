"""`keras-ehrnet summary` and `convert`: the models of the papers and their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from keras_ehrnet.cli.common import ModelOption, load_keras, make_console
from keras_ehrnet.models.variants import VARIANTS, Variant, variant
from keras_ehrnet.weights.registry import REGISTRY, PackagedEntry


def summary(
    models: Annotated[
        list[str] | None, typer.Argument(help="Names, or .json files of blocks; default: all of the papers.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    weights: Annotated[bool, typer.Option("--weights", help="List weights that are free to use instead.")] = False,
) -> None:
    """Parameters and multiply-adds of every model, beside the papers' figures."""
    from rich.table import Table

    if weights:
        return _print_weights()
    chosen = {name: variant(name) for name in models} if models else _published(VARIANTS)
    load_keras()
    from keras_ehrnet.families import FAMILIES
    from keras_ehrnet.models.profile import profile

    profiles = {name: profile(entry.build()) for name, entry in chosen.items()}
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps({name: asdict(counts) for name, counts in profiles.items()}, indent=2))
        return
    table = Table(title="Models of the papers")
    for column in ("model", "input", "parameters", "MACs", "as the paper counts", "paper says", "paper's accuracy"):
        table.add_column(column, justify="left" if column in ("model", "paper's accuracy") else "right", no_wrap=True)
    for name, counts in profiles.items():
        entry = chosen[name]
        height, width, _ = counts.input_shape
        table.add_row(
            name,
            f"{height}x{width}",
            f"{counts.parameters:,}",
            f"{counts.macs / 1e9:.2f}G",
            _figures(counts.paper_parameters / 1e6, counts.paper_flops / 1e9 if entry.flops else None),
            _figures(entry.parameters, entry.flops),
            entry.score,
        )
    console = make_console(min_width=128)
    console.print(table)
    for family in dict.fromkeys(entry.family for entry in chosen.values()):
        console.print(f"{FAMILIES[family].title} ({FAMILIES[family].paper}): {FAMILIES[family].counts}")


def _published(variants: dict[str, Variant]) -> dict[str, Variant]:
    return {name: entry for name, entry in variants.items() if entry.is_published}


def _print_weights() -> None:
    console = make_console()
    for entry in REGISTRY.values():
        size = "" if entry.size is None else f", {entry.size / 1e6:.1f} MB"
        model = "" if entry.name == entry.model else f"{entry.model}, "
        data = f". Data: {entry.data}" if isinstance(entry, PackagedEntry) else ""
        console.print(f"{entry.name} ({model}{entry.skeleton}, {entry.license}{size}): {entry.score}", soft_wrap=True)
        console.print(f"    {entry.paper}; {entry.recipe}{data}", soft_wrap=True, highlight=False)


def _figures(parameters: float | None, flops: float | None) -> str:
    return " ".join(f"{value:.2f}{unit}" for value, unit in ((parameters, "M"), (flops, "B")) if value is not None)


def convert(
    source: Annotated[str, typer.Argument(help="Published weights: a file, or a registered name.")],
    output: Annotated[Path, typer.Argument(help="File to write: .weights.h5 or .keras.")],
    model: ModelOption,
    num_keypoints: Annotated[
        int | None, typer.Option(min=1, help="Keypoints of the model; default: as published.")
    ] = None,
) -> None:
    """Turn published weights into a file of this package."""
    entry = variant(model)
    if num_keypoints is not None and entry.family == "efficientnet":
        raise ValueError(f"A classifier has no keypoints. Received: --num-keypoints {num_keypoints} for {model!r}")
    load_keras()
    from keras_ehrnet import weights as weights_module
    from keras_ehrnet.models.saving import describe

    published = num_keypoints is None or (entry.skeleton is not None and num_keypoints == entry.skeleton.num_joints)
    options = {} if published else {"num_keypoints": num_keypoints}
    built = entry.build(**options)
    about = describe(built, entry.skeleton) if published and entry.skeleton is not None else None
    path = weights_module.convert(built, source, output, about)
    make_console().print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)
