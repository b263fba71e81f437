"""Data sets mixed by shares, and people whom nobody labelled."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keras_ehrnet.data import Dataset, Examples, Person, Sample, crowd_mask, synthetic
from keras_ehrnet.data.mixture import mix, one_of_many
from keras_ehrnet.skeletons import COCO_17, LSP_14


def test_a_mixture_keeps_its_shares_and_shows_everything():
    first, second = (
        dataclasses.replace(synthetic.dataset(length, seed=seed), name=name)
        for length, seed, name in ((6, 1, "first"), (4, 2, "second"))
    )
    mixture = mix([(first, 3), (second, 1)], seed=5)
    assert len(mixture) == 16 and mixture.skeleton is COCO_17
    sources = [id(sample.source) for sample in mixture]
    counts = [sources.count(id(sample.source)) for sample in (*first, *second)]
    assert counts == [2] * 6 + [1] * 4
    assert [sample.image_id for sample in mixture] == [sample.image_id for sample in mix([(first, 3), (second, 1)])]
    short = [[sample.image_id for sample in mix([(first, 1), (second, 1)], length=5, seed=seed)] for seed in (1, 1, 2)]
    assert short[0] == short[1] != short[2]
    assert len(set(short[0])) == 5
    with pytest.raises(ValueError, match="positive shares"):
        mix([(first, 1), (second, 0)])
    with pytest.raises(ValueError, match="Every part must give a sample"):
        mix([(first, 1), (second, 0.01)], length=10)


@pytest.fixture
def sportsman():
    """One labelled person of LSP in the left of an image, 100 x 60, its source the image."""
    joints = np.zeros((14, 3), np.float32)
    places = {"head_top": (25, 12), "neck": (25, 22), "left_hip": (28, 35), "right_ankle": (20, 50)}
    for name, place in places.items():
        joints[LSP_14.index(name)] = (*place, 2)
    return Sample("a", np.zeros((60, 100, 3), np.uint8), (100, 60), (Person(joints, [20, 12, 28, 50], 300.0),))


def test_people_whom_nobody_labelled_do_not_count(sportsman):
    dataset = one_of_many(Dataset("sports", LSP_14, (sportsman,)))
    mask = crowd_mask(dataset[0])
    person = dataset[0].persons[0]
    assert person.num_labelled == 2  # Hip and ankle: COCO has neither neck nor top of the head.
    assert mask[45, 20] and mask[35, 28]
    assert not mask[30, 60:].any() and not mask[:, 60:].any()
    # The face is in the picture, but its five joints are unlabelled.
    assert not mask[17, 25] and not mask[12, 22]
    # What the pipeline makes of it: mirrored and turned, what counts stays around the joints.
    examples = Examples(mix([(dataset, 1)]), (64, 64), "efficienthrnet", seed=3)
    for epoch in range(5):
        _, joints, masks = examples.batch([(epoch, 0)])
        for x, y, _ in joints[0][joints[0, :, :, 2] > 0]:
            assert masks[0, int(y) // 4, int(x) // 4] == 1


def test_a_head_that_cannot_be_told_leaves_its_image_out(sportsman):
    headless = sportsman.persons[0].joints.copy()
    headless[LSP_14.index("head_top")] = 0
    other = dataclasses.replace(
        sportsman, image_id="b", persons=(dataclasses.replace(sportsman.persons[0], joints=headless),)
    )
    dataset = one_of_many(Dataset("sports", LSP_14, (sportsman, other)))
    assert [sample.image_id for sample in dataset] == ["a"]
    assert "head is not labelled, left out: 1 (b)" in dataset.report()
