"""Tiles that are not cytology: cut from other pictures, drawn, or real ones made impossible."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.train.artefacts import drawn
from unicas_edge.train.artefacts.material import Material, Rng
from unicas_edge.train.artefacts.plane import log_uniform
from unicas_edge.train.compose.sources import TILE

#: how often a window is drawn again that shows nothing but its picture's background
_TRIES = 8
#: grey levels that a window's pixels must spread over
_SHOWS = 14.0
#: how much a picture is enlarged: slides as they may be stated wrongly, photographs to any size
_ENLARGED = {"histology": (0.6, 1.8), "fluorescence": (0.6, 1.8), "photograph": (0.7, 8.0)}

DRAWN: dict[str, Callable[[Rng], UInt8Image]] = {
    "drawn/text": drawn.text,
    "drawn/serif": lambda rng: drawn.text(rng, "STIXGeneral"),
    "drawn/screen": drawn.screen,
    "drawn/chart": drawn.chart,
    "drawn/gradient": drawn.gradient,
    "drawn/noise": drawn.noise,
    "drawn/voronoi": drawn.voronoi,
    "drawn/stripes": drawn.stripes,
}


def cut(picture: UInt8Image, rng: Rng, enlarged: tuple[float, float]) -> UInt8Image:
    """Return a window of a picture, enlarged, as a tile; one that shows something if it can."""
    window = picture[:TILE, :TILE]
    for _ in range(_TRIES):
        side = min(int(TILE / log_uniform(rng, *enlarged)), *picture.shape[:2])
        top, left = (int(rng.integers(0, n - side + 1)) for n in picture.shape[:2])
        window = picture[top : top + side, left : left + side]
        if window[::4, ::4].std() > _SHOWS:
            break
    return np.asarray(Image.fromarray(window).resize((TILE, TILE), Image.Resampling.BICUBIC))


def of_picture(source: str, rng: Rng, material: Material) -> UInt8Image:
    """Return a tile cut from the picture of this source."""
    tile = cut(material.pictures[source], rng, _ENLARGED[source.partition("/")[0]])
    if source.startswith("fluorescence") and rng.random() < 0.6:
        dyes = np.eye(3, dtype=np.uint8)[rng.permutation(3)]
        tile = tile @ dyes  # another dye: another channel
        tile = (tile * rng.uniform(1, 3)).clip(0, 255).astype(np.uint8)
    return tile


def inverted(tile: UInt8Image, rng: Rng) -> UInt8Image:
    """Return a negative of a tile."""
    del rng
    return 255 - tile


def swapped(tile: UInt8Image, rng: Rng) -> UInt8Image:
    """Return a tile whose colours stand in another order, as a file read as BGR shows it."""
    orders = ((2, 1, 0), (2, 1, 0), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1))
    return tile[..., orders[int(rng.integers(len(orders)))]]


def grey(tile: UInt8Image, rng: Rng) -> UInt8Image:
    """Return a tile without colour, from one channel or all, sometimes in a false colour."""
    one = tile[..., int(rng.integers(3))] if rng.random() < 0.5 else tile.mean(axis=-1)
    if rng.random() < 0.3:
        table = np.sort(rng.integers(0, 256, (256, 3)), axis=0)[:, rng.permutation(3)]
        return table[one.astype(np.uint8)].astype(np.uint8)
    return np.repeat(one.astype(np.uint8)[..., None], 3, axis=-1)


def solarised(tile: UInt8Image, rng: Rng) -> UInt8Image:
    """Return a tile whose lighter grey levels are inverted, or that has a few levels only."""
    if rng.random() < 0.6:
        return np.where(tile >= rng.integers(90, 210), 255 - tile, tile)
    levels = int(rng.integers(2, 5))
    return (tile // (256 // levels) * (255 // (levels - 1))).clip(0, 255).astype(np.uint8)


IMPOSSIBLE: dict[str, Callable[[UInt8Image, Rng], UInt8Image]] = {
    "impossible/inverted": inverted,
    "impossible/swapped": swapped,
    "impossible/grey": grey,
    "impossible/solarised": solarised,
}
