"""Peaks of heatmaps: local maxima, the best of them per joint, and where between the pixels they lie.

Maps are `(H, W, K)`, channels last, in any memory order: a transposed view of channels-first maps costs no copy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_ehrnet.support.errors import ModelError


@dataclass(frozen=True)
class Peaks:
    """Local maxima of K heatmaps as a flat table, ordered by joint and, within a joint, by falling score.

    Args:
        joints: int array of shape `(P,)`. The heatmap of each peak.
        rows: int array of shape `(P,)`. y in pixels of the map.
        columns: int array of shape `(P,)`. x in pixels of the map.
        scores: float32 array of shape `(P,)`. Value of the map there.
    """

    joints: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: np.ndarray | slice) -> Peaks:
        return Peaks(self.joints[index], self.rows[index], self.columns[index], self.scores[index])

    def of(self, joint: int) -> slice:
        """The part of the table that belongs to one joint."""
        return slice(int(self.joints.searchsorted(joint)), int(self.joints.searchsorted(joint + 1)))


@dataclass(frozen=True)
class Bands:
    """Heatmaps of which every band of rows is reduced to its highest values.

    Args:
        height: int. Rows per band.
        maxima: float array of shape `(ceil(H / height), W, K)`.
    """

    height: int
    maxima: np.ndarray

    @classmethod
    def of(cls, heatmaps: np.ndarray, kernel: int) -> Bands:
        """The bands that `find_peaks` needs: the highest rows of which all pixels lie in each other's windows."""
        height = kernel // 2 + 1
        return cls(height, reduce_rows(heatmaps, height, np.maximum)[0])


def find_peaks(
    heatmaps: np.ndarray,
    count: int | None = None,
    threshold: float = 0.0,
    kernel: int = 5,
    first_of_equals: bool = False,
    bands: Bands | None = None,
) -> Peaks:
    """Pixels above a threshold that no pixel of the window around them exceeds.

    This is max-pooling suppression, exact (equal neighbours are both peaks), at a fraction of its price. With a radius
    r = kernel // 2, pixels of one column within r + 1 rows lie in each other's windows, so the maxima of bands of
    r + 1 rows hold every peak, and a peak is no lower than the r band maxima to either side. Few pixels remain whose
    window has to be looked at.

    Args:
        heatmaps: float array of shape `(H, W, K)`.
        count: int or None. Keep only that many best per joint. None keeps all.
        threshold: float. Peaks at or below it are left out.
        kernel: int, odd. Width of the window in pixels.
        first_of_equals: bool. Whether of equal neighbours only the first, row by row, is a peak.
        bands: `Bands.of(heatmaps, kernel)`, if the caller has use for them too.

    Returns:
        `Peaks`. Equal scores are ordered by row, then column.

    Raises:
        ValueError: if `kernel` is not an odd positive number.

    Example:
        >>> import numpy as np
        >>> from keras_ehrnet.decode.peaks import find_peaks
        >>> heatmaps = np.zeros((8, 10, 2), np.float32)
        >>> heatmaps[3, 4:6, 1] = 0.5, 0.9
        >>> peaks = find_peaks(heatmaps, threshold=0.1)
        >>> peaks.joints, peaks.rows, peaks.columns
        (array([1]), array([3]), array([5]))
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"The window of the peaks must be an odd number of pixels. Received: {kernel}")
    height, width, _ = heatmaps.shape
    radius = kernel // 2
    maxima = (bands or Bands.of(heatmaps, kernel)).maxima
    band, column, joint = np.unravel_index(np.flatnonzero(maxima > threshold), maxima.shape)
    score = maxima[band, column, joint]
    for shift in _outwards(radius):
        keep = score >= maxima[band, _inside(column + shift, width), joint]
        band, column, joint, score = band[keep], column[keep], joint[keep], score[keep]

    row = band[:, None] * (radius + 1) + np.arange(radius + 1)
    is_maximum = heatmaps[np.minimum(row, height - 1), column[:, None], joint[:, None]] == score[:, None]
    candidate, within = np.nonzero(is_maximum & (row < height))
    peaks = Peaks(joint[candidate], row[candidate, within], column[candidate], score[candidate])
    for down in (0, *_outwards(radius)):
        for right in (0, *_outwards(radius)):
            neighbours = pixel(heatmaps, peaks.rows + down, peaks.columns + right, peaks.joints)
            keep = peaks.scores >= neighbours
            if first_of_equals and (down, right) < (0, 0):
                across = peaks.columns + right
                inside = (peaks.rows + down >= 0) & (across >= 0) & (across < width)
                keep = (peaks.scores > neighbours) | ~inside & keep
            peaks = peaks[keep]
    return _best(peaks, count)


def _best(peaks: Peaks, count: int | None) -> Peaks:
    peaks = peaks[np.lexsort((peaks.columns, peaks.rows, -peaks.scores, peaks.joints))]
    rank = np.arange(len(peaks)) - np.searchsorted(peaks.joints, peaks.joints)
    return peaks if count is None else peaks[rank < count]


def _outwards(radius: int) -> list[int]:
    """-1, 1, -2, 2, ...: the nearest neighbours rule out the most."""
    return [sign * distance for distance in range(1, radius + 1) for sign in (-1, 1)]


def reduce_rows(maps: np.ndarray, height: int, *ufuncs: np.ufunc) -> list[np.ndarray]:
    """Reduces every band of `height` rows to one row.

    Args:
        maps: array of shape `(H, ...)`.
        height: int. Rows per band.
        *ufuncs: such as `np.maximum`. What to reduce by.

    Returns:
        One array of shape `(ceil(H / height), ...)` per ufunc, in the memory order of `maps`.
    """
    results = [maps[::height].copy(order="K") for _ in ufuncs]
    for offset in range(1, min(height, len(maps))):
        rows = maps[offset::height]
        for ufunc, result in zip(ufuncs, results, strict=True):
            ufunc(result[: len(rows)], rows, out=result[: len(rows)])
    return results


_BYTES_AT_ONCE = 3 << 20  # about what a processor's cache holds


def reduce_blocks(maps: np.ndarray, rows: int, columns: int, *ufuncs: np.ufunc) -> list[np.ndarray]:
    """Reduces every block of rows x columns pixels to one: `reduce_rows` along both axes.

    A few bands at a time, which stay in the processor's cache from the first pass over them to the last.
    """
    parts = []
    step = rows * max(1, _BYTES_AT_ONCE // max(maps[:rows].nbytes, 1))
    for first in range(0, len(maps), step):
        bands = reduce_rows(maps[first : first + step], rows, *ufuncs)
        pairs = zip(bands, ufuncs, strict=True)
        parts.append([reduce_rows(band.swapaxes(0, 1), columns, ufunc)[0] for band, ufunc in pairs])
    return [np.concatenate(blocks, axis=1).swapaxes(0, 1) for blocks in zip(*parts, strict=True)]


def pixel(heatmaps: np.ndarray, row: np.ndarray, column: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Values at given pixels; beyond the border the nearest pixel counts."""
    height, width, _ = heatmaps.shape
    return heatmaps[_inside(row, height), _inside(column, width), joint]


def _inside(index: np.ndarray, length: int) -> np.ndarray:
    # Several times as fast as np.clip, which looks up the limits of the type first.
    return np.minimum(np.maximum(index, 0), length - 1)


def quarter_shift(heatmaps: np.ndarray, row: np.ndarray, column: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """A quarter of a pixel towards the higher neighbour (where they are equal: left, up). Shape `(P, 2)`, x then y."""
    left, right, above, below, _ = _cross(heatmaps, row, column, joint)
    return np.where(np.stack([right > left, below > above], axis=-1), np.float32(0.25), np.float32(-0.25))


def parabola_shift(heatmaps: np.ndarray, row: np.ndarray, column: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """The top of parabolas through the logarithms of a pixel and its neighbours. Shape `(P, 2)`, x then y.

    The logarithm of a gaussian is a parabola, so for the maps that networks are trained on this is exact. The shift
    stays within half a pixel, and is zero where the parabola has no top.
    """
    left, right, above, below, center = (
        np.log(np.maximum(value, 1e-3)) for value in _cross(heatmaps, row, column, joint)
    )
    low, high = np.stack([left, above], axis=-1), np.stack([right, below], axis=-1)
    curvature = 2 * center[..., None] - low - high
    bent = curvature > 1e-6
    shift = np.where(bent, (high - low) / (2 * np.where(bent, curvature, 1)), 0)
    return np.clip(shift, -0.5, 0.5).astype(np.float32)


def _cross(heatmaps: np.ndarray, row: np.ndarray, column: np.ndarray, joint: np.ndarray) -> tuple[np.ndarray, ...]:
    """The neighbours left, right, above and below, and the pixel itself."""
    steps = ((0, -1), (0, 1), (-1, 0), (1, 0), (0, 0))
    return tuple(pixel(heatmaps, row + down, column + right, joint) for down, right in steps)


Shift = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
SUBPIXEL: dict[str, Shift] = {
    "none": lambda heatmaps, row, column, joint: np.zeros((*np.shape(row), 2), np.float32),
    "quarter": quarter_shift,
    "parabola": parabola_shift,
}
"""Ways from a pixel to a place between the pixels, by name."""


def checked_maps(maps: np.ndarray, name: str, axes: str, channels: int | None = None) -> np.ndarray:
    """Maps as float32, after making sure that they can be decoded.

    Args:
        maps: array. What the caller passed.
        name: str. What the message calls it.
        axes: str. One letter per axis, such as `"HWK"`.
        channels: int or None. Required length of the third axis.

    Returns:
        Float32 array with the values of `maps`; the same memory if it was float32 already.

    Raises:
        ValueError: if the shape is wrong.
        ModelError: if values are not finite: the network's weights are damaged, or its training went astray.
    """
    maps = np.asarray(maps, np.float32)
    if maps.ndim != len(axes) or 0 in maps.shape or (channels is not None and maps.shape[2] != channels):
        expected = f"({', '.join(axes)})" + (f" with {axes[2]} = {channels}" if channels is not None else "")
        raise ValueError(f"`{name}` must be of shape {expected}, none of them 0. Received: {maps.shape}")
    # The sum of squares is the fastest pass over an array that a NaN or infinity cannot hide from. It may also
    # overflow for finite values, so only then every value is looked at.
    flat = maps.ravel(order="K")
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.dot(flat, flat)
    if not np.isfinite(squares) and not np.isfinite(flat).all():
        raise ModelError(f"`{name}` must be finite. Received: {np.count_nonzero(~np.isfinite(flat))} NaN or infinite")
    return maps
