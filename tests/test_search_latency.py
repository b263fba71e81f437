"""Milliseconds as the cost of a search: the table of blocks, its predictions, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.search import recipe as recipes
from keras_ehrnet.search.cost import block_macs, candidates, head_macs, multiply_adds, stem_macs
from keras_ehrnet.search.latency import LatencyTable, read_latency
from keras_ehrnet.search.measure import _fitted, measure
from keras_ehrnet.search.space import Space
from keras_ehrnet.support.errors import LatencyError
from keras_ehrnet.training.recipe import from_dict

SIZE = (32, 32)
SPACE = Space(stem=4, widths=((8,), (16,), (16, 24)), depths=(1, 1, 1), strides=(2, 2, 2), kernels=(3,))


@pytest.fixture(scope="module")
def table():
    """Multiply-adds, called milliseconds."""
    blocks = {block: float(block_macs(block)) for block in candidates(SPACE, SIZE)}
    rest = {width: float(stem_macs(SIZE, 4) + head_macs(SIZE, width, 17)) for width in SPACE.widths[-1]}
    return LatencyTable(SIZE, 17, 4, "int8", blocks, rest, {"machine": "none"}, [(1.0, 1.5), (2.0, 2.5)])


@pytest.fixture
def path(table, tmp_path):
    return table.write(tmp_path / "latency.json")


def test_written_and_read_again(table, path):
    assert read_latency(path) == table


def test_cost_is_the_sum_of_what_was_measured(table):
    macs, ms = multiply_adds(SPACE, SIZE, 17), table.cost(SPACE, SIZE, 17)
    for seed in range(5):
        architecture = SPACE.sample(np.random.default_rng(seed))
        assert ms.of(architecture) == macs.of(architecture)
    assert (ms.unit, ms.text(0.5)) == ("ms", "0.50 ms")


def test_told_how_good_predictions_are(table):
    assert table.mean_error == pytest.approx((0.5 / 1.5 + 0.5 / 2.5) / 2)
    assert "correlation 1.000, mean error 26.7 %" in table.told()
    assert "not compared" in replace(table, check=()).told()


def test_measures_every_block():
    section = {"stem": 4, "widths": [[8], [8], [8]], "depths": [1, 1, 1], "strides": [2, 2, 2]}
    small = {"space": {**section, "kernels": [3], "expansions": [2]}, "data": {"kind": "synthetic"}}
    # Large enough for blocks to take longer than starting anything at all, whatever else the machine does.
    model = {"name": "efficientpose-a", "input_size": (160, 160)}
    recipe = from_dict({**small, "model": model}, kind=recipes.SearchRecipe)
    table = measure(recipe, precision="int8", threads=1, check=1)
    assert list(table.blocks) == candidates(recipe.space, recipe.input_size)
    assert all(0 < ms < 100 for ms in (*table.blocks.values(), *table.rest.values()))
    assert len(table.check) == 1


def test_whole_networks_tell_a_factor_of_blocks_and_the_rest(table):
    space = Space(4, ((8, 16), (16,), (16, 24)), (2, 1, 1), (2, 2, 2), kernels=(3, 5))
    recipe = from_dict(
        {
            "space": plain_space(space),
            "model": {"name": "efficientpose-a", "input_size": SIZE},
            "data": {"kind": "synthetic"},
        },
        kind=recipes.SearchRecipe,
    )
    blocks = {block: float(block_macs(block)) for block in candidates(space, SIZE)}
    alone = replace(table, blocks=blocks, rest=dict.fromkeys(space.widths[-1], 0.0))
    generator, sums = np.random.default_rng(0), alone.cost(space, SIZE, 17)
    networks = [space.sample(generator, lean) for lean in np.linspace(0, 1, 12)]
    rest = {16: 1000.0, 24: 3000.0}
    last = [int(space.value(one, space.slots[-1].width_out)) for one in networks]
    measured = [1.25 * sums.of(one) + rest[width] for one, width in zip(networks, last, strict=True)]
    fitted = _fitted(alone, recipe, networks, measured)
    assert fitted.rest == pytest.approx(rest)
    assert fitted.blocks == pytest.approx({block: 1.25 * ms for block, ms in blocks.items()})


def plain_space(space):
    return {name: getattr(space, name) for name in ("stem", "widths", "depths", "strides", "kernels")}


OTHERS = {
    "size": ((64, 32), 17, SPACE, r"measured for input_size=\[32, 32\].*Received: .*input_size=\[64, 32\]"),
    "joints": (SIZE, 16, SPACE, "17 keypoints.*16 keypoints"),
    "space": (SIZE, 17, Space(4, ((8,), (16,), (40,)), (1, 1, 1), (2, 2, 2)), "another space.*BlockAt.*lacks"),
}


@pytest.mark.parametrize(("size", "joints", "space", "message"), OTHERS.values(), ids=OTHERS)
def test_tables_of_other_shapes_are_refused(table, size, joints, space, message):
    with pytest.raises(LatencyError, match=message):
        table.cost(space, size, joints)


def test_a_search_refuses_the_table_of_another_space(path, tmp_path):
    with pytest.raises(LatencyError, match="measured for input_size"):
        ke.search("synthetic", latency=str(path), folder=str(tmp_path / "run"))
    with pytest.raises(FileNotFoundError, match="search measure"):
        ke.search("synthetic", latency="none.json", folder=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


DAMAGES = {
    "version": ({"version": 2}, "of version 1.*Received: version 2"),
    "format": ({"format": "other"}, "no table of latencies"),
    "rows": ({"blocks": [[1, 2]]}, "The table is damaged"),
    "values": ({"rest": [[16, -1.0]]}, "numbers from 0"),
}


@pytest.mark.parametrize(("changes", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_tables_are_refused(path, changes, message):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(LatencyError, match=message):
        read_latency(path)


def test_precisions_that_are_not_measured():
    with pytest.raises(ValueError, match="'float32', 'int8'. Received: 'int16x8'"):
        measure(recipes.read("synthetic"), precision="int16x8")
