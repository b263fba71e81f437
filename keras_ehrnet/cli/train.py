"""`keras-ehrnet train`: a model as a recipe says."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from keras_ehrnet.cli.common import BackendOption, ShowOption, going_on_later, load_keras, need_finished


def train(
    recipe: Annotated[str, typer.Argument(help="Recipe: a YAML file, or the name of one that comes along, as h-4.")],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values to change, such as epochs=10.")
    ] = None,
    backend: BackendOption = None,
    hosts: Annotated[
        str | None, typer.Option("--hosts", help="host:port of all machines that train together, the same on each.")
    ] = None,
    host: Annotated[int | None, typer.Option("--host", help="Which of --hosts this is, from 0.")] = None,
    show: ShowOption = False,
) -> None:
    """Train a model; run again with the same recipe, go on where it stopped.

    Results, log and checkpoints go to runs/NAME, or output.folder=... . The exit status is 0 where all epochs are
    done, 3 where training.minutes were over before, 2 where something is wrong, 130 after Ctrl-C.
    """
    from keras_ehrnet.training import recipe as recipes

    if (hosts is None) != (host is None):
        raise ValueError("--hosts and --host go together.")
    chosen = recipes.read(recipe, changes or ())
    if show:
        print(chosen.to_yaml(), end="")
        return
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend

    if hosts is None:  # Hosts must find each other before anything is computed.
        load_keras()

    from keras_ehrnet import training

    if hosts is not None and host is not None:
        training.join_hosts(hosts, host)
    with going_on_later():
        result = training.train(chosen)
    need_finished(result.finished)
    if not host:
        print(f"Model: {result.folder / 'model.keras'}")
