"""Trains a model as a recipe says; run again with the same recipe, it goes on where it stopped.

python training/train.py training/recipes/h-4.yaml training.epochs=100 data.images=coco/train2017
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

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
    show: Annotated[bool, typer.Option("--show", help="Print the whole recipe, defaults included, and stop.")] = False,
) -> None:
    """Train a model. Results, log and checkpoints go to runs/NAME, or output.folder=... ."""
    from keras_ehrnet import recipe as recipes

    chosen = recipes.read(recipe, changes or ())
    if show:
        print(chosen.to_yaml(), end="")
        return
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend

    from keras_ehrnet import training

    result = training.train(chosen)
    print(f"Model: {result.folder / 'model.keras'}")


if __name__ == "__main__":
    try:
        app()
    except (ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on after the last whole epoch.", file=sys.stderr)
        sys.exit(130)
