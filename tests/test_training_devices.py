"""Training on several devices and hosts: as on one. Every way is a process of its own, all at the same time."""

from __future__ import annotations

import csv
import json

import keras
import numpy as np
import pytest
import tiny

from keras_ehrnet import training
from keras_ehrnet.models.variants import VARIANTS

WAIT = 300.0

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="processes choose their own backend")


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch):
    for name, variant in tiny.NETWORKS.items():
        monkeypatch.setitem(VARIANTS, name, variant)


@pytest.fixture
def write(tmp_path):
    def write(name, devices=1, **sections):
        """A recipe with SGD, because Adam would hide gradients of the wrong size."""
        sections = {
            "optimizer": {"name": "sgd", "weight_decay": 1e-4, "ema": 0.9},
            "schedule": {"rate": 0.1},
            "training": {"epochs": 2, "devices": devices},
            "evaluation": {"every": 2, "pictures": 0},
        } | sections
        recipe = tiny.recipe(tmp_path / name, **sections)
        path = tmp_path / f"{name}.yaml"
        path.write_text(recipe.to_yaml())
        return path

    return write


def finish(*processes):
    """What processes say, all of which must end well."""
    told = [process.communicate(timeout=WAIT)[0] for process in processes]
    for process, text in zip(processes, told, strict=True):
        assert process.returncode == 0, text
    return told


def losses(folder):
    with (folder / "steps.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def assert_close(folder, one):
    """Losses of every step, and in the end all weights: moving averages, and statistics of batch norms."""
    expected = losses(one)
    assert len(expected) == 2 * tiny.STEPS and len(set(expected)) == len(expected)
    np.testing.assert_allclose(losses(folder), expected, rtol=1e-5)
    models = [keras.models.load_model(place / "model.keras", compile=False) for place in (folder, one)]
    for here, there in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)


def test_hosts_and_devices_give_the_losses_of_one(write, tmp_path):
    """JAX: a step is one program over the whole batch, batch norms and dropout included."""
    one, two = write("one"), write("two", devices=2)
    hosts = write("hosts", output={"folder": "hosts", "steps": True})
    addresses = ",".join(f"localhost:{tiny.free_port()}" for _ in range(2))
    joined = [
        tiny.start(
            hosts, "--backend", "jax", "--hosts", addresses, "--host", number, "output.folder=out",
            backend="jax", cwd=tmp_path / f"machine{number}",
        )
        for number in range(2)
    ]  # fmt: skip
    alone = tiny.start(one, two, backend="jax")
    _, of_first, of_second = finish(alone, *joined)

    assert_close(tmp_path / "two", tmp_path / "one")
    results = tmp_path / "machine0/out"
    assert_close(results, tmp_path / "one")
    assert json.loads((results / "run.json").read_text())["starts"][0]["hosts"] == 2
    assert "epoch 2: loss" in of_first and "ap " in of_first
    # The other one neither writes nor speaks.
    assert not (tmp_path / "machine1/out").exists()
    assert "epoch" not in of_second


def test_two_devices_of_tensorflow_give_the_losses_of_one(write, tmp_path):
    """Batch norms are frozen: every device has statistics of its own part of the batch; and its own dropout."""
    model = {"name": "tiny-without-dropout", "freeze_batch_norm": True}
    one, two = (write(str(devices), devices, model=model) for devices in (1, 2))
    finish(tiny.start(one, two, backend="tensorflow"))
    assert_close(tmp_path / "2", tmp_path / "1")


def test_what_hosts_need_is_told(write):
    with pytest.raises(ValueError, match="need the backend 'jax'. Received: 'tensorflow'"):
        training.join_hosts("a:1,b:1", 0)


@pytest.mark.parametrize(
    ("addresses", "number", "message"),
    [("a:1", 0, "two or more"), ("a:1, b:1", 0, "two or more"), ("a,b", 0, "host:port"), ("a:1,b:1", 2, "from 0 to 1")],
)
def test_mistaken_hosts_are_told(monkeypatch, addresses, number, message):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=message):
        training.join_hosts(addresses, number)
