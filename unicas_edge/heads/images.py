"""Images of regions: found in a folder, read strictly, and brought to what an encoder is shown."""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from unicas_edge.bundle.heads import View
from unicas_edge.bundle.manifest import TileSpec
from unicas_edge.core.arrays import UInt8Image
from unicas_edge.errors import RegionError
from unicas_edge.slide.formats import FIELD_SUFFIXES
from unicas_edge.slide.jpeg import SOI, decode_into, frame_of

SUFFIXES = FIELD_SUFFIXES | {".tif", ".tiff", ".bmp"}
_FORMATS = ("PNG", "TIFF", "BMP")
#: Pixels a side. Below, nothing of a cell is to be seen; above, it is a slide: screen it.
MIN_SIDE, MAX_SIDE = 8, 8192
MAX_BYTES = 256 << 20
MAX_IMAGES = 1_000_000
_MAX_DEPTH = 32
#: What decoders raise for files that are not what they say.
_BROKEN = (
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    MemoryError,
    Image.DecompressionBombError,
    Warning,
)


def find_images(source: Path, *, recursive: bool = False) -> list[Path]:
    """Return the image `source`, or the images in the folder `source` in the order of their names.

    Hidden files and files of other suffixes are passed over, and links to folders not followed.
    `RegionError` where there is none, or more than `MAX_IMAGES`.
    """
    if not source.is_dir():
        return [source]
    found: list[Path] = []
    for path in _searched(source, _MAX_DEPTH if recursive else 0):
        found.append(path)
        if len(found) > MAX_IMAGES:
            raise RegionError(f"{source}: more than {MAX_IMAGES:,} images; choose a smaller folder")
    if not found:
        deeper = "" if recursive else "; to search the folders inside it, add --recursive"
        raise RegionError(f"{source}: no images in it ({', '.join(sorted(SUFFIXES))}){deeper}")
    return found


def _searched(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise RegionError(f"{folder}: cannot be listed: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth:
                yield from _searched(Path(entry.path), depth - 1)
        elif Path(entry.name).suffix.lower() in SUFFIXES:
            yield Path(entry.path)


def read_image(path: Path) -> UInt8Image:
    """Return the pixels of a JPEG, PNG, TIFF or BMP file, uint8 RGB [height, width, 3].

    What is transparent lies over white; 16-bit grey keeps its upper byte. Any warning
    of a decoder is an error, as with slides. `RegionError`, naming the file, for one that cannot be
    read or decoded in full, or that is not `MIN_SIDE` to `MAX_SIDE` pixels a side, which is checked
    before anything is decoded.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
        return _jpeg(data) if data.startswith(SOI) else _other(data)
    except OSError as error:
        cause = error.strerror or str(error).split("<_io")[0].strip()
        raise RegionError(f"{path}: cannot be read as an image: {cause}") from error
    except _BROKEN as error:
        raise RegionError(f"{path}: cannot be read as an image: {error}") from error


def _jpeg(data: bytes) -> UInt8Image:
    frame = frame_of(data)
    _check_size(frame.width, frame.height)
    pixels = np.empty((frame.height, frame.width, 3), np.uint8)
    decode_into(data, pixels)
    return pixels


def _other(data: bytes) -> UInt8Image:
    with (
        warnings.catch_warnings(action="error"),
        Image.open(io.BytesIO(data), formats=_FORMATS) as image,
    ):
        _check_size(*image.size)
        if image.mode.startswith("I;16") or image.mode == "I":
            raw = np.asarray(image).astype(np.int64) >> 8
            grey = np.clip(raw, 0, 255).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        if image.mode in {"LA", "PA", "RGBA"} or "transparency" in image.info:
            rgba = image.convert("RGBA")
            white = Image.new("RGBA", rgba.size, "white")
            return np.array(Image.alpha_composite(white, rgba).convert("RGB"))
        return np.array(image.convert("RGB"))


def _check_size(width: int, height: int) -> None:
    if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise ValueError(
            f"it has {width} x {height} pixels; each side must have {MIN_SIDE} to {MAX_SIDE:,}"
        )


def to_view(
    image: UInt8Image, tile: TileSpec, view: View, um_px: float | None = None
) -> UInt8Image:
    """Return what an encoder is shown of `image` uint8 RGB [h, w, 3]: uint8 RGB [S, S, 3].

    S is `tile.crop_px`. "cell": the whole image, resized to S x S whatever its shape. "tile": its
    centre S x S at `tile.um_px`; `um_px` is the image's own spacing, None for the same, and where
    the image ends before the crop does it goes on as its mirror image. Both resize with Pillow's
    bicubic filter, widened over the source when shrinking (antialiased), in integers: the same
    pixels on every machine, in training as at run time. `RegionError` for another shape or type, a
    size that `read_image` refuses, or a `um_px` that is no spacing.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise RegionError(f"a region is uint8 [h, w, 3], not {image.dtype} {list(image.shape)}")
    height, width = image.shape[:2]
    try:
        _check_size(width, height)
    except ValueError as error:
        raise RegionError(f"the image cannot be used: {error}") from error
    side = tile.crop_px
    if view == "cell":
        return _resized(image, side, side, (0, 0, width, height))
    return _tile(image, side, _scale(tile.um_px, um_px))


def _scale(wanted: float, um_px: float | None) -> float:
    """Return the pixels of the image per pixel of the view."""
    if um_px is None:
        return 1.0
    if not (math.isfinite(um_px) and 0.01 <= um_px <= 100):
        raise RegionError(f"a pixel size of {um_px:g} um/px is not possible; give 0.01 to 100")
    return wanted / um_px


def _tile(image: UInt8Image, side: int, scale: float) -> UInt8Image:
    """Return the centre; only what it needs of the image is resized."""
    sizes, boxes = [], []
    for length in (image.shape[1], image.shape[0]):
        wanted = min(side, max(1, round(length / scale)))  # pixels of the view that there are
        taken = min(float(length), wanted * scale)
        begin = (length - taken) / 2
        if scale == 1:
            begin = float(int(begin))  # on whole pixels nothing is interpolated
        sizes.append(wanted)
        boxes.append((begin, begin + taken))
    (left, right), (top, bottom) = boxes
    inner = _resized(image, sizes[0], sizes[1], (left, top, right, bottom))
    spare = [side - size for size in inner.shape[:2]]
    margins = [(extra // 2, extra - extra // 2) for extra in spare]
    return np.pad(inner, [*margins, (0, 0)], mode="symmetric")


def _resized(
    image: UInt8Image, width: int, height: int, box: tuple[float, float, float, float]
) -> UInt8Image:
    kind = Image.Resampling.BICUBIC
    return np.array(Image.fromarray(image).resize((width, height), kind, box=box))
