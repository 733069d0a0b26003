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
from unicas_edge.slide.base import WHITE, Level, Slide
from unicas_edge.slide.byte_counts import content_of
from unicas_edge.slide.cache import DecodedCache
from unicas_edge.slide.geometry import downsample_of
from unicas_edge.slide.jpeg import SOI, frame_of
from unicas_edge.slide.spacing import Hints, Stated, find_spacing
from unicas_edge.slide.tiff.index import MAX_TILE_PIXELS, Place, TileTable, read_tables
from unicas_edge.slide.tiff.survey import is_tiff, survey
from unicas_edge.tiles.grid import Grid

pyvips.concurrency_set(1)  # our own threads read in parallel
pyvips.cache_set_max(0)  # memory stays bounded, and no half-decoded tile outlives its slide

#: An image without tiles is decoded as a whole, beyond 100 MB to a temporary file.
MAX_PLAIN_PIXELS = 1 << 29
_PNG = b"\x89PNG\r\n\x1a\n"
_CACHE_BYTES = 32 << 20
_PLAIN_TILE = 256
_MAX_PAGES = 100
_MAX_SUB_IFDS = 32
#: Relative difference of the aspect of a pyramid level from level 0, and rounding in pixels.
_ASPECT, _ROUNDING = 0.02, 1.5


def accepts(path: Path, head: bytes) -> bool:
    """Return whether the file is a TIFF in no vendor's dialect, a PNG or a JPEG."""
    if is_tiff(head):
        return survey(path).vendor is None
    return head.startswith((_PNG, SOI + b"\xff"))


def open_slide(path: Path, mpp: float | None) -> Slide:
    """Return the open slide; `SlideError` where libvips cannot read it."""
    with path.open("rb") as file:
        head = file.read(16)
    try:
        return VipsSlide(path, _tiff(path) if is_tiff(head) else _single(path, head), mpp)
    except pyvips.Error as error:
        raise SlideError(path, _said(error)) from error


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

    def __init__(self, path: Path, source: _Source, mpp: float | None) -> None:
        self.path = path
        self.spacing, notes = find_spacing(path, mpp, source.hints)
        self.warnings = (*source.warnings, *notes)
        self._stored = source.stored
        sizes = [(int(s.image.width), int(s.image.height)) for s in source.stored]
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


def _tiff(path: Path) -> _Source:
    """Return the pyramid of a TIFF."""
    survey(path)
    tables, hints = read_tables(path, path.stat().st_size)
    notes: list[str] = []
    places = _places(path, notes)
    first = places[0, -1]
    base = max(
        (place for place in places if _alike(places[place], first)),
        key=lambda place: (places[place].width, -place[0], -place[1]),
    )
    levels = sorted(
        (p for p in places if p != base and _is_level_of(places[p], places[base])),
        key=lambda p: -int(places[p].width),
    )
    stored = [_stored(path, places[place], tables.get(place)) for place in (base, *levels)]
    return _Source(stored, hints, tuple(notes))


def _places(path: Path, notes: list[str]) -> dict[Place, Any]:
    """Return the lazily loaded images of a TIFF; those libvips cannot read are noted."""
    first = _load_page(path, (0, -1))
    pages = min(_field(first, "n-pages", 1), _MAX_PAGES)
    subs = min(_field(first, "n-subifds", 0), _MAX_SUB_IFDS)
    wanted = [(page, -1) for page in range(1, pages)] + [(0, sub) for sub in range(subs)]
    found = {(0, -1): first}
    for place in wanted:
        try:
            found[place] = _load_page(path, place)
        except pyvips.Error as error:
            notes.append(f"image {place} of the TIFF is left out: {_said(error)}")
    return found


def _load_page(path: Path, place: Place) -> Any:  # noqa: ANN401
    return pyvips.Image.tiffload(
        str(path), page=place[0], subifd=place[1], access="random", fail_on="warning"
    )


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
    return _Source([_stored(path, image, None)], Hints(resolution=stated))


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


def _alike(image: Any, other: Any) -> bool:  # noqa: ANN401
    """Return whether two images show the same field in the same way."""
    across, down = other.width / image.width, other.height / image.height
    rounding = _ROUNDING * max(across, down) / min(image.width, image.height)
    same_kind = (image.bands, image.format) == (other.bands, other.format)
    return same_kind and abs(across - down) <= _ASPECT * across + rounding


def _is_level_of(image: Any, base: Any) -> bool:  # noqa: ANN401
    """Return whether an image is a smaller, alike and, as the base, tiled: not a thumbnail."""
    tiled = [_field(i, "tile-width", 0) > 0 for i in (image, base)]
    return image.width < base.width and _alike(image, base) and tiled[0] == tiled[1]


def _field(image: Any, name: str, default: int) -> int:  # noqa: ANN401
    return int(image.get(name)) if image.get_typeof(name) else default


def _said(error: pyvips.Error) -> str:
    """Return libvips' message in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"libvips: {'; '.join(dict.fromkeys(lines))}"
