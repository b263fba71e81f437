"""What a search is worth: what it found against random networks of the same cost, all trained alike from nothing.

python training/compare_search.py synthetic runs/synthetic/found.json --folder runs/comparison epochs=15
python training/compare_search.py synthetic runs/*/found.json A --random 0 --folder runs/weights --milliseconds
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from keras_ehrnet import EfficientPoseNAS, PosePredictor, evaluation, export, profile, train
from keras_ehrnet.data import read_coco, synthetic
from keras_ehrnet.data.loader import Order, numpy_batches
from keras_ehrnet.data.targets import Examples
from keras_ehrnet.losses import efficientpose_nas_losses
from keras_ehrnet.models.searched import SEARCHED_BACKBONES
from keras_ehrnet.search import multiply_adds
from keras_ehrnet.search import recipe as recipes
from keras_ehrnet.search.measure import milliseconds
from keras_ehrnet.search.recipe import SearchRecipe
from keras_ehrnet.support.files import write_file
from keras_ehrnet.training.callbacks import Table
from keras_ehrnet.training.examples import synthetic_scenes
from keras_ehrnet.training.recipe import with_changes

WITHIN = 0.03
"""How far the cost of random networks may be from that of what was found, as a part of it."""
UNSEEN_SEED = 2_000_003
"""Of the synthetic people that are scored, whatever is trained: neither a search nor a training draws them."""
NEAR = 0.1
"""A joint is right within this part of the box's longer side."""


class Trained(NamedTuple):
    """A network to train and to score."""

    name: str
    blocks: str
    seed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="recipe of the search: a file, or the name of one that comes along")
    parser.add_argument("found", nargs="+", help="found.json of searches, or A, B, C; random ones are like the first")
    parser.add_argument("--folder", type=Path, required=True, help="for trainings and scores.csv; goes on there")
    parser.add_argument("--random", type=int, default=5, help="how many random networks")
    parser.add_argument("--seeds", type=int, default=1, help="how often what was found is trained")
    parser.add_argument("--people", type=int, default=500, help="how many synthetic people to score on")
    parser.add_argument("--milliseconds", action="store_true", help="measure int8 files, one thread, in turns")
    parser.add_argument("--picture", type=Path, help="PNG of scores against costs to write")
    options, changes = parser.parse_known_args()
    recipe = recipes.read(options.recipe, changes)
    networks = [Trained(_name(blocks), blocks, seed) for blocks in options.found for seed in range(options.seeds)]
    networks += [Trained(f"random-{path.stem}", str(path), 0) for path in _random(recipe, options)]
    table = options.folder / "scores.csv"
    done = _rows(table)
    rows, score = Table(table, "number", len(done)), _scoring(recipe, options.folder / "people", options.people)
    for number, network in enumerate(networks):
        if number < len(done):
            if done[number]["name"] != network.name:
                raise SystemExit(f"{table} is of other networks. Received: {done[number]['name']}, not {network.name}")
            continue
        folder = options.folder / f"{network.name}-{network.seed}"
        row = {"number": number, "name": network.name, "seed": network.seed, "macs": _macs(network.blocks, recipe)}
        rows.add({**row, **score(_train(recipe, network, folder))})
    if options.milliseconds:
        _measure(options.folder, networks)
    _tell(_rows(table), _name(options.found[0]))
    if options.picture is not None:
        write_file(options.picture, _picture(options.folder))


def _name(blocks: str) -> str:
    return blocks if blocks in SEARCHED_BACKBONES else Path(blocks).resolve().parent.name


def _rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.open(newline=""))) if table.exists() else []


def _random(recipe: SearchRecipe, options: argparse.Namespace) -> list[Path]:
    """Files of random networks that cost, in multiply-adds, what was found."""
    cost = multiply_adds(recipe.space, recipe.input_size, recipe.skeleton.num_joints)
    wanted, generator, paths = _macs(options.found[0], recipe), np.random.default_rng(recipe.training.seed), []
    for number in range(options.random):
        drawn = cost.sample(generator, (1 - WITHIN) * wanted, (1 + WITHIN) * wanted, tries=1_000_000)
        backbone = recipe.space.derive(drawn, f"random-{number}", recipe.input_size)
        paths.append(backbone.write(options.folder / "random" / f"{number}.json"))
    return paths


def _macs(blocks: str, recipe: SearchRecipe) -> int:
    shape = (*recipe.input_size, 3)
    return profile(EfficientPoseNAS(blocks, num_keypoints=recipe.skeleton.num_joints, input_shape=shape)).macs


def _train(recipe: SearchRecipe, network: Trained, folder: Path) -> Path:
    """The file of a trained network; nothing is scored meanwhile."""
    name = f"efficientpose-{network.blocks.lower()}" if network.blocks in SEARCHED_BACKBONES else network.blocks
    # Another seed is another beginning and another order of the examples, and other synthetic people.
    changes = {"folder": str(folder), "seed": recipe.training.seed + network.seed, "keep": 1}
    own = with_changes(recipe.training_of(name), {**changes, "every": 0, "pictures": 0})
    path = folder / "model.keras"
    return path if path.exists() else train(own).model_path


def _scoring(recipe: SearchRecipe, folder: Path, people: int) -> Callable[[Path], dict[str, float]]:
    """A function that scores a file on people whom nothing was trained on: AP, PCK, and the loss."""
    annotations, images = recipe.data.evaluation_annotations, recipe.data.evaluation_images
    if recipe.data.kind == "synthetic":
        paths = folder / "person_keypoints.json", folder / "images"
        if not paths[0].exists():
            paths = synthetic.write_coco(folder, synthetic_scenes(recipe, UNSEEN_SEED), people, suffix=".png")
        annotations, images = map(str, paths)
    dataset = read_coco(str(annotations), str(images)).with_people()
    examples = Examples(dataset, recipe.input_size, top_down=True)
    sigma = {} if recipe.loss.sigma is None else {"sigma": recipe.loss.sigma}
    loss = efficientpose_nas_losses(**sigma)["heatmaps"]

    def score(path: Path) -> dict[str, float]:
        predictor = PosePredictor.load(path)
        # What was found for the first score is kept, and not looked for again for the second.
        settings = {"boxes": True, "progress": False, "output": str(path.parent / "scored")}
        scores = evaluation.coco(predictor, str(images), str(annotations), **settings)
        shares = evaluation.coco_pck(predictor, str(images), str(annotations), threshold=NEAR, **settings)
        return {"loss": _loss(path, examples, loss), "ap": scores.ap, "pck": float(shares.mean[0])}

    return score


def _loss(path: Path, examples: Examples, loss: keras.losses.Loss) -> float:
    network = keras.models.load_model(path)
    network.compile(loss={"heatmaps": loss}, jit_compile=False)
    once = Order(len(examples), 50, shuffle=False, repeat=False)
    batches = list(numpy_batches(examples, once, outputs=["heatmaps"], workers=0))
    losses = [network.test_on_batch(images, joints, sample_weight=masks) for images, joints, masks in batches]
    return float(np.average(np.array(losses), weights=[len(images) for images, _, _ in batches]))


def _measure(folder: Path, networks: Iterable[Trained]) -> None:
    """Milliseconds of the trained networks, as they are exported."""
    networks = list(networks)
    files = []
    for network in networks:
        trained = folder / f"{network.name}-{network.seed}"
        path = trained / "model-int8.tflite"
        if not path.exists():
            export.tflite(trained / "model.keras", path, "int8", calibration=folder / "people" / "images")
        files.append(path.read_bytes())
    lines = ["name,seed,milliseconds"]
    for network, ms in zip(networks, milliseconds(files, threads=1), strict=True):
        lines.append(f"{network.name},{network.seed},{ms:.4f}")
    write_file(folder / "milliseconds.csv", "\n".join(lines) + "\n")
    print("\n".join(lines))


def _tell(rows: list[dict[str, str]], found: str) -> None:
    for row in rows:
        scores = ", ".join(f"{name.upper()} {float(row[name]):.4f}" for name in ("ap", "pck"))
        print(
            f"{row['name']}-{row['seed']}: {int(row['macs']) / 1e6:.2f}M MACs, {scores}, loss {float(row['loss']):.6f}"
        )
    for name, better in (("ap", 1), ("pck", 1), ("loss", -1)):
        own = np.array([float(row[name]) for row in rows if row["name"] == found])
        others = np.array([float(row[name]) for row in rows if row["name"].startswith("random-")])
        error = others.std(ddof=1) / math.sqrt(len(others)) if len(others) > 1 else 0.0
        if error > 0:
            print(
                f"{name}: found {own.mean():.5f}, random {others.mean():.5f} +- {error:.5f} (standard error): "
                f"{better * (own.mean() - others.mean()) / error:+.1f} standard errors"
            )


def _picture(folder: Path) -> bytes:
    """PCK against multiply-adds and, where they were measured, milliseconds."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    rows = _rows(folder / "scores.csv")
    costs = {"million multiply-adds": [int(row["macs"]) / 1e6 for row in rows]}
    taken = {(row["name"], row["seed"]): float(row["milliseconds"]) for row in _rows(folder / "milliseconds.csv")}
    if taken:
        costs["milliseconds in int8, one thread"] = [taken[row["name"], row["seed"]] for row in rows]
    chart = Figure(figsize=(5 * len(costs), 3.6), layout="constrained")
    for axes, (label, values) in zip(chart.subplots(1, len(costs), squeeze=False)[0], costs.items(), strict=True):
        for row, value in zip(rows, values, strict=True):
            is_random = row["name"].startswith("random-")
            axes.plot(value, float(row["pck"]), "o", color="lightgray" if is_random else "C0")
            if not is_random:
                axes.annotate(row["name"], (value, float(row["pck"])), (4, 4), textcoords="offset points", fontsize=8)
        axes.set(xscale="log", xlabel=label, ylabel=f"PCK@{NEAR}, people unseen")
        axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter="")
        axes.margins(0.15)
    picture = io.BytesIO()
    chart.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


if __name__ == "__main__":
    main()
