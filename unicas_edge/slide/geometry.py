"""The geometry of pixels: how coarse a level is, and windows at another spacing.

Exact area averages when shrinking, bicubic when enlarging.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unicas_edge.core.arrays import UInt8Image

#: Up to this shrink factor weights of 8 bits in uint16 are exact enough; beyond it single weights
#: become too small, and 16 bits in uint32 are used.
_NARROW = 4.0


def downsample_of(base: tuple[int, int], level: tuple[int, int]) -> float:
    """Return level-0 pixels per pixel of a level, both sizes as (width, height).

    A whole factor where the sizes differ from it by rounding only (2967 -> 741 is 4, not 4.004:
    writers drop or add the last row); else the mean of both axes.
    """
    across, down = base[0] / level[0], base[1] / level[1]
    factor = max(1, round((across + down) / 2))
    rounded = all(abs(b - n * factor) <= factor for b, n in zip(base, level, strict=True))
    return float(factor) if rounded else (across + down) / 2


def overlaps(
    low: NDArray[np.float64], high: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return which source intervals lie under each output interval, and how much of each.

    Output interval i is [low[i], high[i]); source interval j is [edges[j], edges[j + 1]), edges
    rising by 1 but for the last, which may be shorter. Returns indices intp [K, n] and the
    overlapped lengths float64 [K, n], K being the most source intervals under any output; unused
    places have length 0. Time and memory are O(K n), never a dense matrix.
    """
    last = len(edges) - 2
    first = np.clip(np.floor(low), 0, last).astype(np.intp)
    stop = np.clip(np.ceil(high), first + 1, last + 1).astype(np.intp)
    index = first + np.arange(int((stop - first).max()))[:, None]
    inside = np.minimum(index, last)
    length = np.minimum(high, edges[inside + 1]) - np.maximum(low, edges[inside])
    length[(index > last) | (length < 0)] = 0
    return inside, length


def area_resample(
    image: UInt8Image, x: float, y: float, scale: float, *, width: int, height: int
) -> UInt8Image:
    """Return uint8 RGB [height, width, 3]: output pixel (0, 0) begins at (x, y) of `image`.

    `image` is uint8 [H, W, 3], `scale` its pixels per output pixel. From 1 up every output pixel is
    the mean of the `scale` x `scale` area under it, fractions of source pixels included, within 1.6
    grey levels of exact arithmetic (0.2 on average); below 1 it is bicubic. (Pillow's BOX filter is
    exact for whole factors only: at others it takes a source pixel wholly or not at all.)
    """
    if scale < 1:
        box = (x, y, x + width * scale, y + height * scale)
        return _enlarge(image, box, width, height)
    factor = round(scale)
    if factor == scale and x == int(x) and y == int(y):
        return _whole(image[int(y) :, int(x) :], factor, width, height)
    half = _rows(image.reshape(image.shape[0], -1), y, scale, height)
    turned = half.reshape(height, -1, 3).transpose(1, 0, 2).reshape(image.shape[1], -1)
    done = _rows(np.ascontiguousarray(turned), x, scale, width)
    return np.ascontiguousarray(done.reshape(width, height, 3).transpose(1, 0, 2))


def _whole(image: UInt8Image, factor: int, width: int, height: int) -> UInt8Image:
    """Return the exact block means of a whole factor."""
    window = np.ascontiguousarray(image[: height * factor, : width * factor])
    return window if factor == 1 else np.array(Image.fromarray(window).reduce(factor))


def _enlarge(
    image: UInt8Image, box: tuple[float, float, float, float], width: int, height: int
) -> UInt8Image:
    """Return the bicubic enlargement of the part in `box`."""
    kind = Image.Resampling.BICUBIC
    return np.array(Image.fromarray(image).resize((width, height), kind, box=box))


def _rows(image: UInt8Image, start: float, scale: float, count: int) -> UInt8Image:
    """Return uint8 [count, m]: the weighted means of the rows of uint8 [n, m]."""
    kind, bits = (np.uint16, 8) if scale <= _NARROW else (np.uint32, 16)
    index, weights = _weights(start, scale, count, len(image), bits)
    total = np.full((count, image.shape[1]), 1 << (bits - 1), kind)
    part = np.empty_like(total)
    for rows, weight in zip(index, weights.astype(kind), strict=True):
        np.multiply(image[rows], weight[:, None], out=part)
        total += part
    total >>= bits
    return total.astype(np.uint8)


def _weights(
    start: float, scale: float, count: int, length: int, bits: int
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return row numbers [K, count] and weights [K, count] that add up to exactly 2^bits."""
    low: NDArray[np.float64] = start + scale * np.arange(float(count))
    index, overlap = overlaps(low, low + scale, np.arange(length + 1.0))
    running = np.cumsum(overlap, axis=0)
    steps = np.round(running * ((1 << bits) / running[-1])).astype(np.int64)
    return index, np.diff(steps, axis=0, prepend=0)
