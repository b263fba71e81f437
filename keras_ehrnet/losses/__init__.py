"""Losses, for every backend of Keras: ground-truth maps are rendered inside them, from joints.

All of them take the same ground truth, the joints of the people in each image: a tensor of shape `(B, P, K, 3)` with x
and y in pixels of the network's input (pixel centers at +0.5) and a visibility, of which 0 means unlabelled, padded to
P persons with zeros. What is to be left out, crowds and persons without joints, travels as Keras `sample_weight`: a
mask of shape `(B, h, w)` (1 counts, 0 does not), of any resolution, so that one serves all outputs. Plain Keras trains:

    model.compile("adam", loss=losses.efficienthrnet_losses())
    model.fit(batches)  # of (images, {output name: joints}, {output name: mask})

A `sample_weight` of shape `(B,)` weighs whole images, as usual.
"""

from keras_ehrnet.losses.families import (
    EFFICIENTPOSE_STRIDES,
    efficienthrnet_losses,
    efficientpose_losses,
    efficientpose_nas_losses,
)
from keras_ehrnet.losses.heatmaps import HeatmapLoss, PafLoss
from keras_ehrnet.losses.maps import render_heatmaps, render_pafs
from keras_ehrnet.losses.tags import TagLoss, associative_embedding

__all__ = [
    "EFFICIENTPOSE_STRIDES",
    "HeatmapLoss",
    "PafLoss",
    "TagLoss",
    "associative_embedding",
    "efficienthrnet_losses",
    "efficientpose_losses",
    "efficientpose_nas_losses",
    "render_heatmaps",
    "render_pafs",
]
