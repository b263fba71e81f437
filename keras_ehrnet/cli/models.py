"""`keras-ehrnet summary` and `convert`: the models of the papers and their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from keras_ehrnet.cli.common import ModelOption, load_keras, make_console


def summary(
    models: Annotated[
        list[str] | None, typer.Argument(help="Names, or .json files of blocks; default: all of the papers.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Parameters and multiply-adds of every model, beside the papers' figures."""
    from rich.table import Table

    load_keras()
    from keras_ehrnet.families import FAMILIES
    from keras_ehrnet.models.profile import profile
    from keras_ehrnet.models.variants import VARIANTS, variant

    chosen = {name: variant(name) for name in models} if models else VARIANTS
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
    from keras_ehrnet import weights as weights_module
    from keras_ehrnet.models.variants import variant

    load_keras()
    entry = variant(model)
    if num_keypoints is not None and entry.family == "efficientnet":
        raise ValueError(f"A classifier has no keypoints. Received: --num-keypoints {num_keypoints} for {model!r}")
    published = num_keypoints is None or (entry.skeleton is not None and num_keypoints == entry.skeleton.num_joints)
    options = {} if published else {"num_keypoints": num_keypoints}
    skeleton = entry.skeleton if published else None
    path = weights_module.convert(entry.build(**options), source, output, skeleton)
    make_console().print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", soft_wrap=True)
