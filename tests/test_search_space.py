"""The space of a search, and what its networks cost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.models.searched import read_backbone
from keras_ehrnet.search.cost import candidates, multiply_adds
from keras_ehrnet.search.space import Space

SIZE = (64, 48)
SPACE = Space(stem=8, widths=((8, 16), (16, 24), (24, 40), (32,)), depths=(2, 1, 2, 2), strides=(2, 2, 2, 1))
TINY = Space(stem=4, widths=((8, 16), (12, 16), (24,)), depths=(2, 1, 1), strides=(2, 2, 2), kernels=(3, 5))


@pytest.mark.parametrize("seed", range(6))
def test_cost_is_what_profile_counts(seed):
    architecture = SPACE.sample(np.random.default_rng(seed))
    cost = multiply_adds(SPACE, SIZE, 5)
    network = ke.EfficientPoseNAS(SPACE.derive(architecture, input_size=SIZE), num_keypoints=5)
    assert cost.of(architecture) == ke.profile(network).macs


def test_derived_networks_are_written_and_read(tmp_path):
    backbone = SPACE.derive(SPACE.sample(np.random.default_rng(1)), "mine", SIZE, {"by": "chance"})
    assert read_backbone(backbone.write(tmp_path / "mine.json")) == backbone


def test_a_search_could_find_the_papers_network():
    paper = read_backbone("A")
    space = Space(stem=16, widths=((24,), (32,), (64,), (96,)), depths=(4, 6, 8, 8))
    chosen = {}
    for slot, block in zip(space.slots, paper.blocks, strict=True):
        chosen |= {slot.kernel: space.kernels.index(block[0]), slot.expansion: space.expansions.index(block[1])}
    architecture = tuple(chosen.get(number, 0) for number in range(len(space.decisions)))
    assert space.derive(architecture).blocks == paper.blocks
    assert multiply_adds(space, (256, 192), 17).of(architecture) == ke.profile(ke.EfficientPoseNAS("A")).macs


def test_networks_that_lean_to_what_costs_more():
    cost, generator = multiply_adds(SPACE, SIZE, 17), np.random.default_rng(0)
    costs = [np.mean([cost.of(SPACE.sample(generator, lean)) for _ in range(20)]) for lean in (0.1, 0.5, 0.9)]
    assert costs == sorted(costs)
    assert SPACE.sample(generator, 1) == SPACE.largest
    blocks = SPACE.derive(SPACE.largest).blocks
    assert set(blocks) <= {(7, 6, width[-1], stride) for width in SPACE.widths for stride in (1, 2)}
    smallest = SPACE.derive(SPACE.sample(generator, 0)).blocks
    assert [block and block[:3] for block in smallest[:3]] == [(3, 3, 8), None, (3, 3, 16)]


def test_cheapest_of_all_networks():
    cost = multiply_adds(TINY, SIZE, 17)
    everything = itertools.product(*(range(len(decision.options)) for decision in TINY.decisions))
    assert cost.of(cost.cheapest) == min(map(cost.of, everything))


def test_expected_cost_is_the_mean_of_independent_draws():
    cost, generator = multiply_adds(TINY, SIZE, 17), np.random.default_rng(0)
    gates = [generator.dirichlet(np.ones(len(decision.options))) for decision in TINY.decisions]
    everything = itertools.product(*(range(len(decision.options)) for decision in TINY.decisions))
    mean = sum(
        np.prod([gate[option] for gate, option in zip(gates, one, strict=True)]) * cost.of(one) for one in everything
    )
    assert cost.expected(gates) == pytest.approx(mean, rel=1e-5)


def test_candidates_are_all_blocks_that_may_be():
    blocks = candidates(TINY, SIZE)
    # Stage 0: one stem for two widths, then two shortcuts; stage 1: two widths to two; stage 2: two to one.
    assert len(blocks) == len(set(blocks)) == (2 + 2 + 4 + 2) * 4
    assert {(block.height, block.width) for block in blocks} == {(32, 24), (16, 12), (8, 6)}


def test_a_limit_below_the_cheapest_says_what_that_costs():
    cost = multiply_adds(TINY, SIZE, 17)
    least = cost.of(cost.cheapest)
    cost.check_limit(least)
    with pytest.raises(ValueError, match=rf"the cheapest costs {least / 1e6:.1f}M MACs.*search.limit=1000 MACs"):
        cost.check_limit(1000)


MISTAKES = {
    "stages": ({"depths": (1, 1)}, "a value for every stage. Received: 4, 2 and 4"),
    "rising": ({"widths": ((24, 16), (24,), (48,), (96,))}, r"space.widths\[0\].*rising. Received: \[24, 16\]"),
    "kernels": ({"kernels": (3, 4)}, r"odd. Received: \[3, 4\]"),
    "expansions": ({"expansions": (1, 6)}, r"at least 2. Received: \[1, 6\]"),
    "strides": ({"strides": (2, 2, 1, 1)}, r"8 times smaller.*Received: \[2, 2, 1, 1\]"),
    "shortcut": ({"widths": ((16,), (24,), (48,), (48, 64))}, r"space.widths\[3\].*Received: \[48\] in both"),
}


@pytest.mark.parametrize(("values", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(values, message):
    with pytest.raises(ValueError, match=message):
        Space(**values)


def test_architectures_of_other_spaces_are_refused():
    with pytest.raises(ValueError, match=r"has 12 numbers.*Received: \(0, 9\)"):
        TINY.derive((0, 9))
