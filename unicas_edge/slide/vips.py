"""Other TIFFs and pyramids, and single PNG or JPEG images, through libvips.

Three traps of libvips 8.18, each with a test: below ``fail_on=warning`` a truncated tile decodes
silently; a tile that failed once is handed out half-decoded the next time (so every source tile is
fetched by one thread at a time, and a failure is remembered); `jpegload` does not notice warnings
that come with the end of the stream (so a JPEG is first decoded strictly at an eighth).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import SlideError, TileError
from unicas_edge.slide.base import WHITE, Level, Slide, Spacing
from unicas_edge.slide.byte_counts import content_of
from unicas_edge.slide.cache import DecodedCache
from unicas_edge.slide.geometry import downsample_of
from unicas_edge.slide.jpeg import SOI
from unicas_edge.slide.spacing import Hints, Stated, find_spacing
from unicas_edge.slide.tiff.index import read_tables
from unicas_edge.slide.tiff.picture import Picture
from unicas_edge.slide.tiff.scenes import find_scene
from unicas_edge.slide.tiff.survey import is_tiff, survey
from unicas_edge.slide.vips_images import (
    MAX_DECODE_MB,
    PNG,
    Stored,
    plain_image,
    said,
    stored,
    tiff_image,
)
from unicas_edge.tiles.grid import Grid

#: MB that an image without tiles may take if it is only compared with another
_COMPARED_MB = 128
_CACHE_BYTES = 32 << 20
_FRAME = Spacing(1.0, "the image's own frame")


def accepts(path: Path, head: bytes) -> bool:
    """Return whether the file is a TIFF in no vendor's dialect, a PNG or a JPEG."""
    if is_tiff(head):
        return survey(path).vendor is None
    return head.startswith((PNG, SOI + b"\xff"))


def open_slide(
    path: Path, mpp: float | None, scene: int | None = None, max_decode_mb: int | None = None
) -> Slide:
    """Return the open slide; `scene` counts from 1. `SlideError` where libvips cannot read it.

    An image without tiles is decoded as a whole, by libvips beyond 100 MB into a temporary file;
    more than `max_decode_mb` (None: `MAX_DECODE_MB`) of it is a `SlideError`.
    """
    limit = MAX_DECODE_MB if max_decode_mb is None else max_decode_mb
    with path.open("rb") as file:
        head = file.read(16)
    try:
        source = _tiff(path, scene, limit) if is_tiff(head) else _plain(path, head, limit)
        return _spaced(path, source, mpp)
    except pyvips.Error as error:
        raise SlideError(path, said(error)) from error


@dataclass(frozen=True)
class _Source:
    """What a file holds, finest first."""

    stored: list[Stored]
    hints: Hints
    warnings: tuple[str, ...] = ()


def _spaced(path: Path, source: _Source, mpp: float | None) -> VipsSlide:
    """Return the slide with its um/px and all warnings."""
    spacing, notes = find_spacing(path, mpp, source.hints)
    slide = VipsSlide(path, source.stored, spacing)
    slide.warnings = (*source.warnings, *notes)
    return slide


class VipsSlide(Slide):
    """A slide read through libvips: 16-bit, grey, palette and transparent images become RGB."""

    reader = "vips"

    def __init__(self, path: Path, stored: list[Stored], spacing: Spacing) -> None:
        self.path = path
        self.spacing = spacing
        self._stored = stored
        sizes = [(int(s.image.width), int(s.image.height)) for s in stored]
        self.width, self.height = sizes[0]
        self.levels = tuple(
            Level(*size, downsample_of(sizes[0], size), index) for index, size in enumerate(sizes)
        )
        self._cache = DecodedCache(_CACHE_BYTES)
        self._local = threading.local()

    def read_level(self, level: Level, x: int, y: int, width: int, height: int) -> UInt8Image:
        """As `Slide.read_level`, composed of source tiles."""
        stored = self._level(level)
        across, down = stored.tile_width, stored.tile_height
        canvas = np.empty((height, width, 3), np.uint8)
        for row in range(y // down, (y + height - 1) // down + 1):
            for col in range(x // across, (x + width - 1) // across + 1):
                top, left = row * down - y, col * across - x
                tile = self._tile(level, row, col)[max(-top, 0) :, max(-left, 0) :]
                part = canvas[max(top, 0) : top + down, max(left, 0) : left + across]
                part[:] = tile[: part.shape[0], : part.shape[1]]
        return canvas

    def content(self, grid: Grid) -> NDArray[np.float64] | None:
        """As `Slide.content`, from TileByteCounts; None for an image without tiles."""
        table = self._stored[0].table
        return None if table is None else content_of(table, grid)

    def profile(self) -> bytes | None:
        """As `Slide.profile`."""
        image = self._stored[0].image if self._stored else None
        name = "icc-profile-data"
        return bytes(image.get(name)) if image is not None and image.get_typeof(name) else None

    def close(self) -> None:
        """Release the file and the decoded tiles."""
        self._stored = []
        self._local = threading.local()
        self._cache.clear()

    def _level(self, level: Level) -> Stored:
        """Return what a level is read from."""
        if not self._stored:
            raise SlideError(self.path, "the slide is closed")
        return self._stored[level.index]

    def _tile(self, level: Level, row: int, col: int) -> UInt8Image:
        """Return a source tile, cut at the level's edge; `TileError` where it does not decode."""
        stored = self._level(level)
        number = row * stored.across + col
        try:
            return self._cache.get(
                (level.index, number), lambda: self._fetch(stored, level.index, number)
            )
        except ValueError as error:
            place = (stored.tile_width * col, stored.tile_height * row)
            x, y = (round(n * level.downsample) for n in place)
            raise TileError(self.path, x, y, str(error)) from error

    def _fetch(self, stored: Stored, index: int, number: int) -> UInt8Image:
        """Decode one source tile; the cache sees to it that one thread does so at a time."""
        row, col = divmod(number, stored.across)
        x, y = col * stored.tile_width, row * stored.tile_height
        width = min(stored.tile_width, int(stored.image.width) - x)
        height = min(stored.tile_height, int(stored.image.height) - y)
        if stored.is_sparse(number):
            return np.full((height, width, 3), WHITE, np.uint8)
        key = number if stored.table is not None else -1
        if key in stored.failed:
            raise ValueError(stored.failed[key])
        try:
            pixels = self._region(stored, index).fetch(x, y, width, height)
        except pyvips.Error as error:
            stored.failed[key] = said(error)
            raise ValueError(stored.failed[key]) from error
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)

    def _region(self, stored: Stored, index: int) -> Any:  # noqa: ANN401 - pyvips is untyped
        """Return this thread's region on a stored resolution."""
        regions: dict[int, Any] = self._local.__dict__.setdefault("regions", {})
        if index not in regions:
            regions[index] = pyvips.Region.new(stored.image)
        return regions[index]


def _tiff(path: Path, scene: int | None, limit: int) -> _Source:
    """Return the pyramid of a TIFF."""
    skeleton = survey(path)
    found = find_scene(path, skeleton, scene, lambda p: _alone(path, p))
    places = [p.place for p in found.scene.pictures if p.place is not None]
    tables = read_tables(path, path.stat().st_size, places)
    found_images = [
        stored(path, tiff_image(path, picture), tables.get(place), limit)
        for picture, place in zip(found.scene.pictures, places, strict=True)
    ]
    return _Source(found_images, found.hints, found.warnings)


def _alone(path: Path, picture: Picture) -> VipsSlide:
    """Return one image of a TIFF as a slide, to be compared with another."""
    try:
        return VipsSlide(
            path, [stored(path, tiff_image(path, picture), None, _COMPARED_MB)], _FRAME
        )
    except pyvips.Error as error:
        raise SlideError(path, said(error)) from error


def _plain(path: Path, head: bytes, limit: int) -> _Source:
    """Return a PNG or JPEG image as a slide of one resolution."""
    image = plain_image(path, head, limit)
    stated = Stated(1000 / image.xres, 1000 / image.yres, "image resolution")
    return _Source([stored(path, image, None, limit)], Hints.of(stated))
