"""Pixels of composed slides as optical density: dyes add up, so a cell laid on glass has no edge.

Density is -ln(grey / white) with the white of the source, so that glass is 0 in every source; a
source's mean stain is brought half-way to that of the slide, the whole source alike, so that within
one source dark nuclei stay darker than pale ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.heads.images import read_image
from unicas_edge.train.compose.sources import TILE, Piece

Density = NDArray[np.float32]
Number = TypeVar("Number", np.uint8, np.float32)

#: grey level of glass in a composed slide
WHITE = 250.0
#: summed density of red, green and blue from which a pixel counts as stained
STAINED = 0.35
#: how far a source's stain is brought to the slide's, and by what factor at most
MATCH, MOST = 0.5, 1.6
#: share of what lies under a pasted cell that is taken away where the cell is dense
FADE = 0.7
_CACHED_FIELDS = 160  # 1 MB each
_DIMMEST_WHITE = 222.0


@dataclass(frozen=True)
class Stain:
    """A source's white (grey level) and its mean density where stained, each [3] of R, G, B."""

    white: tuple[float, float, float]
    mean: tuple[float, float, float]

    def gain(self, target: tuple[float, float, float], match: float = MATCH) -> Density:
        """Return what densities are multiplied by to come `match` of the way, float32 [3]."""
        ratio = np.asarray(target) / np.maximum(self.mean, 1e-3)
        return (np.clip(ratio, 1 / MOST, MOST) ** match).astype(np.float32)


@lru_cache(maxsize=_CACHED_FIELDS)
def picture(file: Path, scale: float) -> UInt8Image:
    """Return a source's pixels at a composed slide's spacing, uint8 [h, w, 3]."""
    pixels = read_image(file)
    if scale == 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def cut(
    piece: Piece, largest: int | None = None, shift: tuple[float, float] = (0, 0)
) -> UInt8Image:
    """Return the pixels of a piece, uint8 [h, w, 3], at most `largest` a side.

    Of a larger one the middle is taken, moved by `shift` (y, x) in -1..1 of what is left over.
    """
    whole = picture(piece.file, piece.scale)
    spans = []
    middles, sizes = (piece.y, piece.x), (piece.height, piece.width)
    for middle, size, length, move in zip(middles, sizes, whole.shape[:2], shift, strict=True):
        wanted = round(size * piece.scale)
        side = min(wanted, largest or wanted, length)
        start = middle * piece.scale - side / 2 + move * (wanted - side) / 2
        first = min(max(0, round(start)), length - side)
        spans.append(slice(first, first + side))
    return whole[spans[0], spans[1]]


def tile_of(piece: Piece, turn: int) -> UInt8Image:
    """Return a background piece as a tile uint8 [256, 256, 3] in one of eight orientations.

    A smaller one is centred and its margin mirrors it, so that an encoder's crop is real.
    """
    pixels = cut(piece, TILE)
    top, left = (TILE - pixels.shape[0]) // 2, (TILE - pixels.shape[1]) // 2
    margins = ((top, TILE - pixels.shape[0] - top), (left, TILE - pixels.shape[1] - left), (0, 0))
    return turned(np.pad(pixels, margins, mode="symmetric"), turn)


def turned(pixels: NDArray[Number], turn: int) -> NDArray[Number]:
    """Return one of the eight orientations of a picture, as a view."""
    pixels = pixels[::-1] if turn & 1 else pixels
    pixels = pixels[:, ::-1] if turn & 2 else pixels
    return pixels.swapaxes(0, 1) if turn & 4 else pixels


def densities(stain: Stain, target: tuple[float, float, float], match: float = MATCH) -> Density:
    """Return the optical density of every grey level, stained as the slide is, float32 [256, 3]."""
    grey = np.arange(256, dtype=np.float32)[:, None]
    table = -np.log((grey + 1) / (np.asarray(stain.white, np.float32) + 1))
    dense: Density = np.maximum(table, 0) * stain.gain(target, match)
    return dense


def mapped(pixels: UInt8Image, table: NDArray[Number]) -> NDArray[Number]:
    """Return `table` [256, 3] looked up for uint8 [h, w, 3], channel by channel."""
    found = np.empty(pixels.shape, table.dtype)
    for channel in range(3):
        found[..., channel] = table[:, channel].take(pixels[..., channel])
    return found


def light(dense: Density, gain: Density) -> UInt8Image:
    """Return density [..., 3] times the slide's own `gain` [3] as grey levels."""
    grey: Density = np.exp(-dense * gain) * np.float32(WHITE + 1) - 1
    return grey.clip(0, 255).round().astype(np.uint8)


def blurred(pixels: UInt8Image, radius: float) -> UInt8Image:
    """Return a tile out of focus by a Gaussian of `radius` pixels; 0 leaves it as it is."""
    if not radius:
        return pixels
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


@lru_cache(maxsize=4096)
def white_of(file: Path) -> tuple[float, float, float]:
    """Return the white of one picture."""
    return stain_of([read_image(file)]).white


def stain_of(pictures: list[UInt8Image]) -> Stain:
    """Return the stain of a source from some of its pictures: glass is its lightest 2%."""
    parts = [p[::4, ::4].reshape(-1, 3) for p in pictures]
    pixels = np.concatenate(parts).astype(np.float64)
    white = np.percentile(pixels, 98, axis=0).clip(_DIMMEST_WHITE, 255)
    dense = np.maximum(-np.log((pixels + 1) / (white + 1)), 0)
    stained = dense[dense.sum(axis=1) > STAINED]
    mean = stained.mean(axis=0) if len(stained) else np.full(3, STAINED / 3)
    return Stain(_triple(white), _triple(mean))


def _triple(values: NDArray[np.floating]) -> tuple[float, float, float]:
    r, g, b = (float(value) for value in values)
    return r, g, b


def feather(height: int, width: int, *, round_: bool) -> Density:
    """Return a mask float32 [height, width] that falls smoothly to 0 at the border.

    Round and from a third of the radius on for cells cut out of a field, whose corners are other
    cells; else a rounded rectangle that falls in the outer quarter, in 28 pixels at most.
    """
    y, x = (np.abs(np.arange(n, dtype=np.float32) - (n - 1) / 2) / (n / 2) for n in (height, width))
    if round_:
        return _fall((np.sqrt(y[:, None] ** 2 + x[None] ** 2) - 0.35) / 0.65)
    border = min(0.25, 28 / (min(height, width) / 2))
    distance = (y[:, None] ** 6 + x[None] ** 6) ** (1 / 6)
    return _fall((distance - 1 + border) / border)


def _fall(share: Density) -> Density:
    """Return 1 below 0 and 0 above 1, a half cosine between."""
    return (0.5 + 0.5 * np.cos(np.pi * share.clip(0, 1))).astype(np.float32)


def lay(under: Density, crop: Density, mask: Density, top: int, left: int) -> None:
    """Lay `crop` [h, w, 3] on `under` in place; what is under its dense parts fades."""
    height, width = mask.shape
    part = under[top : top + height, left : left + width]
    body = np.clip(crop.sum(axis=-1) / 0.6, 0, 1)
    image = Image.fromarray((body * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(3))
    body = np.asarray(image, np.float32) / 255
    part *= (1 - FADE * mask * body)[..., None]
    part += crop * mask[..., None]


def clearest(
    under: Density, height: int, width: int, margin: int, choose: Callable[[int], int]
) -> tuple[int, int]:
    """Return (top, left) of one of the three clearest places of this size in a tile.

    `choose(n)` picks one of n. Places lie 8 pixels apart, `margin` pixels inside the tile.
    """
    sums = np.pad(under.sum(axis=-1), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    last = under.shape[0] - margin
    ys = np.arange(margin, max(margin, last - height) + 1, 8)
    xs = np.arange(margin, max(margin, last - width) + 1, 8)
    y, x = np.meshgrid(ys, xs, indexing="ij")
    dense = sums[y + height, x + width] - sums[y, x + width] - sums[y + height, x] + sums[y, x]
    order = np.argsort(dense, axis=None, kind="stable")[:3]
    place = order[choose(len(order))]
    return int(y.flat[place]), int(x.flat[place])
