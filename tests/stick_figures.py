"""People of sticks: heatmaps and part affinity fields rendered from known joints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIZE = (96, 240)  # height, width of the maps
# One upright person of MPII's joints, in a box 40 wide and 80 high: x, y per joint.
FIGURE = np.array(
    [
        (20, 2), (20, 12), (12, 18), (8, 30), (6, 42), (20, 18), (28, 18), (32, 30), (34, 42), (20, 42), (15, 43),
        (14, 58), (13, 74), (25, 43), (26, 58), (27, 74),
    ],
    float,
)  # fmt: skip


def moved(person: np.ndarray, x: float, y: float) -> np.ndarray:
    return person + np.array([x, y])


def leaning(degrees: float, middle: float) -> np.ndarray:
    """A person turned about its middle, which lies at x = `middle`."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return moved((FIGURE - np.array([20, 40])) @ np.array([[cosine, sine], [-sine, cosine]]), middle, 48)


def crossing() -> list[np.ndarray]:
    """Two people who lean away from each other, so that a leg of the one lies across a leg of the other."""
    return [leaning(-35, 88), leaning(35, 136)]


def render(
    people: Sequence[np.ndarray], limbs: Sequence[tuple[int, int]], sigma: float = 1.5, width: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians at the joints and unit vectors along the limbs; a joint that is NaN is missing."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    heatmaps = np.zeros((*SIZE, 16))
    fields, hits = np.zeros((*SIZE, len(limbs), 2)), np.zeros((*SIZE, len(limbs), 1))
    for person in people:
        for joint, (px, py) in enumerate(person):
            if not np.isnan(px):
                gaussian = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
                heatmaps[..., joint] = np.maximum(heatmaps[..., joint], gaussian)
        for number, (start, end) in enumerate(limbs):
            if np.isnan(person[[start, end]]).any():
                continue
            length = np.linalg.norm(person[end] - person[start])
            direction = (person[end] - person[start]) / length
            dx, dy = x - person[start, 0], y - person[start, 1]
            along, across = dx * direction[0] + dy * direction[1], dx * direction[1] - dy * direction[0]
            on_limb = (along >= -width) & (along <= length + width) & (np.abs(across) <= width)
            fields[on_limb, number] += direction
            hits[on_limb, number] += 1
    return heatmaps, (fields / np.maximum(hits, 1)).reshape(*SIZE, -1)
