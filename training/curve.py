"""Draws loss and score of a training, or of several that went on with each other's weights, as one picture.

python training/curve.py runs/h-4 runs/h-4-larger --output curve.png
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_ehrnet.support.files import write_file
from keras_ehrnet.training.pictures import curve_picture


def main(
    runs: Annotated[list[Path], typer.Argument(help="Output folders of trainings, in their order.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")] = Path("curve.png"),
) -> None:
    picture = curve_picture([run / "log.csv" for run in runs], ", then ".join(run.name for run in runs))
    if picture is None:
        raise typer.BadParameter(f"there is no log.csv with an epoch in them. Received: {', '.join(map(str, runs))}")
    write_file(output, picture)


if __name__ == "__main__":
    typer.run(main)
