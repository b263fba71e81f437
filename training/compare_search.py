"""What a search is worth: what it found against random networks of the same cost, all trained alike from nothing.

python training/compare_search.py synthetic runs/synthetic/found.json --folder runs/comparison epochs=10
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

import numpy as np

from keras_ehrnet import train
from keras_ehrnet.search import recipe as recipes
from keras_ehrnet.search.recipe import SearchRecipe
from keras_ehrnet.search.run import make_cost
from keras_ehrnet.training.callbacks import Table
from keras_ehrnet.training.recipe import with_changes

WITHIN = 0.03
"""How far the cost of random networks may be from that of what was found, as a part of it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="recipe of the search: a file, or the name of one that comes along")
    parser.add_argument("found", type=Path, nargs="+", help="found.json of searches; random ones are like the first")
    parser.add_argument("--folder", type=Path, required=True, help="for trainings and scores.csv; goes on there")
    parser.add_argument("--random", type=int, default=5, help="how many random networks")
    parser.add_argument("--seeds", type=int, default=1, help="how often what was found is trained")
    options, changes = parser.parse_known_args()
    recipe = recipes.read(options.recipe, changes)
    networks = [(path.parent.name, path, seed) for path in options.found for seed in range(options.seeds)]
    networks += [(f"random-{path.stem}", path, 0) for path in _random(recipe, options)]
    table = options.folder / "scores.csv"
    done = list(csv.DictReader(table.open())) if table.exists() else []
    rows = Table(table, "number", len(done))
    for number, (name, path, seed) in enumerate(networks):
        if number < len(done):
            continue
        result = _trained(recipe, path, seed, options.folder / f"{name}-{seed}")
        last = result.history[-1]
        rows.add({"number": number, "name": name, "macs": _macs(path, recipe), "loss": last["loss"], "ap": last["ap"]})
    _tell(list(csv.DictReader(table.open())), options.found[0].parent.name)


def _random(recipe: SearchRecipe, options: argparse.Namespace) -> list[Path]:
    """Files of random networks that cost what was found."""
    cost, wanted = make_cost(recipe), _macs(options.found[0], recipe)
    generator, paths = np.random.default_rng(recipe.training.seed), []
    for number in range(options.random):
        drawn = cost.sample(generator, (1 - WITHIN) * wanted, (1 + WITHIN) * wanted, tries=1_000_000)
        backbone = recipe.space.derive(drawn, f"random-{number}", recipe.input_size)
        paths.append(backbone.write(options.folder / "random" / f"{number}.json"))
    return paths


def _macs(path: Path, recipe: SearchRecipe) -> int:
    from keras_ehrnet import EfficientPoseNAS, profile

    return profile(EfficientPoseNAS(path, num_keypoints=recipe.skeleton.num_joints)).macs


def _trained(recipe: SearchRecipe, path: Path, seed: int, folder: Path):
    changes = {"folder": str(folder), "seed": recipe.training.seed + seed, "every": recipe.training.epochs}
    return train(with_changes(recipe.training_of(path), changes))


def _tell(rows: list[dict[str, str]], found: str) -> None:
    for row in rows:
        print(f"{row['name']}: {int(row['macs']) / 1e6:.2f}M MACs, loss {float(row['loss']):.5f}, AP {row['ap']}")
    own = np.array([float(row["ap"]) for row in rows if row["name"] == found])
    others = np.array([float(row["ap"]) for row in rows if row["name"].startswith("random-")])
    if len(others) > 1:
        error = others.std(ddof=1) / math.sqrt(len(others))
        print(
            f"found {own.mean():.3f}, random {others.mean():.3f} +- {error:.3f} (standard error): "
            f"{(own.mean() - others.mean()) / error:+.1f} standard errors"
        )


if __name__ == "__main__":
    main()
