"""Tiny networks that see what is painted: a joint per color, a person per brightness. They need no training."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from keras_ehrnet.models import blocks
from keras_ehrnet.skeletons import Skeleton

SIZE = (64, 96)  # height, width
SKELETON = Skeleton("painted", ("left_hand", "right_hand", "head"), ((0, 2), (1, 2)))
PEOPLE = np.array([[(20.5, 12.5), (30.5, 22.5), (14.5, 40.5)], [(70.5, 20.5), (84.5, 30.5), (60.5, 50.5)]])
"""x and y of the joints of two people."""

BRIGHTNESS = (250, 150)
TAGS = 10.0  # of the brightest pixel


def picture(people: np.ndarray = PEOPLE, brightness: tuple[float, ...] = BRIGHTNESS) -> np.ndarray:
    """An image with a soft dot for every joint, uint8 of shape `(*SIZE, 3)`."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    image = np.zeros((*SIZE, 3))
    for person, bright in zip(people, brightness, strict=False):
        for color, (joint_x, joint_y) in enumerate(person):
            dot = np.exp(-((x - joint_x) ** 2 + (y - joint_y) ** 2) / (2 * 4.0**2))
            image[..., color] = np.maximum(image[..., color], bright * dot)
    return image.round().astype(np.uint8)


def pictures(count: int) -> list[np.ndarray]:
    """Pictures of people at different places."""
    moves = np.random.default_rng(0).uniform(-8, 8, (count, 2, 1, 2))
    return [picture(PEOPLE + move) for move in moves]


def network(family: str, size: tuple[int | None, int | None] = SIZE) -> keras.Model:
    """A network of a family whose heatmaps are the colors, and whose tags are their brightness."""
    inputs = keras.Input((*size, 3), name="image")
    pixels = blocks.preprocess(inputs, lite=True)
    return keras.Model(inputs, _OUTPUTS[family](pixels), name=f"painted-{family}")


def _colors(pixels, stride: int, name: str, scale: float = 1.0):
    """Colors in [0, scale], of blocks of pixels."""
    mean = layers.AveragePooling2D(stride, name=f"{name}_mean")(pixels) if stride > 1 else pixels
    convolution = layers.Conv2D(3, 1, name=name)
    maps = convolution(mean)
    convolution.set_weights([np.eye(3)[None, None] * scale / 2, np.full(3, scale / 2)])
    return maps


def _downward(pixels):
    """Part affinity fields that point down the picture everywhere."""
    convolution = layers.Conv2D(2 * len(SKELETON.limbs), 1, name="pafs")
    maps = convolution(layers.AveragePooling2D(8, name="pafs_mean")(pixels))
    kernel, _ = convolution.get_weights()
    convolution.set_weights([np.zeros_like(kernel), np.tile([0.0, 1.0], len(SKELETON.limbs))])
    return maps


_OUTPUTS = {
    "efficienthrnet": lambda pixels: {
        "heatmaps_4": _colors(pixels, 4, "heatmaps_4"),
        "tags_4": _colors(pixels, 4, "tags_4", TAGS),
        "heatmaps_2": _colors(pixels, 2, "heatmaps_2"),
    },
    "efficientpose": lambda pixels: {
        "pafs": _downward(pixels),
        "heatmaps_coarse": _colors(pixels, 8, "heatmaps_coarse"),
        "heatmaps_fine": _colors(pixels, 8, "heatmaps_fine"),
        "heatmaps": _colors(pixels, 1, "heatmaps"),
    },
    "efficientpose_nas": lambda pixels: {"heatmaps": _colors(pixels, 4, "heatmaps")},
}
