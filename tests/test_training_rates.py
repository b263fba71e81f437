"""A learning rate for each part of a network, and parts that are frozen."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tiny

import keras_ehrnet as ke
from keras_ehrnet.families import part_of
from keras_ehrnet.models.variants import VARIANTS
from keras_ehrnet.support.errors import RecipeError
from keras_ehrnet.training import recipe as recipes

pytestmark = pytest.mark.backend


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    """Values of all weights, batch norms' statistics included, by layer and name."""
    return {
        f"{layer.name}/{variable.name}": keras.ops.convert_to_numpy(variable)
        for layer in model.layers
        for variable in layer.weights
        if "seed" not in variable.name
    }


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains the tiny network for one step of plain gradient descent: weights before, and the result."""
    for name, variant in tiny.NETWORKS.items():
        monkeypatch.setitem(VARIANTS, name, variant)
    source = tmp_path / "start.keras"
    tiny.network(dropout=0).save(source)
    before = weights(keras.saving.load_model(source))

    def run(name: str, rates: dict[str, float], **changes: object):
        model = {"name": "tiny-without-dropout", "weights": str(source)}
        optimizer = {"name": "sgd", "momentum": 0.0, "ema": None, "clip_norm": None, "rates": rates, **changes}
        recipe = tiny.recipe(
            tmp_path / name,
            model=model,
            optimizer=optimizer,
            schedule={"rate": 0.5, "warmup_epochs": 0},
            training={"steps_per_epoch": 1, "epochs": 1},
            evaluation={"every": 0, "pictures": 0},
        )
        return ke.train(recipe)

    return before, run


def test_frozen_weights_stay_to_the_last_bit(train):
    before, run = train
    result = run("frozen", {"neck": 0}, weight_decay=0.01)
    after = weights(result.model)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {part_of(name) for name in before} == {"neck", "heads"}
    assert changed == {name for name in before if part_of(name) == "heads"}
    # Whoever goes on with the model finds nothing frozen.
    loaded = keras.saving.load_model(result.model_path)
    assert all(layer.trainable for layer in (*loaded.layers, *result.model.layers))
    np.testing.assert_array_equal(weights(loaded)["heatmaps/kernel"], after["heatmaps/kernel"])


def test_rates_are_in_proportion(train):
    before, run = train
    whole, tenth = (weights(run(name, rates).model) for name, rates in (("whole", {}), ("tenth", {"neck": 0.1})))
    moved = {name: (whole[name] - before[name], tenth[name] - before[name]) for name in before}
    np.testing.assert_allclose(moved["heatmaps/kernel"][1], moved["heatmaps/kernel"][0], rtol=1e-4, atol=1e-9)
    for name in ("conv0/kernel", "conv1/kernel", "bn0/gamma"):
        most = np.abs(moved[name][0]).max()
        assert most > 0
        # Differences of float32 weights near 1 are known to 6e-8.
        np.testing.assert_allclose(moved[name][1], 0.1 * moved[name][0], atol=1e-3 * most + 1.2e-7)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"rates": {"trunk": 0}}, "optimizer.rates"),
        ({"rates": {"neck": -1}}, "at least 0"),
        ({"rates": {"backbone": 0, "neck": 0, "heads": 0}}, "leave something to train"),
        ({"rates": {"neck": 0.1}, "weight_decay": 0.1, "decay": "decoupled"}, "decoupled decay has one rate"),
    ],
)
def test_rates_that_cannot_be_are_refused(optimizer, message):
    with pytest.raises(RecipeError, match=message):
        recipes.from_dict({"data": {"kind": "synthetic"}, "optimizer": optimizer})


@pytest.mark.parametrize("name", ["h-4", "efficientpose-rt", "efficientpose-a", "efficientnet-b-4"])
def test_every_network_has_a_trunk_and_heads(name):
    model = VARIANTS[name].build()
    parts = {
        part: [layer.name for layer in model.layers if layer.weights and part_of(layer.name) == part]
        for part in ("backbone", "neck", "heads")
    }
    outputs = model.output_names if isinstance(model.output, dict) else [model.layers[-1].name]
    assert set(outputs) <= set(parts["heads"]) and parts["backbone"]
    assert bool(parts["neck"]) == (name != "efficientnet-b-4")
