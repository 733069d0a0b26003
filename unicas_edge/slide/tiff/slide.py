"""The fast path: JPEG-tiled TIFF, BigTIFF and Aperio SVS, without OpenSlide.

tifffile reads the index, tile bytes are read by position, simplejpeg decodes them. libjpeg's scaled
decode gives every stored resolution at a half, a quarter and an eighth too, so that 40x is read at
20x from half-scale tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import SlideError, TileError
from unicas_edge.slide.base import WHITE, Level, Slide, Spacing
from unicas_edge.slide.byte_counts import content_of
from unicas_edge.slide.cache import DecodedCache
from unicas_edge.slide.geometry import downsample_of
from unicas_edge.slide.jpeg import colour_of, decode_into, frame_of, prefix_for, without_jfif
from unicas_edge.slide.positioned import PositionedFile
from unicas_edge.slide.spacing import find_spacing
from unicas_edge.slide.tiff.index import TiledImage, outside_notes, read_image, read_profile
from unicas_edge.slide.tiff.picture import Picture, Place
from unicas_edge.slide.tiff.scenes import find_scene, only_fast
from unicas_edge.slide.tiff.survey import is_tiff, survey
from unicas_edge.tiles.grid import Grid

_REDUCTIONS = (1, 2, 4, 8)
#: Decoded source tiles kept for windows that cut them (240-pixel tiles under a 256 grid).
_CACHE_BYTES = 32 << 20
#: A JPEG larger than its pixels, with room for tables, is none; it would only cost time.
_SLACK = 65536
#: Of an image that is only compared with another.
_FRAME = Spacing(1.0, "the image's own frame")


def accepts(path: Path, head: bytes) -> bool:
    """Return whether the file is a TIFF of JPEG tiles in no vendor's private dialect."""
    if not is_tiff(head):
        return False
    found = survey(path)
    return found.vendor is None and only_fast(found)


def open_slide(path: Path, mpp: float | None, scene: int | None = None) -> Slide:
    """Return the open slide of a path that `accepts` took; `scene` counts from 1.

    `SlideError` where its index lies, `SceneError` where it is not clear which image is the slide,
    `SpacingError` without um/px.
    """
    skeleton = survey(path)
    with PositionedFile(path) as file:
        images = _Images(path, file.size)
    found = find_scene(path, skeleton, scene, lambda p: TiffSlide(path, (images.at(p),), _FRAME))
    stored = tuple(images.at(picture) for picture in found.scene.pictures)
    spacing, notes = find_spacing(path, mpp, found.hints)
    outside = outside_notes(path, stored)
    slide = TiffSlide(path, stored, spacing, found.scene.base.place)
    slide.warnings = (*outside, *found.warnings, *notes)
    return slide


class _Images:
    """The indexed images of a file, each read once."""

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        self._known: dict[Place, TiledImage] = {}

    def at(self, picture: Picture) -> TiledImage:
        """Return the index of a picture; `SlideError` where it lies, or is not of JPEG tiles."""
        place = picture.place
        if not picture.fast or place is None:
            raise SlideError(
                self._path, f"the image of {picture} is not of JPEG tiles: {picture.codec}"
            )
        if place not in self._known:
            self._known[place] = read_image(self._path, self._size, place)
        return self._known[place]


@dataclass(frozen=True)
class _Head:
    """The first bytes of a stream, its colour, and what replaces its SOI."""

    data: bytes
    colour: str
    prefix: bytes


_NO_HEAD = _Head(b"", "", b"")


class TiffSlide(Slide):
    """A JPEG-tiled TIFF. Decoded pixels of zero-byte (sparse) tiles are white."""

    reader = "tiff"

    def __init__(
        self,
        path: Path,
        images: tuple[TiledImage, ...],
        spacing: Spacing,
        place: Place | None = None,
    ) -> None:
        self.path = path
        self.spacing = spacing
        self._place = place
        self._file = PositionedFile(path)
        self._images = images
        self.width, self.height = images[0].width, images[0].height
        self.levels = _levels(images)
        self._cache = DecodedCache(_CACHE_BYTES)
        self._heads = [_NO_HEAD] * len(images)
        self._whole = {
            (image.tile_width, level.downsample): (level, image)
            for level in reversed(self.levels)
            for image in [images[level.index]]
            if level.reduce == 1
            and image.tile_width == image.tile_height
            and float(image.tile_width * level.downsample).is_integer()
        }

    def read(
        self, x: int, y: int, size: int, downsample: float, out: UInt8Image | None = None
    ) -> UInt8Image:
        """As `Slide.read`; a request that is exactly one source tile is decoded straight to `out`.

        Any other is composed by `Slide.read` and `out` is left alone.
        """
        if found := self._whole.get((size, downsample)):
            level, image = found
            step = int(size * downsample)
            row, above = divmod(y, step)
            col, left = divmod(x, step)
            if not (above or left) and (
                0 <= col < image.width // size and 0 <= row < image.height // size
            ):
                if out is None or out.shape != (size, size, 3) or not out.flags.c_contiguous:
                    out = np.empty((size, size, 3), np.uint8)
                self._decode(level, row * image.across + col, out)
                return out
        return super().read(x, y, size, downsample)

    def read_level(self, level: Level, x: int, y: int, width: int, height: int) -> UInt8Image:
        """As `Slide.read_level`, composed of the source tiles under the window."""
        image = self._images[level.index]
        tile_width = image.tile_width // level.reduce
        tile_height = image.tile_height // level.reduce
        canvas = np.empty((height, width, 3), np.uint8)
        for row in range(y // tile_height, (y + height - 1) // tile_height + 1):
            top = row * tile_height - y
            for col in range(x // tile_width, (x + width - 1) // tile_width + 1):
                left = col * tile_width - x
                part = canvas[max(top, 0) : top + tile_height, max(left, 0) : left + tile_width]
                tile = self._tile(level, row * image.across + col, part.shape)
                y0, x0 = max(-top, 0), max(-left, 0)
                part[:] = tile[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]]
        return canvas

    def profile(self) -> bytes | None:
        """As `Slide.profile`."""
        return None if self._place is None else read_profile(self.path, self._place)

    def content(self, grid: Grid) -> NDArray[np.float64] | None:
        """As `Slide.content`, from TileByteCounts."""
        return content_of(self._images[0], grid)

    def close(self) -> None:
        """Release the file and the decoded tiles."""
        self._file.close()
        self._cache.clear()

    def _tile(self, level: Level, number: int, wanted: tuple[int, ...]) -> UInt8Image:
        """Return one decoded source tile; only those that a window cuts are worth keeping."""
        image = self._images[level.index]
        shape = (image.tile_height // level.reduce, image.tile_width // level.reduce, 3)

        def decode() -> UInt8Image:
            pixels = np.empty(shape, np.uint8)
            self._decode(level, number, pixels)
            return pixels

        if wanted == shape:
            return decode()
        return self._cache.get((level.index, level.reduce, number), decode)

    def _decode(self, level: Level, number: int, out: UInt8Image) -> None:
        """Decode a source tile into `out`; `TileError` where its bytes cannot be trusted."""
        image = self._images[level.index]
        try:
            data = self._bytes(image, number)
            if not data:
                out.fill(WHITE)
                return
            head = self._heads[level.index]
            if not head.data or not data.startswith(head.data):
                head = self._heads[level.index] = _checked_head(image, data)
            if head.colour == "rgb":
                data = without_jfif(data)
            decode_into(head.prefix + data[2:], out)
        except (ValueError, OSError, MemoryError) as error:
            raise self._error(level, number, f"does not decode: {error}") from error

    def _bytes(self, image: TiledImage, number: int) -> bytes:
        """Return the stored bytes of a tile, b"" for a sparse one."""
        count, offset = int(image.counts[number]), int(image.offsets[number])
        if not count or not offset:
            return b""
        if image.outside[number]:
            raise ValueError(f"{count} bytes from {offset} lie outside the file")
        if count > 2 * image.raw_bytes + _SLACK:
            raise ValueError(f"claims {count} bytes, more than its pixels have")
        data = self._file.read(count, offset)
        if len(data) != count:
            raise ValueError(f"only {len(data)} of {count} bytes could be read")
        return data

    def _error(self, level: Level, number: int, cause: str) -> TileError:
        """Return the error of one source tile, placed in the level-0 frame."""
        image = self._images[level.index]
        row, col = divmod(number, image.across)
        scale = level.downsample / level.reduce
        x, y = round(col * image.tile_width * scale), round(row * image.tile_height * scale)
        place = f"source tile {number} of the {image.width} x {image.height} image"
        return TileError(self.path, x, y, f"{place}: {cause}")


def _levels(images: tuple[TiledImage, ...]) -> tuple[Level, ...]:
    """Return every stored resolution at every scale its tiles divide by."""
    base = images[0].width, images[0].height
    return tuple(
        Level(
            -(-image.width // reduce),
            -(-image.height // reduce),
            downsample_of(base, (image.width, image.height)) * reduce,
            index,
            reduce,
        )
        for index, image in enumerate(images)
        for reduce in _REDUCTIONS
        if image.tile_width % reduce == 0 and image.tile_height % reduce == 0
    )


def _checked_head(image: TiledImage, data: bytes) -> _Head:
    """Return what a stream says up to its frame header, which agrees with the tile.

    The header decides, not the TIFF's tags of subsampling and colour. Tiles of one image share
    these bytes, so that a comparison spares parsing the next. A header that claims 65535 x 65535
    pixels is a `ValueError` here, before anything is allocated.
    """
    frame = frame_of(data)
    said = frame.width, frame.height, frame.components, frame.precision
    tile = image.tile_width, image.tile_height, image.samples, 8
    if said != tile:
        raise ValueError(
            f"the JPEG frame's width, height, components and bits are {said}; the tile's are {tile}"
        )
    whole = frame_of(prefix_for(image.tables, "") + data[2:])  # markers may be in the tables
    colour = colour_of(whole, image.colour)
    return _Head(data[: frame.end], colour, prefix_for(image.tables, colour))
