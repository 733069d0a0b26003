"""libvips' pipelines to 8-bit RGB: an image of a TIFF, a PNG, or a JPEG.

What libvips would misread is refused here: a codec it lacks, YCbCr that it takes for RGB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyvips
import simplejpeg

from unicas_edge.errors import SlideError, UnsupportedSlideError
from unicas_edge.slide.base import WHITE
from unicas_edge.slide.jpeg import SOI, check_scans, frame_of
from unicas_edge.slide.tiff.index import MAX_TILE_PIXELS, TileTable
from unicas_edge.slide.tiff.picture import (
    COMPRESSION,
    JPEG,
    PHOTOMETRIC,
    SUBSAMPLING,
    YCBCR,
    Picture,
)

pyvips.concurrency_set(1)  # our own threads read in parallel
pyvips.cache_set_max(0)  # memory stays bounded, and no half-decoded tile outlives its slide

#: MB that an image without tiles may take, as it is decoded as a whole (18,900 x 18,900 pixels).
MAX_DECODE_MB = 1024
PNG = b"\x89PNG\r\n\x1a\n"
_PLAIN_TILE = 256
#: TIFF compressions that libvips is usually built with: none, CCITT, LZW, JPEG, Deflate, PackBits,
#: LZMA, Zstandard, WebP. Where one is missing after all, no tile can be read (`slide.probe`).
_CODECS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000, 50001})
_REMEDY = "save it again as a TIFF of JPEG tiles, for example with QuPath or bfconvert"


@dataclass
class Stored:
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


def tiff_image(path: Path, picture: Picture) -> Any:  # noqa: ANN401
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


def plain_image(path: Path, head: bytes, limit: int) -> Any:  # noqa: ANN401
    """Return the pipeline to a PNG or JPEG file that begins with `head`."""
    if head.startswith(PNG):
        return pyvips.Image.pngload(str(path), access="random", fail_on="warning")
    if head.startswith(SOI):
        _verify_jpeg(path, limit)
        return pyvips.Image.jpegload(str(path), access="random", fail_on="warning")
    raise UnsupportedSlideError(path, "neither a TIFF nor a PNG or JPEG image")


def _verify_jpeg(path: Path, limit: int) -> None:
    """Decode a JPEG strictly at an eighth of its size; `SlideError` for any libjpeg warning."""
    if path.stat().st_size > limit << 20:
        raise SlideError(path, f"a JPEG image of {path.stat().st_size:,} bytes{_too_large(limit)}")
    data = path.read_bytes()
    try:
        check_scans(data)
        frame = frame_of(data)
        if frame.width * frame.height * 3 <= limit << 20:
            simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        raise SlideError(path, f"the JPEG image is damaged: {error}") from error


def stored(path: Path, image: Any, table: TileTable | None, limit: int) -> Stored:  # noqa: ANN401
    """Return one resolution as RGB; `SlideError` for sizes beyond `limit` MB without tiles."""
    width, height = int(image.width), int(image.height)
    tiled = _field(image, "tile-width", 0), _field(image, "tile-height", 0)
    if min(tiled) < 1:
        tiled, table = (_PLAIN_TILE, _PLAIN_TILE), None
        if width * height * 3 > limit << 20:
            raise SlideError(path, f"{width} x {height} pixels without tiles{_too_large(limit)}")
    if tiled[0] * tiled[1] > MAX_TILE_PIXELS:
        raise SlideError(path, f"claims tiles of {tiled[0]} x {tiled[1]} pixels")
    return Stored(_rgb(path, image), *tiled, table)


def _too_large(limit: int) -> str:
    return (
        f" must be decoded as a whole, which takes more than {limit} MB; save it as a tiled TIFF, "
        "or allow more with --max-decode-mb"
    )


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


def said(error: pyvips.Error) -> str:
    """Return libvips' message in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"libvips: {'; '.join(dict.fromkeys(lines))}"
