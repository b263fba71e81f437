"""Recipes: read, changed, checked."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest

from keras_ehrnet.data.kinds import KINDS, KindName
from keras_ehrnet.models.variants import VARIANTS
from keras_ehrnet.training import recipe as recipes

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "keras_ehrnet/recipes").glob("*.yaml"))
SYNTHETIC = {"data": {"kind": "synthetic"}}


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_repository_are_valid(path):
    recipe = recipes.read(path)
    assert recipe.name == path.stem
    assert recipes.from_dict(recipe.to_dict()) == recipe


def test_there_is_a_recipe_for_every_model():
    published = {name for name, entry in VARIANTS.items() if entry.is_published}
    assert {recipes.read(path).model.name for path in RECIPES} == published


def test_base_defaults_and_changes(write):
    write(
        "data: {kind: synthetic}\ntraining: {epochs: 7, batch_size: 4}\nloss: {sigma_factors: {0: 1, 5: 0.5}}", "b.yaml"
    )
    path = write("base: b.yaml\ntraining: {batch_size: 6}\nloss: {sigma_factors: {3: 0.7}}\nschedule: {rate: 2e-3}")
    recipe = recipes.read(path, ["seed=3", "model.name=h-3", "data.synthetic.people=[2, 3]"])
    assert (recipe.name, recipe.training.epochs, recipe.training.batch_size, recipe.training.seed) == ("mine", 7, 6, 3)
    assert recipe.loss.sigma_factors == {3: 0.7}
    assert recipe.schedule.rate == 0.002
    assert recipe.data.synthetic.people == (2, 3)
    assert recipe.input_size == (416, 416)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"trainig": {}}, "'trainig'. Did you mean 'training'"),
        ({"training": {"epoch": 3}}, "'training.epoch'. Did you mean 'epochs'"),
        ({"training": {"epochs": "many"}}, "training.epochs must be a whole number. Received: 'many'"),
        ({"training": {"epochs": 2.5}}, "training.epochs must be a whole number"),
        ({"training": {"epochs": True}}, "training.epochs must be a whole number"),
        ({"training": {"epochs": 0}}, "training.epochs must be at least 1"),
        ({"training": {"jit": 1}}, "training.jit must be true or false or null"),
        ({"training": 3}, "training must hold named values"),
        ({"training": {"devices": 3}}, "multiple of training.devices"),
        ({"optimizer": {"name": "adan"}}, "optimizer.name must be one of 'adam', 'sgd'"),
        ({"optimizer": {"ema": 1.0}}, "optimizer.ema must be from 0 to below 1"),
        ({"schedule": {"rate": "fast"}}, "schedule.rate must be a number"),
        ({"schedule": {"rate": float("nan")}}, "schedule.rate must be positive"),
        ({"schedule": {"boundaries": [3, 2]}}, "schedule.boundaries must rise"),
        ({"model": {"name": "h-5"}}, "model.name: Unknown model. Did you mean"),
        ({"model": {"name": "efficientnet-b0"}}, "Data for 'efficientnet-b0' are of the kinds 'folders', 'cifar100'"),
        ({"training": {"minutes": 0}}, "training.minutes must be positive"),
        (
            {"model": {"name": "efficientpose-rt"}, "loss": {"tag_weight": 0.1}},
            "loss.tag_weight is none of 'efficientp",
        ),
        (
            {"model": {"name": "efficientpose-a"}, "loss": {"ignore_unlabelled": False}},
            "loss.ignore_unlabelled is none",
        ),
        ({"model": {"skeleton": "coco17"}}, "Did you mean 'coco_17'"),
        ({"model": {"input_size": [128]}}, "model.input_size must be a list of 2"),
        ({"data": {"kind": "coco"}}, "data.annotations is needed"),
        ({"data": {"augmentation": "efficientposes"}}, "Did you mean 'efficientpose'"),
        (
            {"data": {"augmentation_changes": {"rotate": 3}}},
            "'data.augmentation_changes.rotate'. Did you mean 'rotation'",
        ),
        ({"data": {"augmentation_changes": {"flip": 3}}}, "flip is a probability"),
        ({"loss": {"sigma_factors": {0: 2}}}, "loss.sigma_factors"),
        ({"training": {"seed": -1}}, "training.seed must be at least 0. Received: -1"),
        ({"schedule": {"rate": float("inf")}}, "schedule.rate must be positive and finite"),
        ({"data": {"synthetic": {"people": [0, 2]}}}, "data.synthetic.people must be a list of 2, each a whole number"),
        ({"data": {"category": [3]}}, "data.category must be a text, a whole number or null"),
        (
            {"data": {"mixed_with": {"mpii": {"share": 0.5, "limits": 3}}}},
            "'data.mixed_with.mpii.limits'. Did you mean",
        ),
    ],
)
def test_mistakes_are_named(write, content, message):
    import yaml

    content = {**SYNTHETIC, **content}
    if "data" in content:
        content["data"] = {**SYNTHETIC["data"], **content["data"]}
    path = write(yaml.safe_dump(content))
    with pytest.raises(ValueError) as caught:
        recipes.read(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "Received: " in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs", "key=value"),
        ("epoks=3", "Did you mean 'epochs'"),
        ("training.epoks=3", "Did you mean 'training.epochs'"),
        ("limit=3", "data.limit, evaluation.limit"),
        ("epochs=x", "training.epochs must be a whole number"),
    ],
)
def test_mistaken_changes_are_named(write, change, message):
    path = write("data: {kind: synthetic}")
    with pytest.raises(ValueError, match=message):
        recipes.read(path, [change])


def test_files_that_are_no_recipes(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such recipe"):
        recipes.read(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="not valid YAML"):
        recipes.read(write("a: [1"))
    with pytest.raises(ValueError, match="must hold named values"):
        recipes.read(write("- 1"))
    write("base: one.yaml", "two.yaml")
    with pytest.raises(ValueError, match="in a circle"):
        recipes.read(write("base: two.yaml", "one.yaml"))


def test_what_may_differ_when_going_on():
    def recipe(**sections):
        return recipes.from_dict({**SYNTHETIC, **sections})

    same = {"training": {"epochs": 5, "workers": 1, "minutes": 9}, "evaluation": {"every": 1}, "output": {"keep": 3}}
    assert recipes.first_difference(recipe(), recipe(**same)) is None
    assert recipes.first_difference(recipe(), recipe(training={"seed": 1})) == "training.seed"
    cyclic = {"schedule": {"kind": "triangular"}}
    assert recipes.first_difference(recipe(**cyclic), recipe(**cyclic, training={"epochs": 5})) == "training.epochs"


def test_a_category_is_named_by_its_name_or_its_id(write):
    path = write("data: {annotations: dog.json}")
    assert [recipes.read(path, [f"category={name}"]).data.category for name in ("dog", 7)] == ["dog", 7]


def test_the_schema_knows_every_key_and_its_bounds():
    schema = recipes.schema()
    sections = {
        name: schema["$defs"][entry["$ref"].rpartition("/")[2]]
        for name, entry in schema["properties"].items()
        if "$ref" in entry
    }
    keys = {f"{section}.{key}" for section, entry in sections.items() for key in entry["properties"]}
    flat = recipes.from_dict(SYNTHETIC).flat()
    assert keys - {"data.synthetic"} == {key for key in flat if not key.startswith(("name", "data.synthetic."))}
    momentum = sections["optimizer"]["properties"]["momentum"]
    assert (momentum["minimum"], momentum["exclusiveMaximum"]) == (0, 1)
    assert not any(entry["additionalProperties"] for entry in sections.values())


def test_every_kind_of_data_is_in_the_table():
    assert set(KINDS) == set(typing.get_args(KindName))
