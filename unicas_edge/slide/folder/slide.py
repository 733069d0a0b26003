"""A folder of JPEG or PNG fields as one slide, as scanners and the published code give them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import SceneError, SlideError, TileError
from unicas_edge.slide.base import WHITE, Level, Slide
from unicas_edge.slide.byte_counts import carries_information
from unicas_edge.slide.cache import DecodedCache
from unicas_edge.slide.folder.fields import Field, Fields, find_fields, holds_fields
from unicas_edge.slide.jpeg import SOI, decode_into
from unicas_edge.slide.spacing import Hints, Stated, find_spacing
from unicas_edge.tiles.grid import Grid

_CACHE_BYTES = 64 << 20
_RGB = "RGB"


def accepts(path: Path, head: bytes) -> bool:
    """Return whether the path is a folder that directly holds images and no slide files."""
    del head
    return holds_fields(path)


def open_slide(path: Path, mpp: float | None, scene: int | None = None) -> Slide:
    """Return the folder as a slide; um/px comes from ``fields.csv`` or `mpp`."""
    if scene not in {None, 1}:
        raise SceneError(path, f"has no scene {scene}", ("the folder",))
    return FolderSlide(path, find_fields(path), mpp)


class FolderSlide(Slide):
    """Fields on a white canvas; where they overlap, the later one lies on top."""

    reader = "folder"

    def __init__(self, path: Path, found: Fields, mpp: float | None) -> None:
        self.path = path
        um_px = found.um_px
        hints = Hints.of(Stated(um_px, um_px, "fields.csv") if um_px is not None else None)
        self.spacing, notes = find_spacing(path, mpp, hints)
        self.warnings = (*found.warnings, *notes)
        self._fields: tuple[Field, ...] = found.fields
        #: int64 [n, 4]: left, top, right, bottom
        self._boxes = np.array(
            [(f.x, f.y, f.x + f.width, f.y + f.height) for f in found.fields], np.int64
        )
        self.width, self.height = (int(n) for n in self._boxes[:, 2:].max(axis=0))
        self.levels = (Level(self.width, self.height, 1.0),)
        self._cache = DecodedCache(_CACHE_BYTES)

    def read_level(self, level: Level, x: int, y: int, width: int, height: int) -> UInt8Image:
        """As `Slide.read_level`; what no field covers is white."""
        del level
        if not self._fields:
            raise SlideError(self.path, "the slide is closed")
        canvas = np.full((height, width, 3), WHITE, np.uint8)
        left, top, right, bottom = self._boxes.T
        under = (left < x + width) & (top < y + height) & (right > x) & (bottom > y)
        for number in np.flatnonzero(under):
            field = self._fields[number]
            x0, y0 = max(x, field.x), max(y, field.y)
            x1 = min(x + width, field.x + field.width)
            y1 = min(y + height, field.y + field.height)
            canvas[y0 - y : y1 - y, x0 - x : x1 - x] = self._decoded(field)[
                y0 - field.y : y1 - field.y, x0 - field.x : x1 - field.x
            ]
        return canvas

    def content(self, grid: Grid) -> NDArray[np.float64] | None:
        """As `Slide.content`: the bytes of each field's file, spread over its area."""
        sizes = np.array([field.size_bytes for field in self._fields], np.float64)
        if not carries_information(sizes):
            return None
        total = np.zeros((grid.rows, grid.cols))
        down = _spans(self._boxes[:, 1], self._boxes[:, 3], grid.step, grid.rows)
        across = _spans(self._boxes[:, 0], self._boxes[:, 2], grid.step, grid.cols)
        for rows, high in down():
            for cols, wide in across():
                np.add.at(total, (rows, cols), sizes * high * wide)
        return total

    def close(self) -> None:
        """Forget the decoded fields."""
        self._fields = ()
        self._cache.clear()

    def _decoded(self, field: Field) -> UInt8Image:
        """Return the pixels of a field; `TileError` where they cannot be trusted."""
        try:
            return self._cache.get(field.path, lambda: _pixels(field))
        except (ValueError, OSError, SyntaxError) as error:  # Pillow: SyntaxError for broken PNG
            raise TileError(self.path, field.x, field.y, f"{field.path.name}: {error}") from error


def _spans(
    low: NDArray[np.int64], high: NDArray[np.int64], step: float, count: int
) -> Callable[[], list[tuple[NDArray[np.intp], NDArray[np.float64]]]]:
    """Return what gives, pass by pass, a grid line of every field and its share there."""
    first = np.clip(np.floor(low / step).astype(np.intp), 0, count - 1)
    last = np.clip(np.ceil(high / step).astype(np.intp) - 1, first, count - 1)

    def passes() -> list[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        found = []
        for index in range(int((last - first).max()) + 1):
            line = np.minimum(first + index, last)
            covered = np.minimum(high, (line + 1) * step) - np.maximum(low, line * step)
            covered[first + index > last] = 0
            found.append((line, covered / (high - low)))
        return found

    return passes


def _pixels(field: Field) -> UInt8Image:
    """Decode a field, strictly; `ValueError` or `OSError` where it is not what its header said."""
    data = field.path.read_bytes()
    pixels = np.empty((field.height, field.width, 3), np.uint8)
    if data.startswith(SOI):
        decode_into(data, pixels)
        return pixels
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        if image.size != (field.width, field.height):
            raise ValueError("its size has changed since the folder was opened")
        if image.mode in {"I;16", "I"}:
            raw = np.asarray(image).astype(np.uint32) >> 8
            pixels[:] = np.minimum(raw, WHITE).astype(np.uint8)[..., None]
            return pixels
        pixels[:] = _over_white(image)
    return pixels


def _over_white(image: Image.Image) -> NDArray[np.uint8]:
    """Return a Pillow image as RGB, what is transparent over white."""
    if image.mode in {"LA", "PA", "RGBA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return np.asarray(
            Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert(_RGB)
        )
    return np.asarray(image.convert(_RGB))
