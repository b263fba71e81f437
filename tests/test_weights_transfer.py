"""Weights from one skeleton into another, by the names of joints."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.skeletons import COCO_17, LSP_14, MPII_16
from keras_ehrnet.weights import WeightsError, formats
from keras_ehrnet.weights.transfer import transfer

array = keras.ops.convert_to_numpy


@pytest.fixture(scope="module")
def mpii_file(tmp_path_factory):
    """EfficientPose RT of MPII's skeleton whose heads tell which channel they are."""
    network = ke.EfficientPose("RT", input_shape=(64, 64, 3))
    for name in ("heatmaps_coarse", "heatmaps_fine", "pafs"):
        layer = network.get_layer(name)
        layer.kernel.assign(np.broadcast_to(np.arange(layer.filters) + 1.0, layer.kernel.shape))
        layer.bias.assign(-np.arange(layer.filters) - 1.0)
    path = tmp_path_factory.mktemp("mpii") / "rt.weights.h5"
    network.save_weights(path)
    return path, network


def test_heads_go_by_the_names_of_joints_and_limbs_by_their_ends(mpii_file) -> None:
    path, source = mpii_file
    network = ke.EfficientPose("RT", num_keypoints=17, num_limbs=len(COCO_17.limbs), input_shape=(64, 64, 3))
    before = array(network.get_layer("heatmaps_fine").kernel)
    taken = transfer(network, formats.read(path), MPII_16, COCO_17)

    trunk = "block1a_high_dwconv"
    np.testing.assert_array_equal(network.get_layer(trunk).kernel, source.get_layer(trunk).kernel)
    head = network.get_layer("heatmaps_fine")
    for name in ("left_shoulder", "right_ankle"):
        channel = MPII_16.index(name) + 1
        assert (array(head.kernel)[..., COCO_17.index(name)] == channel).all()
        assert array(head.bias)[COCO_17.index(name)] == -channel
    nose = COCO_17.index("nose")
    np.testing.assert_array_equal(array(head.kernel)[..., nose], before[..., nose])

    # COCO's limb runs from ankle to knee, MPII's the other way.
    limb = COCO_17.limbs.index((COCO_17.index("right_ankle"), COCO_17.index("right_knee")))
    origin = MPII_16.limbs.index((MPII_16.index("right_knee"), MPII_16.index("right_ankle")))
    pafs = array(network.get_layer("pafs").kernel)
    assert (pafs[..., 2 * limb] == -(2 * origin + 1)).all() and (pafs[..., 2 * limb + 1] == -(2 * origin + 2)).all()
    assert "left_shoulder" in taken.joints and "nose" not in taken.joints
    assert "heatmaps_fine/kernel" in taken.by_joint and f"{trunk}/kernel" in taken.whole


def test_the_same_skeleton_is_taken_whole(mpii_file) -> None:
    path, source = mpii_file
    network = ke.EfficientPose("RT", input_shape=(64, 64, 3))
    taken = transfer(network, formats.read(path), MPII_16, MPII_16)
    assert not taken.left and not taken.by_joint
    for own, other in zip(network.weights, source.weights, strict=True):
        np.testing.assert_array_equal(own, other)


def test_without_skeletons_heads_of_another_size_are_left(mpii_file) -> None:
    network = ke.EfficientPose("RT", num_keypoints=14, num_limbs=len(LSP_14.limbs), input_shape=(64, 64, 3))
    taken = transfer(network, formats.read(mpii_file[0]), None, None)
    assert "heatmaps_fine/kernel" in taken.left and taken.whole


def test_another_network_is_refused(tmp_path) -> None:
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="other")])
    other.save_weights(tmp_path / "other.weights.h5")
    network = ke.EfficientPose("RT", input_shape=(64, 64, 3))
    with pytest.raises(WeightsError, match="No weight of 'efficientpose-rt' fits"):
        transfer(network, formats.read(tmp_path / "other.weights.h5"), MPII_16, COCO_17)
