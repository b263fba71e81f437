"""The experiments behind our own weights: what each asks, its command, and one table of what came out.

python training/own_weights/experiments.py list
python training/own_weights/experiments.py table runs training/own_weights/RESULTS.md
"""

from __future__ import annotations

import csv
import json
import shutil
import statistics
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from parts import MIB, checksum_of, run_app

from keras_ehrnet.errors import suggestion
from keras_ehrnet.files import write_file
from keras_ehrnet.models.families import FAMILIES

HERE = "training/own_weights"
NOT_RUN = "not run"
_COLOURS = "brightness: 0.1, contrast: 0.2, saturation: 0.3, hue: 10"
_LSPET = "lspet: {share: 0.25, annotations: lspet_train/annotations.json, images: lspet_train/images}"
_SYNTHETIC = "synthetic: {share: 0.2, synthetic: {length: 4000, image_size: [320, 320], people: [1, 5]}}"
_STEPS = "steps_per_epoch=30"  # Those of `scratch`, whatever is mixed in.

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Experiment:
    """One training, and what it is to tell.

    Args:
        name: str. Also of its folder of results.
        question: str. What it asks.
        changes: tuple of str. What differs from the recipe, as `key=value`.
        recipe: str. Name of a file in `recipes/`.
        needs: tuple of str. Files or packs besides those of COCO.
        reserve: float. Minutes of a command that are not for training. Where images keep their proportions, the first
            evaluation compiles the network for several sizes.
    """

    name: str
    question: str
    changes: tuple[str, ...] = ()
    recipe: str = "base.yaml"
    needs: tuple[str, ...] = ()
    reserve: float = 1.25

    @property
    def command(self) -> str:
        """What to run on the GPU machine, again and again until it is finished."""
        changes = "".join(f" '{change}'" for change in (f"name={self.name}", *self.changes))
        return (
            f"PYTHONPATH=. python {HERE}/run.py {HERE}/recipes/{self.recipe}{changes} "
            f"--packs packs --output out --minutes 9 --reserve {self.reserve:g} --need-gpu"
        )


EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment("scratch", "H-4 at 256 from random weights: what all below is measured against"),
    Experiment("no-ema", "Without averaged weights", ("ema=null",)),
    Experiment("no-colours", "Without changes of colour", ("data.augmentation_changes={translation: 20}",)),
    Experiment(
        "mosaic",
        "Half of the images put together from four",
        (f"data.augmentation_changes={{translation: 20, {_COLOURS}, mosaic: 0.5}}",),
    ),
    Experiment("paper-decay", "The paper's weight decay", ("decay=l2", "weight_decay=0.0001")),
    Experiment("longer", "600 epochs instead of 260", ("epochs=600", "boundaries=[400, 540]")),
    Experiment(
        "lspet",
        "A quarter of the images from LSP-extended",
        (f"mixed_with={{{_LSPET}}}", _STEPS),
        needs=("lspet_train",),
    ),
    Experiment("synthetic", "A fifth of the images synthetic", (f"mixed_with={{{_SYNTHETIC}}}", _STEPS)),
    Experiment("h0-scratch", "H0 at 256 from random weights", recipe="h0.yaml"),
    Experiment(
        "h0-rt",
        "H0 with the first three stages of the published EfficientPose RT",
        ("model.weights=packs/h0-rt.weights.h5", "transfer=fitting"),
        recipe="h0.yaml",
        needs=("h0-rt.weights.h5",),
    ),
    Experiment("h-4", "H-4 at the paper's 384, 600 epochs, a third mosaics", recipe="h-4.yaml", reserve=3),
    Experiment(
        "h-4-from-256",
        "The same, 200 epochs on top of `longer`",
        ("model.weights=runs/longer/model.keras", "rate=0.0005", "epochs=200", "boundaries=[120, 170]"),
        recipe="h-4.yaml",
        needs=("runs/longer",),
        reserve=3,
    ),
    Experiment("h-2", "H-2 at the paper's 448, after what served H-4", recipe="h-2.yaml", reserve=3),
)


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        ValueError: for an unknown name; the message names the nearest known one.
    """
    known = {entry.name: entry for entry in EXPERIMENTS}
    if name not in known:
        raise ValueError(f"There is no such experiment. {suggestion(name, known)} Received: {name!r}")
    return known[name]


@dataclass(frozen=True)
class Outcome:
    """What a folder of results says.

    Args:
        recipe: `keras_ehrnet.recipe.Recipe` as it was followed.
        rows: list of dict. `log.csv`.
        starts: list of dict. Of `run.json`.
        state: dict. `state.json`, which `run.py` writes last of all.
        scores: dict or None. The final evaluation, with mirrored images.
    """

    recipe: Any
    rows: list[dict[str, str]]
    starts: list[dict[str, Any]]
    state: dict[str, Any]
    scores: dict[str, Any] | None

    def last(self, name: str) -> float | None:
        """The newest value of a figure in the log."""
        values = [row[name] for row in self.rows if row.get(name)]
        return float(values[-1]) if values else None

    @property
    def images_per_second(self) -> float:
        """Median over the epochs, evaluation left out."""
        images = self.state["steps_per_epoch"] * self.recipe.training.batch_size
        return images / statistics.median(float(row["seconds"]) for row in self.rows)

    @property
    def minutes(self) -> float:
        """Time spent in training steps."""
        return sum(float(row["seconds"]) for row in self.rows) / 60


def outcome(folder: Path) -> Outcome | None:
    """Reads a folder of results; None where nothing was trained.

    Raises:
        ValueError: if a file in it is damaged.
    """
    from keras_ehrnet import recipe

    if not (folder / "log.csv").exists():
        return None
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return None
    run, state = _json(folder / "run.json"), _json(folder / "state.json")
    if run is None or state is None:  # Its first command was cut off before it could hand anything back.
        return None
    scores = _json(folder / "evaluation-flip" / "scores.json")
    return Outcome(recipe.read(folder / "recipe.yaml"), rows, run["starts"], state, scores)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    except ValueError as error:
        raise ValueError(f"This file is damaged. Received: {path}") from error


def _model(found: Outcome) -> str:
    return f"{found.recipe.model.name}, {found.recipe.input_size[0]}"


def _epochs(found: Outcome) -> str:
    done, of = len(found.rows), found.recipe.training.epochs
    return str(done) if done >= of else f"{done} of {of}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _score(name: str) -> Callable[[Outcome], str]:
    return lambda found: _percent(found.scores[name] if found.scores else None)


_COLUMNS: dict[str, Callable[[Outcome], str]] = {
    "model, input": _model,
    "epochs": _epochs,
    "loss": lambda found: f"{found.last('loss'):.3g}",
    "AP while training": lambda found: _percent(found.last("ap")),
    "AP": _score("ap"),
    "AP 50": _score("ap50"),
    "AR": _score("ar"),
    "images/s": lambda found: f"{found.images_per_second:.0f}",
    "minutes": lambda found: f"{found.minutes:.0f}",
    "device": lambda found: found.state.get("device", ""),
}


def markdown(runs: Path, experiments: Iterable[Experiment] = EXPERIMENTS) -> str:
    """The table of all experiments, and the command and curve of each that was run.

    Args:
        runs: Path of the folder that holds a folder of results per experiment.
        experiments: `Experiment`s, in the order of the table.

    Returns:
        str. Markdown; curves are expected in `curves/` beside it.

    Example:
        >>> from pathlib import Path
        >>> "| not run |" in markdown(Path("nowhere"), EXPERIMENTS[:1]).splitlines()[-1]
        True
    """
    found = {entry: outcome(runs / entry.name) for entry in experiments}
    header = ["experiment", "what it asks", *_COLUMNS]
    lines = [_line(header), _line(["---"] * len(header))]
    for entry, result in found.items():
        values = (
            [NOT_RUN, *[""] * (len(_COLUMNS) - 1)] if result is None else [cell(result) for cell in _COLUMNS.values()]
        )
        lines.append(_line([entry.name, entry.question, *values]))
    for entry, result in found.items():
        if result is not None:
            lines += ["", *_details(entry, result)]
    return "\n".join(lines)


def _cells(result: Outcome | None) -> list[str]:
    if result is None:
        return [NOT_RUN, *[""] * (len(_COLUMNS) - 1)]
    return [cell(result) for cell in _COLUMNS.values()]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _details(entry: Experiment, result: Outcome) -> list[str]:
    return [
        f"### {entry.name}",
        "",
        f"Starts: {len(result.starts)}, the last of them:",
        "",
        "```sh",
        result.starts[-1]["command"],
        "```",
        "",
        f"With {_versions(result)}.",
        "",
        f"![loss and AP of {entry.name}](curves/{entry.name}.png)",
    ]


def _versions(result: Outcome) -> str:
    return ", ".join(f"{name} {version}" for name, version in result.starts[-1]["versions"].items())


def model_card(name: str, runs: Path, template: Path) -> str:
    """Fills the template of a model card with what a run says of itself.

    Args:
        name: str. The experiment.
        runs: Path of the folder that holds its folder of results.
        template: Path of `model_card.md.in`.

    Returns:
        str. Markdown.

    Raises:
        ValueError: if nothing was trained.
    """
    folder = runs / experiment(name).name
    found = outcome(folder)
    if found is None:
        raise ValueError(f"A model card needs a run. Received: {folder}")
    recipe, file = found.recipe, folder / f"{folder.name}.weights.h5"
    scores = found.scores or {}
    mixed = recipe.data.mixed_with
    return string.Template(template.read_text(encoding="utf-8")).substitute(
        name=name,
        title=FAMILIES[recipe.variant.family].title,
        paper=FAMILIES[recipe.variant.family].paper,
        model=recipe.model.name,
        sha256=checksum_of(file),
        mib=f"{file.stat().st_size / MIB:.1f}",
        skeleton=recipe.model.skeleton,
        input=" x ".join(map(str, recipe.input_size)),
        evaluated=f"{scores['images']} images, {scores['persons']} people" if scores else "nothing",
        ap=_percent(scores.get("ap")) or "not measured",
        ap50=_percent(scores.get("ap50")),
        ar=_percent(scores.get("ar")),
        epochs=len(found.rows),
        images_per_epoch=found.state["steps_per_epoch"] * recipe.training.batch_size,
        batch_size=recipe.training.batch_size,
        seed=recipe.training.seed,
        device=found.state["device"],
        minutes=f"{found.minutes:.0f}",
        versions=_versions(found),
        data=", ".join([recipe.data.kind, *mixed]),
        recipe=(folder / "recipe.yaml").read_text(encoding="utf-8").rstrip(),
    )


@app.command("list")
def list_command() -> None:
    """Print every experiment with its command."""
    for entry in EXPERIMENTS:
        needs = f" (needs {', '.join(entry.needs)})" if entry.needs else ""
        print(f"# {entry.name}: {entry.question}{needs}\n{entry.command}\n")


@app.command("table")
def table_command(
    runs: Annotated[Path, typer.Argument(help="Folder that holds the folders of results.")],
    output: Annotated[Path, typer.Argument(help="Markdown file to write; curves go to curves/ beside it.")],
) -> None:
    """Write the table of all experiments; those that were not run are in it too."""
    write_file(output, markdown(runs) + "\n")
    for entry in EXPERIMENTS:
        picture = runs / entry.name / "curve.png"
        if picture.exists():
            (output.parent / "curves").mkdir(exist_ok=True)
            shutil.copyfile(picture, output.parent / "curves" / f"{entry.name}.png")
    print(output)


@app.command("card")
def card_command(
    name: Annotated[str, typer.Argument(help="The experiment.")],
    runs: Annotated[Path, typer.Argument(help="Folder that holds the folders of results.")],
    output: Annotated[Path, typer.Argument(help="Markdown file to write.")],
) -> None:
    """Write the model card of a run."""
    write_file(output, model_card(name, runs, Path(__file__).with_name("model_card.md.in")))
    print(output)


if __name__ == "__main__":
    run_app(app)
