"""Weights from one skeleton into another, by the names of joints."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_ehrnet as ke
from keras_ehrnet.skeletons import COCO_17, LSP_14, MPII_16, Skeleton
from keras_ehrnet.weights import WeightsError
from keras_ehrnet.weights.layouts import torch_slots

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
    with pytest.warns(UserWarning, match="Nothing says what the 16 joints of .* are: taken for 'mpii_16'"):
        taken = ke.weights.load(network, path, transfer=COCO_17)

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
    taken = ke.weights.load(network, path, transfer=MPII_16)
    assert not taken.left and not taken.by_joint
    for own, other in zip(network.weights, source.weights, strict=True):
        np.testing.assert_array_equal(own, other)


def test_without_skeletons_heads_of_another_size_are_left(mpii_file) -> None:
    network = ke.EfficientPose("RT", num_keypoints=14, num_limbs=len(LSP_14.limbs), input_shape=(64, 64, 3))
    taken = ke.weights.load(network, mpii_file[0], transfer="fitting")
    assert "heatmaps_fine/kernel" in taken.left and taken.whole


def test_another_network_is_refused(tmp_path) -> None:
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="other")])
    other.save_weights(tmp_path / "other.weights.h5")
    network = ke.EfficientPose("RT", input_shape=(64, 64, 3))
    with pytest.raises(WeightsError, match="No weight of 'efficientpose-rt' fits"):
        ke.weights.load(network, tmp_path / "other.weights.h5", transfer=MPII_16)


FACE = Skeleton("face", ("tail", "right_ear", "nose", "left_ear"), ((2, 1), (2, 3)))


def test_what_takes_heatmaps_takes_those_of_the_same_joints() -> None:
    """EfficientHRNet's finer maps are made from features, heatmaps and tags."""
    source = ke.EfficientHRNet(phi=-4, input_shape=(64, 64, 3))
    network = ke.EfficientHRNet(phi=-4, num_keypoints=4, input_shape=(64, 64, 3))
    before = array(network.get_layer("head_deconv").kernel)
    weights = {f"{layer.name}/{variable.name}": variable for layer in source.layers for variable in layer.weights}
    state_dict = published(source)
    with pytest.warns(UserWarning, match="the 17 joints of the mapping are: taken for 'coco_17'"):
        taken = ke.weights.load(network, state_dict, transfer=FACE)
    assert taken.joints == ("right_ear", "nose", "left_ear") and not taken.left

    there, here = array(weights["head_deconv/kernel"]), array(network.get_layer("head_deconv").kernel)
    features = here.shape[-1] - 2 * 4
    np.testing.assert_array_equal(here[..., :features], there[..., :features])
    for row, name in enumerate(FACE.joint_names):
        for start, start_there in ((features, features), (features + 4, features + 17)):
            expected = before[..., start + row]
            if name != "tail":
                expected = there[..., start_there + COCO_17.index(name)]
            np.testing.assert_array_equal(here[..., start + row], expected)
    for layer in ("heatmaps_4", "tags_4", "heatmaps_2"):
        ear = array(weights[f"{layer}/kernel"])[..., COCO_17.index("left_ear")]
        np.testing.assert_array_equal(array(network.get_layer(layer).kernel)[..., 3], ear)


def published(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of a model by the names, and in the axes, of its published PyTorch tensors."""
    tensors: dict[str, list[np.ndarray]] = {}
    for slot in torch_slots(model):
        value = array(slot.variable)
        turned = value if slot.axes is None or value.ndim != len(slot.axes) else value.transpose(np.argsort(slot.axes))
        tensors.setdefault(slot.tensor, []).append(turned)
    return {name: np.concatenate(values) for name, values in tensors.items()}


def test_maps_are_enlarged_joint_by_joint() -> None:
    """The published EfficientPose enlarges its heatmaps by trained convolutions, each from all of them."""
    source = ke.EfficientPose("RT", num_keypoints=17, num_limbs=19, weights="efficientpose-rt-coco")
    upscaling = array(source.get_layer("upscaling1").kernel)
    renamed = Skeleton("renamed", ("tail", *COCO_17.joint_names[:0:-1]), COCO_17.limbs)
    network = ke.EfficientPose("RT", num_keypoints=17, num_limbs=19)
    taken = ke.weights.load(network, "efficientpose-rt-coco", transfer=renamed)
    assert "upscaling1/kernel" in taken.by_joint and "nose" not in taken.joints and len(taken.joints) == 16
    here = array(network.get_layer("upscaling1").kernel)
    np.testing.assert_array_equal(here[..., 1:, 1:], upscaling[..., :0:-1, :0:-1])


def test_a_transfer_that_cannot_be_is_refused() -> None:
    network = ke.EfficientPoseNAS("A", num_keypoints=4)
    with pytest.raises(ValueError, match="Did you mean 'whole'.* Received: 'hole'"):
        ke.weights.load(network, "efficientpose-rt-coco", transfer="hole")
    with pytest.raises(ValueError, match="has 4 keypoints. Received: skeleton 'coco_17' with 17"):
        ke.weights.load(network, "efficientpose-rt-coco", transfer=COCO_17)
