"""The index of a JPEG-tiled TIFF: tifffile reads the tags, this checks what they claim."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from unicas_edge.errors import SlideError
from unicas_edge.slide.jpeg import prefix_for
from unicas_edge.slide.spacing import (
    Hints,
    magnification_in_description,
    resolution_spacing,
    tag_in_description,
)

#: Pixels of one tile: 4096 x 4096, 48 MiB decoded.
MAX_TILE_PIXELS = 1 << 24
MAX_SIDE = 1 << 31
_JPEG, _CONTIG, _TILE_WIDTH = 7, 1, 322
#: PhotometricInterpretation -> (samples, colour); JPEG tiles of other kinds are left to pyvips.
_COLOURS = {1: (1, "grey"), 2: (3, "rgb"), 6: (3, "ycbcr")}
#: NewSubfileType bits: reduced, page, mask; Aperio's macro is reduced | 8.
_PYRAMID_BITS = frozenset({0, 1})
#: Pixel rounding of a pyramid level's size, in its own pixels.
_ROUNDING = 1.5
_ASPECT = 0.02

Page = tifffile.TiffPage
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # never on the user's terminal


@dataclass(frozen=True, eq=False)
class TileTable:
    """One stored resolution: where its tiles lie in the file.

    `offsets` and `counts` are uint64 [down * across], row-major; `outside` is bool of the same
    length: these tiles claim bytes that the file does not have.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    samples: int
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]
    outside: NDArray[np.bool_]

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.width // self.tile_width)

    @property
    def down(self) -> int:
        """Rows of tiles."""
        return -(-self.height // self.tile_height)

    @property
    def raw_bytes(self) -> int:
        """Bytes of one decoded tile of 8-bit samples."""
        return self.tile_width * self.tile_height * self.samples

    def stored_bytes(self) -> NDArray[np.float64]:
        """Return the bytes of every tile, float64 [down, across], 0 for a sparse one.

        A count that lies outside the file is taken at no more than the raw size: such a tile is
        ranked, and fails when it is read.
        """
        counts = self.counts.astype(np.float64)
        counts[self.outside] = np.minimum(counts[self.outside], self.raw_bytes)
        counts[self.offsets == 0] = 0
        return counts.reshape(self.down, self.across)


@dataclass(frozen=True, eq=False)
class TiledImage(TileTable):
    """Tiles that are JPEG streams of `colour`; `prefix` replaces the SOI of each."""

    prefix: bytes
    colour: str


@dataclass(frozen=True)
class TiffIndex:
    """The pyramid, finest first, and what the file says of its spacing."""

    images: tuple[TiledImage, ...]
    hints: Hints
    warnings: tuple[str, ...]


#: (page, SubIFD or -1), as libtiff counts them
Place = tuple[int, int]


def read_index(path: Path, size: int) -> TiffIndex:
    """Return the index of a surveyed TIFF of `size` bytes; `SlideError` where its tags lie."""
    with _opened(path) as (tiff, notes):
        return _index(path, size, tiff, notes)


def read_tables(path: Path, size: int) -> tuple[dict[Place, TileTable], Hints]:
    """Return the tile tables of all tiled images of any compression, and hints at the spacing."""
    with _opened(path) as (tiff, _):
        tables = {
            (number, sub): _table(path, size, page)
            for number, top in enumerate(tiff.pages)
            for sub, page in enumerate((top, *(getattr(top, "pages", None) or ())), start=-1)
            if _TILE_WIDTH in page.tags
            and int(page.planarconfig) == _CONTIG
            and page.imagedepth == 1
        }
        return tables, _hints(tiff, tiff.pages.first)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tifffile.TiffFile, list[str]]]:
    """Open the index and collect tifffile's warnings; all its errors become `SlideError`."""
    with _logged() as notes:
        try:
            with tifffile.TiffFile(path, _multifile=False) as tiff:
                yield tiff, notes
        except SlideError:
            raise
        except Exception as error:  # tifffile raises whatever a hostile tag makes it stumble over
            cause = f"the TIFF index cannot be read ({type(error).__name__}: {error})"
            raise SlideError(path, cause) from error


def _index(path: Path, size: int, tiff: tifffile.TiffFile, notes: list[str]) -> TiffIndex:
    """Return the index of an open file."""
    pages = [page for top in tiff.pages for page in (top, *(getattr(top, "pages", None) or ()))]
    tiled = [page for page in pages if _is_tiled_jpeg(page)]
    if not tiled:
        raise SlideError(path, "holds no JPEG-tiled image of 8-bit grey, RGB or YCbCr")
    base = max((p for p in tiled if _alike(p, tiled[0])), key=_size, default=tiled[0])
    same = [page for page in tiled if _size(page) == _size(base)]
    if len(same) > 1:
        notes.append(f"{len(same)} images of {base.imagewidth} x {base.imagelength}: first is read")
    levels = sorted(
        (p for p in tiled if p.imagewidth < base.imagewidth and _alike(p, base)),
        key=lambda page: -page.imagewidth,
    )
    images = tuple(_tiled_image(path, size, page) for page in (same[0], *levels))
    _warn_outside(path, images, notes)
    return TiffIndex(images, _hints(tiff, same[0]), tuple(dict.fromkeys(notes)))


def _size(page: Page) -> tuple[int, int]:
    return page.imagewidth, page.imagelength


def _is_tiled_jpeg(page: Page) -> bool:
    """Return whether the fast path decodes the page: JPEG tiles, 8 bits, samples interleaved."""
    samples = _COLOURS.get(int(page.photometric), (0, ""))[0]
    return (
        _TILE_WIDTH in page.tags  # not `is_tiled`, which a width of 0 turns off
        and int(page.compression) == _JPEG
        and page.samplesperpixel == samples
        and page.bitspersample == 8
        and (samples == 1 or int(page.planarconfig) == _CONTIG)
        and page.imagedepth == 1
        and int(page.subfiletype) in _PYRAMID_BITS
    )


def _alike(page: Page, base: Page) -> bool:
    """Return whether a page shows the same field as `base`: thumbnails and labels differ."""
    if min(*_size(page), *_size(base)) < 1 or page.photometric != base.photometric:
        return False
    across, down = base.imagewidth / page.imagewidth, base.imagelength / page.imagelength
    rounding = _ROUNDING * max(across, down) / min(_size(page))
    return abs(across - down) <= _ASPECT * across + rounding


def _tiled_image(path: Path, size: int, page: Page) -> TiledImage:
    """Return the checked table of a page of JPEG tiles."""
    colour = _COLOURS[int(page.photometric)][1]
    prefix = prefix_for(page.jpegtables or b"", colour)
    return TiledImage(**vars(_table(path, size, page)), prefix=prefix, colour=colour)


def _table(path: Path, size: int, page: Page) -> TileTable:
    """Return the checked tile table of a page; `SlideError` where sizes and lists disagree."""
    width, height, tile_width, tile_height = (
        int(n) for n in (*_size(page), page.tilewidth, page.tilelength)
    )
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise SlideError(path, f"claims an image of {width} x {height} pixels")
    if min(tile_width, tile_height) < 1 or tile_width * tile_height > MAX_TILE_PIXELS:
        raise SlideError(path, f"claims tiles of {tile_width} x {tile_height} pixels")
    needed = math.ceil(width / tile_width) * math.ceil(height / tile_height)
    listed = min(len(page.dataoffsets), len(page.databytecounts))
    if listed < needed:
        raise SlideError(
            path, f"claims {width} x {height} pixels, {needed} tiles, but lists only {listed}"
        )
    offsets, counts = (
        np.asarray(table[:needed], np.uint64) for table in (page.dataoffsets, page.databytecounts)
    )
    limit = np.uint64(size)
    outside = (counts > limit) | (offsets > limit - np.minimum(counts, limit))
    samples = int(page.samplesperpixel)
    return TileTable(width, height, tile_width, tile_height, samples, offsets, counts, outside)


def _warn_outside(path: Path, images: tuple[TiledImage, ...], notes: list[str]) -> None:
    """Note tiles that lie outside the file; a slide that has none inside is an error."""
    for image in images:
        bad, all_stored = int(image.outside.sum()), int((image.counts > 0).sum())
        if bad and bad == all_stored and image is images[0]:
            raise SlideError(path, "all tiles lie outside the file; it is truncated or damaged")
        if bad:
            notes.append(
                f"{bad} of {len(image.counts)} tiles of the {image.width} x {image.height} image "
                "lie outside the file; it is truncated or damaged"
            )


def _hints(tiff: tifffile.TiffFile, base: Page) -> Hints:
    """Return what the tags say about spacing."""
    first = tiff.pages.first
    text = str(first.description or "")
    x, y, unit = (base.tags.valueof(code) for code in (282, 283, 296))
    resolution = None
    if x is not None and y is not None:
        resolution = resolution_spacing(_ratio(x), _ratio(y), int(unit or 2))
    return Hints(tag_in_description(text), resolution, magnification_in_description(text))


def _ratio(value: object) -> float:
    """Return a RATIONAL tag as a float, 0 where it is none."""
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1])
    return float(value) if isinstance(value, (int, float)) else 0.0


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect what tifffile logs on this thread meanwhile."""
    notes: list[str] = []
    handler = _Collector(notes)
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield notes
    finally:
        logger.removeHandler(handler)


class _Collector(logging.Handler):
    """Keeps the warnings of one thread."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes, self._thread = notes, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message if this thread logged it."""
        if record.thread == self._thread and len(self._notes) < 20:
            self._notes.append(f"tifffile: {record.getMessage()}")
