"""Puts real tiles side by side into a slide, for tests and measurements on real content."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import SlideError
from unicas_edge.slide.formats import FIELD_SUFFIXES
from unicas_edge.slide.tiff.pyramid_writer import (
    TILE,
    EncodedTile,
    Progress,
    encode_tile,
    write_pyramid,
)


def compose(
    folder: str | Path,
    path: str | Path,
    *,
    um_px: float = 0.5,
    columns: int | None = None,
    quality: int = 90,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the JPEG and PNG tiles of `folder`, by name, as one slide, and return its path.

    Each is centred in a 256-pixel tile, whose margin mirrors it (16 pixels for a 224-pixel tile),
    so that the encoder's central crop is the real tile; `columns` tiles make a row (None: a
    square), and what remains is white. `SlideError` for a folder without tiles or a tile that
    cannot be used, `OutputError` where the slide cannot be written.
    """
    files = sorted(file for file in Path(folder).iterdir() if file.suffix.lower() in FIELD_SUFFIXES)
    if not files:
        raise SlideError(folder, "holds no JPEG or PNG tile; name a folder of tiles")
    columns = columns or math.ceil(math.sqrt(len(files)))
    rows = -(-len(files) // columns)
    blank = encode_tile(np.full((TILE, TILE, 3), 255, np.uint8), quality)

    def tile(row: int, col: int) -> EncodedTile:
        number = row * columns + col
        return encode_tile(_padded(files[number]), quality) if number < len(files) else blank

    return write_pyramid(
        path,
        columns * TILE,
        rows * TILE,
        tile,
        um_px=um_px,
        quality=quality,
        threads=threads,
        progress=progress,
    )


def _padded(file: Path) -> UInt8Image:
    """Return a tile uint8 [256, 256, 3] with a mirrored margin around the picture."""
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise SlideError(file, f"is no readable picture ({error}); remove or replace it") from error
    height, width = pixels.shape[:2]
    if not (TILE // 2 <= height <= TILE and TILE // 2 <= width <= TILE):
        raise SlideError(file, f"is {width} x {height} pixels; tiles have 128 to 256 a side")
    top, left = (TILE - height) // 2, (TILE - width) // 2
    margins = ((top, TILE - height - top), (left, TILE - width - left), (0, 0))
    return np.pad(pixels, margins, mode="symmetric")
