"""Pictures as they appear where um/px is stated wrongly: more or less of the field."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import TrainingError

#: x, y, width, height in a tile's pixels
Box = tuple[int, int, int, int]
TILE, _LARGEST = 256, 4096
#: pixels beyond a window that bicubic resampling takes in
_BICUBIC = 3
_SCALES = (0.05, 1000.0)


def window_of(
    size: tuple[int, int], scale: float, box: Box | None = None
) -> tuple[float, float, float, float]:
    """Return (top, left, height, width) of what `scaled` shows of a picture (h, w).

    Of an enlarged one a part that lies inside, its middle as near to that of `box` as can be; of a
    smaller one the picture and a margin around it.
    """
    high, wide = (n / scale for n in size)
    x, y, width, height = box or (0, 0, size[1], size[0])
    top, left = y + (height - high) / 2, x + (width - wide) / 2
    if scale < 1:
        return (size[0] - high) / 2, (size[1] - wide) / 2, high, wide
    return min(max(0.0, top), size[0] - high), min(max(0.0, left), size[1] - wide), high, wide


def scaled(tile: UInt8Image, scale: float, box: Box | None = None) -> UInt8Image:
    """Return a picture of the same size whose content is `scale` times as large.

    Enlarged, a part of it (`window_of`); made smaller, it goes on as its mirror image: what really
    lies beside is another field, or not known to be free of what decides a label.
    """
    top, left, high, wide = window_of(tile.shape[:2], scale, box)
    return at_scale(tile, (top + high / 2, left + wide / 2), scale, tile.shape[:2])


def at_scale(
    picture: UInt8Image, middle: tuple[float, float], scale: float, size: tuple[int, int]
) -> UInt8Image:
    """Return what a tile of `size` (h, w) shows of a larger picture, `scale` times as large.

    Around `middle` (y, x), uint8 [h, w, 3]; where the picture ends, its mirror image.
    """
    if not (0 < max(size) <= _LARGEST and _SCALES[0] <= scale <= _SCALES[1] and picture.size):
        raise TrainingError(
            f"cannot show {size[1]} x {size[0]} pixels at {scale:g} times the scale; give 1 to "
            f"{_LARGEST} pixels and {_SCALES[0]:g} to {_SCALES[1]:g}"
        )
    spans, box = [], []
    for place, n, length in zip(middle, size, picture.shape[:2], strict=True):
        start, stop = place - n / scale / 2, place + n / scale / 2
        first, last = math.floor(start) - _BICUBIC, math.ceil(stop) + _BICUBIC
        if start >= 0 and stop <= length:  # nothing is mirrored that is not shown
            first, last = max(first, 0), min(last, length)
        places = np.arange(first, last) % (2 * length)
        spans.append(np.where(places < length, places, 2 * length - 1 - places))
        box.append((start - first, stop - first))
    (top, bottom), (left, right) = box
    shown = Image.fromarray(np.ascontiguousarray(picture[spans[0]][:, spans[1]]))
    wanted = (size[1], size[0])
    return np.asarray(shown.resize(wanted, Image.Resampling.BICUBIC, (left, top, right, bottom)))
