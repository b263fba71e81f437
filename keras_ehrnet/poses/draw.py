"""Drawing people on images. Left limbs are orange, right ones blue, the middle green."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from keras_ehrnet.geometry import SUBPIXEL_BITS
from keras_ehrnet.support.messages import check_threshold, is_whole

if TYPE_CHECKING:
    from keras_ehrnet.poses.interchange import People
    from keras_ehrnet.skeletons import Skeleton

COLORS = {"left_": (255, 150, 40), "right_": (50, 150, 255), "": (80, 220, 120)}
OUTLINE = (20, 20, 20)

_PIXEL = 1 << SUBPIXEL_BITS


@dataclass(frozen=True)
class Style:
    """What is drawn of people besides joints and limbs, and how thick.

    Args:
        boxes: bool. Whether to draw a box around each, with the score, and the identity where there is one.
        names: bool. Whether to write the names of the joints beside them.
        line_width: int or None. Of limbs, in pixels; None: as the size of the person, and of the picture, suggests.

    Raises:
        ValueError: if the line width is not a whole number from 1 on.
    """

    boxes: bool = False
    names: bool = False
    line_width: int | None = None

    def __post_init__(self) -> None:
        if self.line_width is not None and not is_whole(self.line_width):
            raise ValueError(f"line_width is a whole number, 1 or more. Received: line_width={self.line_width!r}")


def poses(image: np.ndarray, people: People, *, threshold: float = 0.2, style: Style | None = None) -> np.ndarray:
    """An image with people drawn on it: limbs as lines, joints as dots, identities as numbers.

    Args:
        image: uint8 RGB array of shape `(H, W, 3)`.
        people: `Poses`, in pixels of that image.
        threshold: float. Joints with a score below it are not drawn, nor limbs that end in them.
        style: `Style`, or None for joints and limbs alone.

    Returns:
        A new uint8 array of the same shape.

    Raises:
        ValueError: if the threshold is no number.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet import Poses, draw, skeletons
        >>> people = Poses(np.full((1, 17, 3), 8.0), np.ones(1), skeletons.COCO_17)
        >>> bool(draw.poses(np.zeros((16, 16, 3), np.uint8), people).any())
        True
    """
    check_threshold(threshold)
    style = style or Style()
    canvas = np.ascontiguousarray(image).copy()
    boxes = people.boxes(0.0)
    for index in np.argsort(people.scores):
        size = style.line_width or _person_size(boxes[index], image.shape)
        _draw_person(canvas, people.keypoints[index], people.skeleton, threshold, size)
        if style.names:
            _draw_names(canvas, people.keypoints[index], people.skeleton, threshold, size)
        label = [] if people.ids is None else [str(int(people.ids[index]))]
        if style.boxes:
            label.append(f"{people.scores[index]:.2f}")
            left, top, right, bottom = (int(side) for side in np.rint(boxes[index]))
            cv2.rectangle(canvas, (left, top), (right, bottom), COLORS[""], max(1, size // 2), cv2.LINE_AA)
        if label:
            _draw_label(canvas, " ".join(label), boxes[index], size)
    return canvas


def heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """An image under what is high of a map, in red.

    Args:
        image: array of shape `(H, W, 3)`, RGB in [0, 255].
        values: float array of shape `(H, W)`; what is outside of [0, 1] is taken as the nearer of both.

    Returns:
        Uint8 array of the image's shape.
    """
    share = np.clip(values, 0, 1)[..., None]
    return (image * (1 - share) + np.array([255.0, 40.0, 40.0]) * share).astype(np.uint8)


def encode_png(image: np.ndarray) -> bytes:
    """An RGB image as PNG data."""
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def grid(images: list[np.ndarray], columns: int, size: tuple[int, int]) -> np.ndarray:
    """Pictures side by side, each fitted into a cell of `size` (width, height) pixels."""
    width, height = size
    rows = -(-len(images) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for index, image in enumerate(images):
        factor = min(width / image.shape[1], height / image.shape[0])
        fitted = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)[:height, :width]
        top, left = index // columns * height, index % columns * width
        sheet[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return sheet


def _person_size(box: np.ndarray, image_shape: tuple[int, ...]) -> int:
    """Line width that suits a person: thin for small ones, thick for large ones, and never too thin for the picture."""
    left, top, right, bottom = box
    return int(np.clip(max(right - left, bottom - top, 0.15 * max(image_shape[:2])) / 90, 1, 12))


def _draw_person(canvas: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton, threshold: float, size: int) -> None:
    visible = _is_drawn(keypoints, threshold)
    # OpenCV draws on pixels counted from their centers, in parts of a pixel.
    points = np.rint((np.nan_to_num(keypoints[:, :2]).clip(-1e4, 1e5) - 0.5) * _PIXEL).astype(int)
    limbs = [(a, b) for a, b in skeleton.limbs if visible[a] and visible[b]]
    for width, outlined in ((size + 2, True), (size, False)):
        for a, b in limbs:
            color = OUTLINE if outlined else _color(skeleton.joint_names[a], skeleton.joint_names[b])
            cv2.line(
                canvas, tuple(map(int, points[a])), tuple(map(int, points[b])), color, width, cv2.LINE_AA, SUBPIXEL_BITS
            )
    for joint in np.flatnonzero(visible):
        center, radius = tuple(map(int, points[joint])), (size + 1) * _PIXEL
        cv2.circle(canvas, center, radius + _PIXEL, OUTLINE, cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)
        cv2.circle(canvas, center, radius, _color(skeleton.joint_names[joint]), cv2.FILLED, cv2.LINE_AA, SUBPIXEL_BITS)


def _color(*joint_names: str) -> tuple[int, int, int]:
    for side in ("left_", "right_"):
        if any(name.startswith(side) for name in joint_names):
            other = {"left_": "right_", "right_": "left_"}[side]
            return COLORS[""] if any(name.startswith(other) for name in joint_names) else COLORS[side]
    return COLORS[""]


def _is_drawn(keypoints: np.ndarray, threshold: float) -> np.ndarray:
    return (keypoints[:, 2] >= threshold) & (keypoints[:, 2] > 0) & np.isfinite(keypoints).all(axis=1)


def _draw_names(canvas: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton, threshold: float, size: int) -> None:
    for joint in np.flatnonzero(_is_drawn(keypoints, threshold)):
        x, y = keypoints[joint, :2]
        _write(canvas, skeleton.joint_names[joint], (int(x) + 2 * size + 2, int(y) + size), 0.3 + 0.05 * size, 1)


def _write(canvas: np.ndarray, text: str, origin: tuple[int, int], scale: float, width: int) -> None:
    for color, thickness in ((OUTLINE, width + 2), ((255, 255, 255), width)):
        cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, color, thickness, cv2.LINE_AA)


def _draw_label(canvas: np.ndarray, text: str, box: np.ndarray, size: int) -> None:
    origin = int(np.clip(box[0], 0, canvas.shape[1] - 1)), int(np.clip(box[1] - 4, 12, canvas.shape[0] - 1))
    _write(canvas, text, origin, 0.35 + 0.12 * size, max(1, size // 2))
