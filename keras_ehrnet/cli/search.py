"""`keras-ehrnet search`: a network for one's own device and joints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from keras_ehrnet.cli.common import BackendOption, ShowOption, going_on_later, load_keras, need_finished

_DEFAULT = "run"


class _SearchByDefault(TyperGroup):
    """`search RECIPE` is `search run RECIPE`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


search_app = typer.Typer(
    cls=_SearchByDefault,
    help="Find a network: keras-ehrnet search RECIPE [KEY=VALUE]...",
    no_args_is_help=True,
)

RecipeArgument = Annotated[
    str, typer.Argument(help="Recipe: a YAML file, or the name of one that comes along, as synthetic.")
]
ChangesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values to change, such as cost_weight=0.5.")
]


@search_app.command(_DEFAULT)
def search(
    recipe: RecipeArgument,
    changes: ChangesArgument = None,
    backend: BackendOption = None,
    show: ShowOption = False,
) -> None:
    """Search as a recipe says (run may be left out); run again with the same recipe, go on where it stopped.

    Results go to runs/NAME, or output.folder=...: found.json is what summary, export and recipes take as a model. The
    exit status is 0 where all epochs are done, 3 where training.minutes were over before, 2 where something is wrong,
    130 after Ctrl-C.
    """
    from keras_ehrnet.search import recipe as recipes

    chosen = recipes.read(recipe, changes or ())
    if show:
        print(chosen.to_yaml(), end="")
        return
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    load_keras()
    from keras_ehrnet.search import run

    with going_on_later():
        found = run.search(chosen)
    need_finished(found.finished)
    print(f"Found: {found.path}")


@search_app.command("measure")
def measure(
    recipe: RecipeArgument,
    changes: ChangesArgument = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write.")] = Path("latency.json"),
    precision: Annotated[str, typer.Option("--precision", help="float32 or int8.")] = "int8",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: LiteRT's choice.")] = None,
    check: Annotated[int, typer.Option("--check", min=0, help="Random networks to compare predictions with.")] = 20,
) -> None:
    """Measure every block that a recipe's networks may have, for search.latency=TABLE.

    LiteRT runs them on this machine, which should have nothing else to do. Predictions are then compared with whole
    networks, and the comparison is kept in the table.
    """
    from keras_ehrnet.search import recipe as recipes

    chosen = recipes.read(recipe, changes or ())
    load_keras()
    from keras_ehrnet.search.measure import measure as measure_blocks

    table = measure_blocks(chosen, precision=precision, threads=threads, check=check, progress=True)
    table.write(output)
    print(f"{output}: {len(table.blocks)} blocks in {precision}. {table.told()}")
