"""Trains a model as a recipe says; run again with the same recipe, it goes on where it stopped.

    python training/train.py keras_ehrnet/recipes/h-4.yaml training.epochs=100 data.images=coco/train2017

On several machines, with JAX, the same command on each, but for its number:

    python training/train.py RECIPE --backend jax --hosts gpu0:1234,gpu1:1234 --host 0
    python training/train.py RECIPE --backend jax --hosts gpu0:1234,gpu1:1234 --host 1

The exit status is 0 where all epochs are done, 3 where `training.minutes` were over before (the same command goes on),
2 where something is wrong, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from keras_ehrnet.support.terminal import run

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_UNFINISHED = 3

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file.")],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values to change, such as epochs=10.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", help="tensorflow or jax; default: Keras's own choice.")
    ] = None,
    hosts: Annotated[
        str | None, typer.Option("--hosts", help="host:port of all machines that train together, the same on each.")
    ] = None,
    host: Annotated[int | None, typer.Option("--host", help="Which of --hosts this is, from 0.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe, defaults included, and stop.")] = False,
) -> None:
    """Train a model. Results, log and checkpoints go to runs/NAME, or output.folder=... ."""
    from keras_ehrnet.training import recipe as recipes

    if (hosts is None) != (host is None):
        raise ValueError("--hosts and --host go together.")
    chosen = recipes.read(recipe, changes or ())
    if show:
        print(chosen.to_yaml(), end="")
        return
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend

    from keras_ehrnet import training

    if hosts is not None and host is not None:
        training.join_hosts(hosts, host)
    result = training.train(chosen)
    if not result.finished:
        print("Not finished. The same command goes on.", file=sys.stderr)
        raise typer.Exit(_UNFINISHED)
    if not host:
        print(f"Model: {result.folder / 'model.keras'}")


if __name__ == "__main__":
    try:
        sys.exit(run(app))
    except KeyboardInterrupt:
        print("Stopped. The same command goes on after the last whole epoch.", file=sys.stderr)
        sys.exit(130)
