"""The pixels of any strip of a synthetic slide: optical densities added, then turned into light."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.sample.canvas import Canvas, smooth
from unicas_edge.sample.cells import KINDS
from unicas_edge.sample.layout import NAMES, Layout, Mix

UInt16Image = NDArray[np.uint16]
Box = tuple[int, int, int, int]

STRIP = 256
BLOCK_UM = 512
#: units of stored optical density (log10) per 1.0
DENSITY_UNITS = 1000
#: grey level of empty glass, and what glass and mountant take from red, green and blue
WHITE, GLASS = 243, (0, 1, 4)
#: blur in the three planes of focus, um
DEFOCUS_UM = (0.0, 1.6, 4.0)


class Scene:
    """A synthetic slide of `width` x `height` pixels of `um_px` micrometres; thread-safe."""

    def __init__(self, width: int, height: int, um_px: float, seed: int, mix: Mix) -> None:
        self.width, self.height, self.um_px, self.seed = width, height, um_px, seed
        self.block = max(1, round(BLOCK_UM / um_px / STRIP)) * STRIP
        self._reach = math.ceil(max(kind.side_um for kind in KINDS) / um_px)
        self._light = _light_table()
        self._grain = _grain(seed, self.block)
        self._sprite = lru_cache(maxsize=None)(self._draw)
        layout = Layout(width, height, um_px, seed, mix, self.block)
        self._objects = lru_cache(maxsize=4 * (width // self.block + 4))(layout.objects)

    def render(self, row: int, col: int) -> UInt8Image:
        """Return strip `row` (256 pixels high) of block column `col`, uint8 [256, block, 3]."""
        top, left = row * STRIP, col * self.block
        density = np.full((STRIP, self.block, 3), GLASS, np.uint16)
        for objects in self._near(top, left):
            self._stamp(density, objects, top, left)
        pixels = self._light.take(density, mode="clip")
        y, x = np.random.default_rng([self.seed, 3, row, col]).integers(0, STRIP, 2)
        # noise of -6 .. 6 as wrapped bytes: the table leaves room for it at both ends
        pixels += self._grain[y : y + STRIP, x : x + self.block]
        return pixels

    def findings(self) -> Iterator[tuple[str, Box, bool]]:
        """Yield (kind, level-0 box x, y, width, height, in focus) of what the tasks look for.

        The box is what is drawn in focus, cut to the slide.
        """
        for row in range(-(-self.height // self.block)):
            for col in range(-(-self.width // self.block)):
                for x, y, kind, variant, turn, focus in self._objects(row, col).tolist():
                    box = self._box(x, y, kind, variant, turn) if KINDS[kind].task else None
                    if box is not None:
                        yield NAMES[kind], box, focus == 0

    def _near(self, top: int, left: int) -> Iterator[NDArray[np.void]]:
        """Yield, block by block, the objects that may reach into a strip."""
        reach, block = self._reach, self.block
        for row in range((top - reach) // block, (top + STRIP + reach) // block + 1):
            for col in range((left - reach) // block, (left + block + reach) // block + 1):
                objects = self._objects(row, col)
                y, x = objects["y"] - top, objects["x"] - left
                near = (y > -reach) & (y < STRIP + reach) & (x > -reach) & (x < block + reach)
                yield objects[near]

    def _stamp(self, density: UInt16Image, objects: NDArray[np.void], top: int, left: int) -> None:
        """Add the objects of a block to a strip; overlapping cells darken, as dyes do."""
        for x, y, kind, variant, turn, focus in objects.tolist():
            sprite = _turned(self._sprite(kind, variant, focus), turn)
            y0, x0 = _corner(x, y, sprite, top, left)
            y1, x1 = y0 + sprite.shape[0], x0 + sprite.shape[1]
            if y1 <= 0 or x1 <= 0 or y0 >= STRIP or x0 >= self.block:
                continue
            part = sprite[max(0, -y0) : STRIP - y0, max(0, -x0) : self.block - x0]
            density[max(0, y0) : y1, max(0, x0) : x1] += part

    def _draw(self, kind: int, variant: int, focus: int) -> UInt16Image:
        """Return a drawing as uint16 density [h, w, 3], trimmed to what is not empty."""
        if focus:
            sharp = self._sprite(kind, variant, 0)
            border = math.ceil(2.5 * DEFOCUS_UM[focus] / self.um_px)
            wide = np.pad(sharp.astype(np.float32), ((border,) * 2, (border,) * 2, (0, 0)))
            return smooth(wide, DEFOCUS_UM[focus] / self.um_px).round().astype(np.uint16)
        rng = np.random.default_rng([self.seed, 1, kind, variant])
        canvas = Canvas(rng, KINDS[kind].side_um, self.um_px)
        KINDS[kind].draw(canvas)
        units = (canvas.density * DENSITY_UNITS).clip(0, 3 * DENSITY_UNITS)
        return _trimmed(units.round().astype(np.uint16))

    def _box(self, x: float, y: float, kind: int, variant: int, turn: int) -> Box | None:
        """Return the level-0 box of an object, cut to the slide; None if it lies outside."""
        sprite = _turned(self._sprite(kind, variant, 0), turn)
        top, left = _corner(x, y, sprite, 0, 0)
        x0, y0 = max(0, left), max(0, top)
        x1 = min(self.width, left + sprite.shape[1])
        y1 = min(self.height, top + sprite.shape[0])
        return (x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None


def _corner(x: float, y: float, sprite: UInt16Image, top: int, left: int) -> tuple[int, int]:
    """Return (row, column) of a sprite's corner in a strip when its middle is level-0 (x, y)."""
    return int(y) - sprite.shape[0] // 2 - top, int(x) - sprite.shape[1] // 2 - left


def _turned(sprite: UInt16Image, turn: int) -> UInt16Image:
    """Return one of the eight orientations of a sprite, as a view."""
    sprite = sprite[::-1] if turn & 1 else sprite
    sprite = sprite[:, ::-1] if turn & 2 else sprite
    return sprite.swapaxes(0, 1) if turn & 4 else sprite


def _trimmed(sprite: UInt16Image) -> UInt16Image:
    """Return the sprite without its empty border; what is fainter than 1% density is empty."""
    drawn = sprite.max(axis=2) > DENSITY_UNITS // 100
    rows, cols = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    if not len(rows):
        return sprite
    cut = sprite[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    return np.ascontiguousarray(cut)


def _light_table() -> UInt8Image:
    """Return the grey level for every stored density, by Beer and Lambert, uint8."""
    density = np.arange(4 * DENSITY_UNITS) / DENSITY_UNITS
    return (WHITE * 10.0**-density).round().clip(12, 249).astype(np.uint8)


def _grain(seed: int, block: int) -> UInt8Image:
    """Return camera noise as wrapped bytes, uint8 [512, block + 256, 3], within -6 .. 6."""
    rng = np.random.default_rng([seed, 4])
    noise = rng.standard_normal((2 * STRIP, block + STRIP, 3), np.float32) * np.float32(1.5)
    return noise.clip(-6, 6).round().astype(np.int8).view(np.uint8)
