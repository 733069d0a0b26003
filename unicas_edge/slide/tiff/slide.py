"""The fast path: JPEG-tiled TIFF, BigTIFF and Aperio SVS, without OpenSlide.

tifffile reads the index, tile bytes are read by position, simplejpeg decodes them. libjpeg's scaled
decode gives every stored resolution at a half, a quarter and an eighth too, so that 40x is read at
20x from half-scale tiles.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import TileError
from unicas_edge.slide.base import WHITE, Level, Slide
from unicas_edge.slide.byte_counts import content_of
from unicas_edge.slide.cache import DecodedCache
from unicas_edge.slide.geometry import downsample_of
from unicas_edge.slide.jpeg import decode_into, frame_of, without_jfif
from unicas_edge.slide.positioned import PositionedFile
from unicas_edge.slide.spacing import find_spacing
from unicas_edge.slide.tiff.index import TiffIndex, TiledImage, read_index
from unicas_edge.slide.tiff.survey import is_tiff, survey
from unicas_edge.tiles.grid import Grid

_REDUCTIONS = (1, 2, 4, 8)
#: Decoded source tiles kept for windows that cut them (240-pixel tiles under a 256 grid).
_CACHE_BYTES = 32 << 20
#: A JPEG larger than its pixels, with room for tables, is none; it would only cost time.
_SLACK = 65536


def accepts(path: Path, head: bytes) -> bool:
    """Return whether the file is a TIFF of JPEG tiles in no vendor's private dialect."""
    if not is_tiff(head):
        return False
    found = survey(path)
    return found.has_rgb_jpeg_tiles and found.vendor is None


def open_slide(path: Path, mpp: float | None) -> Slide:
    """Return the open slide of a path that `accepts` took.

    `SlideError` where its index lies, `SpacingError` without um/px.
    """
    file = PositionedFile(path)
    try:
        return TiffSlide(path, file, read_index(path, file.size), mpp)
    except BaseException:
        file.close()
        raise


class TiffSlide(Slide):
    """A JPEG-tiled TIFF. Decoded pixels of zero-byte (sparse) tiles are white."""

    reader = "tiff"

    def __init__(
        self, path: Path, file: PositionedFile, index: TiffIndex, mpp: float | None
    ) -> None:
        self.path = path
        self.spacing, notes = find_spacing(path, mpp, index.hints)
        self.warnings = (*index.warnings, *notes)
        self._file = file
        self._images = index.images
        self.width, self.height = index.images[0].width, index.images[0].height
        self.levels = _levels(index.images)
        self._cache = DecodedCache(_CACHE_BYTES)
        self._heads = [b""] * len(index.images)
        self._whole = {
            (image.tile_width, level.downsample): (level, image)
            for level in reversed(self.levels)
            for image in [index.images[level.index]]
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
            if image.colour == "rgb":
                data = without_jfif(data)
            head = self._heads[level.index]
            if not head or not data.startswith(head):
                self._heads[level.index] = _checked_head(image, data)
            decode_into(image.prefix + data[2:], out)
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


def _checked_head(image: TiledImage, data: bytes) -> bytes:
    """Return the stream up to its frame header, which agrees with the tile; else `ValueError`.

    The header decides, not the TIFF's subsampling tag. Tiles of one image share these bytes, so
    that a comparison spares parsing the next. A header that claims 65535 x 65535 pixels ends here,
    before anything is allocated.
    """
    frame = frame_of(data)
    said = frame.width, frame.height, frame.components, frame.precision
    tile = image.tile_width, image.tile_height, image.samples, 8
    if said != tile:
        raise ValueError(
            f"the JPEG frame's width, height, components and bits are {said}; the tile's are {tile}"
        )
    return data[: frame.end]
