"""Other TIFFs and pyramids, and single PNG or JPEG images, through libvips.

Three traps of libvips 8.18, each with a test: below ``fail_on=warning`` a truncated tile decodes
silently; a tile that failed once is handed out half-decoded the next time (so every source tile is
fetched by one thread at a time, and a failure is remembered); `jpegload` does not notice warnings
that come with the end of the stream (so a JPEG is first decoded strictly at an eighth).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
import simplejpeg
from numpy.typing import NDArray

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import SlideError, TileError, UnsupportedSlideError
from unicas_edge.slide.base import WHITE, Level, Slide, Spacing
from unicas_edge.slide.byte_counts import content_of
from unicas_edge.slide.cache import DecodedCache
from unicas_edge.slide.geometry import downsample_of
from unicas_edge.slide.jpeg import SOI, frame_of
from unicas_edge.slide.spacing import Hints, Stated, find_spacing
from unicas_edge.slide.tiff.index import MAX_TILE_PIXELS, TileTable, read_tables
from unicas_edge.slide.tiff.picture import (
    COMPRESSION,
    JPEG,
    PHOTOMETRIC,
    SUBSAMPLING,
    YCBCR,
    Picture,
)
from unicas_edge.slide.tiff.scenes import find_scene
from unicas_edge.slide.tiff.survey import is_tiff, survey
from unicas_edge.tiles.grid import Grid

pyvips.concurrency_set(1)  # our own threads read in parallel
pyvips.cache_set_max(0)  # memory stays bounded, and no half-decoded tile outlives its slide

#: An image without tiles is decoded as a whole, beyond 100 MB to a temporary file.
MAX_PLAIN_PIXELS = 1 << 29
_PNG = b"\x89PNG\r\n\x1a\n"
_CACHE_BYTES = 32 << 20
_PLAIN_TILE = 256
#: TIFF compressions of libvips' own build: none, CCITT, LZW, JPEG, Deflate, PackBits, LZMA.
_CODECS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000, 50001})
_REMEDY = "save it again as a TIFF of JPEG tiles, for example with QuPath or bfconvert"
_FRAME = Spacing(1.0, "the image's own frame")


def accepts(path: Path, head: bytes) -> bool:
    """Return whether the file is a TIFF in no vendor's dialect, a PNG or a JPEG."""
    if is_tiff(head):
        return survey(path).vendor is None
    return head.startswith((_PNG, SOI + b"\xff"))


def open_slide(path: Path, mpp: float | None, scene: int | None = None) -> Slide:
    """Return the open slide; `scene` counts from 1. `SlideError` where libvips cannot read it."""
    with path.open("rb") as file:
        head = file.read(16)
    try:
        source = _tiff(path, scene) if is_tiff(head) else _single(path, head)
        return _spaced(path, source, mpp)
    except pyvips.Error as error:
        raise SlideError(path, _said(error)) from error


def _spaced(path: Path, source: _Source, mpp: float | None) -> VipsSlide:
    """Return the slide with its um/px and all warnings."""
    spacing, notes = find_spacing(path, mpp, source.hints)
    slide = VipsSlide(path, source.stored, spacing)
    slide.warnings = (*source.warnings, *notes)
    return slide


@dataclass
class _Stored:
    """One stored resolution: its RGB pipeline, source tiles, and those that failed, with causes."""

    image: Any
    tile_width: int
    tile_height: int
    table: TileTable | None = None
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def across(self) -> int:
        """Source tiles in a row."""
        return -(-int(self.image.width) // self.tile_width)

    def is_sparse(self, number: int) -> bool:
        """Return whether nothing is stored for a source tile."""
        table = self.table
        return table is not None and not (table.counts[number] and table.offsets[number])


@dataclass(frozen=True)
class _Source:
    """What a file holds, finest first."""

    stored: list[_Stored]
    hints: Hints
    warnings: tuple[str, ...] = ()


class VipsSlide(Slide):
    """A slide read through libvips: 16-bit, grey, palette and transparent images become RGB."""

    reader = "vips"

    def __init__(self, path: Path, stored: list[_Stored], spacing: Spacing) -> None:
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

    def close(self) -> None:
        """Release the file and the decoded tiles."""
        self._stored = []
        self._local = threading.local()
        self._cache.clear()

    def _level(self, level: Level) -> _Stored:
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

    def _fetch(self, stored: _Stored, index: int, number: int) -> UInt8Image:
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
            stored.failed[key] = _said(error)
            raise ValueError(stored.failed[key]) from error
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)

    def _region(self, stored: _Stored, index: int) -> Any:  # noqa: ANN401 - pyvips is untyped
        """Return this thread's region on a stored resolution."""
        regions: dict[int, Any] = self._local.__dict__.setdefault("regions", {})
        if index not in regions:
            regions[index] = pyvips.Region.new(stored.image)
        return regions[index]


def _tiff(path: Path, scene: int | None) -> _Source:
    """Return the pyramid of a TIFF."""
    skeleton = survey(path)
    found = find_scene(path, skeleton, scene, lambda p: _alone(path, p))
    places = [p.place for p in found.scene.pictures if p.place is not None]
    tables = read_tables(path, path.stat().st_size, places)
    stored = [
        _stored(path, _load(path, picture), tables.get(place))
        for picture, place in zip(found.scene.pictures, places, strict=True)
    ]
    return _Source(stored, found.hints, found.warnings)


def _alone(path: Path, picture: Picture) -> VipsSlide:
    """Return one image of a TIFF as a slide, to be compared with another."""
    try:
        return VipsSlide(path, [_stored(path, _load(path, picture), None)], _FRAME)
    except pyvips.Error as error:
        raise SlideError(path, _said(error)) from error


def _load(path: Path, picture: Picture) -> Any:  # noqa: ANN401
    """Return the pipeline to an image of a TIFF; `SlideError` where libvips would misread it."""
    if problem := _unreadable(picture):
        raise UnsupportedSlideError(path, f"{problem}; {_REMEDY}")
    page, sub = picture.place or (0, -1)
    image = pyvips.Image.tiffload(
        str(path), page=page, subifd=sub, access="random", fail_on="warning"
    )
    return ycbcr_to_rgb(image) if _is_raw_ycbcr(picture) else image


def _unreadable(picture: Picture) -> str | None:
    """Return why libvips cannot read an image, or would read it wrongly."""
    if picture.number(COMPRESSION, 1) not in _CODECS:
        return f"its pixels are stored as {picture.codec}, which is not read here"
    if _is_raw_ycbcr(picture) and set(picture.numbers.get(SUBSAMPLING, (2, 2))) != {1}:
        return f"its colours are stored as subsampled YCbCr under {picture.codec}"
    return None


def _is_raw_ycbcr(picture: Picture) -> bool:
    """Return whether libvips hands out YCbCr as it is: it converts that of JPEG alone."""
    return picture.number(PHOTOMETRIC, 1) == YCBCR and picture.number(COMPRESSION, 1) != JPEG


def ycbcr_to_rgb(image: Any) -> Any:  # noqa: ANN401
    """Return the RGB of full-range YCbCr by BT.601, as TIFF 6.0 and JFIF have it."""
    offset = [0.0, -128.0, -128.0]
    matrix = [[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]]
    rgb = (image + offset).recomb(pyvips.Image.new_from_array(matrix))
    return (rgb + 0.5).cast("uchar").copy(interpretation="srgb")


def _single(path: Path, head: bytes) -> _Source:
    """Return a PNG or JPEG image as a slide of one resolution."""
    if head.startswith(_PNG):
        image = pyvips.Image.pngload(str(path), access="random", fail_on="warning")
    elif head.startswith(SOI):
        _verify_jpeg(path)
        image = pyvips.Image.jpegload(str(path), access="random", fail_on="warning")
    else:
        raise UnsupportedSlideError(path, "neither a TIFF nor a PNG or JPEG image")
    stated = Stated(1000 / image.xres, 1000 / image.yres, "image resolution")
    return _Source([_stored(path, image, None)], Hints.of(stated))


def _verify_jpeg(path: Path) -> None:
    """Decode a JPEG strictly at an eighth of its size; `SlideError` for any libjpeg warning."""
    data = path.read_bytes()
    try:
        frame = frame_of(data)
        if frame.width * frame.height <= MAX_PLAIN_PIXELS:
            simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        raise SlideError(path, f"the JPEG image is damaged: {error}") from error


def _stored(path: Path, image: Any, table: TileTable | None) -> _Stored:  # noqa: ANN401
    """Return one resolution as RGB; `SlideError` for sizes that memory cannot hold."""
    width, height = int(image.width), int(image.height)
    tiled = _field(image, "tile-width", 0), _field(image, "tile-height", 0)
    if min(tiled) < 1:
        tiled, table = (_PLAIN_TILE, _PLAIN_TILE), None
        if width * height > MAX_PLAIN_PIXELS:
            raise SlideError(
                path,
                f"{width} x {height} pixels without tiles are too many; save it as a tiled TIFF",
            )
    if tiled[0] * tiled[1] > MAX_TILE_PIXELS:
        raise SlideError(path, f"claims tiles of {tiled[0]} x {tiled[1]} pixels")
    return _Stored(_rgb(path, image), *tiled, table)


def _rgb(path: Path, image: Any) -> Any:  # noqa: ANN401
    """Return a pipeline to 8-bit RGB: 16 bits cut to the upper 8, alpha over white."""
    if image.format not in {"uchar", "ushort"} or image.bands > 5:
        raise UnsupportedSlideError(
            path, f"its {image.bands} bands of {image.format} cannot be read as grey or RGB"
        )
    if image.bands < 3:
        image = image.copy(interpretation="b-w" if image.format == "uchar" else "grey16")
    image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=[WHITE] * 3)
    return image.extract_band(0, n=3).cast("uchar")


def _field(image: Any, name: str, default: int) -> int:  # noqa: ANN401
    return int(image.get(name)) if image.get_typeof(name) else default


def _said(error: pyvips.Error) -> str:
    """Return libvips' message in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"libvips: {'; '.join(dict.fromkeys(lines))}"
