"""The body behind `synthetic`: proportions, angles and colors at random, and how to draw it.

Body coordinates: x towards the body's left, y up, z forward, in heights of the standing figure, from the pelvis.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from keras_ehrnet.geometry import SUBPIXEL_BITS
from keras_ehrnet.skeletons import SYNONYMS, Skeleton
from keras_ehrnet.support.messages import suggestion

Rgb = tuple[float, float, float]
Points = dict[str, np.ndarray]

_SIDES = {"left": 1.0, "right": -1.0}
_SIDE_LIGHT = {"left": 1.2, "right": 0.78, "": 1.0}  # The convention that tells the sides apart, seen from behind too.
_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 13)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 13)[:-1])], axis=1)
_HEAD_HEIGHT, _HEAD_WIDTH = 0.075, 0.058  # Half axes.
_FACE = {  # In half widths of the head, from its middle.
    "nose": (0.0, -0.15, 1.05),
    "left_eye": (0.42, 0.15, 0.88),
    "right_eye": (-0.42, 0.15, 0.88),
    "left_ear": (0.98, 0.0, 0.0),
    "right_ear": (-0.98, 0.0, 0.0),
    "left_mouth": (0.3, -0.6, 0.8),
    "right_mouth": (-0.3, -0.6, 0.8),
}


@dataclass(frozen=True)
class Part:
    """A part of the body: the convex hull of circles about some of its points.

    Args:
        points: names of the points.
        radii: one for each, in heights of the figure.
        color: str. Which color of the figure.
        side: str. `"left"`, `"right"` or `""`.
    """

    points: tuple[str, ...]
    radii: tuple[float, ...]
    color: str
    side: str = ""


def _sided(side: str) -> tuple[Part, ...]:
    """The parts of one side; `{}_name` stands for that side's point."""
    parts = (
        (("{}_ankle", "{}_toe"), (0.022, 0.016), "shoes"),
        (("{}_knee", "{}_ankle"), (0.036, 0.023), "shins"),
        (("{}_hip", "{}_knee"), (0.052, 0.038), "trousers"),
        (("{}_elbow", "{}_wrist"), (0.023, 0.017), "forearms"),
        (("{}_wrist", "{}_hand"), (0.018, 0.018), "skin"),
        (("{}_shoulder", "{}_elbow"), (0.032, 0.026), "shirt"),
    )
    return tuple(Part(tuple(p.format(side) for p in points), radii, color, side) for points, radii, color in parts)


_TORSO = ("left_shoulder", "right_shoulder", "right_waist", "left_waist")
PARTS = (
    *_sided("left"),
    *_sided("right"),
    Part(("left_hip", "right_hip", "left_waist", "right_waist"), (0.05, 0.05, 0.045, 0.045), "trousers"),
    Part(_TORSO, (0.04, 0.04, 0.045, 0.045), "shirt"),
    Part(("thorax", "upper_neck"), (0.03, 0.027), "skin"),
)


@dataclass(frozen=True, eq=False)
class Figure:
    """A posed figure, seen.

    Args:
        points: dict of name to (x, y, depth), in pixels; depth grows towards the viewer.
        size: float. Pixels per height of the figure.
        colors: dict of name to RGB.
        bald: bool.
    """

    points: Points
    size: float
    colors: dict[str, Rgb]
    bald: bool

    @property
    def ground(self) -> float:
        """The lowest point, by which figures stand in front of one another."""
        return max(self.points[f"{side}_ankle"][1] for side in _SIDES)

    @property
    def head_size(self) -> float:
        """0.6 times the diagonal of the head's box, as MPII measures it."""
        return 0.6 * self.size * 2 * float(np.hypot(_HEAD_WIDTH, _HEAD_HEIGHT))

    @property
    def head_turned(self) -> float:
        """Depth of the nose in front of the middle of the head: 1 looks at the viewer, -1 away."""
        return float((self.points["nose"][2] - self.points["head"][2]) / (_HEAD_WIDTH * self.size))


def random_figure(rng: np.random.Generator, place: tuple[float, float], size: float, turning: float = 1.0) -> Figure:
    """A figure with random proportions, pose, side and colors; its pelvis is at `place`, in pixels.

    All angles to the viewer are multiplied by `turning`: at 0 everybody is upright and seen from the front.
    """
    points = _posed(rng)
    # Most people are seen from the front, some from the side and from behind; few are upside down.
    yaw = rng.normal(0, 40) + (180 if rng.random() < 0.25 else 0)
    roll = rng.uniform(-180, 180) if rng.random() < 0.06 else rng.normal(0, 9)
    roll, pitch, yaw = (turning * angle for angle in (roll, rng.normal(0, 6), yaw))
    camera = _rotation(z=roll) @ _rotation(x=pitch) @ _rotation(y=yaw)
    to_pixels = np.array([size, -size, size])
    seen = {name: camera @ point * to_pixels + (*place, 0.0) for name, point in points.items()}
    return Figure(seen, size, _colors(rng), bald=bool(rng.random() < 0.1))


def joint_positions(figure: Figure, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the joints, `(K, 2)`, and whether the figure's own head hides them, `(K,)`.

    Raises:
        ValueError: if the figure does not have one of the joints.
    """
    names = [SYNONYMS.get(name, name) for name in skeleton.joint_names]
    for name in names:
        if name not in figure.points:
            raise ValueError(f"Figures have no such joint. {suggestion(name, figure.points)} Received: {name!r}")
    points = np.stack([figure.points[name] for name in names])
    depth = (points[:, 2] - figure.points["head"][2]) / (_HEAD_WIDTH * figure.size)
    away = np.array([name in _FACE for name in names]) & (depth < -0.25)
    return points[:, :2], away


def draw_figure(image: np.ndarray, front: np.ndarray, number: int, figure: Figure) -> None:
    """Draws a figure into an RGB image, and its number into the map of who is in front."""
    parts = sorted(PARTS, key=lambda part: np.mean([figure.points[name][2] for name in part.points]))
    head_depth = figure.points["head"][2]
    in_front_of_head = [
        p for p in parts if min(figure.points[name][2] for name in p.points) > head_depth + 0.05 * figure.size
    ]
    for part in parts:
        if part not in in_front_of_head:
            _draw_part(image, front, number, figure, part)
    _draw_head(image, front, number, figure)
    for part in in_front_of_head:
        _draw_part(image, front, number, figure, part)


def _posed(rng: np.random.Generator) -> Points:
    """Points of a body with random proportions and joint angles."""
    stretch = dict(zip(("legs", "arms", "torso", "width"), rng.normal(1, (0.05, 0.05, 0.05, 0.1)), strict=True))
    sits = rng.random() < 0.15
    torso = _rotation(x=rng.normal(5, 10), z=rng.normal(0, 9))
    thorax = torso @ (0.0, 0.29 * stretch["torso"], 0.0)
    points = {"pelvis": np.zeros(3), "thorax": thorax, "upper_neck": thorax + torso @ (0.0, 0.055, 0.0)}
    for side, sign in _SIDES.items():
        hip = np.array([sign * 0.058 * stretch["width"], 0.0, 0.0])
        points[f"{side}_hip"] = hip
        points[f"{side}_waist"] = torso @ (sign * 0.055 * stretch["width"], 0.09, 0.0)
        swing = rng.normal(80, 12) if sits else rng.normal(5, 22)
        apart = abs(rng.normal(4, 9))
        bend = rng.normal(80, 15) if sits else abs(rng.normal(0, 28))
        knee = hip + 0.245 * stretch["legs"] * _direction(sign, apart, swing)
        ankle = knee + 0.24 * stretch["legs"] * _direction(sign, apart / 2, swing - bend)
        points |= {f"{side}_knee": knee, f"{side}_ankle": ankle}
        points[f"{side}_toe"] = ankle + 0.06 * _direction(sign, 15, swing - bend + 80)
        points |= _arm(rng, side, thorax, torso, stretch)
    return points | _head(rng, points["upper_neck"], torso)


def _arm(rng: np.random.Generator, side: str, thorax: np.ndarray, torso: np.ndarray, stretch: dict) -> Points:
    sign = _SIDES[side]
    shoulder = thorax + torso @ (sign * 0.105 * stretch["width"], -0.02, 0.0)
    raised = rng.uniform(60, 165) if rng.random() < 0.3 else abs(rng.normal(15, 18))
    swing, bend = rng.normal(5, 28), rng.uniform(0, 120) * rng.random()
    upper = torso @ _direction(sign, raised, swing)
    lower = torso @ _direction(sign, raised + rng.normal(0, 25), swing + bend)
    elbow = shoulder + 0.165 * stretch["arms"] * upper
    wrist = elbow + 0.145 * stretch["arms"] * lower
    hand = wrist + 0.035 * lower
    return {f"{side}_shoulder": shoulder, f"{side}_elbow": elbow, f"{side}_wrist": wrist, f"{side}_hand": hand}


def _head(rng: np.random.Generator, neck: np.ndarray, torso: np.ndarray) -> Points:
    turned = torso @ _rotation(y=rng.normal(0, 22)) @ _rotation(x=rng.normal(3, 10), z=rng.normal(0, 7))
    middle = neck + turned @ (0.0, 0.065, 0.008)
    points = {name: middle + _HEAD_WIDTH * turned @ np.array(offset) for name, offset in _FACE.items()}
    return points | {"head": middle, "head_top": middle + turned @ (0.0, _HEAD_HEIGHT, 0.0)}


def _direction(sign: float, apart: float, forward: float) -> np.ndarray:
    """A unit vector: down, turned away from the body's middle and forward, in degrees."""
    apart, forward = np.deg2rad(apart), np.deg2rad(forward)
    return np.array([sign * np.sin(apart), -np.cos(apart) * np.cos(forward), np.cos(apart) * np.sin(forward)])


def _rotation(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """Rotation about one axis after another, in degrees."""
    matrix = np.eye(3)
    for axis, angle in enumerate((x, y, z)):
        if angle:
            sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
            first, second = (axis + 1) % 3, (axis + 2) % 3
            turn = np.eye(3)
            turn[first, first] = turn[second, second] = cosine
            turn[first, second], turn[second, first] = -sine, sine
            matrix = turn @ matrix
    return matrix


def _colors(rng: np.random.Generator) -> dict[str, Rgb]:
    skin = np.array([255, 214, 186]) * rng.uniform(0.35, 1) * rng.uniform(0.95, 1.05, 3)
    shirt, trousers, shoes = rng.uniform(25, 230, (3, 3))
    hair = np.array([150, 105, 60]) * rng.uniform(0.1, 1.4) * rng.uniform(0.85, 1.15, 3)
    colors = {"skin": skin, "shirt": shirt, "trousers": trousers, "shoes": shoes * 0.6, "hair": hair}
    colors["forearms"] = skin if rng.random() < 0.5 else shirt
    colors["shins"] = skin if rng.random() < 0.3 else trousers
    return {name: tuple(np.clip(color, 0, 255)) for name, color in colors.items()}


def _draw_part(image: np.ndarray, front: np.ndarray, number: int, figure: Figure, part: Part) -> None:
    centers = np.stack([figure.points[name][:2] for name in part.points])
    radii = np.array(part.radii) * figure.size
    color = np.clip(np.array(figure.colors[part.color]) * _SIDE_LIGHT[part.side], 0, 255)
    hull = _hull(centers, radii)
    _fill(image, hull, color * 0.66)
    _fill(front, hull, number)
    # A lighter core towards the light, up and to the left, makes it round.
    _fill(image, _hull(centers - 0.18 * radii[:, None], 0.7 * radii), color)


def _draw_head(image: np.ndarray, front: np.ndarray, number: int, figure: Figure) -> None:
    """Ears, hair and face, nearer ones last; from behind it is all hair."""
    points, size = figure.points, figure.size
    middle = points["head"][:2]
    up = (points["head_top"][:2] - middle) / _HEAD_HEIGHT  # The head's axes, foreshortened as they are seen.
    skin, hair = np.array(figure.colors["skin"]), np.array(figure.colors["skin" if figure.bald else "hair"])
    width = _HEAD_WIDTH * size
    ends = np.stack([middle + 0.017 * up, middle - 0.017 * up])
    skull = _hull(ends, np.full(2, width))
    seen = [name for name in ("left_ear", "right_ear") if points[name][2] > points["head"][2] - 0.3 * width]
    for name in ("left_ear", "right_ear"):
        _fill(image, _hull(points[name][None, :2], np.array([0.22 * width])), skin * 0.7)
    _fill(image, skull, hair * 0.8)
    _fill(front, skull, number)
    # The face is a disc on the front of the head, which moves out of sight as the head turns away.
    forward = points["nose"][:2] - middle
    turned = figure.head_turned
    if turned > -0.15:
        face = _hull(middle + 0.42 * forward + np.array([[0.0, 0.0], -0.012 * up]), np.full(2, 0.8 * width))
        overlap, polygon = cv2.intersectConvexConvex(skull.astype(np.float32), face.astype(np.float32))
        if overlap > 0:
            _fill(image, polygon[:, 0], skin)
    for name in seen:
        _fill(image, _hull(points[name][None, :2], np.array([0.2 * width])), skin * 0.85)
    _draw_face(image, figure, width)


def _draw_face(image: np.ndarray, figure: Figure, width: float) -> None:
    points, skin = figure.points, np.array(figure.colors["skin"])

    def is_seen(name: str) -> bool:
        return points[name][2] > figure.points["head"][2] + 0.1 * width

    for name in ("left_eye", "right_eye"):
        if is_seen(name):
            _fill(image, _hull(points[name][None, :2], np.array([0.2 * width])), np.array([245.0, 245, 245]))
            _fill(image, _hull(points[name][None, :2], np.array([0.11 * width])), np.array([20.0, 20, 25]))
    if is_seen("left_mouth") and is_seen("right_mouth"):
        mouth = np.stack([points["left_mouth"][:2], points["right_mouth"][:2]])
        _fill(image, _hull(mouth, np.full(2, 0.07 * width)), skin * (0.75, 0.4, 0.4))
    if is_seen("nose"):
        _fill(image, _hull(points["nose"][None, :2], np.array([0.14 * width])), skin * 0.72)


def _hull(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Corners of the convex hull of circles."""
    points = (centers[:, None] + radii[:, None, None] * _CIRCLE).reshape(-1, 2).astype(np.float32)
    return points if len(centers) == 1 else cv2.convexHull(points)[:, 0]


def _fill(target: np.ndarray, polygon: np.ndarray, value: np.ndarray | int) -> None:
    corners = np.rint((polygon - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32)
    if isinstance(value, np.ndarray):
        cv2.fillConvexPoly(target, corners, tuple(map(float, value)), cv2.LINE_AA, SUBPIXEL_BITS)
    else:
        cv2.fillConvexPoly(target, corners, int(value), cv2.LINE_8, SUBPIXEL_BITS)
