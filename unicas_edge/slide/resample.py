"""Bringing a window of pixels to another spacing: exact area averages, bicubic when enlarging."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unicas_edge.slide.overlap import overlaps

UInt8Image = NDArray[np.uint8]

#: Up to this shrink factor weights of 8 bits in uint16 are exact enough; beyond it single weights
#: become too small, and 16 bits in uint32 are used.
_NARROW = 4.0


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
