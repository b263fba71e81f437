"""What the commands share: options, tables, TensorFlow kept quiet, keras loaded late."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_ehrnet.support.terminal import complain, silenced

if TYPE_CHECKING:
    from rich.console import Console

ModelOption = Annotated[str, typer.Option("--model", "-m", help="Model by name, or a .keras, .tflite or .onnx file.")]
ModelOrOwnOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model by name, or a .keras, .tflite or .onnx file; default: own weights."),
]
WeightsOption = Annotated[
    str | None, typer.Option("--weights", "-w", help="Registered name or file; default: the published weights.")
]
RefineOption = Annotated[
    str | None, typer.Option("--refine", help="A second model, for one person, that places everyone found anew.")
]
MultiPersonOption = Annotated[bool, typer.Option("--multi-person", help="EfficientPose: find several people.")]
FlipOption = Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")]
BackendOption = Annotated[str | None, typer.Option("--backend", help="tensorflow or jax; default: Keras's own choice.")]
ShowOption = Annotated[bool, typer.Option("--show", help="Print the whole recipe, defaults included, and stop.")]
ScalesOption = Annotated[str, typer.Option("--scales", help="Image scales to average over, such as 0.5,1,2.")]


class ProtocolName(str, Enum):
    """How EfficientHRNet's maps become people."""

    paper = "paper"
    fast = "fast"


ProtocolOption = Annotated[
    ProtocolName | None,
    typer.Option("--protocol", help="EfficientHRNet: as the papers evaluate, or fast. Default: fast for videos."),
]


def numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"{option} takes numbers separated by commas, such as 0.5,1,2. Received: {text!r}") from None


def size_of(text: str | None) -> tuple[int, int] | None:
    """The (height, width) that `--input-size` names, if it does."""
    if text is None:
        return None
    sides = numbers(text, "--input-size")
    if len(sides) != 2 or any(side != int(side) for side in sides):
        raise ValueError(f"--input-size takes height,width, two whole numbers. Received: {text!r}")
    return int(sides[0]), int(sides[1])


UNFINISHED = 3
INTERRUPTED = 130


@contextmanager
def going_on_later() -> Iterator[None]:
    """Ctrl-C within ends a command with a sentence: what it has done is kept."""
    try:
        yield
    except KeyboardInterrupt:
        complain("Stopped. The same command goes on after the last whole epoch.")
        raise typer.Exit(INTERRUPTED) from None


def need_finished(finished: bool) -> None:
    """Ends a command whose time was over before its work was done."""
    if not finished:
        complain("Not finished. The same command goes on.")
        raise typer.Exit(UNFINISHED)


def load_keras_for(
    model: str, weights: str | None = None, refine: str | None = None, input_size: tuple[int, int] | None = None
) -> None:
    """Imports Keras if one of two networks needs it, and once both are known to be something that can be loaded."""
    from keras_ehrnet import runtime

    runtime.check_source(model, weights)
    if refine is not None:
        runtime.check_source(refine)
    if not (runtime.runs_without_keras(model, weights, input_size) and runtime.runs_without_keras(refine or model)):
        load_keras()


def load_keras() -> None:
    with silenced():
        import keras

        # The first computation looks for accelerators, and says so.
        keras.ops.zeros(1)


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"Results cannot be written there ({error.strerror}). Received: {path}") from error


def print_rows(title: str, rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    table = Table(*rows[0], title=title)
    for row in rows[1:]:
        table.add_row(*row)
    make_console().print(table)


def make_console(min_width: int = 80) -> Console:
    from rich.console import Console

    console = Console()
    # Files and pipes have no width: give a wide table the room it needs.
    return console if console.is_terminal or console.width >= min_width else Console(width=min_width)
