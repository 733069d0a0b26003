"""Streams a pyramidal JPEG-tiled TIFF in the manner of Aperio SVS, level 0 never held in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.core.files import atomic_write
from unicas_edge.core.machine import usable_cores
from unicas_edge.errors import OutputError
from unicas_edge.slide.tiff.writer import Directory, TiffWriter

Progress = Callable[[int, int], None]
TILE = 256
#: Aperio stores every second power of two: 1, 4, 16, ...
STEP = 4
#: no level is added below one whose longer side is at most this
SMALLEST_LEVEL = 2048
#: readers know the format by the first word
VENDOR = "Aperio Image Library format, written by unicas-edge "


@dataclass(frozen=True)
class EncodedTile:
    """A tile already encoded; `small` is the same tile at a quarter, uint8 [64, 64, 3]."""

    jpeg: bytes
    small: UInt8Image


#: (row, col) of a tile -> uint8 [256, 256 * span, 3] that begins there, or one encoded tile
TileSource = Callable[[int, int], UInt8Image | EncodedTile]


def encode_tile(tile: UInt8Image, quality: int = 80) -> EncodedTile:
    """Return uint8 RGB [256, 256, 3] as a complete JFIF stream (YCbCr 4:2:0) and at a quarter."""
    pixels = np.ascontiguousarray(tile)
    jpeg = simplejpeg.encode_jpeg(pixels, quality, "RGB", "420")
    return EncodedTile(jpeg, quarter(pixels))


def quarter(pixels: UInt8Image) -> UInt8Image:
    """Return the rounded mean of every 4 x 4 block: uint8 [H, W, 3] -> [H // 4, W // 4, 3]."""
    rows = pixels[0::STEP].astype(np.uint16)
    for k in range(1, STEP):
        rows += pixels[k::STEP]
    total = rows[:, 0::STEP].copy()
    for k in range(1, STEP):
        total += rows[:, k::STEP]
    return ((total + STEP * STEP // 2) >> 4).astype(np.uint8)


def write_pyramid(
    path: str | Path,
    width: int,
    height: int,
    tile_source: TileSource,
    *,
    um_px: float,
    span: int = 1,
    quality: int = 80,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a slide of 256-pixel JPEG tiles, with levels 4x apart, and return its path.

    `tile_source(row, col)` is called once for every `span` tiles, from `threads` threads (None: one
    per usable core) and about row-major; it returns uint8 RGB [256, 256 * span, 3], also where that
    reaches past the slide, or (span 1) an `EncodedTile`. Memory grows with the width only: one row
    of tiles a level. `progress` is called with the level-0 tiles done and all. The same tiles give
    the same bytes. Readers take the file for an Aperio SVS of `um_px` micrometres per pixel.
    An existing file is replaced when the new one is complete; `OutputError` where it cannot be.
    """
    if width < 1 or height < 1 or not um_px > 0:
        raise OutputError(f"{path}: cannot write {width} x {height} pixels at {um_px} um/px")
    path = Path(path)
    with atomic_write(path) as stream, ThreadPoolExecutor(threads or usable_cores()) as pool:
        levels = _directories(width, height, um_px, quality)
        writer = _PyramidWriter(stream, levels, quality)
        writer.run(tile_source, span, pool, progress or _silent)
    return path


def _silent(done: int, total: int) -> None:
    """Report nothing."""


def _directories(width: int, height: int, um_px: float, quality: int) -> list[Directory]:
    """Return one directory per level, described as Aperio does; level n is 4^n times smaller."""
    texts = f"JPEG/RGB Q={quality}|AppMag = {10 / um_px:g}|MPP = {um_px:.4f}"
    start = f"{VENDOR}\r\n{width}x{height} [0,0 {width}x{height}] (256x256)"
    levels: list[Directory] = []
    scale = 1
    while not levels or max(levels[-1].width, levels[-1].height) > SMALLEST_LEVEL:
        size = max(1, width // scale), max(1, height // scale)
        arrow = f" -> {size[0]}x{size[1]}" if levels else ""
        text = f"{start}{arrow} {texts}"
        levels.append(Directory(*size, TILE, um_px * scale, (2, 2), text))
        scale *= STEP
    return levels


def _thumbnail(last: Directory) -> Directory:
    """Return the directory of the thumbnail, a quarter of the last level in one strip."""
    size = max(1, last.width // STEP), max(1, last.height // STEP)
    text = f"{VENDOR}\r\n-> {size[0]}x{size[1]} - "
    return Directory(*size, 0, last.um_px * STEP, (2, 2), text)


class _Strip:
    """One row of tiles of a coarser level, filled from quarters of the level above."""

    def __init__(self, image: Directory) -> None:
        self.cols = -(-image.width // TILE)
        self.rows = -(-image.height // TILE)
        self.row = 0
        self.pixels = np.full((TILE, self.cols * TILE, 3), 255, np.uint8)

    def put(self, row: int, col: int, small: UInt8Image) -> None:
        """Place one quarter tile; what lies past this level's width is left out."""
        side = TILE // STEP
        y, x = row % STEP * side, col * side
        if x < self.pixels.shape[1]:
            self.pixels[y : y + side, x : x + side] = small

    def tiles(self) -> list[UInt8Image]:
        """Return copies of the strip's tiles, and make it white for the next row."""
        tiles = [self.pixels[:, k * TILE : (k + 1) * TILE].copy() for k in range(self.cols)]
        self.pixels[:] = 255
        self.row += 1
        return tiles


class _PyramidWriter:
    """Encodes level 0 as it arrives and passes quarters down the levels."""

    def __init__(self, stream: BinaryIO, levels: list[Directory], quality: int) -> None:
        thumbnail = _thumbnail(levels[-1])
        # Aperio's order, by which tifffile tells them apart: level 0, thumbnail, the other levels
        self._tiff = TiffWriter(stream, [levels[0], thumbnail, *levels[1:]])
        self._quality = quality
        self._strips = [_Strip(image) for image in levels]
        shape = (self._strips[-1].rows * TILE // STEP, self._strips[-1].cols * TILE // STEP, 3)
        self._thumbnail = np.full(shape, 255, np.uint8)

    def run(
        self, source: TileSource, span: int, pool: ThreadPoolExecutor, report: Progress
    ) -> None:
        """Write every tile of every level, then the directories."""
        rows, cols = self._strips[0].rows, self._strips[0].cols
        jobs = ((row, col) for row in range(rows) for col in range(0, cols, span))
        window = 4 * usable_cores()
        pending: deque[tuple[int, int, Future[Sequence[EncodedTile]]]] = deque()
        for row, col in jobs:
            if len(pending) >= window:
                self._finish(*pending.popleft(), report)
            pending.append((row, col, pool.submit(self._level0, source, span, row, col)))
        while pending:
            self._finish(*pending.popleft(), report)
        image = self._tiff.directories[1]
        pixels = np.ascontiguousarray(self._thumbnail[: image.height, : image.width])
        self._tiff.append(1, simplejpeg.encode_jpeg(pixels, self._quality, "RGB", "420"))
        self._tiff.close()

    def _level0(self, source: TileSource, span: int, row: int, col: int) -> Sequence[EncodedTile]:
        """Return the encoded tiles of one call of the source (in a worker thread)."""
        got = source(row, col)
        if isinstance(got, EncodedTile):
            return (got,)
        if got.shape != (TILE, span * TILE, 3):
            raise ValueError(f"the tile source gave {got.shape}, not {(TILE, span * TILE, 3)}")
        count = min(span, self._strips[0].cols - col)
        parts = (got[:, k * TILE : (k + 1) * TILE] for k in range(count))
        return [encode_tile(part, self._quality) for part in parts]

    def _finish(
        self, row: int, col: int, tiles: Future[Sequence[EncodedTile]], report: Progress
    ) -> None:
        """Write level-0 tiles that begin at (row, col); close the row behind its last tile."""
        rows, cols = self._strips[0].rows, self._strips[0].cols
        for tile in tiles.result():
            self._place(0, row, col, tile)
            col += 1
        report(row * cols + col, rows * cols)
        if col == cols:
            self._end_row(0, row, last=row == rows - 1)

    def _place(self, level: int, row: int, col: int, tile: EncodedTile) -> None:
        """Write a tile, and hand its quarter to the next level."""
        self._tiff.append(level + (level > 0), tile.jpeg)  # 1 is the thumbnail
        if level + 1 < len(self._strips):
            self._strips[level + 1].put(row, col, tile.small)
        else:
            y, x = row * TILE // STEP, col * TILE // STEP
            self._thumbnail[y : y + TILE // STEP, x : x + TILE // STEP] = tile.small

    def _end_row(self, level: int, row: int, *, last: bool) -> None:
        """After a row of tiles: write the next level's strip if that fills it, and so on down."""
        below = level + 1
        if below == len(self._strips) or not (last or row % STEP == STEP - 1):
            return
        strip = self._strips[below]
        if strip.row == strip.rows:  # the last rows were all dropped by the division
            return
        done = strip.row
        for col, tile in enumerate(strip.tiles()):
            self._place(below, done, col, encode_tile(tile, self._quality))
        self._end_row(below, done, last=strip.row == strip.rows)
