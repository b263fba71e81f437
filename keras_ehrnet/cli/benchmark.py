"""`keras-ehrnet benchmark`: what formats and precisions cost and bring on this machine."""

from __future__ import annotations

import io
import json
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_ehrnet.cli.common import WeightsOption, load_keras, make_console, make_folder
from keras_ehrnet.export.formats import FORMATS
from keras_ehrnet.support.files import write_file
from keras_ehrnet.support.terminal import progress_bar

if TYPE_CHECKING:
    from rich.table import Table

    from keras_ehrnet.benchmark.runs import Result


def benchmark(
    models: Annotated[list[str], typer.Argument(help="Models by name, or files: .keras, .tflite, .onnx.")],
    formats: Annotated[str, typer.Option("--formats", "-f", help="tflite, onnx.")] = "tflite",
    precisions: Annotated[
        str, typer.Option("--precisions", "-p", help=f"{', '.join(FORMATS['tflite'].precisions)}.")
    ] = "float32,int8",
    decodes: Annotated[str, typer.Option("--decodes", "-d", help="none, peaks, poses.")] = "none,poses",
    weights: WeightsOption = None,
    images: Annotated[
        str | None, typer.Option("--images", "-i", help="Images to calibrate, compare and time with.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Annotations to score on: JSON of COCO or LSP-extended.")
    ] = None,
    data_images: Annotated[
        Path | None, typer.Option("--data-images", help="Their images; of LSP-extended, default: the zip beside them.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Score on so many images only.")] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs to time of each file.")] = 50,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: the runtime's choice.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for files and results.")] = Path("benchmark"),
) -> None:
    """Export models in many ways and measure each, beside files that are there already: a table, a CSV file, a picture.

    Files alone need neither Keras nor TensorFlow.
    """
    if data is None and data_images is not None:
        raise ValueError(f"Images to score on need annotations, --data. Received: --data-images {data_images} alone")
    from keras_ehrnet import benchmark as benchmarks
    from keras_ehrnet import runtime
    from keras_ehrnet.images import list_images, read_image

    files = [model for model in models if runtime.is_exported(model)]
    named = [model for model in models if model not in files]
    chosen = benchmarks.cases(named, *(_names(text) for text in (formats, precisions, decodes))) if named else []
    scored = benchmarks.Data(data, data_images, limit) if data else None
    figure = scored.figure if scored else ""
    make_folder(output)
    if named:
        load_keras()
    console = make_console(min_width=150)
    with progress_bar(console=console, transient=True) as progress:
        entries = chain(
            benchmarks.of_files(files, scored),
            benchmarks.export_all(chosen, output, weights=weights, images=images, data=scored),
        )
        exported = list(progress.track(entries, total=len(files) + len(chosen), description="files"))
        task = progress.add_task("timing", total=benchmarks.ROUNDS * len(exported))
        image = read_image(list_images(images)[0]) if images else benchmarks.synthetic_people()[0]
        measured = benchmarks.measure_all(
            exported, image, repeats=repeats, threads=threads, on_file=lambda: progress.advance(task)
        )
    results = [result for result, _ in measured]
    operations = {
        f"{result.model} {result.format} {result.precision} {result.decode}": measurement.operations
        for result, measurement in measured
    }
    console.print(_table(results, benchmarks.device(), figure))
    for name, counts in operations.items():
        if counts:
            console.print(f"{name}: {', '.join(f'{kind} {count}' for kind, count in counts.items())}", highlight=False)
    stem = f"benchmark-{benchmarks.device()}"
    benchmarks.write_csv(results, output / f"{stem}.csv")
    write_file(output / f"{stem}-operations.json", json.dumps(operations, indent=2) + "\n")
    written = f"Table, operations: {output / stem}.csv, -operations.json"
    if named or scored:
        picture = io.BytesIO()
        benchmarks.plot(results, figure).savefig(picture, format="png", dpi=120)
        write_file(output / f"{stem}.png", picture.getvalue())
        written += "; time against accuracy: .png"
    console.print(written, soft_wrap=True)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _table(results: list[Result], device: str, figure: str) -> Table:
    from rich.table import Table

    table = Table(title=f"One image at a time on {device}")
    for column in ("model", "format", "precision", "decode"):
        table.add_column(column, no_wrap=True)
    numbers = (
        "ms",
        "ms\np95",
        "images\nper s",
        "ms to\npeople",
        "ms to\nfirst",
        "MB\nmemory",
        "MB\nfile",
        "joints\nmove",
        "joints\nlost",
    )
    for column in (*numbers, *((figure,) if figure else ()), "ops", "dele-\ngated"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        table.add_row(
            Path(result.model).stem,
            result.format,
            result.precision,
            result.decode,
            f"{result.median_ms:.1f}",
            f"{result.p95_ms:.1f}",
            f"{result.images_per_second:.0f}",
            f"{result.people_ms:.1f}",
            f"{result.first_result_ms:.0f}",
            f"{result.memory_mb:.0f}",
            f"{result.size_mb:.2f}",
            _percent(result.drift, 2),
            _percent(result.lost, 1),
            *((_percent(result.score, 1),) if figure else ()),
            str(result.operations or "-"),
            _percent(result.delegated, 0),
        )
    return table


def _percent(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}%}"
