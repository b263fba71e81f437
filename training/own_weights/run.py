"""Trains on a machine that lends its GPU in pieces and has no network: run the same command until it says it is done.

PYTHONPATH=. python training/own_weights/run.py training/own_weights/recipes/h-4.yaml --packs packs --output out

It unpacks what data have come (`pack.py`), goes on where it stopped, stops in time, and hands back everything in parts
of limited size (`parts.py`). It needs JAX and Keras, no TensorFlow. Exit status: 0 finished, 3 run it again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pack import unpack
from parts import MIB, PART_MIB, join, read_manifest, run_app, split

from keras_ehrnet.files import write_file

if TYPE_CHECKING:
    import keras

    from keras_ehrnet.recipe import Recipe

UNFINISHED = 3
CHECKPOINTS = "checkpoints"
_DATA_PATHS = ("annotations", "images", "evaluation_annotations", "evaluation_images")
_EVALUATION_MINUTES = 2.0  # A start that has less left leaves the final evaluation to the next one.
_SHORTEST = 0.01  # Minutes. However little is left, an epoch is trained.

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Clock:
    """Time that a command has.

    Args:
        minutes: float. From now on.
        reserve: float. Minutes of these that are for what cannot be cut short: the epoch under way, its evaluation, and
            handing back.
    """

    minutes: float
    reserve: float
    started: float = field(default_factory=time.monotonic)

    def seconds_left(self) -> float:
        """Seconds until no other epoch may begin."""
        return self.started + 60 * (self.minutes - self.reserve) - time.monotonic()


def placed(recipe: Recipe, data: Path) -> Recipe:
    """The recipe with its relative data paths taken from a folder, those of data that are mixed in too."""

    def moved(paths: Mapping[str, Any]) -> dict[str, Any]:
        return {name: str(data / path) if name in _DATA_PATHS and path else path for name, path in paths.items()}

    own = moved({name: getattr(recipe.data, name) for name in _DATA_PATHS})
    if recipe.data.mixed_with:
        own["mixed_with"] = {kind: moved(part) for kind, part in recipe.data.mixed_with.items()}
    return replace(recipe, data=replace(recipe.data, **own))


def save_small(model: keras.Model, path: Path) -> Path:
    """Saves weights at half the size: kernels as float16, everything else, such as variances, as float32.

    Args:
        model: `keras.Model`.
        path: Path ending in `.weights.h5`. `keras_ehrnet.weights.load` reads it.

    Returns:
        The same path.

    Raises:
        ValueError: if a kernel has values that float16 cannot hold.
    """
    import h5py
    import numpy as np

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        whole, small = Path(folder) / "whole.weights.h5", Path(folder) / "small.weights.h5"
        model.save_weights(whole)
        with h5py.File(whole) as source, h5py.File(small, "w") as target:

            def copy(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset):
                    values = item[()]
                    kept = values.astype(np.float16) if values.ndim > 1 and values.dtype == np.float32 else values
                    if not np.isfinite(kept).all():
                        raise ValueError(f"Weights must be finite, also as float16. Received: {name} of {model.name!r}")
                    target[name] = kept
                else:
                    target.require_group(name)
                for key, value in item.attrs.items():
                    target[name].attrs[key] = value

            source.visititems(copy)
            for key, value in source.attrs.items():
                target.attrs[key] = value
        os.replace(small, path)
    return path


def hand_back(folder: Path, output: Path, finished: bool, limit: int, most: int) -> None:
    """Writes a run in parts, and what one wants to see at once beside them.

    Args:
        folder: Path of the run.
        output: Path to write to.
        finished: bool. Whether there is nothing to go on with, so that the checkpoint need not travel.
        limit: int. Largest size of a part, in bytes.
        most: int. Largest size of all; where it is more, the state to go on from stays here.
    """
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    skip = (CHECKPOINTS,) if finished or total > most else ()
    if skip and not finished:
        print(f"{total / MIB:.0f} MiB are more than {most / MIB:.0f}: the checkpoint stays in {folder}")
    manifest = split(folder, output, limit, skip)
    for name in ("log.csv", "curve.png"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, output / f"{folder.name}-{name}")
    print(f"handed back: {manifest}, {len(read_manifest(manifest)['parts'])} parts")


@app.command()
def main(
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file; data paths are relative to --data.")],
    changes: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Values to change.")] = None,
    packs: Annotated[Path | None, typer.Option(help="Folder of packs to unpack first.")] = None,
    data: Annotated[Path, typer.Option(help="Folder of the unpacked data.")] = Path("data"),
    output: Annotated[Path, typer.Option(envvar="OWN_WEIGHTS_OUTPUT", help="Folder to hand results back in.")] = Path(
        "out"
    ),
    resume: Annotated[
        Path | None, typer.Option(help="Folder with the parts of an earlier run, to go on on another machine.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Time for this command.")] = 9.0,
    reserve: Annotated[float, typer.Option(help="Minutes of it for the last epoch, and for handing back.")] = 1.25,
    part_mib: Annotated[float, typer.Option(help="Largest size of a file to hand back, in MiB.")] = PART_MIB,
    need_gpu: Annotated[bool, typer.Option("--need-gpu", help="Stop at once where JAX sees no GPU.")] = False,
    most_mib: Annotated[float, typer.Option(help="Largest size of all of them, in MiB.")] = 62.0,
) -> None:
    """Train for a while, and hand everything back."""
    clock = Clock(minutes, reserve)
    if packs is not None and not _unpack_all(packs, data):
        raise typer.Exit(UNFINISHED)
    os.environ.setdefault("KERAS_BACKEND", "jax")
    # Compiling takes a minute or more; the next command on this machine need not do it again.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str((data / ".compiled").absolute()))
    if need_gpu:
        _check_gpu()
    from keras_ehrnet import recipe as recipes

    chosen = placed(recipes.read(recipe, changes or ()), data)
    folder = chosen.folder
    if resume is not None and not (folder / CHECKPOINTS).exists():
        join(resume / f"{folder.name}.json", folder)
    finished = _train(chosen, clock)
    hand_back(folder, output, finished, int(part_mib * MIB), int(most_mib * MIB))
    if not finished:
        print("not finished: run the same command again")
        raise typer.Exit(UNFINISHED)


def _unpack_all(packs: Path, data: Path) -> bool:
    """Unpacks what has come of every pack; whether they are complete."""
    manifests = [path for path in sorted(packs.glob("*.json")) if "shards" in read_manifest(path)]
    missing = [name for manifest in manifests for name in unpack(manifest, data)]
    if missing:
        print(f"still missing: {', '.join(missing)}: bring them with the next command")
    return not missing


def _check_gpu() -> None:
    import jax

    if jax.default_backend() != "gpu":
        raise ValueError(f"JAX sees no GPU: install its CUDA plugin. Received: {jax.devices()}")


def _train(recipe: Recipe, clock: Clock) -> bool:
    """Trains as long as there is time; whether that was all, the final evaluation included."""
    import keras

    from keras_ehrnet import training
    from keras_ehrnet.callbacks import Checkpoints

    observer = keras.callbacks.Callback()
    in_time = replace(recipe.training, minutes=max(clock.seconds_left() / 60, _SHORTEST))
    result = training.train(replace(recipe, training=in_time), callbacks=[observer])
    save_small(result.model, recipe.folder / f"{recipe.folder.name}.weights.h5")
    scores = recipe.folder / "evaluation-flip" / "scores.json"
    evaluates = recipe.data.evaluation_annotations is not None
    if result.finished and evaluates and not scores.exists() and clock.seconds_left() > 60 * _EVALUATION_MINUTES:
        _evaluate(recipe, result.model, scores.parent)
    finished = result.finished and (scores.exists() or not evaluates)
    epochs = Checkpoints(recipe.folder / CHECKPOINTS).epochs()
    state = {"epochs": epochs, "of": recipe.training.epochs, "finished": finished}
    if result.history:
        state |= {"steps_per_epoch": observer.params["steps"], "device": _device()}
    _update(recipe.folder / "state.json", state)
    return finished


def _update(path: Path, changes: dict[str, Any]) -> None:
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_file(path, json.dumps(before | changes, indent=2) + "\n")


def _evaluate(recipe: Recipe, model: keras.Model, output: Path) -> None:
    """The final score: all images, mirrored too."""
    from keras_ehrnet import PosePredictor, evaluation

    predictor = PosePredictor.load(model, skeleton=recipe.skeleton, input_size=recipe.input_size, flip=True)
    data = recipe.data
    scores = evaluation.coco(predictor, data.evaluation_images, data.evaluation_annotations, output=output)
    print(f"AP with mirrored images: {scores.ap:.4f}")


def _device() -> str:
    import jax

    return str(jax.devices()[0].device_kind)


if __name__ == "__main__":
    sys.exit(run_app(app))
