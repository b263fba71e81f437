"""The command line: `keras-ehrnet predict | label | train | search | evaluate | export | benchmark | serve | ...`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from keras_ehrnet.support.version import __version__

# TensorFlow's start-up messages are not for the people who read this program's output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_ehrnet.cli.benchmark import benchmark
from keras_ehrnet.cli.evaluate import evaluate_app
from keras_ehrnet.cli.export import export
from keras_ehrnet.cli.label import label
from keras_ehrnet.cli.models import convert, summary
from keras_ehrnet.cli.predict import predict
from keras_ehrnet.cli.search import search_app
from keras_ehrnet.cli.serve import serve
from keras_ehrnet.cli.train import train
from keras_ehrnet.support.terminal import run

app = typer.Typer(
    name="keras-ehrnet",
    help="Human pose estimation: predict, train, search, evaluate, export, benchmark, serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"keras-ehrnet {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of the whole program."""


app.add_typer(evaluate_app, name="evaluate")
app.add_typer(search_app, name="search")
for command in (predict, label, train, export, benchmark, serve, summary, convert):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; mistakes of its user end in one sentence and exit code 2."""
    sys.exit(run(lambda: app(arguments)))
