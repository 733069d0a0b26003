"""The index of a JPEG-tiled TIFF: tifffile reads the tags, this checks what they claim."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from unicas_edge.errors import SlideError
from unicas_edge.slide.jpeg import prefix_for
from unicas_edge.slide.tiff.picture import ICC, JPEG_COLOURS, Place

#: Pixels of one tile: 4096 x 4096, 48 MiB decoded.
MAX_TILE_PIXELS = 1 << 24
MAX_SIDE = 1 << 31
#: Tiles of one image. A slide of 60 x 25 mm at 0.25 um/px has 366,000 of 256 pixels.
MAX_TILES = 1_000_000
MAX_PROFILE_BYTES = 16 << 20
#: Of more tiles than this at least one in a thousand differs from the others.
_MANY = 4_000
_CONTIG, _TILE_WIDTH = 1, 322

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
    """Tiles that are JPEG streams; `tables` is their JPEGTables tag, `colour` what the tag says."""

    tables: bytes
    colour: str


def read_image(path: Path, size: int, place: Place) -> TiledImage:
    """Return the JPEG-tiled image at `place` of a surveyed TIFF of `size` bytes.

    `SlideError` where its tags lie.
    """
    with _opened(path) as tiff:
        return _tiled_image(path, size, _page(path, tiff, place))


def read_tables(path: Path, size: int, places: Sequence[Place]) -> dict[Place, TileTable]:
    """Return the tile tables of the images at `places` that are stored in interleaved tiles."""
    with _opened(path) as tiff:
        pages = {place: _page(path, tiff, place) for place in places}
        return {
            place: _table(path, size, page)
            for place, page in pages.items()
            if _TILE_WIDTH in page.tags
            and int(page.planarconfig) == _CONTIG
            and page.imagedepth == 1
        }


def read_profile(path: Path, place: Place) -> bytes | None:
    """Return the ICC profile of an image, at most `MAX_PROFILE_BYTES`; None where it has none."""
    with _opened(path) as tiff:
        tag = _page(path, tiff, place).tags.get(ICC)
        if tag is None or tag.count > MAX_PROFILE_BYTES:
            return None
        return bytes(tag.value)


def _page(path: Path, tiff: tifffile.TiffFile, place: Place) -> Page:
    """Return the page at a place of the survey; `SlideError` where tifffile finds none there."""
    page = tiff.pages[place[0]]
    if place[1] >= 0:
        page = (page.pages or ())[place[1]]
    if not isinstance(page, Page):
        raise SlideError(path, f"image {place[0]} of the TIFF cannot be indexed")
    return page


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open the index; all of tifffile's errors become `SlideError`."""
    try:
        with tifffile.TiffFile(path, _multifile=False) as tiff:
            yield tiff
    except SlideError:
        raise
    except Exception as error:  # tifffile raises whatever a hostile tag makes it stumble over
        cause = f"the TIFF index cannot be read ({type(error).__name__}: {error})"
        raise SlideError(path, cause) from error


def _tiled_image(path: Path, size: int, page: Page) -> TiledImage:
    """Return the checked table of a page of JPEG tiles."""
    if page.imagedepth != 1:
        raise SlideError(path, f"claims tiles {page.imagedepth} pixels deep")
    colour = JPEG_COLOURS[int(page.photometric)][1]
    tables = page.jpegtables or b""
    prefix_for(tables, colour)  # tables that are none are found now
    return TiledImage(**vars(_table(path, size, page)), tables=tables, colour=colour)


def _table(path: Path, size: int, page: Page) -> TileTable:
    """Return the checked tile table of a page; `SlideError` where sizes and lists disagree."""
    width, height, tile_width, tile_height = (
        int(n) for n in (page.imagewidth, page.imagelength, page.tilewidth, page.tilelength)
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
    if needed > MAX_TILES:
        raise SlideError(path, f"claims {needed:,} tiles; at most {MAX_TILES:,} are read")
    offsets, counts = (
        np.asarray(table[:needed], np.uint64) for table in (page.dataoffsets, page.databytecounts)
    )
    _refuse_copies(path, offsets)
    limit = np.uint64(size)
    outside = (counts > limit) | (offsets > limit - np.minimum(counts, limit))
    samples = int(page.samplesperpixel)
    return TileTable(width, height, tile_width, tile_height, samples, offsets, counts, outside)


def _refuse_copies(path: Path, offsets: NDArray[np.uint64]) -> None:
    """Refuse an image whose tiles are all the same few: a small file that takes hours to read."""
    stored = offsets[offsets > 0]
    if len(stored) > _MANY and (different := len(np.unique(stored))) * _MANY < len(stored) * 4:
        raise SlideError(
            path, f"its {len(stored):,} tiles are {different:,} different ones, repeated"
        )


def outside_notes(path: Path, images: tuple[TiledImage, ...]) -> list[str]:
    """Return what is to be said of tiles that lie outside the file.

    `SlideError` where none of the first image lies inside.
    """
    notes = []
    for image in images:
        bad, all_stored = int(image.outside.sum()), int((image.counts > 0).sum())
        if bad and bad == all_stored and image is images[0]:
            raise SlideError(path, "all tiles lie outside the file; it is truncated or damaged")
        if bad:
            notes.append(
                f"{bad} of {len(image.counts)} tiles of the {image.width} x {image.height} image "
                "lie outside the file; it is truncated or damaged"
            )
    return notes
